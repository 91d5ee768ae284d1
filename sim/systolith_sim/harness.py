"""A Verilated core behind Python calls: registers, memory, and runs without Python per cycle."""

import ctypes
import re
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .build import build_core
from .memory import MemoryTiming, TimingStruct

__all__ = ["COUNTS", "Harness"]

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

    Raises
    ------
    ToolError
        Verilator is missing or refuses the text.
    """

    def __init__(self, verilog: str, *, name: str, memory: np.ndarray, base: int = 0,
                 timing: MemoryTiming | None = None, seed: int = 0, assertions: bool = False,
                 trace: str | Path | None = None):
        if memory.dtype != np.uint8 or memory.ndim != 1 or not memory.flags.c_contiguous:
            raise ValueError(f"memory must be a contiguous array of uint8, not {memory.dtype!r}")
        if memory.nbytes < 64:
            raise ValueError(f"memory must have at least 64 bytes, not {memory.nbytes!r}")
        suffix = "" if trace is None else Path(trace).suffix[1:]
        if trace is not None and suffix not in ("fst", "vcd"):
            raise ValueError(f"trace must end in .fst or .vcd, not {str(trace)!r}")
        self._verilog = verilog
        self._memory = memory  # kept alive for the C++ side
        path = build_core(verilog, name=name, assertions=assertions, trace=suffix)
        self._library = ctypes.CDLL(str(path))
        for function, (result, arguments) in _FUNCTIONS.items():
            getattr(self._library, function).restype = result
            getattr(self._library, function).argtypes = arguments
        self._core = self._library.core_new(
            memory.ctypes.data, base, memory.nbytes, TimingStruct.of(timing or MemoryTiming()),
            seed, None if trace is None else str(trace).encode())

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
