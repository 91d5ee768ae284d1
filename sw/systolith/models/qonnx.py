"""QONNX's quantisers as nodes (github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from systolith_hw.formats import RANGES

from .graph import Quantisation, Tensor
from .onnx_operators import Reading

if TYPE_CHECKING:
    from .onnx import Operation, Reader

__all__ = ["DOMAINS", "QUANTISERS"]

DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
_ROUNDINGS = {"ROUND": np.rint, "HALF_EVEN": np.rint, "CEIL": np.ceil, "FLOOR": np.floor}
_OFFSET = 128   # between unsigned integers and int8


@dataclass(frozen=True)
class _Integers:
    """Whole numbers from ``low`` to ``high`` that stand for ``(number - zero) * scale``."""
    low: int
    high: int
    scale: np.ndarray
    zero: np.ndarray


def _numbers(r: Reader, op: Operation, number: int, name: str) -> np.ndarray:
    found = r.numbers(op, number).astype(np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"its {name} must be finite numbers, not inf or NaN")
    return found


def _integers(r: Reader, op: Operation) -> _Integers:
    """What the inputs and attributes of a Quant say."""
    scale, zero = _numbers(r, op, 1, "scale"), _numbers(r, op, 2, "zero point")
    bits = _numbers(r, op, 3, "bit width").reshape(-1)
    if len(bits) != 1 or not 1 <= bits[0] <= 8 or bits[0] != int(bits[0]):
        raise ValueError(f"its bit width must be a whole number from 1 to 8, not {bits.tolist()}")
    if not (scale > 0).all() or (zero != np.rint(zero)).any() or np.abs(zero).max() > 255:
        raise ValueError("its scale must be positive, and its zero point whole and within 255")
    signed, narrow = op.integer("signed", 1), op.integer("narrow", 0)
    count = 1 << int(bits[0])
    if signed:
        low, high = -(count // 2) + bool(narrow), count // 2 - 1
    else:
        low, high = 0, count - 1 - bool(narrow)
    return _Integers(low, high, scale, zero)


def _axis(shape: tuple[int, ...], *given: np.ndarray) -> int | None:
    """The dimension of ``shape`` that scales and zero points are along; None of single ones."""
    axes = {axis for values in given for axis, size in enumerate(values.shape) if size > 1}
    if not axes:
        return None
    axis = axes.pop()
    if axes or any(values.size > 1 and (values.ndim != len(shape)
                                        or values.shape[axis] != shape[axis]) for values in given):
        raise ValueError(f"its scale and zero point must be one, or one for each index along a "
                         f"dimension of {shape!r}, not {[values.shape for values in given]}")
    return axis


def _constant(r: Reader, op: Operation, whole: np.ndarray, q: _Integers) -> None:
    """A constant of integers, of the least type that has them all."""
    offset = _OFFSET if q.high > RANGES["int8"][1] else 0
    kind = next(name for name, (low, high) in sorted(RANGES.items(), key=lambda one: one[1][1])
                if low <= q.low - offset and q.high - offset <= high)
    axis = _axis(whole.shape, q.scale, q.zero)
    count = 1 if axis is None else whole.shape[axis]
    scale, zero = (np.broadcast_to(values.reshape(-1), count) for values in (q.scale, q.zero))
    r.put(op, r.build.constant(
        f"{op.name}.0", (whole - offset).astype(np.int8), dtype=kind, quantisation=Quantisation(
            scale.astype(np.float32), zero.astype(np.int64) - offset, axis)))


def _fine(q: _Integers) -> Quantisation:
    """Scale and zero point of int8 whose steps are the finest halves of a quantiser's.

    Biases are in steps of the sums, and so as fine.
    """
    zero = int(q.zero.item())
    low, high = min(q.low - zero, 0), max(q.high - zero, 0)
    finer = 1
    while (high - low) * finer * 2 <= 255:
        finer *= 2
    inside = -128 <= low * finer and high * finer <= 127
    return Quantisation(np.array([q.scale.item() / finer], np.float32),
                        np.array([0 if inside else -128 - low * finer], np.int64))


def _quant(r, op):
    mode = op.text("rounding_mode", "ROUND").upper()
    if mode not in _ROUNDINGS:
        raise ValueError(f"rounding_mode must be one of {', '.join(_ROUNDINGS)}, not {mode!r}")
    q = _integers(r, op)
    bipolar = (q.low, q.high) in ((-1, 0), (0, 0)) and bool(op.integer("signed", 1))
    name = op.inputs[0]
    if name in r.constants:
        real = _numbers(r, op, 0, "input")
        _axis(real.shape, q.scale, q.zero)
        if bipolar:
            return _bipolar_constant(r, op, real, q.scale)
        scaled = np.clip(real / q.scale + q.zero, q.low, q.high)
        return _constant(r, op, _ROUNDINGS[mode](scaled).astype(np.int64), q)
    x = r.take(op, 0)
    if x.dtype != "float32":
        raise ValueError(f"its input must be real numbers, not {x}")
    if q.scale.size != 1 or q.zero.size != 1 or _ROUNDINGS[mode] is not np.rint or bipolar:
        raise ValueError("of what is computed, its scale and zero point must be one, its bit width "
                         "at least 2, and its rounding_mode ROUND")
    zero = q.zero.item()
    offset = _OFFSET if q.high > RANGES["int8"][1] else 0
    if not -128 <= zero - offset <= 127:
        raise ValueError(f"its zero point must be from {offset - 128} to {offset + 127}, "
                         f"not {int(zero)}")
    steps = Quantisation(q.scale.reshape(1).astype(np.float32),
                         np.array([int(zero) - offset], np.int64))
    made = _both(r, op, x.name, "rounded", steps)
    if (q.low, q.high) != (offset - 128, offset + 127):
        scale = float(steps.scale[0])
        limits = {"low": (q.low - zero) * scale, "high": (q.high - zero) * scale}
        made = _both(r, op, r.build.add(op.name, "clip", [made], limits), "fine", _fine(q))
    r.put(op, made)


def _both(r: Reader, op: Operation, name: str, called: str, q: Quantisation) -> str:
    """A tensor made int8 and real again."""
    like = Tensor(name=name, shape=(), dtype="int8", quantisation=q)
    whole = r.build.add(f"{op.name}.{called}", "convert", [name], {}, like)
    return r.build.add(f"{op.name}.{called}.real", "convert", [whole], {})


def _bipolar_constant(r: Reader, op: Operation, real: np.ndarray, scale: np.ndarray) -> None:
    """1 where a number is at least 0, else -1."""
    whole = np.where(real >= 0, 1, -1)
    _constant(r, op, whole, _Integers(-1, 1, scale, np.zeros(1)))


def _bipolar_quant(r, op):
    scale = _numbers(r, op, 1, "scale")
    if op.inputs[0] not in r.constants:
        raise ValueError("it must be of a constant")
    if not (scale > 0).all():
        raise ValueError("its scale must be positive")
    _bipolar_constant(r, op, _numbers(r, op, 0, "input"), scale)


QUANTISERS = {"Quant": Reading(4, _quant), "IntQuant": Reading(4, _quant),
              "BipolarQuant": Reading(2, _bipolar_quant)}
