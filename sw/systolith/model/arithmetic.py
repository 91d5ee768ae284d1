"""Integer arithmetic of the core on whole arrays."""

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["matmul_int8", "requantise"]

EXACT_FLOAT32_K = 1024  # 1024 products of at most 2^14 sum to at most 2^24


def requantise(values: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, *,
               zero_point: int = 0, clamp: tuple[int, int] = (-128, 127),
               dtype: DTypeLike = np.int8) -> np.ndarray:
    """TFLite's MultiplyByQuantizedMultiplier with double rounding, zero point, clamp.

    With ``e = max(-shift, 0)`` and ``l = max(shift, 0)``::

        n = 2^(30-l) - (2^31 if e > 0 and x < 0 else 0)
        h = (x * m + n) >> (31 - l)
        r = (h >> e) + (h[e-1] if e > 0 else 0)

    None of them exceeds 2^62 + 2^30, so all are exact in int64.

    Parameters
    ----------
    values : int32 array
    multiplier : int32 array
        0 to 2^31 - 1; broadcasts against ``values``.
    shift : int array
        -31 to 7, positive = left; broadcasts against ``values``.
    clamp : pair of int
        Least and greatest int8 result.
    dtype : int8, int16 or int32
        Of the results; what int16 or int32 cannot hold becomes its nearest number.
    """
    x = np.asarray(values).astype(np.int64)
    m = np.asarray(multiplier).astype(np.int64)
    s = np.asarray(shift).astype(np.int64)
    left, right = np.clip(s, 0, 30), np.clip(-s, 0, 62)
    nudge = (np.int64(1) << (30 - left)) - np.where((right > 0) & (x < 0), np.int64(1) << 31, 0)
    high = (x * m + nudge) >> (31 - left)
    rounded = (high >> right) + np.where(right > 0, (high >> np.maximum(right - 1, 0)) & 1, 0)
    limits = np.iinfo(dtype)
    low, high = clamp if limits.bits == 8 else (limits.min, limits.max)
    return np.minimum(np.maximum(rounded + zero_point, low), high).astype(dtype)


def matmul_int8(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Product of int8 matrices, int32 modulo 2^32, through an exact floating-point product.

    Parameters
    ----------
    a : int8 array, (M, K)
    b : int8 array, (K, N)
    """
    if a.shape[1] <= EXACT_FLOAT32_K:
        return (a.astype(np.float32) @ b.astype(np.float32)).astype(np.int32)
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64).astype(np.int32)
