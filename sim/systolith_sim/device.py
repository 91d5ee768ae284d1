"""The emitted Verilog as a device that programs run on."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from systolith.device import Device
from systolith.errors import CoreError
from systolith_hw.config import CoreConfig
from systolith_hw.emit import emit_verilog
from systolith_hw.registers import BASIC_COUNTERS, COUNTERS, REGISTERS, constants

from .harness import Harness

__all__ = ["RtlDevice"]


@cache  # emission takes seconds, and tests open many devices
def core_verilog(config: CoreConfig, *, assertions: bool) -> str:
    """Text of the core that ``config`` describes."""
    from systolith_hw.core import Core

    return emit_verilog(Core(config=config), name=config.name, assertions=assertions)


class RtlDevice(Device):
    """The core's own Verilog, Verilated, between a memory model and a register master.

    Same interface as every other device: addresses are relative to the window, which the whole
    memory makes up.

    Parameters
    ----------
    config : CoreConfig
    memory_bytes : int or None
        As in ``Device``.
    latency : int
        Cycles from an address to the first answer.
    jitter : int
        Up to so many cycles more, at random; loads and commands then overtake each other.
    backpressure : float
        Probability that a bus channel pauses in a cycle.
    seed : int
        Of all randomness.
    assertions : bool
        Check assertions, and start registers at random.
    trace : path or None
        Waveform file to write, ``.fst`` or ``.vcd``.
    max_cycles : int
        Longest run.
    window : int
        Bus address of the memory; a multiple of 4096.
    verilog : str or None
        Text of the core where it has been emitted already; None: emit it.

    Raises
    ------
    ToolError
        Verilator or a tool it needs is missing.
    ValueError
        A parameter out of range.
    """

    def __init__(self, config: CoreConfig, *, memory_bytes: int | None = None, latency: int = 32,
                 jitter: int = 0, backpressure: float = 0.0, seed: int = 0,
                 assertions: bool = False, trace: str | Path | None = None,
                 max_cycles: int = 1 << 32, window: int = 0, verilog: str | None = None):
        super().__init__(config, memory_bytes=memory_bytes)
        if window < 0 or window % 4096 or window + self.memory_bytes > 1 << config.bus.addr_bits:
            raise ValueError(f"window must be a multiple of 4096 that leaves memory_bytes="
                             f"{self.memory_bytes} within {config.bus.addr_bits} address bits, "
                             f"not {window!r}")
        self.max_cycles = max_cycles
        self.window = window
        self._memory = np.zeros(self.memory_bytes, np.uint8)
        self._counters = dict.fromkeys(self._counter_names(), 0)
        self.harness = Harness(
            verilog or core_verilog(config, assertions=assertions), name=config.name,
            memory=self._memory,
            base=window, latency=latency, jitter=jitter, backpressure=backpressure, seed=seed,
            assertions=assertions, trace=trace)
        self._identify()
        self._prepare()

    def write(self, address: int, data: bytes | np.ndarray) -> None:
        raw = data.tobytes() if isinstance(data, np.ndarray) else bytes(data)
        self._check_range(address, len(raw))
        self._memory[address:address + len(raw)] = np.frombuffer(raw, np.uint8)

    def read(self, address: int, count: int) -> np.ndarray:
        self._check_range(address, count)
        return self._memory[address:address + count].copy()

    def run(self, program_address: int, commands: int, *,
            params: Mapping[int, int] | None = None) -> None:
        """Run a program to its end, as in ``Device``.

        Raises
        ------
        CoreError
            The core stopped at a command.
        TimeoutError
            It did not end within ``max_cycles``.
        RuntimeError, AssertionError
            The core broke a rule of the bus, or an assertion of its own.
        """
        self._check_program(program_address, commands, params)
        for number, value in (params or {}).items():
            self._set(f"param{number}", value)
        self._set("program_address", program_address)
        self._set("program_commands", commands)
        self._act("start")
        try:
            ended = self.harness.run(self.max_cycles)
        except (AssertionError, RuntimeError):
            self._restart()
            raise
        if not ended:
            self._restart()
            raise TimeoutError(f"program must end within max_cycles={self.max_cycles}, "
                               f"not still run")
        self._counters = {name: self._get(COUNTERS[name].name) for name in self._counter_names()}
        status = self._status()
        self._act("clear_interrupt")
        if "error" in status:
            code, index = self._get("error_code"), self._get("error_index")
            self._act("reset")
            for _ in range(10_000):
                if not {"resetting", "busy"} & self._status():
                    break
            else:
                self._restart()
                raise TimeoutError("soft reset must end within 10000 polls, not still be under way")
            self._prepare()
            raise CoreError(code, index)

    def counters(self) -> dict[str, int]:
        """The core's counters at the end of the last run."""
        return dict(self._counters)

    def inject_errors(self, address: int, count: int) -> None:
        """Answer bus accesses to ``count`` bytes from ``address`` with an error from now on."""
        self.harness.inject_errors(self.window + address, self.window + address + count)

    def close(self) -> None:
        """Free the simulation."""
        self.harness.close()

    def _counter_names(self) -> tuple[str, ...]:
        return tuple(COUNTERS) if self.config.control.counters else BASIC_COUNTERS

    def _get(self, name: str) -> int:
        return self.harness.read(REGISTERS[name].offset)

    def _set(self, name: str, value: int) -> None:
        self.harness.write(REGISTERS[name].offset, value)

    def _act(self, bit: str) -> None:
        self._set("control", 1 << REGISTERS["control"].bits.index(bit))

    def _status(self) -> set[str]:
        value = self._get("status")
        return {bit for i, bit in enumerate(REGISTERS["status"].bits) if value >> i & 1}

    def _identify(self) -> None:
        for name, value in constants(self.config).items():
            found = self._get(name)
            if found != value:
                raise RuntimeError(f"register {name} must be {value:#x}, not {found:#x}")

    def _prepare(self) -> None:
        events = REGISTERS["interrupt_enable"].bits
        self._set("window_low", self.window & 0xffffffff)
        self._set("window_high", self.window >> 32)
        self._set("window_bytes", min(self.memory_bytes, 0xffffffff))
        self._set("interrupt_enable", 1 << events.index("done") | 1 << events.index("error"))

    def _restart(self) -> None:
        self.harness.reset()
        self._prepare()
