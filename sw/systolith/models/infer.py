"""Shapes of what nodes make."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["same_pads", "shape_of"]

Shape = tuple[int, ...]


def same_pads(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
              dilation: Sequence[int] = (1, 1)) -> tuple[tuple[int, int], ...]:
    """Pads with which a window makes ``ceil(size / stride)`` results; the odd one behind."""
    pads = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def shape_of(op: str, attributes: Mapping[str, Any], shapes: Sequence[Shape]) -> Shape:
    """Shape of what an operator makes of inputs of ``shapes``.

    Raises
    ------
    ValueError
        They do not go together; says what must hold.
    """
    x = shapes[0]
    if op in ("conv", "average_pool", "max_pool"):
        if len(x) != 4:
            raise ValueError(f"images must have 4 dimensions, not {x!r}")
        kernel = shapes[1][1:3] if op == "conv" else attributes["kernel"]
        size = _windows(x[1:3], kernel, attributes["stride"],
                        attributes.get("dilation", (1, 1)), attributes["pads"])
        return (x[0], *size, _channels(attributes, shapes) if op == "conv" else x[3])
    if op == "transposed_conv":
        if len(x) != 4 or len(shapes[1]) != 4:
            raise ValueError(f"images must have 4 dimensions, not {x!r}")
        return (x[0], *_spread(x[1:3], shapes[1][1:3], attributes["stride"],
                               attributes["dilation"], attributes["pads"]),
                _channels(attributes, shapes))
    if op == "linear":
        weights = shapes[1]
        if len(weights) != 2 or not x or x[-1] != weights[1]:
            raise ValueError(f"weights must be (outputs, {x[-1:]!r}), not {weights!r}")
        _check_bias(shapes, weights[0])
        return (*x[:-1], weights[0])
    if op in ("add", "sub", "mul", "maximum", "minimum"):
        return _broadcast(x, shapes[1])
    if op == "reshape":
        return tuple(attributes["shape"])
    if op == "transpose":
        order = attributes["order"]
        if sorted(order) != list(range(len(x))):
            raise ValueError(f"order must name each of {len(x)} dimensions once, not {order!r}")
        return tuple(x[axis] for axis in order)
    if op == "concat":
        axis = attributes["axis"]
        if not 0 <= axis < len(x) or any(
                len(other) != len(x) or other[:axis] + other[axis + 1:] != x[:axis] + x[axis + 1:]
                for other in shapes):
            raise ValueError(f"inputs must differ in dimension {axis!r} only, not be {shapes!r}")
        return (*x[:axis], sum(other[axis] for other in shapes), *x[axis + 1:])
    if op == "pad":
        pads = attributes["pads"]
        if len(pads) != len(x) or min((side for pair in pads for side in pair), default=0) < 0:
            raise ValueError(f"pads must be {len(x)} pairs of at least 0, not {pads!r}")
        return tuple(size + before + after
                     for size, (before, after) in zip(x, pads, strict=True))
    return x


def _windows(size: Shape, kernel: Shape, stride: Shape, dilation: Shape,
             pads: Sequence[tuple[int, int]]) -> Shape:
    found = []
    for n, k, s, d, (before, after) in zip(size, kernel, stride, dilation, pads, strict=True):
        if min(k, s, d) < 1 or min(before, after) < 0:
            raise ValueError(f"kernel, stride and dilation must be at least 1, not {k}, {s}, {d}")
        count = (n + before + after - (k - 1) * d - 1) // s + 1
        if count < 1 or max(before, after) > (k - 1) * d:
            raise ValueError(f"a window of {k} (dilation {d}) must lie in {n} pixels with pads of "
                             f"{before} and {after}, and touch one of them")
        found.append(count)
    return tuple(found)


def _spread(size: Shape, kernel: Shape, stride: Shape, dilation: Shape,
            pads: Sequence[tuple[int, int]]) -> Shape:
    found = []
    for n, k, s, d, (before, behind) in zip(size, kernel, stride, dilation, pads, strict=True):
        if min(k, s, d) < 1 or before < 0:
            raise ValueError(f"kernel, stride and dilation must be at least 1, not {k}, {s}, {d}")
        count = (n - 1) * s + (k - 1) * d + 1 - before - behind
        if count < 1:
            raise ValueError(f"pads of {before} and {behind} must leave something of {n} pixels "
                             f"under a kernel of {k}")
        found.append(count)
    return tuple(found)


def _channels(attributes: Mapping[str, Any], shapes: Sequence[Shape]) -> int:
    x, weights, groups = shapes[0], shapes[1], attributes["groups"]
    if len(weights) != 4 or groups < 1 or weights[3] * groups != x[3] or weights[0] % groups:
        raise ValueError(f"weights must be (outputs, height, width, inputs / groups) of {x[3]} "
                         f"inputs in {groups} groups, not {weights!r}")
    _check_bias(shapes, weights[0])
    return weights[0]


def _check_bias(shapes: Sequence[Shape], outputs: int) -> None:
    if len(shapes) > 2 and shapes[2] != (outputs,):
        raise ValueError(f"bias must be ({outputs},), not {shapes[2]!r}")


def _broadcast(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    if any(m != n and 1 not in (m, n) for m, n in zip(a, b, strict=True)):
        raise ValueError(f"shapes must be equal where neither is 1, not {a!r} and {b!r}")
    return tuple(max(m, n) for m, n in zip(a, b, strict=True))
