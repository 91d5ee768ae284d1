"""Tables of functions: segments, int8 tables, mantissas of reciprocals, gamma and beta.

A segment of width w = 2^shift that starts at x0 gives, for x0 <= x < x0 + w,
``y = (base + (slope * (x - x0) / w) + 2) >> 2``: base has 18 bits with two guard bits, slope 14.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Function

__all__ = [
    "BASE_BITS", "FRACTION_BITS", "GUARD_BITS", "SLOPE", "Table", "byte_table", "channel_table",
    "exponent", "fit", "fit_best", "pack", "reciprocal_table", "root_table",
]

Real = Callable[[np.ndarray], np.ndarray]

BASE_BITS, SLOPE_BITS = 18, 14
GUARD_BITS, FRACTION_BITS = 2, 15
HALF = 1 << GUARD_BITS - 1
BASE, SLOPE, INT16 = (1 << BASE_BITS - 1) - 1, (1 << SLOPE_BITS - 1) - 1, (1 << 15) - 1
SAMPLES = 257           # at most, of a segment that is fitted
SHIFTS = range(24)


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Entries of one function.

    Parameters
    ----------
    kind : Function
        ``LINEAR``, ``TABLE`` or ``CHANNEL``.
    base, slope : int array, (entries,) or for ``CHANNEL`` (entries, lanes)
        A table of int8 has the results as bases, and slopes of 0.
    shift : int
        Log2 of a segment's width.
    signed : bool
        Whether segments lie on both sides of 0.
    first, stop : int
        Entries before ``first`` and from ``stop`` on are never read; 0: all up to the last are.
    """
    kind: Function
    base: np.ndarray
    slope: np.ndarray
    shift: int = 0
    signed: bool = False
    first: int = 0
    stop: int = 0

    def __post_init__(self):
        lengths = {Function.TABLE: (256,), Function.LINEAR: (64, 256)}.get(self.kind)
        if lengths and len(self.base) not in lengths:
            raise ValueError(f"table must have {' or '.join(map(str, lengths))} entries, "
                             f"not {len(self.base)!r}")
        if self.base.shape != self.slope.shape:
            raise ValueError(f"slope must have shape {self.base.shape}, not {self.slope.shape!r}")
        if not self.stop:
            object.__setattr__(self, "stop", len(self.base))
        if self.shift not in SHIFTS:
            raise ValueError(f"shift must be from 0 to {SHIFTS[-1]}, not {self.shift!r}")
        high = 127 if self.kind == Function.TABLE else BASE
        for name, values, limit in (("base", self.base, high), ("slope", self.slope, SLOPE)):
            used = values[self.first:self.stop]
            for bad in used[(used < -limit - 1) | (used > limit)].reshape(-1)[:1]:
                raise ValueError(f"{name} must be from {-limit - 1} to {limit}, not {int(bad)!r}")

    @property
    def entries(self) -> int:
        return len(self.base)

    @property
    def wide(self) -> bool:
        """Whether it has 256 segments."""
        return self.kind == Function.LINEAR and self.entries == 256

    @property
    def least(self) -> int:
        """Number of its first segment."""
        return -self.entries // 2 if self.signed else 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """What the core makes of integers ``x``; not for ``CHANNEL``."""
        x = np.asarray(x, np.int64)
        if self.kind == Function.TABLE:
            return self.base[np.clip(x, -128, 127) + 128]
        shift = self.shift
        if shift > FRACTION_BITS:
            x, shift = x >> 8, shift - 8
        place = np.clip(x << FRACTION_BITS - shift, self.least << FRACTION_BITS,
                        (self.least + self.entries << FRACTION_BITS) - 1)
        entry, inside = (place >> FRACTION_BITS) - self.least, place & (1 << FRACTION_BITS) - 1
        return self.base[entry] + (self.slope[entry] * inside >> FRACTION_BITS) + HALF >> GUARD_BITS

    def reach(self, low: int, high: int) -> tuple[int, int]:
        """Least and largest result for numbers from ``low`` to ``high``."""
        if self.kind == Function.CHANNEL:
            ends = [(self.base + (self.slope * int(np.clip(x, -1 << 17, (1 << 17) - 1))
                                  >> FRACTION_BITS) + HALF >> GUARD_BITS) for x in (low, high)]
            return int(min(e.min() for e in ends)), int(max(e.max() for e in ends))
        width = 1 << self.shift
        starts = (np.arange(self.entries) + self.least) * width
        inner = np.concatenate([starts, starts + width - 1])
        values = self(np.concatenate([[low, high], inner[(inner >= low) & (inner <= high)]]))
        return int(values.min()), int(values.max())


def fit(function: Real, *, segments: int = 256, shift: int, signed: bool = False,
        low: int | None = None, high: int | None = None) -> Table:
    """Segments nearest to ``function`` (of integers, in units of the result) in the largest error.

    Every segment is the secant, moved by half of what it is off most: the best line where the
    function is convex or concave. Results saturate at 16 bits.

    Parameters
    ----------
    segments : int
        64 or 256.
    shift : int
        Log2 of a segment's width.
    low, high : int or None
        Range of the numbers that come; segments outside are those at its ends.
    """
    width = 1 << shift
    least = -segments // 2 if signed else 0
    starts = (np.arange(segments) + least) * width
    inside = np.unique(np.linspace(0, width - 1, min(width, SAMPLES)).round())
    low = int(starts[0]) if low is None else low
    high = int(starts[-1]) + width - 1 if high is None else high
    points = np.clip(starts[:, None] + inside, low, high)
    values = np.clip(np.asarray(function(points.astype(np.float64)), np.float64),
                     -INT16 - 1, INT16) * (1 << GUARD_BITS)
    if not np.isfinite(values).all():
        raise ValueError("function must be finite wherever the table reaches, not NaN")
    place = (points - starts[:, None]) / width
    span = place[:, -1] - place[:, 0]
    rise = values[:, -1] - values[:, 0]
    slope = np.rint(np.divide(rise, span, out=np.zeros_like(rise), where=span > 0))
    rest = values - slope[:, None] * place
    base = np.rint((rest.max(axis=1) + rest.min(axis=1)) / 2)
    return Table(kind=Function.LINEAR, base=np.clip(base, -BASE - 1, BASE).astype(np.int64),
                 slope=slope.astype(np.int64), shift=shift, signed=signed)


def fit_best(function: Real, *, low: int, high: int, segments: int = 256) -> Table:
    """The table, of all widths of segments, with the least largest error from ``low`` to ``high``.

    Beyond its last segments a table stays what it is there, so that narrow segments suit a function
    that is flat outside.

    Raises
    ------
    ValueError
        The function is too steep for any.
    """
    signed = low < 0
    reach = max(-low, high + 1) if signed else high + 1
    most = max(0, ceil(log2(reach / (segments // 2 if signed else segments))))
    points = np.unique(np.linspace(low, high, min(high - low + 1, 1 << 16)).round())
    exact = np.clip(function(points), -INT16 - 1, INT16)
    best, least, failure = None, np.inf, ValueError("function must be less steep")
    for shift in range(most, max(most - 6, -1), -1):
        try:
            table = fit(function, segments=segments, shift=shift, signed=signed, low=low, high=high)
        except ValueError as error:
            failure = error
            continue
        error = np.abs(table(points.astype(np.int64)) - exact).max()
        if error < least:
            best, least = table, error
    if best is None:
        raise failure
    return best


def byte_table(function: Real) -> Table:
    """``function`` of every int8, rounded half to even and saturated."""
    values = np.clip(np.rint(function(np.arange(-128, 128).astype(np.float64))), -128, 127)
    return Table(kind=Function.TABLE, base=values.astype(np.int64), slope=np.zeros(256, np.int64))


def channel_table(gain: np.ndarray, offset: np.ndarray, *, lanes: int) -> Table:
    """``y = u * gain + offset`` of each column, in units of the result.

    Parameters
    ----------
    gain, offset : float array, (columns,)
        Below 1/16 and 2^15.
    """
    count = -(-len(gain) // lanes) * lanes
    values = np.zeros((2, count))
    values[0, :len(gain)], values[1, :len(gain)] = offset, gain
    base = np.rint(values[0] * (1 << GUARD_BITS)).astype(np.int64)
    slope = np.rint(values[1] * (1 << GUARD_BITS + FRACTION_BITS)).astype(np.int64)
    return Table(kind=Function.CHANNEL, base=base.reshape(-1, lanes),
                 slope=slope.reshape(-1, lanes))


def exponent(gain: float, *, root: bool = False) -> int:
    """What to add to the exponent of a row scale, for ``gain / t`` or ``gain / sqrt(t)``."""
    # Of a mantissa, for the least normalised number: 2^30, of roots 2^29.
    largest = gain * 2.0 ** BASE_BITS * (2.0 ** -14.5 if root else 2.0 ** -30)
    return ceil(log2(largest / BASE))


def reciprocal_table(gain: float, *, segments: int = 256) -> Table:
    """Mantissas of ``gain / t`` for a row scale with the exponent ``exponent(gain)``."""
    factor = gain * 2.0 ** (BASE_BITS - exponent(gain))
    return _mantissas(lambda m: factor / m, segments, segments // 2)


def root_table(gain: float, *, segments: int = 256) -> Table:
    """Mantissas of ``gain / sqrt(t)`` for a row root with ``exponent(gain, root=True)``."""
    factor = gain * 2.0 ** (BASE_BITS - exponent(gain, root=True))
    return _mantissas(lambda m: factor / np.sqrt(m), segments, segments // 4)


def _mantissas(function: Real, segments: int, first: int) -> Table:
    """Segments of a function of m, 0 <= m < 2^31, from segment ``first`` on."""
    width = 2.0 ** 31 / segments
    place = np.linspace(0, 1, SAMPLES)
    values = function((np.arange(first, segments)[:, None] + place) * width)
    slope = np.rint(values[:, -1] - values[:, 0])
    rest = values - slope[:, None] * place
    base, zeros = np.rint((rest.max(axis=1) + rest.min(axis=1)) / 2), np.zeros(first)
    return Table(kind=Function.LINEAR, first=first,
                 base=np.concatenate([zeros, np.clip(base, 0, BASE)]).astype(np.int64),
                 slope=np.concatenate([zeros, slope]).astype(np.int64))


def pack(table: Table, *, config: CoreConfig) -> bytes:
    """The entries that are read: of a ``CHANNEL`` whole rows of the function memory, otherwise one
    lane of them."""
    lanes = config.vector.lanes
    size = config.fun_row_bytes // lanes
    base, slope = (values[table.first:table.stop] for values in (table.base, table.slope))
    if size == 1 and table.kind != Function.TABLE:
        raise ValueError("vector.multiply must be true for segments, not False")
    if base.ndim == 2 and base.shape[1] != lanes:
        raise ValueError(f"entries must have {lanes} lanes, not {base.shape[1]!r}")
    word = base & (1 << BASE_BITS) - 1 | (slope & (1 << SLOPE_BITS) - 1) << BASE_BITS
    return word.astype("<u4").reshape(-1, 1).view(np.uint8)[:, :size].tobytes()
