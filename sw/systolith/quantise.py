"""From real numbers to the integers of the core, the way TFLite does it."""

import math

import numpy as np
from systolith_hw.checks import check_choice
from systolith_hw.formats import RANGES

__all__ = ["activation_scale", "quantise", "quantise_multiplier", "quantise_weights"]

MAX_SHIFT = 7
TERNARY_THRESHOLD = 0.7
CLIPS = tuple(np.linspace(0.5, 1.0, 11).tolist())   # shares of a channel's range


def quantise_multiplier(scale: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``multiplier, shift`` with ``scale = multiplier / 2^31 * 2^shift``.

    Scales below 2^-32 become 0.

    Parameters
    ----------
    scale : float or float array

    Returns
    -------
    multiplier : int32 array
        0, or 2^30 to 2^31 - 1.
    shift : int8 array
        -31 to 7.

    Raises
    ------
    ValueError
        A scale is negative, not finite, or 128 and more.
    """
    values = np.atleast_1d(np.asarray(scale, np.float64))
    multipliers, shifts = [], []
    for value in values.reshape(-1).tolist():
        if not (math.isfinite(value) and 0 <= value < 1 << MAX_SHIFT):
            raise ValueError(f"scale must be from 0 to below {1 << MAX_SHIFT}, not {value!r}")
        fraction, exponent = math.frexp(value)
        multiplier = math.floor(fraction * (1 << 31) + 0.5)
        if multiplier == 1 << 31:
            multiplier, exponent = 1 << 30, exponent + 1
        if exponent < -31:
            multiplier, exponent = 0, 0
        if exponent > MAX_SHIFT:
            raise ValueError(f"scale must be from 0 to below {1 << MAX_SHIFT}, not {value!r}")
        multipliers.append(multiplier)
        shifts.append(exponent)
    return (np.array(multipliers, np.int32).reshape(values.shape),
            np.array(shifts, np.int8).reshape(values.shape))


def quantise_weights(weights: np.ndarray, weight_format: str = "int8") -> tuple[
        np.ndarray, np.ndarray]:
    """Symmetric weights with one scale per output channel.

    int8 scales spread the channel's range; int4 ones clip it where that makes the squared error
    least. Ternary weights are those of Li, Zhang and Liu, "Ternary weight networks",
    arXiv:1605.04711: 0 up to 0.7 of the mean magnitude, and the scale is the mean magnitude of the
    others.

    Parameters
    ----------
    weights : float array, (K, N)
    weight_format : str
        ``int8``, ``int4`` or ``ternary``.

    Returns
    -------
    quantised : int8 array, (K, N)
        -127 to 127, -7 to 7, or -1 to 1.
    scale : float64 array, (N,)
        ``weights`` is about ``quantised * scale``.
    """
    check_choice("weight_format", weight_format, tuple(RANGES))
    weights = np.asarray(weights, np.float64)
    sizes = np.abs(weights)
    if weight_format == "ternary":
        chosen = sizes > TERNARY_THRESHOLD * sizes.mean(axis=0)
        count = chosen.sum(axis=0)
        scale = np.where(count > 0, (sizes * chosen).sum(axis=0) / np.maximum(count, 1), 1.0)
        return (np.sign(weights) * chosen).astype(np.int8), scale
    high = RANGES[weight_format][1]
    peak = sizes.max(axis=0)
    shares = (1.0,) if weight_format == "int8" else CLIPS
    scales = np.array([np.where(peak > 0, share * peak / high, 1.0) for share in shares])
    candidates = np.clip(np.rint(weights / scales[:, None]), -high, high)
    errors = ((candidates * scales[:, None] - weights) ** 2).sum(axis=1)
    best = errors.argmin(axis=0)
    columns = np.arange(weights.shape[1])
    return candidates[best, :, columns].T.astype(np.int8), scales[best, columns]


def activation_scale(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of int8 activations that span ``low`` to ``high`` and contain 0.

    Raises
    ------
    ValueError
        ``low`` is above ``high``, or one of them not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"low must be a finite number up to high={high!r}, not {low!r}")
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / 255
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def quantise(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """int8 values: ``values / scale + zero_point``, rounded half to even and saturated."""
    real = np.asarray(values, np.float64)
    return np.clip(np.rint(real / scale) + zero_point, -128, 127).astype(np.int8)
