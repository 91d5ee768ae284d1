"""ONNX's transposed convolution as a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .onnx_operators import FIRST, Reading, constant_in_order, images, window

if TYPE_CHECKING:
    from .onnx import Operation, Reader

__all__ = ["TRANSPOSED"]


def _conv_transpose(r: Reader, op: Operation) -> None:
    x, weights = r.take(op, 0), r.stored(op, 1)
    groups = op.integer("group", 1)
    if len(x.shape) != 4 or len(weights.shape) != 4 or weights.data is None or (
            groups < 1 or weights.shape[0] % groups or (
            groups > 1 and weights.quantisation is not None)):
        raise ValueError(f"images must have 2 dimensions and channels, and weights be a constant, "
                         f"in groups that of real numbers, not {x.shape!r} and {weights}")
    if groups > 1:      # inputs and outputs of each group, as one group
        apart = weights.data.reshape(groups, -1, *weights.shape[1:])
        turned = r.build.constant(weights.name, np.ascontiguousarray(
            apart.transpose(0, 2, 3, 4, 1)).reshape(-1, *weights.shape[2:], apart.shape[1]))
    else:
        turned = constant_in_order(r, weights, (1, 2, 3, 0))
    kernel = r.build[turned].shape[1:3]
    op.integers("kernel_shape", kernel)
    stride, dilation, pads = window(op, x.shape[2:], kernel)
    pads = _pads(op, x.shape[2:], kernel, stride, dilation, pads)
    bias = [r.stored(op, 2).name] if op.has(2) else []
    made = r.add(op, "transposed_conv", [images(r, op, x), turned, *bias], None, stride=stride,
                 dilation=dilation, pads=pads, groups=groups, activation="none")
    r.put(op, r.add(op, "transpose", [made], r.build[made], order=FIRST))


def _pads(op: Operation, given: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int],
          dilation: tuple[int, int], pads: tuple[tuple[int, int], ...]) -> tuple[
              tuple[int, int], ...]:
    """Rows and columns that are left out of what all numbers add."""
    more = op.integers("output_padding", (0, 0))
    whole = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(
        given, stride, kernel, dilation, strict=True)]
    auto = op.text("auto_pad", "NOTSET")
    if "output_shape" in op.attributes:
        size = list(op.integers("output_shape", ()))[-2:]
    elif auto.startswith("SAME"):
        size = [n * s for n, s in zip(given, stride, strict=True)]
    else:
        return tuple((before, behind - one) for (before, behind), one in zip(
            pads, more, strict=True))
    totals = [max(most + one - left, 0) for most, one, left in zip(whole, more, size, strict=True)]
    firsts = [total // 2 if auto == "SAME_UPPER" else total - total // 2 for total in totals]
    return tuple((first, most - left - first) for first, most, left in zip(
        firsts, whole, size, strict=True))


TRANSPOSED = {"ConvTranspose": Reading(2, _conv_transpose)}
