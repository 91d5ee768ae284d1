"""ONNX's greatest and least of several tensors as nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .onnx_operators import Reading, operand

if TYPE_CHECKING:
    from .onnx import Operation, Reader

__all__ = ["EXTREMES"]


def _extreme(kind: str) -> Reading:
    """A node for each further input; one number is a limit."""
    def read(r: Reader, op: Operation) -> None:
        found = [operand(r, op, number) for number in range(len(op.inputs))]
        first, *others = sorted(found, key=lambda tensor: tensor.data is not None)
        made = first.name
        for other in others:
            number = _number(r.unpacked(other).data)
            if number is None or len(other.shape) > len(r.build[made].shape) or (
                    first.data is not None):
                made = r.build.add(op.name, kind, [made, other.name], {})
            else:
                low, high = (number, None) if kind == "maximum" else (None, number)
                made = r.build.add(op.name, "clip", [made], {"low": low, "high": high})
        r.put(op, made)
    return Reading(1, read)


def _number(data: np.ndarray | None) -> float | None:
    """That of a constant of one."""
    return float(data.reshape(-1)[0]) if data is not None and data.size == 1 else None


EXTREMES = {"Max": _extreme("maximum"), "Min": _extreme("minimum")}
