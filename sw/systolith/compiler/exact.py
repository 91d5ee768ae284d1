"""Multipliers with which the core's double rounding gives what another rounding asks for.

The core rounds a product's high half, and then what a shift to the right leaves. A multiplier with
the shift 0 leaves the second out. It has fewer bits than the scale it stands for, so that it is
tried for every sum at which the result changes.
"""

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["NEIGHBOURS", "rounded_even", "rounded_once"]

NEIGHBOURS = (0, 1, -1, 2, -2, 3, -3)


def rounded_once(multiplier: np.ndarray, shift: np.ndarray, *, bias: np.ndarray,
                 whole: np.ndarray, clamp: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and shifts that round ``sum * multiplier / 2^31 * 2^shift`` once, halves up.

    Parameters
    ----------
    bias, whole : int64 array
        (outputs,), and the weights (outputs, inputs): which sums there can be.
    clamp : tuple of int
        Least and largest result, before the zero point.

    Raises
    ------
    ValueError
        Some output's results cannot be had so.
    """
    pairs = list(zip(multiplier.tolist(), shift.tolist(), strict=True))
    return _multipliers([m / 2.0 ** (31 - s) for m, s in pairs], bias, whole, clamp,
                        lambda number, step: _threshold(step, pairs[number][0],
                                                        31 - pairs[number][1]))


def rounded_even(scale: np.ndarray, *, bias: np.ndarray, whole: np.ndarray,
                 clamp: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The same for the nearest integer of ``sum * scale`` in float64, halves to even."""
    def least(number: int, step: int) -> int:
        near = int(np.ceil((step - 0.5) / scale[number]))
        # Beyond 2^53, where float64 has no neighbours, sums do not come.
        return next((value for value in range(near - 2, near + 3)
                     if np.rint(value * scale[number]) >= step), near)
    return _multipliers(scale.tolist(), bias, whole, clamp, least)


def _multipliers(scales: Sequence[float], bias: np.ndarray, whole: np.ndarray,
                 clamp: tuple[int, int], least: Callable[[int, int], int]) -> tuple[
                     np.ndarray, np.ndarray]:
    """Multipliers with the shift 0, given the least sum of an output that becomes a step."""
    found = []
    for number, scale in enumerate(scales):
        positive = int(np.clip(whole[number], 0, None).sum())
        negative = int(np.clip(whole[number], None, 0).sum())
        low = int(bias[number]) - 128 * positive + 127 * negative
        high = int(bias[number]) + 127 * positive - 128 * negative
        steps = range(clamp[0] + 1, clamp[1] + 1)
        wanted = [least(number, step) for step in steps] if scale else []
        for near in NEIGHBOURS:
            multiplier = round(scale * 2.0 ** 31) + near
            if not 0 < multiplier < 1 << 31:
                continue
            got = [_threshold(step, multiplier, 31) for step in steps]
            if all(one == other or max(one, other) <= low or min(one, other) > high
                   for one, other in zip(got, wanted, strict=True)):
                found.append(multiplier)
                break
        else:
            raise ValueError(f"results of output {number} must be those of the core's rounding for "
                             f"every sum, and are with no multiplier")
    return np.array(found, np.int64), np.zeros(len(found), np.int64)


def _threshold(step: int, multiplier: int, places: int) -> int:
    """The least sum that becomes ``step`` or more."""
    return -(-((step << places) - (1 << places - 1)) // multiplier)
