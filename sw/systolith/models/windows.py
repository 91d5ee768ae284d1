"""Windows that slide over images."""

from collections.abc import Sequence

import numpy as np

__all__ = ["convolve", "spread_windows_of", "windows_of"]

EXACT_FLOAT32 = 1 << 24


def windows_of(x: np.ndarray, kernel: Sequence[int], stride: Sequence[int],
               dilation: Sequence[int], pads: Sequence[Sequence[int]], fill: float) -> np.ndarray:
    """Views of (batch, height, width, channels) padded with ``fill``: (batch, rows, columns,
    channels, kernel rows, kernel columns)."""
    padded = np.pad(x, ((0, 0), *(tuple(pair) for pair in pads), (0, 0)), constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
    return views[:, ::stride[0], ::stride[1], :, ::dilation[0], ::dilation[1]]


def spread_windows_of(x: np.ndarray, kernel: Sequence[int], stride: Sequence[int],
                      dilation: Sequence[int], pads: Sequence[Sequence[int]]) -> np.ndarray:
    """``windows_of`` images with zeros between their pixels, which a transposed convolution's
    kernel meets turned round."""
    batch, height, width, channels = x.shape
    apart = np.zeros((batch, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, channels),
                     x.dtype)
    apart[:, ::stride[0], ::stride[1]] = x
    sides = [[(k - 1) * d - side for side in pair]
             for k, d, pair in zip(kernel, dilation, pads, strict=True)]
    inside = tuple(slice(max(-before, 0), size - max(-behind, 0)) for size, (before, behind) in zip(
        apart.shape[1:3], sides, strict=True))
    return windows_of(apart[:, inside[0], inside[1]], kernel, (1, 1), dilation,
                      [[max(side, 0) for side in pair] for pair in sides], 0)


def convolve(windows: np.ndarray, weights: np.ndarray, groups: int,
             dtype: type[np.floating]) -> np.ndarray:
    """Sums of products of ``windows`` and weights (outputs, rows, columns, inputs / groups).

    Integers come out exact where ``dtype`` holds the sums.
    """
    batch, rows, columns, channels, height, width = windows.shape
    outputs, inputs = weights.shape[0], channels // groups
    if inputs == 1:     # tap after tap, with no copy of the windows
        per = outputs // groups
        found = np.zeros((batch, rows, columns, groups, per), dtype)
        for y in range(height):
            for x in range(width):
                found += windows[..., y, x, None].astype(dtype) * weights[
                    :, y, x, 0].reshape(groups, per).astype(dtype)
        return found.reshape(batch, rows, columns, outputs)
    found = np.empty((batch, rows, columns, outputs), dtype)
    per = outputs // groups
    for group in range(groups):
        taken = windows[:, :, :, group * inputs:(group + 1) * inputs]
        flat = np.ascontiguousarray(taken.transpose(0, 1, 2, 4, 5, 3), dtype).reshape(
            -1, height * width * inputs)
        own = weights[group * per:(group + 1) * per].reshape(per, -1).astype(dtype)
        found[..., group * per:(group + 1) * per] = (flat @ own.T).reshape(
            batch, rows, columns, per)
    return found
