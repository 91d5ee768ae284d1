"""TFLite's quantised sum, difference and product of two tensors in passes of the vector unit."""

from dataclasses import dataclass

import numpy as np

from ..model.arithmetic import requantise
from ..quantise import quantise_multiplier
from ..vector.elements import FINE
from .exact import NEIGHBOURS

__all__ = ["TwoPasses", "every_pair", "product_scale", "two_passes"]

MOST_WEIGHT = (1 << 15) - 1
TRIALS = 400        # weights
OFFSETS = (0, 1, -1, 2, -2)
EVERY = np.arange(-128, 128, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class TwoPasses:
    """``requantise(requantise(p << 8) + weight * q + offset)``, zero points included.

    Parameters
    ----------
    swapped, turned : bool
        Whether p is the second operand, and whether -p takes its place.
    first, last : tuple of int
        Multiplier and shift of p, and of the result.
    weight, offset : int
    """
    swapped: bool
    turned: bool
    first: tuple[int, int]
    last: tuple[int, int]
    weight: int
    offset: int


def two_passes(want: np.ndarray, *, scales: tuple[float, float], zero_points: tuple[int, int],
               out_scale: float, out_zero_point: int, clamp: tuple[int, int],
               subtract: bool = False) -> TwoPasses | None:
    """What gives ``want`` for every pair of int8, or None where none is found.

    The operand of the larger scale is weighted by nearly 2^15, and the other one brought to its
    steps: both are then exact to a few millionths of the result's step, so that few of the 65536
    pairs can come out differently, and with some weight none does.

    Parameters
    ----------
    want : int8 array, (256, 256)
        Result for each first and second operand, from -128 on.
    subtract : bool
        Whether it is the first operand less the second.
    """
    swapped = scales[0] > scales[1]
    p_scale, q_scale = scales[::-1] if swapped else scales
    p_zero, q_zero = zero_points[::-1] if swapped else zero_points
    want = want.T if swapped else want
    turned = subtract and swapped
    for weight in range(MOST_WEIGHT, MOST_WEIGHT - TRIALS, -1):
        try:
            first = quantise_multiplier(weight * p_scale / q_scale / (1 << FINE))
            last = quantise_multiplier(q_scale / weight / out_scale)
        except ValueError:
            return None
        sided = -weight if subtract and not swapped else weight
        p = p_zero - EVERY if turned else EVERY - p_zero
        brought = requantise(p << FINE, *first, dtype=np.int32).astype(np.int64)
        for offset in OFFSETS:
            sums = brought[:, None] + sided * (EVERY - q_zero) + offset
            got = requantise(sums, *last, zero_point=out_zero_point, clamp=clamp)
            if np.array_equal(got, want):
                return TwoPasses(swapped=swapped, turned=turned, first=_pair(first),
                                 last=_pair(last), weight=sided, offset=offset - sided * q_zero)
    return None


def product_scale(want: np.ndarray, scale: float, *, zero_points: tuple[int, int],
                  **result) -> tuple[int, int] | None:
    """Multiplier and shift with which products of every pair of int8 become ``want``, or None.

    Parameters
    ----------
    want : int8 array, (256, 256)
    scale : float
        That it stands for; from 0 to below 128.
    result
        Zero point and clamp, as ``requantise`` takes them.
    """
    products = (EVERY - zero_points[0])[:, None] * (EVERY - zero_points[1])
    multiplier, shift = _pair(quantise_multiplier(scale))
    pairs = [(multiplier + near, shift) for near in NEIGHBOURS]
    pairs += [(round(scale * 2.0 ** 31) + near, 0) for near in NEIGHBOURS]  # rounds once
    for multiplier, shift in pairs:
        if 0 <= multiplier < 1 << 31 and np.array_equal(requantise(
                products, np.array(multiplier), np.array(shift), **result), want):
            return multiplier, shift
    return None


def _pair(scale: tuple[np.ndarray, np.ndarray]) -> tuple[int, int]:
    return int(scale[0][0]), int(scale[1][0])


def every_pair() -> tuple[np.ndarray, np.ndarray]:
    """All pairs of int8, as (256, 256) each."""
    every = np.arange(-128, 128, dtype=np.int8)
    return np.repeat(every[:, None], 256, 1), np.repeat(every[None], 256, 0)
