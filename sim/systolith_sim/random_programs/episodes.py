"""How a program is run on the Verilog: after a wait, after a reset amid itself, with interrupts."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from systolith_hw.registers import COUNTERS, REGISTERS

from ..device import RtlDevice

__all__ = ["RESETS", "Episode", "Run", "draw_episodes", "play", "read_params", "reset_midway"]

RESETS = ("register", "line")
SLICE_CYCLES = 1000     # between looks at the status where nothing interrupts


@dataclass(frozen=True)
class Run:
    """A program in the device's memory.

    Parameters
    ----------
    address, commands : int
        As ``Device.run`` takes them.
    params : mapping of int to int
        What parameter registers must hold at the start.
    """
    address: int
    commands: int
    params: Mapping[int, int]


@dataclass(frozen=True)
class Episode:
    """One run to the end, and what comes before it.

    Parameters
    ----------
    idle_cycles : int
        From the device's last act to the start.
    reset : str
        ``none``, or what ends an earlier start of the same program: the ``register`` or the
        ``line``.
    moment : float
        When that is, as a part of the cycles that the program took before.
    interrupts : bool
        Commands may raise the interrupt line, and a program's end does not.
    sparing : bool
        Parameter registers that hold their value already are not written.
    """
    idle_cycles: int = 0
    reset: str = "none"
    moment: float = 0.0
    interrupts: bool = False
    sparing: bool = False

    def __str__(self) -> str:
        parts = [f"after {self.idle_cycles} idle cycles"]
        if self.reset != "none":
            parts.append(f"after a reset by {self.reset} at {self.moment:.3f} of the program")
        if self.interrupts:
            parts.append("with interrupts by commands")
        if self.sparing:
            parts.append("with registers left alone")
        return "run " + ", ".join(parts)


def draw_episodes(seed: int) -> tuple[Episode, ...]:
    """What happens to the program of ``seed``: mostly one run or two, often with a reset."""
    choice = random.Random(seed ^ 0x5eed)
    episodes = []
    for _ in range(choice.choice([1, 1, 2, 3])):
        reset = choice.choice(["none", *RESETS])
        episodes.append(Episode(
            idle_cycles=choice.choice([0, choice.randint(1, 9), choice.randint(10, 300)]),
            reset=reset, moment=0.0 if reset == "none" else choice.choice(
                [choice.random(), choice.random(), choice.random() * 0.05]),
            interrupts=choice.random() < 0.25, sparing=choice.random() < 0.5))
    return tuple(episodes)


def play(device: RtlDevice, run: Run, episode: Episode) -> tuple[dict[str, int], bool]:
    """Run the program to its end.

    Returns
    -------
    counters : dict of str to int
    interrupted : bool
        Whether a command raised the interrupt line; False unless ``episode`` listens.

    Raises
    ------
    CoreError, TimeoutError, RuntimeError, AssertionError
        As ``RtlDevice.run`` does.
    """
    params = run.params
    if episode.sparing:
        held = read_params(device)
        params = {number: value for number, value in params.items() if held[number - 1] != value}
    if episode.idle_cycles:
        device.harness.run(episode.idle_cycles)
    if not episode.interrupts:
        device.run(run.address, run.commands, params=params)
        return device.counters(), False
    command = REGISTERS["interrupt_enable"].bits.index("command")
    device.write_register("interrupt_enable", 1 << command)
    device.start(run.address, run.commands, params=params)
    interrupted, left = False, device.max_cycles
    while True:
        rose = device.harness.run(SLICE_CYCLES)
        interrupted |= rose
        if rose:
            device.act("clear_interrupt")
        status = device.status()
        if "busy" not in status:
            break
        left -= SLICE_CYCLES
        if left <= 0:
            raise TimeoutError(f"program must end within max_cycles={device.max_cycles}, "
                               f"not still run")
    if "error" in status:
        code, index = (device.read_register(name) for name in ("error_code", "error_index"))
        raise RuntimeError(f"program must end without error, not with code {code} "
                           f"at command {index}")
    device.act("clear_interrupt")
    device.prepare()
    counters = {name: device.read_register(COUNTERS[name].name) for name in device.counters()}
    return counters, interrupted


def reset_midway(device: RtlDevice, address: int, commands: int, *, cycles: int,
                 params: Mapping[int, int] | None = None, line: bool = False) -> bool:
    """Start a program, and reset the core after ``cycles``: by its register or its reset line.

    Returns
    -------
    bool
        Whether the program was still running then.

    Raises
    ------
    TimeoutError
        The reset does not end.
    """
    device.start(address, commands, params=params)
    ended = device.harness.run(cycles)
    if line:
        device.restart()
    else:
        device.reset()
    return not ended


def read_params(device: RtlDevice) -> list[int]:
    """What the parameter registers hold, from the first on."""
    return [device.read_register(f"param{number}")
            for number in range(1, device.config.control.params)]
