"""The address generator every engine shares: base, nested loops, jumps, rings."""

from math import prod

import numpy as np
from systolith_hw.config import CoreConfig

__all__ = ["loop_offsets", "ring_fits", "strides_of", "wrap"]

ADDRESS_MASK = (1 << 32) - 1  # of bytes
ROW_MASK = (1 << 16) - 1      # of rows and lane groups


def strides_of(counts: tuple[int, ...], jumps: tuple[int, ...]) -> list[int]:
    """Every loop's stride; the inverse of ``isa.jumps_of``."""
    strides, rewind = [], 0
    for count, jump in zip(counts, jumps, strict=True):
        stride = jump + rewind
        strides.append(stride)
        rewind += (count - 1) * stride
    return strides


def loop_offsets(counts: tuple[int, ...], strides: list[int] | tuple[int, ...]) -> np.ndarray:
    """Offsets of all iterations in the order they happen, innermost loop first; 1-D int64."""
    offsets = np.zeros(1, np.int64)
    for count, stride in zip(counts, strides, strict=True):
        if count > 1:
            steps = np.arange(count, dtype=np.int64) * stride
            offsets = (steps[:, None] + offsets).reshape(-1)
    assert len(offsets) == prod(counts)
    return offsets


def ring_fits(config: CoreConfig, ring: int, rows: int) -> bool:
    """Whether a core walks a ring of ``2^ring`` rows in a memory of ``rows``."""
    return not config.control.compact or 1 << ring <= rows


def wrap(rows: np.ndarray, base: int, ring: int) -> np.ndarray:
    """Wrap rows in the aligned ring of ``2^ring`` rows around ``base``; 0 leaves them alone."""
    if ring == 0:
        return rows
    mask = (1 << ring) - 1
    return (base & ~mask) | (rows & mask)
