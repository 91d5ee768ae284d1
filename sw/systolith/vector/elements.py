"""Programs over elements: functions, additions, products, requantisation, rotary embedding."""

import math
from collections.abc import Callable

import numpy as np
from systolith_hw.isa import ElementType, VectorOp

from ..quantise import quantise_multiplier
from .passes import Passes
from .tables import Table, byte_table, fit_best
from .values import Columns, Product, Rows, Weighted, narrowed

__all__ = [
    "FUNCTIONS", "ROTARY_BITS", "activate", "activation_table", "add", "add_exact", "clamp_rows",
    "extreme", "multiply", "requantise", "rotate",
]

Real = Callable[[np.ndarray], np.ndarray]
Range = tuple[int, int]

FINE = 8                # bits that ``fine`` shifts a source by
MOST_LEFT = 7           # largest shift of a scale
ROTARY_BITS = 14        # of the fraction of sines and cosines
HALF = 1 << 30          # multiplier of 1/2
RANGES = {ElementType.INT8: (-128, 127), ElementType.INT16: (-32768, 32767)}

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


FUNCTIONS: dict[str, Real] = {
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "leaky_relu": lambda x: np.where(x < 0, 0.01 * x, x),
}


def activation_table(function: str | Real, *, source: ElementType, result: ElementType,
                     scale: float, out_scale: float, zero_point: int = 0, out_zero_point: int = 0,
                     segments: int = 256) -> Table:
    """The table of ``function`` (a name of ``FUNCTIONS``, or any of real arrays).

    int8 to int8 is exact but for the last rounding.
    """
    if isinstance(function, str):
        if function not in FUNCTIONS:
            raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, not {function!r}")
        function = FUNCTIONS[function]
    real = function

    def quantised(x: np.ndarray) -> np.ndarray:
        return real((x - zero_point) * scale) / out_scale + out_zero_point

    if source == result == ElementType.INT8:
        return byte_table(quantised)
    low, high = RANGES[source]
    return fit_best(quantised, low=low, high=high, segments=segments)


def activate(passes: Passes, source: Rows, result: Rows, table: Table, *,
             scale: tuple[int, int] | Columns | None = None) -> None:
    """``table(x)``, or with a scale ``table(scale * x)``; 1 pass."""
    passes.step(source, function=table, function_first=scale is None, scale=scale, result=result,
                saturates=("function", "result"))


def clamp_rows(passes: Passes, rows: Rows, clamp: Range) -> None:
    """Limit int16 in their place; a pass for each limit within their range."""
    low, high = RANGES[rows.kind]
    if clamp[0] > low:
        passes.step(rows, second=clamp[0], operation=VectorOp.MAXIMUM, result=rows)
    if clamp[1] < high:
        passes.step(rows, second=clamp[1], operation=VectorOp.MINIMUM, result=rows)


def _finish(passes: Passes, result: Rows, clamp: Range | None) -> None:
    if result.kind == ElementType.INT16 and clamp is not None:
        clamp_rows(passes, result, clamp)


def _int8(result: Rows, clamp: Range | None) -> Range:
    return clamp if clamp and result.kind == ElementType.INT8 else RANGES[ElementType.INT8]


def add(passes: Passes, a: Rows, b: Rows, result: Rows, *, a_scale: float, b_scale: float,
        out_scale: float, a_zero_point: int = 0, b_zero_point: int = 0, out_zero_point: int = 0,
        clamp: Range | None = None) -> None:
    """Sum of numbers of different scales; 1 pass.

    The ratio of the scales is a weight of 9 to 15 bits: results of int8 are within a unit of the
    real sum, those of int16 within 2^-9 of the larger scale's range.
    """
    if a_scale > b_scale:
        a, b, a_scale, b_scale = b, a, b_scale, a_scale
        a_zero_point, b_zero_point = b_zero_point, a_zero_point
    ratio = b_scale / a_scale
    fine = round(ratio * (1 << FINE)) < 1 << 15
    weight = round(ratio * (1 << FINE) if fine else ratio)
    if weight >= 1 << 15:
        raise ValueError(f"ratio of the scales must be below {1 << 15}, not {ratio!r}")
    unit = 1 << FINE if fine else 1
    multiplier, shift = quantise_multiplier(a_scale / unit / out_scale)
    passes.step(a, fine=fine, second=-(unit * a_zero_point + weight * b_zero_point),
                function=Weighted(stream=b, weight=weight),
                scale=(int(multiplier[0]), int(shift[0])), zero_point=out_zero_point,
                clamp=_int8(result, clamp), result=result, saturates=("result",))
    _finish(passes, result, clamp)


def add_exact(passes: Passes, operands: list[Rows], temporaries: list[Rows], result: Rows, *,
              left_shift: int, offsets: tuple[int, int],
              multipliers: tuple[tuple[int, int], tuple[int, int]],
              out_multiplier: tuple[int, int], out_zero_point: int = 0,
              clamp: Range | None = None, subtract: bool = False) -> None:
    """TFLite's quantised addition or subtraction, bit for bit.

    ``r_i = requantise((x_i + offset_i) << left_shift)``, then ``requantise(r_1 + r_2)``, or
    ``r_1 - r_2``, plus zero point. 3 passes, and one more for each input whose shift is not 0, for
    each limit of int16, and without a multiplier for each input of int8.

    Parameters
    ----------
    temporaries : list of Rows
        Two of int32.
    left_shift : int
        0 to 21; 20 for int8 and 15 for int16.
    multipliers, out_multiplier
        Multiplier and shift; those of the inputs at most 0.
    """
    rooms = []
    for operand, room, offset, (multiplier, shift) in zip(operands, temporaries, offsets,
                                                          multipliers, strict=True):
        if shift > 0 or not 0 <= left_shift <= 21:
            raise ValueError(f"left_shift must be from 0 to 21 and shifts of inputs at most 0, "
                             f"not {left_shift} and {shift!r}")
        # The scale shifts left by 7 at most; fine or a weight does the rest.
        before = max(0, left_shift - MOST_LEFT)
        scale = (multiplier, left_shift - before)
        if before in (0, FINE):
            passes.step(operand, fine=before > 0, second=offset << before, scale=scale, result=room)
        elif passes.config.vector.multiply:
            passes.step(operand, second=offset << before, scale=scale, result=room,
                        function=Weighted(stream=operand, weight=(1 << before) - 1))
        else:
            passes.step(operand, fine=True, second=offset << FINE,
                        scale=(HALF, before - MOST_LEFT), result=room)
            passes.step(narrowed(room, *passes.ranges["result"]), scale=scale, result=room)
        rooms.append(narrowed(room, *passes.ranges["result"]))
        if shift:
            passes.step(rooms[-1], second=rooms[-1], scale=(HALF, shift), result=room)
            rooms[-1] = narrowed(room, *passes.ranges["result"])
    passes.step(rooms[0], second=rooms[1], scale=out_multiplier, result=result,
                operation=VectorOp.SUBTRACT if subtract else VectorOp.ADD,
                zero_point=out_zero_point, clamp=_int8(result, clamp), saturates=("result",))
    _finish(passes, result, clamp)


def multiply(passes: Passes, a: Rows, b: Rows, result: Rows, *, multiplier: tuple[int, int],
             offsets: tuple[int, int] = (0, 0), out_zero_point: int = 0,
             clamp: Range | None = None) -> None:
    """TFLite's quantised product, bit for bit: ``requantise((a + offset) * (b + offset))``.

    1 pass, and one for each limit of int16.
    """
    passes.step(a, second=offsets[0], function=Product(stream=b, zero=-offsets[1]),
                scale=multiplier, zero_point=out_zero_point, clamp=_int8(result, clamp),
                result=result, saturates=("result",))
    _finish(passes, result, clamp)


def extreme(passes: Passes, a: Rows, b: Rows, result: Rows, *, largest: bool) -> None:
    """The larger or the smaller of two numbers of one scale; 1 pass."""
    passes.step(a, second=b, operation=VectorOp.MAXIMUM if largest else VectorOp.MINIMUM,
                result=result)


def requantise(passes: Passes, source: Rows, result: Rows, *, scale: tuple[int, int] | Columns,
               zero_point: int = 0, out_zero_point: int = 0, fine: bool = False,
               clamp: Range | None = None) -> None:
    """``scale * (x - zero_point) + out_zero_point``; from and to any type, 1 pass.

    Parameters
    ----------
    fine : bool
        Whether the source is shifted left by 8 bits before, for scales of 128 and more.
    """
    passes.step(source, fine=fine, second=zero_point << FINE * fine, scale=scale,
                operation=VectorOp.SUBTRACT, zero_point=out_zero_point,
                clamp=_int8(result, clamp), result=result, saturates=("combined", "result"))
    _finish(passes, result, clamp)


def rotate(passes: Passes, halves: list[Rows], angles: list[Rows], temporaries: list[Rows],
           results: list[Rows], *, zero_point: int = 0) -> None:
    """Rotary embedding of pairs that lie in two halves: ``(a c - b s, b c + a s)``.

    3 passes over the elements of both halves.

    Parameters
    ----------
    halves, results : list of two Rows
        int8 or int16, of one scale and zero point.
    angles : list of two Rows
        Cosines and sines, int16 with ``ROTARY_BITS`` of fraction.
    temporaries : list of two Rows
        int32.
    """
    cosines, sines = (narrowed(angle, -1 << ROTARY_BITS, 1 << ROTARY_BITS) for angle in angles)
    for operation, first, second, result in (
            (VectorOp.SUBTRACT, halves[0], halves[1], results[0]),
            (VectorOp.ADD, halves[1], halves[0], results[1])):
        rooms = []
        for source, angle, room in zip((first, second), (cosines, sines), temporaries,
                                       strict=True):
            passes.step(source, second=-zero_point, function=Product(stream=angle), result=room)
            rooms.append(narrowed(room, *passes.ranges["result"]))
        passes.step(rooms[0], second=rooms[1], operation=operation,
                    scale=(HALF, 1 - ROTARY_BITS), zero_point=zero_point, result=result,
                    saturates=("result",))
