"""What ONNX's operators on quantised tensors are as nodes; uint8 is int8, both less 128."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from . import floats
from .graph import Quantisation, Tensor
from .onnx_operators import Reading, conv_of, linear_of

if TYPE_CHECKING:
    from .onnx import Operation, Reader

__all__ = ["QUANTISED"]

# Of types in the file: what is taken off, and the type of what is left.
_TYPES = {"uint8": (128, "int8"), "int8": (0, "int8"), "uint4": (8, "int4"), "int4": (0, "int4"),
          "int16": (0, "int16"), "int32": (0, "int32")}


def _kind(dtype: str, allowed: tuple[str, ...]) -> tuple[int, str]:
    if dtype not in allowed:
        raise ValueError(f"integers must be {', '.join(allowed)}, not {dtype}")
    return _TYPES[dtype]


def _scales(r: Reader, op: Operation, number: int, offset: int, axis: int) -> Quantisation:
    """Scales (input ``number``) and zero points (the one behind it), less ``offset``."""
    scale = r.numbers(op, number)
    if scale.dtype.kind != "f" or scale.ndim > 1 or not scale.size:
        raise ValueError(f"its scales must be real numbers along one dimension, not {scale.dtype} "
                         f"of {scale.shape!r}")
    scale = scale.reshape(-1).astype(np.float32)
    zero = (r.numbers(op, number + 1).reshape(-1).astype(np.int64) if op.has(number + 1)
            else np.zeros(len(scale), np.int64))
    if len(zero) == 1:
        zero = np.repeat(zero, len(scale))
    if zero.shape != scale.shape or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError("its scales must be positive, each with a zero point")
    return Quantisation(scale, zero - offset, axis if len(scale) > 1 else None)


def _same(a: Quantisation, b: Quantisation) -> bool:
    return (np.array_equal(a.scale, b.scale) and np.array_equal(a.zero_point, b.zero_point)
            and a.axis == b.axis)


def _integers(r: Reader, op: Operation, number: int, scale: int, axis: int,
              allowed: tuple[str, ...] = ("int8", "uint8")) -> Tensor:
    """Input ``number`` with the scales that are input ``scale``, as int8 or int4."""
    name = op.inputs[number]
    if name in r.constants:
        data = r.constants[name]
        offset, dtype = _kind(data.dtype.name, allowed)
        q = _scales(r, op, scale, offset, axis)
        stored = (data.astype(np.int16) - offset).astype(np.int8) if offset else data.astype(
            "int8" if dtype == "int4" else dtype)
        return r.build[r.build.constant(f"{op.name}.{number}", stored, dtype=dtype,
                                        quantisation=q)]
    tensor = r.build[r.values[name]]
    if tensor.dtype == "uint8":     # an input of the model
        q = _scales(r, op, scale, 0, axis)
        r.build.tensors[tensor.name] = dataclasses.replace(tensor, quantisation=q)
        like = Tensor(name=name, shape=tensor.shape, dtype="int8", quantisation=Quantisation(
            q.scale, q.zero_point - 128, q.axis))
        r.values[name] = r.add(op, "convert", [tensor.name], like)
        return r.build[r.values[name]]
    if tensor.dtype not in ("int8", "int4"):
        raise ValueError(f"input {number} must be integers, not {tensor}")
    # A zero point that is left out is 0 of the type that the file has.
    given = [r.numbers(op, scale + 1).dtype.name] if op.has(scale + 1) else ["int8", "uint8"]
    found = [_scales(r, op, scale, _kind(kind, allowed)[0], axis) for kind in given]
    if tensor.quantisation is None:
        r.build.tensors[tensor.name] = dataclasses.replace(tensor, quantisation=found[0])
    elif not any(_same(tensor.quantisation, q) for q in found):
        raise ValueError(f"input {number} must have the scale that it was made with, {tensor}")
    return r.build[tensor.name]


def _axis(r: Reader, op: Operation) -> int:
    rank = max(len(r.shape(op.inputs[0])), 1)
    axis = op.integer("axis", 1)
    if op.integer("block_size", 0):
        raise ValueError("scales must be of the whole tensor or along one dimension, not of blocks")
    return axis % rank if -rank <= axis < rank else axis


def _dequantize(r, op):
    x = _integers(r, op, 0, 1, _axis(r, op), ("int8", "uint8", "int4", "uint4", "int16", "int32"))
    if r.numbers(op, 1).dtype != np.float32:
        raise ValueError(f"its scales must be float32, not {r.numbers(op, 1).dtype}")
    r.put(op, x.name if x.data is not None else r.build.add(op.name, "convert", [x.name], {}))


def _target(r: Reader, op: Operation, scale: int, axis: int,
            allowed: tuple[str, ...] = ("int8", "uint8")) -> Tensor:
    """Type and quantisation of what is made with the scales that are input ``scale``."""
    zero = r.numbers(op, scale + 1) if op.has(scale + 1) else np.zeros(1, np.uint8)
    offset, dtype = _kind(zero.dtype.name, allowed)
    return Tensor(name="like", shape=(), dtype=dtype,
                  quantisation=_scales(r, op, scale, offset, axis))


def _quantize(r, op):
    if op.integer("output_dtype", 0) and not op.has(2):
        raise ValueError("its zero point must be there")
    name, axis = op.inputs[0], _axis(r, op)
    if name in r.constants:     # DequantizeLinear takes what the file would have
        made = _target(r, op, 1, axis, ("int8", "uint8", "int4", "uint4"))
        if not np.isfinite(r.constants[name]).all():
            raise ValueError("what it makes integers must be finite numbers, not inf or NaN")
        r.spend(r.constants[name].size)
        found = floats.quantised(r.constants[name].astype(np.float32), made, "even")
        kind = r.numbers(op, 2).dtype if op.has(2) else np.dtype(np.uint8)
        r.constants[op.outputs[0]] = (found.astype(np.int16) + _TYPES[kind.name][0]).astype(kind)
        return
    x = r.take(op, 0)
    if x.dtype != "float32":
        raise ValueError(f"its input must be real numbers, not {x}")
    r.put(op, r.build.add(op.name, "convert", [x.name], {}, _target(r, op, 1, axis)))


def _qlinear_conv(r, op):
    x = _integers(r, op, 0, 1, 1)
    weights = _integers(r, op, 3, 4, 0)
    conv_of(r, op, x, weights, _bias(r, op), _target(r, op, 6, 1))


def _bias(r: Reader, op: Operation) -> str | None:
    if not op.has(8):
        return None
    found = r.numbers(op, 8)
    if found.dtype != np.int32:
        raise ValueError(f"its bias must be int32, not {found.dtype}")
    return r.build.constant(f"{op.name}.8", found)


def _qlinear_matmul(r, op):
    x = _integers(r, op, 0, 1, 1)
    weights = _integers(r, op, 3, 4, max(len(r.shape(op.inputs[3])) - 1, 0))
    r.put(op, linear_of(r, op, x, weights, None, _target(r, op, 6, 1)))


QUANTISED = {"DequantizeLinear": Reading(2, _dequantize), "QuantizeLinear": Reading(2, _quantize),
             "QLinearConv": Reading(8, _qlinear_conv), "QLinearMatMul": Reading(8, _qlinear_matmul)}
