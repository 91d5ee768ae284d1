"""Fixed-point arithmetic of gemmlowp and TFLite on arrays.

Follows gemmlowp's fixedpoint.h and tensorflow/lite/kernels/internal/{quantization_util,common}.
Numbers with i integer bits are int32 whose unit is 2^(i - 31).
"""

import math

import numpy as np

from ..quantise import quantise_multiplier

__all__ = ["addends", "powers", "rounded", "scaled_once", "shares", "softmax"]

MOST, LEAST = (1 << 31) - 1, -(1 << 31)
DIFFERENCE_BITS = 5     # integer bits of differences to the greatest
SUM_BITS = 12           # and of the sum of their powers
# exp(-2^e) for e from -2 to 4, without integer bits.
POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
EXP_EIGHTH, THIRD = 1895147668, 715827883   # exp(-1/8), 1/3
OF_17 = (1515870810, -1010580540)           # 48/17, -32/17 with two integer bits


def rounded(value: float) -> int:
    """The nearest whole number, halves away from 0."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def scaled_once(values: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``values * multiplier / 2^31 * 2^shift``, rounded once, halves up; int64."""
    places = 31 - shift.astype(np.int64)
    return (values.astype(np.int64) * multiplier + (np.int64(1) << (places - 1))) >> places


def _high(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """SaturatingRoundingDoublingHighMul."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.minimum(np.sign(nudged) * (np.abs(nudged) >> 31), MOST)


def _divide(x: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """RoundingDivideByPOT: by 2^exponent, halves away from 0."""
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


def _shift(x: np.ndarray, bits: int) -> np.ndarray:
    """By 2^bits, saturated."""
    return np.clip(x << bits, LEAST, MOST)


def _exp_near_0(a: np.ndarray) -> np.ndarray:
    """exp of -1/4 to 0, without integer bits, by its series about -1/8."""
    x = a + (1 << 28)
    x2 = _high(x, x)
    x3, x4 = _high(x2, x), _high(x2, x2)
    rest = _divide(_high(_divide(x4, 2) + x3, THIRD) + x2, 1)
    return np.minimum(EXP_EIGHTH + _high(x + rest, EXP_EIGHTH), MOST)


def _exp(a: np.ndarray) -> np.ndarray:
    """exp of numbers up to 0 with ``DIFFERENCE_BITS``; without integer bits."""
    fraction = 31 - DIFFERENCE_BITS
    quarter = 1 << (fraction - 2)
    near = (a & (quarter - 1)) - quarter
    found = _exp_near_0(_shift(near, DIFFERENCE_BITS))
    rest = near - a
    for power, factor in zip(range(-2, DIFFERENCE_BITS), POWERS, strict=True):
        found = np.where(rest & (1 << (fraction + power)), _high(found, factor), found)
    return np.where(a == 0, MOST, found)


def _reciprocal_of_one_plus(a: np.ndarray) -> np.ndarray:
    """1 / (1 + a) for a from 0 to 1, without integer bits, by three of Newton's steps."""
    whole = a + MOST
    half = (whole + 1) >> 1
    x = OF_17[0] + _high(half, OF_17[1])
    for _ in range(3):
        x = x + _shift(_high(x, (1 << 29) - _high(half, x)), 2)
    return _shift(x, 1)


def powers(scale: float) -> np.ndarray:
    """``exp(-scale * d)`` for d from 0 to 255 as the int8 softmax has it, without integer bits; 0
    where it leaves elements out."""
    unit = 31 - DIFFERENCE_BITS
    multiplier, shift = quantise_multiplier(min(scale, MOST / (1 << unit)))
    exponent = int(shift[0]) + unit
    radius = math.floor(((1 << DIFFERENCE_BITS) - 1) * (1 << unit) / 2.0 ** exponent)
    differences = np.arange(256, dtype=np.int64)
    near = differences <= radius
    return np.where(near, _exp(_high(np.where(near, -differences, 0) << exponent, multiplier)), 0)


def addends(found: np.ndarray) -> np.ndarray:
    """What powers add to their sum, with ``SUM_BITS`` integer bits."""
    return _divide(found, SUM_BITS)


def shares(found: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Powers over their sum, in steps of 1/256, 0 to 256."""
    zeros = 31 - np.floor(np.log2(total)).astype(np.int64)  # leading ones of 32 bits
    inverse = _reciprocal_of_one_plus((total << zeros) - (1 << 31))
    return _divide(_high(inverse, found), SUM_BITS - zeros + 31 - 8)


def softmax(x: np.ndarray, scale: float) -> np.ndarray:
    """int8 softmax along the last dimension, in steps of 1/256 from -128.

    Parameters
    ----------
    x : int8 array
    scale : float
        Of ``x``, times beta.
    """
    wide = x.astype(np.int64)
    found = powers(scale)[wide.max(-1, keepdims=True) - wide]
    total = addends(found).sum(-1, keepdims=True)
    return np.clip(shares(found, total) - 128, -128, 127).astype(np.int8)
