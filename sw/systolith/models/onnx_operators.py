"""What ONNX's operators of real numbers are as nodes; images are turned to channels last and back.

Each function takes the reader and the operation, and puts what it makes; a ``ValueError`` says what
must hold, and the reader which node it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .graph import Tensor
from .infer import same_pads

if TYPE_CHECKING:
    from .onnx import Operation, Reader

__all__ = ["FIRST", "OPERATORS", "Reading", "constant_in_order", "conv_of", "images", "linear_of",
           "operand", "window"]

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
NO_PADS = ((0, 0), (0, 0))


@dataclass(frozen=True)
class Reading:
    """How an operator is read, and how many inputs it has at least."""
    inputs: int
    read: Callable[[Reader, Operation], None]


def constant_in_order(r: Reader, tensor: Tensor, order: tuple[int, ...]) -> str:
    """A constant with its dimensions in another order."""
    if len(tensor.shape) != len(order) or tensor.data is None:
        raise ValueError(f"weights must be a constant of {len(order)} dimensions, not {tensor}")
    q = tensor.quantisation
    return r.build.constant(tensor.name, np.ascontiguousarray(tensor.data.transpose(order)),
                            dtype=tensor.dtype, quantisation=q and q.in_order(order))


def window(op: Operation, size: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[
        tuple[int, int], tuple[int, int], tuple[tuple[int, int], ...]]:
    """Stride, dilation and pads of what slides over an image of ``size``."""
    if len(size) != 2 or len(kernel) != 2:
        raise ValueError(f"images must have 2 dimensions and channels, not {len(size)}")
    stride, dilation = op.integers("strides", (1, 1)), op.integers("dilations", (1, 1))
    if min(*stride, *dilation, *kernel) < 1:
        raise ValueError(f"stride, dilation and kernel must be at least 1, not {stride!r}, "
                         f"{dilation!r} and {kernel!r}")
    auto = op.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_pads(size, kernel, stride, dilation)
        if auto == "SAME_LOWER":
            pads = tuple((after, before) for before, after in pads)
    elif auto in ("NOTSET", "VALID"):
        top, left, bottom, right = op.integers("pads", (0, 0, 0, 0)) if auto == "NOTSET" else (
            0, 0, 0, 0)
        pads = ((top, bottom), (left, right))
    else:
        raise ValueError(f"auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, not {auto!r}")
    if min(min(pair) for pair in pads) < 0:
        raise ValueError(f"pads must be at least 0, not {pads!r}")
    return (stride[0], stride[1]), (dilation[0], dilation[1]), pads


def padded(r: Reader, op: Operation, image: str, pads: tuple[tuple[int, int], ...]) -> str:
    """An image with channels last and zeros around it."""
    return r.add(op, "pad", [image], r.build[image], pads=((0, 0), *pads, (0, 0)))


def images(r: Reader, op: Operation, tensor: Tensor) -> str:
    """An image of the file with channels last."""
    if len(tensor.shape) != 4:
        raise ValueError(f"images must have 2 dimensions and channels, not {tensor.shape!r}")
    return r.add(op, "transpose", [tensor.name], tensor, order=LAST)


def conv_of(r: Reader, op: Operation, x: Tensor, weights: Tensor, bias: str | None,
            like: Tensor | None = None) -> None:
    """A convolution of any operands."""
    turned = constant_in_order(r, weights, LAST)
    kernel = r.build[turned].shape[1:3]
    op.integers("kernel_shape", kernel)
    image = images(r, op, x)
    stride, dilation, pads = window(op, x.shape[2:], kernel)
    if any(max(pair) > (k - 1) * d for pair, k, d in zip(pads, kernel, dilation, strict=True)):
        image, pads = padded(r, op, image, pads), NO_PADS
    made = r.add(op, "conv", [image, turned, *([bias] if bias else [])], like, stride=stride,
                 dilation=dilation, pads=pads, groups=op.integer("group", 1), activation="none")
    r.put(op, r.add(op, "transpose", [made], r.build[made], order=FIRST))


def _conv(r, op):
    weights = r.stored(op, 1)
    conv_of(r, op, r.take(op, 0), weights, r.stored(op, 2).name if op.has(2) else None)


def linear_of(r: Reader, op: Operation, x: Tensor, weights: Tensor, bias: str | None,
              like: Tensor | None = None) -> str:
    """A product with constant weights (..., K, N), of any operands."""
    shape = weights.shape
    if weights.data is None or not shape or not x.shape:
        raise ValueError("its second operand must be a constant, and both have dimensions")
    if len(shape) > 2 and (len(x.shape) < len(shape) or prod(shape[:-2]) != 1):
        raise ValueError(f"its second operand must be one matrix, not {shape!r}")
    if len(shape) != 2:
        q = weights.quantisation
        data = weights.data
        matrix = data.reshape(-1, 1) if data.ndim == 1 else data.reshape(data.shape[-2:])
        weights = r.build[r.build.constant(weights.name, matrix, dtype=weights.dtype,
                                           quantisation=q and q.behind(2 - len(shape)))]
    turned = constant_in_order(r, weights, (1, 0))
    rows = x.name
    if len(x.shape) == 1:
        rows = r.add(op, "reshape", [rows], x, shape=(1, *x.shape))
    made = r.add(op, "linear", [rows, turned, *([bias] if bias else [])], like, activation="none")
    if 1 in (len(x.shape), len(shape)):
        left = (*x.shape[:-1], *([] if len(shape) == 1 else weights.shape[1:]))
        made = r.add(op, "reshape", [made], r.build[made], shape=left)
    return made


def _matmul(r, op):
    r.put(op, linear_of(r, op, r.take(op, 0), r.stored(op, 1), None))


def _gemm(r, op):
    x, weights = r.take(op, 0), r.stored(op, 1)
    alpha, beta = op.number("alpha", 1.0), op.number("beta", 1.0)
    if len(x.shape) != 2 or len(weights.shape) != 2:
        raise ValueError(f"its operands must be matrices, not {x.shape!r} and {weights.shape!r}")
    if op.integer("transA", 0):
        x = r.build[r.add(op, "transpose", [x.name], x, order=(1, 0))]
    if op.integer("transB", 0):
        weights = r.build[constant_in_order(r, weights, (1, 0))]
    if alpha != 1:
        weights = _scaled(r, weights, alpha)
    outputs = weights.shape[1]
    addend = r.stored(op, 2) if op.has(2) else None
    if addend is not None and beta != 1:
        addend = _scaled(r, addend, beta)
    bias = None
    if addend is not None and addend.data is not None and (
            addend.shape == (outputs,) or len(addend.shape) <= 2
            and prod(addend.shape[:-1]) == 1 and addend.quantisation is None):
        if addend.shape != (outputs,):
            if addend.shape[-1:] not in ((), (1,), (outputs,)):
                raise ValueError(f"its third operand must meet {outputs} columns, "
                                 f"not {addend.shape!r}")
            flat = np.broadcast_to(addend.data.reshape(-1), outputs).copy()
            addend = r.build[r.build.constant(addend.name, flat)]
        bias, addend = addend.name, None
    made = linear_of(r, op, x, weights, bias)
    if addend is not None:
        made = r.add(op, "add", [made, addend.name], activation="none")
    r.put(op, made)


def _scaled(r: Reader, tensor: Tensor, factor: float) -> Tensor:
    """A constant times a number."""
    tensor = r.unpacked(tensor)
    if tensor.data is None:
        raise ValueError(f"what is multiplied by {factor} must be a constant")
    return r.build[r.build.constant(tensor.name, tensor.data * np.float32(factor))]


def _sum(kind):
    def read(r, op):
        a, b = operand(r, op, 0), operand(r, op, 1)
        r.put(op, r.add(op, kind, [a.name, b.name], activation="none"))
    return read


def operand(r: Reader, op: Operation, number: int) -> Tensor:
    """An input of real numbers; a constant may be stored as integers."""
    tensor = r.stored(op, number)
    if tensor.data is None and tensor.dtype != "float32":
        raise ValueError(f"input {number} must be real numbers, not {tensor}")
    return tensor


def _real(r: Reader, op: Operation, number: int) -> Tensor:
    """An input of real numbers."""
    return r.unpacked(operand(r, op, number))


def _div(r, op):
    by = r.numbers(op, 1).astype(np.float64)
    if not by.all():
        raise ValueError("its second operand must not be 0")
    inverse = r.build.constant(f"{op.name}.inverse", (1 / by).astype(np.float32))
    r.put(op, r.add(op, "mul", [_real(r, op, 0).name, inverse], activation="none"))


def _batch_normalization(r, op):
    x = _real(r, op, 0)
    if op.integer("training_mode", 0) or op.integer("spatial", 1) != 1 or any(op.outputs[1:]):
        raise ValueError("it must be that of inference, along channels")
    if len(x.shape) < 2:
        raise ValueError(f"images must have channels, not {x.shape!r}")
    channels = x.shape[1]
    scale, bias, mean, variance = (r.numbers(op, i).astype(np.float64) for i in range(1, 5))
    if {one.shape for one in (scale, bias, mean, variance)} != {(channels,)}:
        raise ValueError(f"its constants must be ({channels},), not {scale.shape!r}, "
                         f"{bias.shape!r}, {mean.shape!r} and {variance.shape!r}")
    spread = variance + op.number("epsilon", 1e-5)
    if not (spread > 0).all():
        raise ValueError("its variances must be positive")
    factor = scale / np.sqrt(spread)
    shape = (channels, *[1] * (len(x.shape) - 2))
    factors, addends = (r.build.constant(f"{op.name}.{what}",
                                         value.reshape(shape).astype(np.float32))
                        for what, value in (("scale", factor), ("bias", bias - mean * factor)))
    made = r.add(op, "mul", [x.name, factors], activation="none")
    r.put(op, r.add(op, "add", [made, addends], activation="none"))


def _pool(kind):
    def read(r, op):
        x = r.take(op, 0)
        kernel = op.integers("kernel_shape", ())
        stride, dilation, pads = window(op, x.shape[2:], kernel)
        if dilation != (1, 1) or op.integer("storage_order", 0):
            raise ValueError(f"dilations must be 1, not {dilation!r}")
        if kind == "average_pool":
            x = _real(r, op, 0)
        image = images(r, op, x)
        counted = any(map(any, pads)) and op.integer("count_include_pad", 0)
        if op.integer("ceil_mode", 0):
            if counted:
                raise ValueError("count_include_pad must be 0 where ceil_mode is 1")
            pads = _up(x.shape[2:], kernel, stride, pads)
        if counted and kind == "average_pool":
            image, pads = padded(r, op, image, pads), NO_PADS
        made = r.add(op, kind, [image], x, stride=stride, pads=pads, kernel=kernel,
                     activation="none")
        r.put(op, r.add(op, "transpose", [made], x, order=FIRST))
    return read


def _up(size, kernel, stride, pads):
    """Pads with which a last window that is not whole is one, where it begins in the image."""
    found = []
    for n, k, s, (before, after) in zip(size, kernel, stride, pads, strict=True):
        count = -(-(n + before + after - k) // s) + 1
        if (count - 1) * s >= n + before:
            count -= 1
        found.append((before, max(after, (count - 1) * s + k - n - before)))
    return tuple(found)


def _global_average_pool(r, op):
    _whole_average(r, op, keep=True)


def _reduce_mean(r, op):
    rank = len(r.shape(op.inputs[0]))
    axes = (r.integers(op, 1) if op.has(1)
            else list(op.integers("axes", ())))
    if rank != 4 or sorted(axis % rank for axis in axes) != [2, 3]:
        raise ValueError(f"it must be along the two dimensions of an image, not {axes!r}")
    _whole_average(r, op, keep=bool(op.integer("keepdims", 1)))


def _whole_average(r, op, keep):
    x = _real(r, op, 0)
    image = images(r, op, x)
    made = r.add(op, "average_pool", [image], x, stride=(1, 1), pads=NO_PADS,
                 kernel=x.shape[2:], activation="none")
    made = r.add(op, "transpose", [made], x, order=FIRST)
    r.put(op, made if keep else r.add(op, "reshape", [made], x, shape=x.shape[:2]))


def _unary(function):
    def read(r, op):
        x = r.take(op, 0) if function == "relu" else _real(r, op, 0)
        r.put(op, r.add(op, "unary", [x.name], x, function=function))
    return read


def _clip(r, op):
    x = _real(r, op, 0)
    limits: list[float | None] = []
    for number, attribute in ((1, "min"), (2, "max")):
        given = op.attributes.get(attribute)
        if op.has(number):
            given = r.numbers(op, number).reshape(-1)
            if len(given) != 1:
                raise ValueError(f"{attribute} must be one number, not {len(given)}")
            given = given[0]
        if given is not None and np.isnan(given):
            raise ValueError(f"{attribute} must be a number, not NaN")
        whole = np.finfo(np.float32).max
        limits.append(None if given is None or not -whole < given < whole else float(given))
    low, high = limits
    if low is not None and high is not None and low > high:
        low = high
    functions = {(0, None): "relu", (0, 6): "relu6", (-1, 1): "relu1"}
    if (low, high) == (None, None):
        r.put(op, x.name)
    elif (low, high) in functions:
        r.put(op, r.add(op, "unary", [x.name], x, function=functions[low, high]))
    else:
        r.put(op, r.add(op, "clip", [x.name], x, low=low, high=high))


def _softmax(r, op):
    x = _real(r, op, 0)
    rank = len(x.shape)
    whole = r.opset < 13    # all dimensions from the axis on are one
    axis = op.integer("axis", 1 if whole else -1)
    if not -rank <= axis < rank:
        raise ValueError(f"axis must be one of {rank} dimensions, not {axis}")
    axis %= rank
    if whole:
        rows = r.add(op, "reshape", [x.name], x,
                     shape=(prod(x.shape[:axis]), prod(x.shape[axis:])))
        made = r.add(op, "softmax", [rows], beta=1.0)
        r.put(op, r.add(op, "reshape", [made], x, shape=x.shape))
        return
    order = (*(one for one in range(rank) if one != axis), axis)
    turned = r.add(op, "transpose", [x.name], x, order=order)
    made = r.add(op, "softmax", [turned], beta=1.0)
    r.put(op, r.add(op, "transpose", [made], order=tuple(map(order.index, range(rank)))))


def _concat(r, op):
    parts = [r.stored(op, number) for number in range(len(op.inputs))]
    first = parts[0]
    if any(part.quantisation is not None and part.data is None for part in parts):
        raise ValueError("its inputs must be real numbers")
    rank = max(len(first.shape), 1)
    axis = op.integer("axis", 1)
    if not -rank <= axis < rank:
        raise ValueError(f"axis must be one of {rank} dimensions, not {axis}")
    r.put(op, r.add(op, "concat", [part.name for part in parts], axis=axis % rank,
                    activation="none"))


def reshaped(r: Reader, op: Operation, shape: tuple[int, ...]) -> None:
    """The first input in another shape."""
    x = r.stored(op, 0)
    if min(shape, default=1) < 1 or prod(shape) != x.elements:
        raise ValueError(f"{x.shape!r} must have as many elements as {shape!r}")
    if x.data is not None and (x.quantisation is None or x.quantisation.axis is None):
        r.put(op, r.build.constant(x.name, x.data.reshape(shape), dtype=x.dtype,
                                   quantisation=x.quantisation))
    else:
        x = r.unpacked(x)
        r.put(op, r.build.add(op.name, "reshape", [x.name], {"shape": shape}, x))


def _reshape(r, op):
    size = r.take(op, 0).shape
    wanted = (r.integers(op, 1) if op.has(1)
              else list(op.integers("shape", ())))
    if not op.integer("allowzero", 0):
        if any(one == 0 and axis >= len(size) for axis, one in enumerate(wanted)):
            raise ValueError(f"a 0 must stand for a dimension of {size!r}, not {wanted!r}")
        wanted = [size[axis] if one == 0 else one for axis, one in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = -prod(wanted)
        if rest < 1:
            raise ValueError(f"{size!r} must have as many elements as {tuple(wanted)!r}")
        wanted[wanted.index(-1)] = prod(size) // rest
    reshaped(r, op, tuple(wanted))


def _flatten(r, op):
    size = r.take(op, 0).shape
    axis = op.integer("axis", 1)
    if not -len(size) <= axis <= len(size):
        raise ValueError(f"axis must be one of {len(size)} dimensions, not {axis}")
    axis = axis % len(size) if axis < 0 else axis
    reshaped(r, op, (prod(size[:axis]), prod(size[axis:])))


def _axes(r: Reader, op: Operation, rank: int) -> list[int] | None:
    """Dimensions that an operator names."""
    if op.has(1):
        found = r.integers(op, 1)
    elif "axes" in op.attributes:
        found = list(op.integers("axes", ()))
    else:
        return None
    if any(not -rank <= axis < rank for axis in found) or len({a % rank for a in found}) < len(
            found):
        raise ValueError(f"axes must each name one of {rank} dimensions, not {found!r}")
    return [axis % rank for axis in found]


def _squeeze(r, op):
    size = r.take(op, 0).shape
    axes = _axes(r, op, max(len(size), 1))
    if axes is None:
        axes = [axis for axis, one in enumerate(size) if one == 1]
    if any(size[axis] != 1 for axis in axes):
        raise ValueError(f"dimensions that go must be 1, not those of {size!r} along {axes!r}")
    reshaped(r, op, tuple(one for axis, one in enumerate(size) if axis not in axes))


def _unsqueeze(r, op):
    size = list(r.take(op, 0).shape)
    given = r.numbers(op, 1).size if op.has(1) else len(op.integers("axes", ()))
    for axis in sorted(_axes(r, op, len(size) + given) or []):
        size.insert(axis, 1)
    reshaped(r, op, tuple(size))


def _transpose(r, op):
    x = r.stored(op, 0)
    order = op.integers("perm", ()) or tuple(range(len(x.shape)))[::-1]
    if sorted(order) != list(range(len(x.shape))):
        raise ValueError(f"perm must name each of {len(x.shape)} dimensions once, not {order!r}")
    if x.data is not None:
        r.put(op, constant_in_order(r, x, order))
    else:
        r.put(op, r.build.add(op.name, "transpose", [x.name], {"order": order}, x))


def _pad(r, op):
    x = _real(r, op, 0)
    rank = len(x.shape)
    if op.text("mode", "constant") != "constant":
        raise ValueError(f"mode must be constant, not {op.text('mode', 'constant')!r}")
    value = r.numbers(op, 2).reshape(-1).tolist() if op.has(2) else [op.number("value", 0.0)]
    if value != [0]:
        raise ValueError(f"what is padded must be 0, not {value!r}")
    pads = (r.integers(op, 1) if op.has(1)
            else list(op.integers("pads", ())))
    axes = [one % rank for one in r.integers(op, 3)] if op.has(3) else list(
        range(rank))
    if len(pads) != 2 * len(axes) or len(set(axes)) < len(axes):
        raise ValueError(f"pads must be two for each of {len(axes)} dimensions, not {len(pads)}")
    pairs = [(0, 0)] * rank
    for number, axis in enumerate(axes):
        pairs[axis] = (pads[number], pads[number + len(axes)])
    r.put(op, r.build.add(op.name, "pad", [x.name], {"pads": tuple(pairs)}, x))


def _same(r, op):
    r.put(op, r.stored(op, 0).name)


def _dropout(r, op):
    if op.has(2) and r.numbers(op, 2).any():
        raise ValueError("it must be that of inference")
    _same(r, op)


def _cast(r, op):
    x = _real(r, op, 0)
    if op.integer("to", 0) != r.onnx.TensorProto.FLOAT:
        raise ValueError("it must be to real numbers (float32)")
    r.put(op, x.name)


def _constant(r, op):
    for attribute, found in op.attributes.items():
        if attribute in ("value", "value_float", "value_floats", "value_int", "value_ints"):
            numbers = np.asarray(found)
            if numbers.dtype.kind == "f":
                numbers = numbers.astype(np.float32)
            r.constants[op.outputs[0]] = numbers
            return
    raise ValueError(f"its value must be numbers, not {', '.join(op.attributes) or 'left out'}")


OPERATORS = {
    "Add": Reading(2, _sum("add")), "AveragePool": Reading(1, _pool("average_pool")),
    "BatchNormalization": Reading(5, _batch_normalization), "Cast": Reading(1, _cast),
    "Clip": Reading(1, _clip), "Concat": Reading(1, _concat), "Constant": Reading(0, _constant),
    "Conv": Reading(2, _conv), "Div": Reading(2, _div), "Dropout": Reading(1, _dropout),
    "Flatten": Reading(1, _flatten), "Gemm": Reading(2, _gemm),
    "GlobalAveragePool": Reading(1, _global_average_pool), "Identity": Reading(1, _same),
    "MatMul": Reading(2, _matmul), "MaxPool": Reading(1, _pool("max_pool")),
    "Mul": Reading(2, _sum("mul")), "Pad": Reading(1, _pad),
    "ReduceMean": Reading(1, _reduce_mean), "Relu": Reading(1, _unary("relu")),
    "Reshape": Reading(1, _reshape), "Sigmoid": Reading(1, _unary("logistic")),
    "Softmax": Reading(1, _softmax), "Squeeze": Reading(1, _squeeze),
    "Sub": Reading(2, _sum("sub")), "Tanh": Reading(1, _unary("tanh")),
    "Transpose": Reading(1, _transpose), "Unsqueeze": Reading(1, _unsqueeze),
}
