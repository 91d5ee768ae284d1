"""A random program on the model and on the Verilog, and a failure made small."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from systolith.assembly import disassemble
from systolith.device import PAGE_BYTES, ModelDevice
from systolith.errors import CoreError
from systolith.groups import INTERVAL
from systolith_hw.config import CoreConfig
from systolith_hw.formats import BITS
from systolith_hw.isa import COMMAND_BYTES, ErrorCode
from systolith_hw.registers import STATES

from ..device import RtlDevice
from ..tools import ToolError
from .commands import (
    PARAMETERS,
    RECORD_BYTES,
    WINDOW_BYTES,
    draw_step,
    footprint,
    revisits_in_time,
    setting_up,
    showing,
)
from .episodes import Episode, Run, draw_episodes, play, read_params, reset_midway
from .order import encode, order
from .steps import Step, smaller

__all__ = ["BACKPRESSURES", "JITTERS", "LATENCIES", "Case", "Expected", "Failure", "check",
           "draw_case", "expected", "random_config", "shrink"]

PROGRAM = range(0, PARAMETERS.start)    # where commands lie
MAX_CYCLES = 1_000_000
FIRST_CYCLES = 2000     # roughly what a program takes, for a reset before any run
BUS_WORDS = ("load_words", "store_words", "fetch_words")
LATENCIES = (1, 2, 9, 32, 80)
JITTERS = (0, 3, 60)
BACKPRESSURES = (0.0, 0.1, 0.3, 0.7)
ORDERS = (None, 1, 2)   # of the model's engines


class Failure(AssertionError):
    """Model and Verilog disagree, or the program has a race."""


@dataclass(frozen=True)
class Case:
    """Everything a run depends on.

    Parameters
    ----------
    config : CoreConfig
    seed : int
        Of memory contents, semaphores, registers and the memory's timing.
    steps : tuple of Step
    """
    config: CoreConfig
    seed: int
    steps: tuple[Step, ...]

    def options(self) -> dict[str, Any]:
        """Where the memory lies and how it behaves."""
        choice = random.Random(self.seed)
        return {"latency": choice.choice(LATENCIES), "jitter": choice.choice(JITTERS),
                "backpressure": choice.choice(BACKPRESSURES), "seed": self.seed,
                "window": choice.choice([0, choice.randrange(
                    0, (1 << self.config.bus.addr_bits) - WINDOW_BYTES + 1, PAGE_BYTES)])}


@dataclass(frozen=True)
class Expected:
    """A program, and what the model makes of it.

    Parameters
    ----------
    before, after : uint8 array, (WINDOW_BYTES,)
        System memory.
    records : list of bytes
    run : Run
    counters : dict of str to int
    registers : list of int
        Parameter registers at the end.
    interrupt : bool
        Whether a command raised it.
    """
    before: np.ndarray
    after: np.ndarray
    records: list[bytes]
    run: Run
    counters: dict[str, int]
    registers: list[int]
    interrupt: bool


def _random_weights(choice: random.Random) -> dict[str, Any]:
    """Formats, often several, and how elements multiply."""
    return {"weights": choice.sample(tuple(BITS), choice.choice([1, 2, 3, 3])),
            "cell": choice.choice(["int8", "int8", "int4", "ternary"]),
            "pairs": choice.random() < 0.4,
            "gated": choice.random() < 0.3}


def random_config(seed: int) -> CoreConfig:
    """A small core with anything in it."""
    choice = random.Random(seed)
    while True:
        burst = 1 << choice.randint(0, 4)
        try:
            return CoreConfig.from_dict({
                "name": f"random_{seed}",
                "array": {"rows": choice.randint(1, 9), "cols": choice.randint(1, 9),
                          "fanout": choice.choice([1, 2, 4]), **_random_weights(choice)},
                "memory": {"act_rows": 1 << choice.randint(4, 8),
                           "act_banks": choice.choice([1, 2, 4]),
                           "wgt_rows": 1 << choice.randint(4, 7),
                           "acc_rows": 1 << choice.randint(4, 7),
                           "acc_banks": choice.choice([1, 2]),
                           "par_rows": 1 << choice.randint(2, 5)},
                "bus": {"data_bits": choice.choice([32, 64, 128]), "max_burst": burst,
                        "addr_bits": choice.choice([16, 17, 32, 40, 64]),
                        "read_words": burst << choice.choice([0, 1, 3]) if burst > 1 else 2,
                        "write_bursts": choice.choice([1, 2, 16])},
                "vector": {"lanes": 1 << choice.randint(0, 3),
                           "elementwise": choice.random() < 0.75,
                           "multiply": choice.random() < 0.75,
                           "functions": choice.choice([0, 256, 512, 512]),
                           "rows": choice.choice([0, 16, 64, 256]),
                           "requantiser": "serial" if seed % 4 == 3 else "pipelined"},
                "control": {"queue_depth": choice.choice([1, 2, 4]),
                            "prefetch": choice.choice([1, 2, 4]),
                            "semaphores": choice.choice([8, 32]),
                            "params": choice.choice([2, 4, 16]),
                            "execute_loops": choice.randint(4, 6),
                            "load_loops": choice.randint(1, 3),
                            "vector_loops": choice.randint(3, 4),
                            "counters": choice.choice([True, False])}})
        except ValueError:
            continue


def draw_case(config: CoreConfig, seed: int) -> Case:
    """The random program of ``seed`` for ``config``."""
    choice = random.Random(seed)
    steps = setting_up(choice, config)
    for _ in range(choice.choice([4, 12, 30])):
        step = draw_step(choice, config)
        if revisits_in_time([*steps, step], config):
            steps.append(step)
    return Case(config, seed, (*steps, *showing(choice, config)))


def _memory(seed: int, records: Sequence[bytes]) -> tuple[np.ndarray, int]:
    """Random bytes with legal parameters and a program in them, and the program's address."""
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, WINDOW_BYTES, np.uint8)
    n = len(PARAMETERS) // RECORD_BYTES
    table = np.zeros(n, np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1"),
                                  ("reserved", "u1", 3)]))
    scale = rng.integers(0, 32, n)
    table["bias"] = rng.integers(-1 << 31, 1 << 31, n) >> scale
    table["multiplier"] = rng.integers(1 << 30, 1 << 31, n) >> rng.choice([0, 0, 0, 7, 31], n)
    table["shift"] = np.where(rng.random(n) < 0.8, rng.integers(-12, 1, n),
                              rng.integers(-31, 8, n))
    table["reserved"] = rng.integers(0, 256, (n, 3))
    memory[PARAMETERS.start:PARAMETERS.start + RECORD_BYTES * n] = table.view(np.uint8).reshape(-1)
    size = COMMAND_BYTES * len(records)
    if size > len(PROGRAM):
        raise ValueError(f"program must have at most {len(PROGRAM)} bytes, not {size!r}")
    address = COMMAND_BYTES * int(rng.integers(0, (len(PROGRAM) - size) // COMMAND_BYTES + 1))
    memory[address:address + size] = np.frombuffer(b"".join(records), np.uint8)
    return memory, address


def expected(case: Case) -> Expected:
    """The program of ``case``, run on the model."""
    def attempt(shuffled: bool) -> Expected:
        items = order(case.steps, case.config, case.seed, shuffled=shuffled)
        records, params = encode(items, case.config, case.seed)
        before, address = _memory(case.seed, records)
        run = Run(address, len(records), params)
        model = _run_model(case.config, before, run, None)
        return Expected(before, model.memory, records, run, model.counters(),
                        model.model.registers, model.model.interrupt)

    try:
        return attempt(True)
    except CoreError as error:
        if error.code != ErrorCode.DEADLOCK:
            raise
    return attempt(False)   # queues were too short for that order


def _run_model(config: CoreConfig, memory: np.ndarray, run: Run,
               order: int | None) -> ModelDevice:
    device = ModelDevice(config, memory_bytes=WINDOW_BYTES, order=order)
    device.write(0, memory)
    device.run(run.address, run.commands, params=run.params)
    return device


def check(case: Case, *, assertions: bool = True) -> int:
    """Run on the model, in several orders, and on the Verilog; cycles that its last run took.

    Compared are every byte of memory, every counter that the model has, the bus words that the
    memory saw, the parameter registers, and whether a command raised the interrupt.

    Raises
    ------
    Failure
        They differ; with the commands.
    """
    program = expected(case)
    episodes = draw_episodes(case.seed)
    try:
        for seed in ORDERS[1:]:
            model = _run_model(case.config, program.before, program.run, seed)
            _compare(model.memory, program.after,
                     f"model in order {seed}: the program has a race")
        cycles = FIRST_CYCLES
        with RtlDevice(case.config, memory_bytes=WINDOW_BYTES, assertions=assertions,
                       max_cycles=MAX_CYCLES * INTERVAL[case.config.vector.requantiser],
                       **case.options()) as device:
            for episode in episodes:
                cycles = _check_episode(device, program, episode, cycles)
        return cycles
    except ToolError:
        raise
    except (Failure, CoreError, TimeoutError, RuntimeError, AssertionError) as error:
        text = disassemble(b"".join(program.records))
        raise Failure(f"{error}\nconfiguration {case.config.name}, seed {case.seed}, "
                      f"{case.options()}, {'; '.join(map(str, episodes))}, "
                      f"params {program.run.params}, {len(program.records)} commands at "
                      f"{program.run.address:#x}:\n{text}") from None


def _check_episode(device: RtlDevice, program: Expected, episode: Episode, cycles: int) -> int:
    """Play one episode and compare; ``cycles`` are those of the run before, and returned."""
    run = program.run
    if episode.reset != "none":
        device.write(0, program.before)
        reset_midway(device, run.address, run.commands, params=run.params,
                     cycles=1 + int(episode.moment * cycles), line=episode.reset == "line")
    device.write(0, program.before)
    words = device.harness.counts()
    counters, interrupted = play(device, run, episode)
    _compare(device.read(0, WINDOW_BYTES), program.after, f"Verilog, {episode}")
    words = {name: count - words[name] for name, count in device.harness.counts().items()}
    found = {**counters, **{f"{name} on the bus": words[name] for name in BUS_WORDS},
             "registers": read_params(device), "interrupted": interrupted}
    wanted = {**program.counters, **{f"{name} on the bus": program.counters[name]
                                     for name in BUS_WORDS},
              "registers": program.registers[1:],
              "interrupted": episode.interrupts and program.interrupt}
    if "execute_busy" in counters:
        wanted["execute_busy"] = program.counters["rows"]
    different = {name: (found[name], value) for name, value in wanted.items()
                 if found[name] != value}
    if different:
        raise Failure(f"Verilog, {episode}: (Verilog, model) {different}")
    _account(counters, f"Verilog, {episode}")
    return counters["cycles"]


def _account(counters: dict[str, int], what: str) -> None:
    """Every engine is in one state in each cycle."""
    for engine, states in STATES.items():
        values = {state: counters[f"{engine}_{state}"] for state in states
                  if f"{engine}_{state}" in counters}
        if values and sum(values.values()) != counters["cycles"]:
            raise Failure(f"{what}: cycles of {engine}, {values}, must add up to "
                          f"{counters['cycles']}")


def _compare(memory: np.ndarray, expected: np.ndarray, what: str) -> None:
    places = np.flatnonzero(memory != expected)
    if len(places):
        raise Failure(f"{what}: {len(places)} bytes of memory differ, the first at "
                      f"{places[0]:#x}: {memory[places[0]]:#04x}, not {expected[places[0]]:#04x}")


def shrink(case: Case, fails: Callable[[Case], bool], *, attempts: int = 400) -> Case:
    """A smaller case that still fails: commands left out, then counts reduced."""
    left = attempts

    def still(steps: Sequence[Step]) -> Case | None:
        nonlocal left
        if left == 0 or any(footprint(step, case.config) is None for step in steps):
            return None
        if not revisits_in_time(steps, case.config):
            return None
        left -= 1
        candidate = Case(case.config, case.seed, tuple(steps))
        return candidate if fails(candidate) else None

    changed = True
    while changed and left:
        changed = False
        for steps in (*_fewer(case.steps), *_smaller(case.steps)):
            found = still(steps)
            if found is not None:
                case, changed = found, True
                break
    return case


def _fewer(steps: Sequence[Step]) -> Iterator[list[Step]]:
    size = len(steps) // 2
    while size:
        for start in range(0, len(steps), size):
            part = [step for i, step in enumerate(steps)
                    if step.fixed or not start <= i < start + size]
            if len(part) < len(steps):
                yield part
        size //= 2


def _smaller(steps: Sequence[Step]) -> Iterator[list[Step]]:
    for i, step in enumerate(steps):
        if not step.fixed:
            for candidate in smaller(step):
                yield [*steps[:i], candidate, *steps[i + 1:]]
