"""What a matrix product must give, from NumPy alone: nothing of the model or the compiler."""

import numpy as np

__all__ = ["expected_product", "requantised"]

SLICE = 1 << 14  # of K, so that copies of large operands as float64 stay small


def expected_product(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """``a @ b + bias`` as int64; exact, since float64 holds integers up to 2^53."""
    sums = np.zeros((a.shape[0], b.shape[1]), np.int64)
    for start in range(0, a.shape[1], SLICE):
        part = slice(start, start + SLICE)
        sums += (a[:, part].astype(np.float64) @ b[part].astype(np.float64)).astype(np.int64)
    return sums if bias is None else sums + bias.astype(np.int64)


def requantised(sums: np.ndarray, multiplier: np.ndarray, shift: np.ndarray,
                clamp: tuple[int, int]) -> np.ndarray:
    """TFLite's MultiplyByQuantizedMultiplier and a clamp, written after gemmlowp's fixedpoint.h.

    SaturatingRoundingDoublingHighMul adds a nudge of the product's sign and divides by 2^31, which
    truncates; RoundingDivideByPOT rounds half away from zero by mask and threshold. What leaves
    32 bits after the left shift saturates, as do results, given a multiplier of at least 2^30.
    """
    left, right = np.maximum(shift.astype(np.int64), 0), np.maximum(-shift.astype(np.int64), 0)
    shifted = np.clip(sums << left, -(1 << 31), (1 << 31) - 1)
    product = shifted * multiplier.astype(np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(nudged) * (np.abs(nudged) >> 31)
    mask = (1 << right) - 1
    threshold = (mask >> 1) + (high < 0)
    rounded = (high >> right) + ((high & mask) > threshold)
    return np.clip(rounded, *clamp).astype(np.int8)
