"""How fast the simulated memory is."""

import ctypes
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any

__all__ = ["MEMORIES", "MemoryTiming", "TimingStruct", "memory_timing"]

MAX_CYCLES = 1_000_000
MAX_DENOMINATOR = 1 << 31


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """When the memory behind the simulated bus answers, in the core's clock cycles.

    Each of the channels for read and for written data moves at most ``bandwidth`` words a cycle, a
    burst at a time; addresses are accepted meanwhile. Reads of ids 0 (loads) and 1 (commands) are
    answered in order within an id, and whichever is due first across the two.

    Banks are those of DRAM: of each, the row used last is open, and a burst that begins in another
    one keeps its bank busy for ``miss_cycles`` before the latency counts. Rows follow each other
    from bank to bank. A refresh closes all rows.

    Parameters
    ----------
    latency : int
        Cycles from an address (or the last written word) to the first answer, at least 1.
    jitter : int
        Up to so many cycles more, at random; loads and commands then overtake each other.
    backpressure : float
        Probability, from 0 to below 1, that a channel pauses in a cycle.
    bandwidth : Fraction, int, float or str
        Words a cycle, above 0 and at most 1, kept exactly; ``"1/3"`` and 0.1 mean what they say.
        A read word counts when it is offered, a written one when it is taken.
    shared : bool
        Read and written data share ``bandwidth`` and take turns; otherwise each has its own.
    refresh_interval, refresh_cycles : int
        In the first ``refresh_cycles`` of each ``refresh_interval`` cycles no data is offered and
        none is taken. An interval of 0: never.
    banks : int
        Number of banks. 0: there are no rows.
    row_bytes : int
        Bytes of a row.
    miss_cycles : int
        Cycles to close a row and open another.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind or out of range.
    """
    latency: int = 32
    jitter: int = 0
    backpressure: float = 0.0
    bandwidth: Fraction | int | float | str = Fraction(1)
    shared: bool = False
    refresh_interval: int = 0
    refresh_cycles: int = 0
    banks: int = 0
    row_bytes: int = 2048
    miss_cycles: int = 0

    def __post_init__(self):
        for name, low, high in (("latency", 1, MAX_CYCLES), ("jitter", 0, MAX_CYCLES),
                                ("refresh_interval", 0, MAX_CYCLES),
                                ("refresh_cycles", 0, max(0, self.refresh_interval - 1)),
                                ("banks", 0, 1024), ("row_bytes", 64, 1 << 20),
                                ("miss_cycles", 0, MAX_CYCLES)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}, not {value!r}")
        if not isinstance(self.backpressure, int | float) or not 0 <= self.backpressure < 1:
            raise ValueError(f"backpressure must be from 0 to below 1, not {self.backpressure!r}")
        if not isinstance(self.shared, bool):
            raise TypeError(f"shared must be True or False, not {self.shared!r}")
        object.__setattr__(self, "bandwidth", _fraction(self.bandwidth))


def _fraction(value: Any) -> Fraction:
    """``value`` as an exact bandwidth; a float means its shortest decimal."""
    try:
        exact = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        exact = Fraction(0)
    if not 0 < exact <= 1 or exact.denominator >= MAX_DENOMINATOR:
        raise ValueError(f"bandwidth must be a number or fraction above 0 and at most 1, "
                         f"not {value!r}")
    return exact


# "ideal" has the latency of a controller and nothing else. "dram" is one DDR3-1600 device of 2 Gbit
# and 16 data lines behind a core at 100 MHz: 8 banks with rows of 2 KB, tRP + tRCD = 2 x 13.75 ns,
# tREFI = 7.8 us, tRFC = 160 ns and the way into and out of a refresh (Micron, "2Gb: x4, x8, x16
# DDR3L SDRAM", MT41K128M16-125; Micron, "DDR3 SDRAM", MT41J128M16, table of AC conditions, for tRFC
# and tREFI). It is simple: misses of several banks overlap freely, and turning from reads to writes
# costs nothing.
MEMORIES = MappingProxyType({
    "ideal": MemoryTiming(),
    "dram": MemoryTiming(latency=64, refresh_interval=800, refresh_cycles=20, banks=8,
                         row_bytes=2048, miss_cycles=3),
})


def memory_timing(memory: str | MemoryTiming = "ideal", **changes: Any) -> MemoryTiming:
    """A memory by name, or as given, with some fields changed.

    Parameters
    ----------
    memory : str or MemoryTiming
        Name in ``MEMORIES``.
    **changes
        Fields of ``MemoryTiming``; None leaves the field as it is.

    Raises
    ------
    TypeError, ValueError
        There is no such memory, or a field is of the wrong kind or out of range.
    """
    if not isinstance(memory, MemoryTiming):
        if memory not in MEMORIES:
            raise ValueError(f"memory must be one of {', '.join(MEMORIES)}, not {memory!r}")
        memory = MEMORIES[memory]
    return replace(memory, **{name: value for name, value in changes.items() if value is not None})


class TimingStruct(ctypes.Structure):
    """``struct Timing`` of ``memory.h``: every field, and the bandwidth as two integers."""
    _fields_ = (
        *((field.name, ctypes.c_uint32) for field in fields(MemoryTiming)
          if field.name not in ("backpressure", "bandwidth")),
        ("bandwidth_words", ctypes.c_uint32),
        ("bandwidth_cycles", ctypes.c_uint32),
        ("backpressure", ctypes.c_double),
    )

    @classmethod
    def of(cls, timing: MemoryTiming) -> "TimingStruct":
        """The structure that says ``timing``."""
        exact = Fraction(timing.bandwidth)
        values = {field.name: getattr(timing, field.name) for field in fields(timing)
                  if field.name != "bandwidth"}
        return cls(bandwidth_words=exact.numerator, bandwidth_cycles=exact.denominator, **values)
