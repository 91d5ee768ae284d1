"""Blocks of real numbers quantised, and compiled to one program each."""

from dataclasses import dataclass
from math import floor, sqrt

import numpy as np
from systolith_hw.config import CoreConfig

from ..device import Device
from ..image import Image, Tensor
from ..layers import Linear
from ..layout import aligned
from ..quantise import activation_scale, quantise_multiplier, quantise_weights
from ..vector import Quantity, byte_table, operations
from ..vector.elements import FUNCTIONS
from .attend import Head, attend
from .reals import Attention, Perceptron
from .stages import Addend, Ready, Stages

__all__ = ["Block", "compile_attention", "compile_perceptron"]

GELU_LOWEST = -4.0      # below, nothing is left of a number
WEIGHTS = (1 << 15) - 1  # largest weight of a residual
SHARES = np.linspace(0.4, 1, 31)    # of the largest magnitude, that int8 may reach


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """A compiled block.

    Parameters
    ----------
    image : Image
    source, result : Quantity
        What the integers of ``x`` and ``y`` stand for.
    macs : int
        Products that it needs.
    """
    image: Image
    source: Quantity
    result: Quantity
    macs: int

    def run(self, device: Device, x: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Real numbers in and out; ``mask``, (tokens, tokens), where it was compiled with one."""
        inputs = [self.source.integers(x)]
        if mask is not None:
            rows, cols = self.image.inputs[-1].shape
            padded = np.zeros((rows, cols), np.int8)
            padded[:, :mask.shape[1]] = mask
            inputs.append(padded)
        return self.result.real(self.image.run(device, *inputs)[0])


def _symmetric(values: np.ndarray, dtype: str = "int8") -> Quantity:
    """Integers for ``values``: int8 of the least mean square error, int16 of twice their range."""
    peak = np.abs(values).max() / np.iinfo(dtype).max
    if dtype == "int16":
        return Quantity(dtype=dtype, scale=2 * peak)
    choices = [Quantity(dtype=dtype, scale=share * peak) for share in SHARES]
    return min(choices, key=lambda quantity: np.square(
        quantity.real(quantity.integers(values)) - values).sum())


def _spanning(low: float, high: float) -> Quantity:
    scale, zero_point = activation_scale(low, high)
    return Quantity(dtype="int8", scale=scale, zero_point=zero_point)


def _linear(weights: np.ndarray, bias: np.ndarray, source: Quantity,
            result: Quantity | np.ndarray, table: np.ndarray | None = None) -> Linear:
    """A layer of int8 weights; ``result`` may be the scale of each column."""
    quantised, scale = quantise_weights(weights)
    scale = scale * source.scale
    out = result if isinstance(result, np.ndarray) else result.scale
    multiplier, shift = quantise_multiplier(scale / out)
    return Linear(weights=quantised, bias=np.rint(bias / scale).astype(np.int64),
                  multiplier=multiplier, shift=shift, input_zero_point=source.zero_point,
                  zero_point=0 if isinstance(result, np.ndarray) else result.zero_point,
                  table=table)


def _tokens(layer: Attention | Perceptron, x: np.ndarray) -> tuple[int, int]:
    width = len(layer.gamma)
    if x.ndim != 2 or x.shape[1] != width or not len(x):
        raise ValueError(f"x must have shape (tokens, {width}), not {x.shape!r}")
    return x.shape


def _norm(stages: Stages, layer: Attention | Perceptron, x: Tensor, source: Quantity,
          result: Quantity) -> tuple[Tensor, Ready | None]:
    norm = stages.tensor("norm", x.shape[0], x.shape[1])
    ready = stages.rows(operations.layer_norm(
        gamma=layer.gamma, beta=layer.beta, source=source, result=result,
        epsilon=layer.epsilon), x, norm, ahead=True)
    return norm, ready


def _onto(values: np.ndarray, source: Quantity) -> tuple[Quantity, int]:
    """int16 of about twice the range of ``values``, and how often its scale goes into that of
    what they are added to."""
    ratio = max(1, min(WEIGHTS, floor(source.scale / _symmetric(values, "int16").scale)))
    return Quantity(dtype="int16", scale=source.scale / ratio), ratio


def _addend(x: Tensor, weight: int, sums: Quantity, result: Quantity) -> Addend:
    multiplier, shift = quantise_multiplier(sums.scale / result.scale)
    return Addend(tensor=x, weight=weight, multiplier=int(multiplier[0]), shift=int(shift[0]))


def compile_attention(layer: Attention, x: np.ndarray, *, config: CoreConfig,
                      mask: np.ndarray | None = None, dtype: str = "int8") -> Block:
    """The attention as one program.

    Parameters
    ----------
    layer : Attention
    x : float array, (tokens, width)
        Typical inputs: all scales are those that its results ask for.
    config : CoreConfig
    mask : array, (tokens, tokens), or None
        Typical mask; the block then takes one, 0 where a token (column) does not count.
    dtype : str
        Of the results, ``int8`` or ``int16``.

    Raises
    ------
    ValueError
        Shapes that do not fit each other; a core without what it takes, or too small.
    """
    (tokens, width), head, cols = _tokens(layer, x), layer.query.shape[1], config.array.cols
    if mask is not None and np.shape(mask) != (tokens, tokens):
        raise ValueError(f"mask must have shape ({tokens}, {tokens}), not {np.shape(mask)!r}")
    steps = layer.steps(x, mask)
    source, norm, result = _symmetric(x), _symmetric(steps["norm"]), _symmetric(steps["y"], dtype)
    context = _symmetric(steps["context"])
    output, weight = _onto(steps["output"], source)
    # Keys come first, because they take longest to store; each of the three in whole tiles.
    depth = aligned(head, cols)
    names = ("key", "value", "query")
    parts = {name: _symmetric(steps[name]) for name in names}

    def padded(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [*[(0, 0)] * (array.ndim - 1), (0, depth - head)])

    three = _linear(np.concatenate([padded(getattr(layer, name)) for name in names], axis=1),
                    np.concatenate([padded(getattr(layer, f"{name}_bias")) for name in names]),
                    norm, np.repeat([parts[name].scale for name in names], depth))
    stages = Stages(config)
    given = stages.tensor("x", tokens, width)
    masks = _mask(stages, tokens, mask is not None)
    y = stages.tensor("y", tokens, width, dtype)
    normed, ready = _norm(stages, layer, given, source, norm)
    joined = stages.tensor("joined", tokens, 3 * depth)
    keys = stages.product(three, normed, joined, turned=depth, after=ready)
    values = stages.tensor("context", tokens, head)
    value, query = (Tensor(name=name, address=joined.address + number * depth,
                           shape=(tokens, depth), strides=joined.strides, dtype="int8")
                    for number, name in enumerate(names) if number)
    attend(stages, Head(
        query=query, value=value, context=values, keys=keys, mask=masks,
        scale=parts["query"].scale * parts["key"].scale / sqrt(head),
        gain=parts["value"].scale / context.scale))
    stages.product(_linear(layer.output, layer.output_bias, context, output), values, y,
                   added=_addend(given, weight, output, result))
    inputs = (given, masks) if masks and mask is not None else (given,)
    return Block(image=stages.image(inputs, (y,)),
                 source=source, result=result,
                 macs=tokens * head * (4 * width + 2 * tokens))


def _mask(stages: Stages, tokens: int, given: bool) -> Tensor | None:
    """A mask that is given, or where the last tile of tokens is not whole, one for all rows."""
    cols = aligned(tokens, stages.config.array.cols)
    if given:
        return stages.tensor("mask", tokens, cols)
    if cols == tokens:
        return None
    ones = np.zeros(cols, np.int8)
    ones[:tokens] = 1
    return Tensor(name="mask", address=stages.memory.keep(ones.tobytes()), shape=(1, cols),
                  strides=(cols, 1), dtype="int8")


def compile_perceptron(layer: Perceptron, x: np.ndarray, *, config: CoreConfig,
                       dtype: str = "int8") -> Block:
    """The perceptron as one program; parameters as ``compile_attention``."""
    (tokens, width), hidden = _tokens(layer, x), layer.up.shape[1]
    steps = layer.steps(x)
    source, norm, result = _symmetric(x), _symmetric(steps["norm"]), _symmetric(steps["y"], dtype)
    output, weight = _onto(steps["output"], source)
    before = _spanning(max(GELU_LOWEST, steps["before"].min()), steps["before"].max())
    after = _spanning(steps["hidden"].min(), steps["hidden"].max())
    table = byte_table(lambda n: FUNCTIONS["gelu"](before.real(n)) / after.scale
                       + after.zero_point).base.astype(np.int8)
    stages = Stages(config)
    given, y = stages.tensor("x", tokens, width), stages.tensor("y", tokens, width, dtype)
    normed, ready = _norm(stages, layer, given, source, norm)
    middle = stages.tensor("hidden", tokens, hidden)
    stages.product(_linear(layer.up, layer.up_bias, norm, before, table), normed, middle,
                   after=ready)
    stages.product(_linear(layer.down, layer.down_bias, after, output), middle, y,
                   added=_addend(given, weight, output, result))
    return Block(image=stages.image((given,), (y,)), source=source, result=result,
                 macs=2 * tokens * width * hidden)
