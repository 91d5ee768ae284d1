"""Programs over whole rows: softmax, norms, arg max, top k, scales found at run time.

Each keeps its passes on a ``Passes``; costs count passes, of one lane group per cycle, and scalar
passes, of one row per cycle.
"""

from dataclasses import replace
from math import ceil, expm1, log2, sqrt

import numpy as np
from systolith_hw.isa import ElementType, Reduction, VectorOp

from ..quantise import MAX_SHIFT, quantise_multiplier
from .elements import FINE
from .passes import Passes
from .tables import (
    FRACTION_BITS,
    GUARD_BITS,
    SLOPE,
    Table,
    channel_table,
    exponent,
    fit,
    reciprocal_table,
    root_table,
)
from .values import INT32, ROW, SQUARE, Record, Rows, RowScale

__all__ = [
    "QUANTISED_PEAK", "SOFTMAX_ONE", "arg_max", "layer_norm", "quantise_rows", "rms_norm",
    "softmax", "top_k",
]

SOFTMAX_ONE = {ElementType.INT8: 256, ElementType.INT16: 1 << 15}   # a probability of 1
QUANTISED_PEAK = 127
EXP_ONE = (1 << 15) - 1
EXP_STEEPEST = 2040         # fall within a segment; its slope has 14 bits
EXP_DEPTH = 11.1            # exp(-EXP_DEPTH) * EXP_ONE is below 1/2
ROOT_LIMIT = 46340          # its square is the largest that int32 holds


def _multiplier(scale: float) -> tuple[int, int]:
    multiplier, shift = quantise_multiplier(scale)
    return int(multiplier[0]), int(shift[0])


def _centred(source: Rows, zero_point: int) -> int:
    """Largest magnitude of a number less the zero point."""
    return max(abs(end - zero_point) for end in source.reach)


def exp_table(scale: float, span: int, *, reverse: bool, masked: bool) -> Table:
    """``exp(-scale * t)`` with ``EXP_ONE`` for 1, or less where the first segment is too steep.

    Parameters
    ----------
    span : int
        Largest t.
    reverse : bool
        True: of t, 256 segments from 0 on. False: of -t, 128 segments below 0.
    masked : bool
        Whether the lowest segment is 0 (of -t only).
    """
    segments, depth = (256 if reverse else 128), ceil(EXP_DEPTH / scale)
    shift = max(0, ceil(log2(min(span + 1, depth) / segments)))
    if masked and min(span, depth) >= segments - 1 << shift:
        shift += 1
    one = float(EXP_ONE)
    if shift:
        one = min(one, EXP_STEEPEST / -expm1(-scale * 2.0 ** shift))
    if reverse:
        return fit(lambda t: one * np.exp(-scale * t), shift=shift)
    table = fit(lambda x: one * np.exp(np.minimum(scale * x, 0)), shift=shift, signed=True)
    if masked:
        table.base[0] = table.slope[0] = 0
    return replace(table, stop=segments + 1)


def softmax(passes: Passes, source: Rows, result: Rows, *, scale: float,
            mask: Rows | None = None) -> None:
    """``exp(scale * (x - max)) / sum``; a row whose mask is all 0 gives 0.

    3 passes and 1 scalar pass.

    Parameters
    ----------
    source : Rows
        int8, int16, int32 or accumulator.
    result : Rows
        int8 with zero point -128 and scale 1/256, or int16 with scale 2^-15.
    scale : float
        Of the source's units.
    mask : Rows or None
        Elements where it is 0 take no part.

    Raises
    ------
    ValueError
        Rows so long that their sum could leave 31 bits: above 65538 columns.
    """
    if not scale > 0:
        raise ValueError(f"scale must be above 0, not {scale!r}")
    low, high = source.reach
    reverse = mask is None and passes.config.vector.functions >= 512
    table = exp_table(scale, high - low, reverse=reverse, masked=mask is not None)
    operation = VectorOp.REVERSE if reverse else VectorOp.SUBTRACT
    one = SOFTMAX_ONE[result.kind]
    record = passes.record()
    common = {"operation": operation, "record": record, "mask": mask, "second": ROW,
              "function": table, "saturates": ("combined", "result")}
    passes.step(source, reduce=Reduction.MAXIMUM, record=record, mask=mask)
    passes.step(source, sum_results=True, **common)
    total = Record(base=record.base, name="sum")
    passes.known(total, int(table(np.array(0))), passes.ranges["sum"][1])
    segments = 256 if passes.config.vector.functions >= 512 else 64
    passes.step(total, function=reciprocal_table(one, segments=segments), result=RowScale(
        record=record, exponent=exponent(one)))
    passes.step(source, scale=ROW, result=result, expect=(0, one),
                zero_point=-128 if result.kind == ElementType.INT8 else 0, **common)


def _sum_shift(cols: int, largest: int) -> int:
    """Bits that squares lose so that their sum keeps 30."""
    return max(0, ceil(log2(cols * largest * largest / (1 << 30))))


def _gains(gamma: np.ndarray, beta: np.ndarray, scale: float, zero_point: int,
           lanes: int) -> tuple[Table, int]:
    """Entries that take normalised numbers to results, and the bits of those numbers' fraction."""
    gamma = np.asarray(gamma, np.float64) / scale
    offset = np.asarray(beta, np.float64) / scale + zero_point
    largest = max(np.abs(gamma).max(), 2.0 ** -8)
    bits = ceil(log2(largest * (1 << GUARD_BITS + FRACTION_BITS) / SLOPE))
    return channel_table(gamma * 2.0 ** -bits, offset, lanes=lanes), bits


def _mean(passes: Passes, sums: Record, result: Record, cols: int, bits: int,
          zero_point: int = 0) -> None:
    """Mean of rows, and the zero point, with so many bits of fraction."""
    fine = 2.0 ** bits / cols >= 1 << MAX_SHIFT
    left = FINE if fine else 0
    passes.step(sums, fine=fine, second=cols * zero_point << left, result=result,
                scale=_multiplier(2.0 ** (bits - left) / cols))


def _segments(passes: Passes, channels: Table) -> int:
    """256 segments for the root where the channels leave them room."""
    return 256 if channels.entries + 256 <= passes.config.vector.functions else 64


def layer_norm(passes: Passes, source: Rows, result: Rows, *, gamma: np.ndarray, beta: np.ndarray,
               out_scale: float, zero_point: int = 0, out_zero_point: int = 0,
               epsilon: float = 0.0, peak: float | None = None,
               mean_limit: float | None = None) -> None:
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta``.

    2 passes and 3 scalar passes, up to 5 with a zero point, of int16, or with a large epsilon.
    Rows whose standard deviation is below about an eighth of a unit come out too small. The
    variance is a difference of sums, off by up to ``|mean| / 2^b`` squared units, where b is the
    largest of 0 to 8 with ``mean_limit * 2^b <= 46340``: that suits rows whose mean is not many
    times their standard deviation.

    Parameters
    ----------
    source, result : Rows
        int8 or int16.
    gamma, beta : float array, (columns,)
    out_scale, out_zero_point
        Of the result.
    zero_point : int
        Of the source; sums are taken of differences to it.
    epsilon : float
        In squared units of the source.
    peak : float or None
        Largest normalised number that is meant; None: the largest possible, ``sqrt(columns)``.
    mean_limit : float or None
        Largest mean of a row that is meant, in units of the source from its zero point; None: the
        largest number.

    Raises
    ------
    ValueError
        Results of so fine a scale that normalised numbers leave 18 bits; rows too long; no room
        for one table entry of each lane group.
    """
    cols = source.cols
    if zero_point and _centred(source, zero_point) > 1 << 16:
        raise ValueError(f"zero_point must be from -32768 to 32767, not {zero_point!r}")
    largest = _centred(source, zero_point)
    shift = _sum_shift(cols, largest)
    channels, bits = _gains(gamma, beta, out_scale, out_zero_point, passes.config.vector.lanes)
    mean_limit = min(largest, mean_limit or largest)
    mean_bits = min(8, int(log2(ROOT_LIMIT / mean_limit) // 1))
    bound = ceil(mean_limit * 2.0 ** mean_bits)
    sums, norm = passes.record(), passes.record()
    passes.step(source, second=zero_point, operation=VectorOp.SUBTRACT, reduce=Reduction.SUM,
                record=sums, function=SQUARE, scale=(1 << 30, 1 - shift) if shift else None,
                sum_results=True)
    _mean(passes, sums, norm, cols, 8, zero_point)
    square_of = norm
    if mean_bits < 8 or zero_point:
        _mean(passes, sums, sums, cols, mean_bits)
        square_of = sums
    passes.known(square_of, -bound, bound)
    extra = round(cols * epsilon / 2.0 ** shift)
    passes.step(square_of, function=SQUARE, result=sums,
                scale=_multiplier(cols * 2.0 ** (-2 * mean_bits - shift)),
                zero_point=-extra if extra <= 128 else 0)
    if extra > 128:
        passes.step(sums, second=-extra, result=sums)
    total = Record(base=sums.base, name="sum")
    passes.known(sums, -extra, passes.values[total.base, "sum"][1])
    gain = 2.0 ** (bits - 8) * sqrt(cols / 2.0 ** shift)
    passes.step(total, second=ROW, operation=VectorOp.SUBTRACT, saturates=("function",),
                function=root_table(gain, segments=_segments(passes, channels)),
                result=RowScale(record=norm, exponent=exponent(gain, root=True), root=True))
    limit = ceil((sqrt(cols - 1) if peak is None else peak) * 2.0 ** bits)
    passes.step(source, fine=True, second=ROW, operation=VectorOp.SUBTRACT, record=norm,
                scale=ROW, function=channels, function_first=False, result=result,
                expect=(-limit, limit), saturates=("result",))


def rms_norm(passes: Passes, source: Rows, result: Rows, *, gamma: np.ndarray, out_scale: float,
             zero_point: int = 0, out_zero_point: int = 0, epsilon: float = 0.0,
             peak: float | None = None) -> None:
    """``x / sqrt(mean(x^2) + epsilon) * gamma``; parameters as ``layer_norm``.

    2 passes and 1 scalar pass.
    """
    cols = source.cols
    shift = _sum_shift(cols, _centred(source, zero_point))
    channels, bits = _gains(gamma, np.zeros(cols), out_scale, out_zero_point,
                            passes.config.vector.lanes)
    record = passes.record()
    passes.step(source, second=zero_point, operation=VectorOp.SUBTRACT, record=record,
                function=SQUARE, scale=(1 << 30, 1 - shift) if shift else None, sum_results=True)
    gain = 2.0 ** (bits - 8) * sqrt(cols / 2.0 ** shift)
    passes.step(Record(base=record.base, name="sum"), saturates=("combined", "function"),
                second=min(round(cols * epsilon / 2.0 ** shift), INT32[1]),
                function=root_table(gain, segments=_segments(passes, channels)),
                result=RowScale(record=record, exponent=exponent(gain, root=True), root=True))
    limit = ceil((sqrt(cols) if peak is None else peak) * 2.0 ** bits)
    passes.step(source, fine=True, second=zero_point << 8, operation=VectorOp.SUBTRACT,
                record=record, scale=ROW, function=channels, function_first=False, result=result,
                expect=(-limit, limit), saturates=("result",))


def arg_max(passes: Passes, source: Rows, result: Rows) -> None:
    """Position of the first of the largest numbers of a row.

    1 pass and 1 scalar pass.

    Parameters
    ----------
    result : Rows
        int16 or int32, of one column; all lanes of it get the number.
    """
    record = passes.record()
    passes.step(source, reduce=Reduction.MAXIMUM, record=record)
    passes.step(Record(base=record.base, name="position"), result=result)


def top_k(passes: Passes, source: Rows, values: list[Rows], positions: list[Rows], *, ramp: Rows,
          rest: Rows, mask: Rows) -> None:
    """The largest numbers of a row in falling order, the first of equals first.

    2 k - 1 passes and 3 k - 1 scalar passes.

    Parameters
    ----------
    values, positions : list of Rows
        k of each, of one column.
    ramp : Rows
        int16, one row: 0, 1, 2...
    rest : Rows
        Room for copies of the source in a wider type (int32 stays int32).
    mask : Rows
        Room for int8.

    Raises
    ------
    ValueError
        More results than columns.
    """
    if len(values) > source.cols:
        raise ValueError(f"k must be at most {source.cols} columns, not {len(values)!r}")
    best, place = passes.record(), passes.record()
    index = Record(base=best.base, name="position")
    for number, (value, position) in enumerate(zip(values, positions, strict=True)):
        last = number == len(values) - 1
        passes.step(rest if number else source, mask=mask if number else None,
                    reduce=Reduction.MAXIMUM, record=best, result=None if last else rest,
                    saturates=("result",))
        passes.step(best, result=value, saturates=("result",))
        passes.step(index, result=position)
        if not last:
            passes.step(index, result=place)
            passes.step(ramp, second=ROW, operation=VectorOp.DISTANCE, record=place, result=mask,
                        saturates=("result",))


def quantise_rows(passes: Passes, source: Rows, result: Rows, peaks: Rows) -> None:
    """int8 of each row with the scale that its largest magnitude asks for: ``peak / 127``.

    2 passes and 2 scalar passes.

    Parameters
    ----------
    source : Rows
        int8, int16, int32 or accumulator.
    peaks : Rows
        int32, of one column: the largest magnitude of each row.
    """
    record = passes.record()
    passes.step(source, operation=VectorOp.DISTANCE, reduce=Reduction.MAXIMUM, record=record,
                saturates=("combined",))
    passes.step(record, result=peaks)
    passes.step(record, function=reciprocal_table(QUANTISED_PEAK), saturates=("function",),
                result=RowScale(record=record, exponent=exponent(QUANTISED_PEAK)))
    passes.step(source, scale=ROW, record=record, result=result,
                clamp=(-QUANTISED_PEAK, QUANTISED_PEAK), expect=(-128, 128),
                saturates=("result",))
