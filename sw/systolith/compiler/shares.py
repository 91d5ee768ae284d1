"""TFLite's int8 softmax on the vector unit, bit for bit.

Of an element t below the greatest, with the power P(t) and what it adds to the sum S, the result
is how many thresholds (2q + 1) S are at most 512 P(t): TFLite divides with 31 bits, so that this
holds with a whole number near it, but for a few of the millions of sums there can be, at which
that number is one more. A share that is near and not above comes from the scale of the row, and the
sign of what is left says whether it is one too small: an exact product of the sum, in two parts,
and the odd number.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from systolith_hw.isa import ElementType, Function, Reduction, VectorOp

from ..models import fixed
from ..vector.passes import Passes
from ..vector.tables import GUARD_BITS, Table, exponent, reciprocal_table
from ..vector.values import ROW, Columns, Product, Record, Rows, RowScale, Weighted, narrowed

__all__ = ["KINDS", "RECORDS", "Shares", "emit_shares", "shares_of"]

MOST_STEPS = 127        # entries of a table, less one
MOST_COLS = 20          # for which all numbers fit
FIRST = 1 << 19         # what the greatest adds to the sum
PART = 12               # bits of the lower part of what is added
REST = 9                # bits of a wanted number beyond those
NEARLY = 1 - 2.0 ** -11 # in place of 1: the scale of a row is wrong by less
ODD_SHIFT = 3           # log2 of the width of a segment
BELOW_0 = -128          # t of the greatest
RESULTS = 255           # thresholds that matter
NEAR = 3                # sums around a threshold where TFLite's division may decide otherwise
# Of the rooms and records that a row takes.
RECORDS = 3
KINDS = {"t": ElementType.INT8, "high": ElementType.INT16, "low": ElementType.INT16,
         "rest": ElementType.INT16, "odd": ElementType.INT16, "step": ElementType.INT8,
         "other": ElementType.INT8, "one": ElementType.INT32, "a": ElementType.INT32,
         "b": ElementType.INT32, "total": ElementType.INT32}


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """What the passes take, by how far an element lies below the greatest.

    Parameters
    ----------
    added, rest : int array
        To the sum, and the wanted number less 512 times that; the last for all further below.
    but : tuple of int
        Sums at which the wanted numbers are one more.
    """
    added: np.ndarray
    rest: np.ndarray
    but: tuple[int, ...] = ()

    def result(self, t: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Steps of 1/256."""
        t = np.minimum(t, len(self.added) - 1)
        wanted = (self.added[t] << REST) + self.rest[t] + np.isin(total, self.but)
        return np.clip((wanted // total + 1) // 2, 0, RESULTS)


def shares_of(scale: float, cols: int) -> Shares:
    """How rows of ``cols`` numbers with a scale are done.

    Raises
    ------
    ValueError
        They cannot be.
    """
    power = fixed.powers(scale)
    added = fixed.addends(power)
    last = int(np.count_nonzero(added))
    if cols > MOST_COLS:
        raise ValueError(f"rows must have at most {MOST_COLS} numbers for TFLite's softmax in "
                         f"every byte, not {cols!r}")
    if last > MOST_STEPS:
        raise ValueError(f"scale must be so large that numbers add to the sum of powers at most "
                         f"{MOST_STEPS} below the greatest for TFLite's softmax in every byte, "
                         f"not up to {last} as {scale:.4g}")
    added, power = added[:last + 1].copy(), power[:last + 1]
    added[last] = 0
    most = FIRST * cols
    odd = 2 * np.arange(RESULTS, dtype=np.int64) + 1
    rest, but = np.zeros(last + 1, np.int64), set()
    for t in range(last):
        sums = power[t] // (8 * odd[:, None]) + np.arange(-NEAR, NEAR + 1)
        valid = (sums >= (FIRST + added[t] if t else FIRST)) & (sums <= most)
        above = fixed.shares(power[t], np.clip(sums, FIRST, most)) > (odd[:, None] - 1) // 2
        products = odd[:, None] * sums
        beyond = int(products[valid & ~above].min(initial=1 << 40))
        wanted = min(beyond - 1, max(int(power[t]) // 8, int(
            products[valid & above].max(initial=0))))
        but |= set(sums[valid & above & (products > wanted)].tolist())
        rest[t] = wanted - (int(added[t]) << REST)
    found = Shares(added=added, rest=rest, but=tuple(sorted(but)))
    for total in but:   # where one more must be right for all others, too
        t = np.flatnonzero(added[:last] + FIRST * (np.arange(last) > 0) <= total)
        if len(but) > cols or not np.array_equal(
                found.result(t, np.array(total)),
                np.minimum(fixed.shares(power[t], np.array(total)), RESULTS)):
            raise ValueError(f"scale must be one for which a threshold of each number can be "
                             f"found for TFLite's softmax in every byte, not {scale!r}")
    return found


def _table(values: np.ndarray) -> Table:
    base = np.zeros(256, np.int64)
    base[:len(values)] = values << GUARD_BITS
    return Table(kind=Function.LINEAR, base=base, slope=np.zeros_like(base), stop=len(values))


def _odd_table() -> Table:
    """2q + 1 of a share."""
    starts = np.arange(64, dtype=np.int64) << ODD_SHIFT
    return Table(kind=Function.LINEAR, base=2 * starts + 1 << GUARD_BITS, shift=ODD_SHIFT,
                 slope=np.full(64, 2 << ODD_SHIFT + GUARD_BITS), stop=(256 >> ODD_SHIFT) + 1)


def emit_shares(passes: Passes, source: Rows, result: Rows, rooms: dict[str, Rows],
                how: Shares) -> None:
    """Keep the passes of a softmax of rows; ``rooms`` are as ``KINDS`` has them.

    Passes that need none of each other come side by side, two settings at a time.
    """
    cols, last, most = source.cols, len(how.added) - 1, FIRST * source.cols
    sums: Rows | None = None
    other: Rows | None = None

    def put(name: str, operand: Rows, **fields: Any) -> Rows:
        passes.step(operand, result=rooms[name], **fields)
        return narrowed(rooms[name], *passes.ranges["result"])

    def spread(name: str, record: Record, **fields: Any) -> Rows:
        """A row's value, which is at least 0, in place of t, which is not."""
        return put(name, t, second=ROW, record=record, operation=VectorOp.MAXIMUM, **fields)

    # How far below the greatest; what that adds to the sum, and the sum and its parts.
    record, parts = passes.record(), passes.record()
    passes.step(source, reduce=Reduction.MAXIMUM, record=record)
    t = put("t", source, second=ROW, operation=VectorOp.REVERSE, record=record, zero_point=BELOW_0,
            clamp=(BELOW_0, BELOW_0 + last), saturates=("result",))
    high, low = (put(name, t, second=-BELOW_0, function=_table(values)) for name, values in (
        ("high", how.added >> PART), ("low", how.added & (1 << PART) - 1)))
    passes.step(high, reduce=Reduction.SUM, record=parts)
    one = put("one", low, function=Weighted(stream=high, weight=1 << PART), reduce=Reduction.SUM,
              record=record, sum_results=True)
    one, total = narrowed(one, 0, FIRST), Record(base=record.base, name="sum")
    passes.known(total, FIRST, most)
    rest = put("rest", t, second=-BELOW_0, function=_table(how.rest + cols * bool(how.but)))

    # A share that may be one too small, and the odd number of the threshold above it.
    passes.step(total, function=reciprocal_table(NEARLY, segments=64), result=RowScale(
        record=record, exponent=exponent(NEARLY)))
    copy = passes.record()
    if how.but:
        passes.step(one, reduce=Reduction.SUM, record=copy)
    odd = put("odd", one, fine=True, scale=ROW, record=record, expect=(0, 256),
              function=_odd_table(), function_first=False)
    if how.but:
        sums = spread("total", copy)
    a = spread("a", parts, function=Product(stream=odd))
    b = spread("b", record, function=Product(stream=odd))
    reach = b.reach[1]

    # What is left of the wanted number, in steps of 1 and 512.
    second: Any = 0
    if sums is not None:    # as many columns as there are, or one less
        first, bias = how.but[0], np.full(cols, -1)
        bias[:len(how.but)] = how.but
        other = put("other", sums, second=first, operation=VectorOp.DISTANCE, scale=Columns(
            bias=bias - first, multiplier=np.array(1 << 30), shift=np.array(1)), clamp=(0, 1),
            saturates=("result",))
        second = ROW
    a = put("a", one, function=Weighted(stream=narrowed(a, 0, (FIRST << REST) + 2 * most >> PART),
                                        weight=-(1 << PART - REST)))
    if other is not None:
        passes.step(other, reduce=Reduction.SUM, record=copy)
    a = narrowed(a, *(sign * (2 * most + reach >> REST) for sign in (-1, 1)))
    b = put("b", rest, second=b, operation=VectorOp.SUBTRACT)
    step = put("step", b, second=second, operation=VectorOp.SUBTRACT, record=copy,
               function=Weighted(stream=a, weight=1 << REST), clamp=(-1, 0), saturates=("result",))
    passes.step(odd, second=1, function=Weighted(stream=step, weight=2), scale=(1 << 30, 0),
                zero_point=-128, result=result, saturates=("result",))
