"""The emitted Verilog as a device that programs run on."""

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from systolith.device import RegisterDevice
from systolith_hw.config import CoreConfig
from systolith_hw.emit import emit_verilog
from systolith_hw.isa import COMMAND_BYTES
from systolith_hw.observe import ObservedCore
from systolith_hw.registers import COUNTERS, constants

from .harness import Harness
from .memory import MemoryTiming, memory_timing
from .timeline import INTERVAL, LIMIT, Timeline

__all__ = ["RtlDevice"]

RESET_POLLS = 10_000  # of the status register


@cache  # emission takes seconds, and tests open many devices
def core_verilog(config: CoreConfig, *, assertions: bool) -> str:
    """Text of the core that ``config`` describes."""
    from systolith_hw.core import Core

    return emit_verilog(Core(config=config), name=config.name, assertions=assertions)


@cache
def observed_verilog(config: CoreConfig, *, assertions: bool) -> str:
    """Text of the same core with what a timeline needs to see."""
    return emit_verilog(ObservedCore(config=config), name=config.name, assertions=assertions)


class RtlDevice(RegisterDevice):
    """The core's own Verilog, Verilated, between a memory model and a register master.

    Same interface as every other device: addresses are relative to the window, which the whole
    memory makes up.

    Parameters
    ----------
    config : CoreConfig
    memory_bytes : int or None
        As in ``Device``.
    memory : str or MemoryTiming
        How fast the memory is: ``ideal``, ``dram``, or any ``MemoryTiming``.
    latency, jitter, backpressure, bandwidth, shared
        Fields of ``MemoryTiming`` to change; None: as ``memory`` has it.
    seed : int
        Of all randomness.
    assertions : bool
        Check assertions, and start registers at random.
    trace : path or None
        File to write: a waveform, ``.fst`` or ``.vcd``, or a timeline of the engines, ``.json``,
        see ``timeline``. A timeline needs a core with one more port, which is emitted for it in
        place of ``verilog``; bytes and cycles are the same.
    trace_limit : int
        Changes of state that a timeline holds; it ends where there are more.
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
    TypeError, ValueError
        A parameter of the wrong kind or out of range.
    """

    def __init__(self, config: CoreConfig, *, memory_bytes: int | None = None,
                 memory: str | MemoryTiming = "ideal", latency: int | None = None,
                 jitter: int | None = None, backpressure: float | None = None,
                 bandwidth: Fraction | int | float | str | None = None, shared: bool | None = None,
                 seed: int = 0, assertions: bool = False, trace: str | Path | None = None,
                 trace_limit: int = LIMIT, max_cycles: int = 1 << 32, window: int = 0,
                 verilog: str | None = None):
        super().__init__(config, memory_bytes=memory_bytes, window=window)
        self.timing = memory_timing(memory, latency=latency, jitter=jitter,
                                    backpressure=backpressure, bandwidth=bandwidth, shared=shared)
        if window < 0 or window % 4096 or window + self.memory_bytes > 1 << config.bus.addr_bits:
            raise ValueError(f"window must be a multiple of 4096 that leaves memory_bytes="
                             f"{self.memory_bytes} within {config.bus.addr_bits} address bits, "
                             f"not {window!r}")
        self.max_cycles = max_cycles
        self._memory = np.zeros(self.memory_bytes, np.uint8)
        self.timeline: Timeline | None = None
        observe = None
        if trace is not None and Path(trace).suffix == ".json":
            if isinstance(trace_limit, bool) or not isinstance(trace_limit, int):
                raise TypeError(f"trace_limit must be an integer, not {trace_limit!r}")
            if trace_limit < 1:
                raise ValueError(f"trace_limit must be at least 1, not {trace_limit!r}")
            verilog = observed_verilog(config, assertions=assertions)
            observe = (trace_limit, INTERVAL)
        self.harness = Harness(
            verilog or core_verilog(config, assertions=assertions), name=config.name,
            memory=self._memory, base=window, timing=self.timing, seed=seed,
            assertions=assertions, trace=None if observe else trace, observe=observe)
        if trace is not None and observe:
            self.timeline = Timeline(trace, config=config)
        self._identify()
        self.prepare()

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
        end = program_address + COMMAND_BYTES * commands
        records = self._memory[program_address:end].tobytes() if self.timeline else b""
        self.start(program_address, commands, params=params)
        try:
            ended = self._run(records)
        except (AssertionError, RuntimeError):
            self.restart()
            raise
        if not ended:
            self.restart()
            raise TimeoutError(f"program must end within max_cycles={self.max_cycles}, "
                               f"not still run")
        self._counters = {name: self.read_register(COUNTERS[name].name)
                          for name in self._counter_names()}
        self._end(self.status())

    def _run(self, records: bytes) -> bool:
        """Whether the program, ``records``, ended within ``max_cycles``; into the timeline."""
        try:
            return self.harness.run(self.max_cycles)
        finally:
            if self.timeline is not None:
                self.timeline.add(self.harness.take_observation(), records)

    def reset(self) -> None:
        """Reset the core by its register, and set it up for programs again; memory stays.

        Bus transactions under way come to their end first.

        Raises
        ------
        TimeoutError
            The reset does not end; the reset line has then been pulled.
        """
        self.act("reset")
        for _ in range(RESET_POLLS):
            if not {"resetting", "busy", "interrupt"} & self.status():
                break
        else:
            self.restart()
            raise TimeoutError(f"soft reset must end within {RESET_POLLS} polls, "
                               f"not still be under way")
        self.prepare()

    def inject_errors(self, address: int, count: int) -> None:
        """Answer bus accesses to ``count`` bytes from ``address`` with an error from now on."""
        self.harness.inject_errors(self.window + address, self.window + address + count)

    def close(self) -> None:
        """Free the simulation, and finish the file of ``trace``."""
        self.harness.close()
        if self.timeline is not None:
            self.timeline.close()

    def _get(self, offset: int) -> int:
        return self.harness.read(offset)

    def _set(self, offset: int, value: int) -> None:
        self.harness.write(offset, value)

    def _identify(self) -> None:
        for name, value in constants(self.config).items():
            found = self.read_register(name)
            if found != value:
                raise RuntimeError(f"register {name} must be {value:#x}, not {found:#x}")

    def restart(self) -> None:
        """Pull the reset line, and set the core up for programs again; memory stays."""
        self.harness.reset()
        self.prepare()
