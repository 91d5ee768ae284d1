"""A Verilated core behind Python calls: registers, memory, and runs without Python per cycle."""

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from systolith_hw.observe import PULSES, TRACKS

from .build import build_core
from .memory import MemoryTiming, TimingStruct

__all__ = ["COUNTS", "Harness", "Observation"]

# What the memory counts, in the order of the C++ side.
COUNTS = MappingProxyType({name: i for i, name in enumerate((
    "load_words", "fetch_words", "store_words", "read_bursts", "write_bursts", "cycles"))})

_u32, _u64, _pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
_FUNCTIONS = {
    "core_new": (_pointer, [_pointer, _u64, _u64, ctypes.POINTER(TimingStruct), _u64,
                            ctypes.c_char_p]),
    "core_free": (None, [_pointer]),
    "core_reset": (None, [_pointer]),
    "core_errors": (None, [_pointer, _u64, _u64]),
    "core_write": (ctypes.c_int, [_pointer, _u32, _u32]),
    "core_read": (ctypes.c_int, [_pointer, _u32, ctypes.POINTER(_u32)]),
    "core_run": (ctypes.c_int, [_pointer, _u64]),
    "core_count": (_u64, [_pointer, ctypes.c_int]),
    "core_message": (ctypes.c_char_p, [_pointer]),
}


_OBSERVER_FUNCTIONS = {
    "core_observe": (None, [_pointer, _u64, _u64]),
    "core_observed": (ctypes.c_int, [_pointer, ctypes.c_int, ctypes.POINTER(_pointer),
                                     ctypes.POINTER(_u64)]),
    "core_forget": (None, [_pointer]),
}
# Parts of an observation, in the order of the C++ side.
OBSERVED = MappingProxyType({
    "changes": np.dtype([("cycle", "u8"), ("track", "u4"), ("value", "u4")]),
    "arrivals": np.dtype([("cycle", "u8"), ("track", "u4"), ("", "u4"), ("record", "V64")]),
    "samples": np.dtype("u8"),
    "starts": np.dtype("u8"),
    "ends": np.dtype("u8"),
})


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """What an ``ObservedCore`` showed while programs ran.

    Parameters
    ----------
    changes : structured array of cycle, track, value
        A track's word became another one.
    arrivals : structured array of cycle, track, record
        A command came to an engine, as it is after the dispatcher.
    samples : array of uint64, (intervals, 1 + len(PULSES))
        First cycle of each interval, and how often each pulse came in it.
    starts, ends : arrays of uint64
        First cycle of each program, and the one after its last.
    full : bool
        Nothing is recorded any more.
    """
    changes: np.ndarray
    arrivals: np.ndarray
    samples: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    full: bool


class Harness:
    """Clock, AXI4 memory and AXI4-Lite master around the core in ``verilog``.

    Parameters
    ----------
    verilog : str
        Text with the core.
    name : str
        Name of its top module.
    memory : numpy array of uint8
        System memory, used in place.
    base : int
        Bus address of its first byte.
    timing : MemoryTiming or None
        How fast that memory is; None: as ``MemoryTiming()``.
    seed : int
        Of all randomness, and of the registers' contents before reset.
    assertions : bool
        Check the text's assertions; random contents of registers before reset.
    trace : path or None
        Waveform file to write, ``.fst`` or ``.vcd``.
    observe : tuple of int or None
        The core is an ``ObservedCore``: record up to so many changes, and count pulses over so
        many cycles.

    Raises
    ------
    ToolError
        Verilator is missing or refuses the text.
    """

    def __init__(self, verilog: str, *, name: str, memory: np.ndarray, base: int = 0,
                 timing: MemoryTiming | None = None, seed: int = 0, assertions: bool = False,
                 trace: str | Path | None = None, observe: tuple[int, int] | None = None):
        if memory.dtype != np.uint8 or memory.ndim != 1 or not memory.flags.c_contiguous:
            raise ValueError(f"memory must be a contiguous array of uint8, not {memory.dtype!r}")
        if memory.nbytes < 64:
            raise ValueError(f"memory must have at least 64 bytes, not {memory.nbytes!r}")
        suffix = "" if trace is None else Path(trace).suffix[1:]
        if trace is not None and suffix not in ("fst", "vcd"):
            raise ValueError(f"trace must end in .fst, .vcd or .json, not {str(trace)!r}")
        self._verilog = verilog
        self._memory = memory  # kept alive for the C++ side
        path = build_core(verilog, name=name, assertions=assertions, trace=suffix,
                          observed=(len(TRACKS), len(PULSES)) if observe else None)
        self._library = ctypes.CDLL(str(path))
        functions = {**_FUNCTIONS, **(_OBSERVER_FUNCTIONS if observe else {})}
        for function, (result, arguments) in functions.items():
            getattr(self._library, function).restype = result
            getattr(self._library, function).argtypes = arguments
        self._core = self._library.core_new(
            memory.ctypes.data, base, memory.nbytes, TimingStruct.of(timing or MemoryTiming()),
            seed, None if trace is None else str(trace).encode())
        if observe:
            self._library.core_observe(self._core, *observe)

    def write(self, offset: int, value: int) -> None:
        """Write the register at ``offset``.

        Raises
        ------
        RuntimeError
            The core refuses, does not answer, or breaks a rule of the bus.
        """
        response = self._library.core_write(self._core, offset, value & 0xffffffff)
        self._check(offset, response)

    def read(self, offset: int) -> int:
        """Read the register at ``offset``.

        Raises
        ------
        RuntimeError
            The core refuses, does not answer, or breaks a rule of the bus.
        """
        value = _u32()
        response = self._library.core_read(self._core, offset, ctypes.byref(value))
        self._check(offset, response)
        return value.value

    def run(self, max_cycles: int) -> bool:
        """Run until the interrupt; whether it came within ``max_cycles``.

        Raises
        ------
        RuntimeError
            The core breaks a rule of the bus.
        AssertionError
            An assertion in it fails.
        """
        result = self._library.core_run(self._core, max_cycles)
        if result < 0:
            self._fail()
        return result == 1

    def inject_errors(self, low: int, high: int) -> None:
        """Answer accesses to bus addresses from ``low`` to below ``high`` with an error."""
        self._library.core_errors(self._core, low, high)

    def reset(self) -> None:
        """Pull the reset line; the memory forgets what was under way."""
        self._library.core_reset(self._core)

    def counts(self) -> dict[str, int]:
        """Bus words and bursts, and cycles, since construction."""
        return {name: self._library.core_count(self._core, i) for name, i in COUNTS.items()}

    def take_observation(self) -> Observation:
        """What was seen since the last call; only with ``observe``."""
        parts, full = {}, False
        for number, (name, dtype) in enumerate(OBSERVED.items()):
            data, count = _pointer(), _u64()
            full = self._library.core_observed(self._core, number, ctypes.byref(data),
                                               ctypes.byref(count))
            items = ctypes.string_at(data, count.value * dtype.itemsize) if count.value else b""
            parts[name] = np.frombuffer(items, dtype)
        parts["samples"] = parts["samples"].reshape(-1, 1 + len(PULSES))
        self._library.core_forget(self._core)
        return Observation(**parts, full=bool(full))

    def close(self) -> None:
        """Free the core and finish the waveform file."""
        if getattr(self, "_core", None):
            self._library.core_free(self._core)
            self._core = None

    def _check(self, offset: int, response: int) -> None:
        if self._library.core_message(self._core):
            self._fail()
        if response:
            raise RuntimeError(f"register {offset:#05x} must answer OKAY, not {response!r}")

    def _fail(self) -> None:
        text = self._library.core_message(self._core).decode()
        match = re.match(r"assertion at line (\d+)(.*)", text)
        if not match:
            raise RuntimeError(text)
        line = int(match[1])
        lines = self._verilog.splitlines()
        message = re.search(r'\$display\("(.*)"\)', lines[line - 2]) if line >= 2 else None
        raise AssertionError((message[1] if message else f"core.v line {line}") + match[2])

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self):
        self.close()
