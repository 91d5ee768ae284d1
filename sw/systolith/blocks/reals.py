"""The blocks of real numbers: their weights, and what they compute in float64."""

from dataclasses import dataclass, fields
from math import sqrt
from typing import ClassVar, Self

import numpy as np

from ..vector.elements import FUNCTIONS
from ..vector.errors import real_layer_norm, real_softmax

__all__ = ["Attention", "Perceptron"]


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Weights that keep a variance of 1."""
    return rng.normal(0, 1 / sqrt(shape[0]), shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Float64 arrays, checked against each other; a layer norm comes first.

    Parameters
    ----------
    gamma, beta : float array, (width,)
    epsilon : float
    """
    SHAPES: ClassVar[dict[str, tuple[str, ...]]] = {}
    gamma: np.ndarray
    beta: np.ndarray
    epsilon: float = 1e-5

    def __post_init__(self):
        sizes: dict[str, int] = {}
        for field in fields(self):
            if field.name == "epsilon":
                continue
            array = np.asarray(getattr(self, field.name), np.float64)
            names = self.SHAPES[field.name]
            shape = tuple(sizes.setdefault(name, size)
                          for name, size in zip(names, array.shape, strict=False))
            if array.shape != shape or len(shape) != len(names) or 0 in shape:
                raise ValueError(f"{field.name} must have shape ({', '.join(names)}), "
                                 f"not {array.shape!r}")
            object.__setattr__(self, field.name, array)

    def norm(self, x: np.ndarray) -> np.ndarray:
        """The layer norm of rows."""
        return real_layer_norm(x, self.gamma, self.beta, self.epsilon)


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention(_Block):
    """``x + softmax(q k' / sqrt(head)) v output``, where q, k, v are layers of ``norm(x)``.

    Parameters
    ----------
    gamma, beta : float array, (width,)
        Of the layer norm.
    query, key, value : float array, (width, head)
    query_bias, key_bias, value_bias : float array, (head,)
    output : float array, (head, width)
    output_bias : float array, (width,)
    epsilon : float
        Of the layer norm.

    Raises
    ------
    ValueError
        Shapes that do not fit each other.
    """
    SHAPES: ClassVar = {"gamma": ("width",), "beta": ("width",), "query": ("width", "head"),
              "key": ("width", "head"), "value": ("width", "head"), "query_bias": ("head",),
              "key_bias": ("head",), "value_bias": ("head",), "output": ("head", "width"),
              "output_bias": ("width",)}
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    query_bias: np.ndarray
    key_bias: np.ndarray
    value_bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray

    @classmethod
    def random(cls, width: int, head: int, *, seed: int) -> Self:
        """Weights of variance 1 / inputs, biases of a tenth."""
        rng = np.random.default_rng(seed)
        return cls(gamma=rng.normal(1, 0.2, width), beta=rng.normal(0, 0.2, width),
                   query=_normal(rng, width, head), key=_normal(rng, width, head),
                   value=_normal(rng, width, head), query_bias=rng.normal(0, 0.1, head),
                   key_bias=rng.normal(0, 0.1, head), value_bias=rng.normal(0, 0.1, head),
                   output=_normal(rng, head, width), output_bias=rng.normal(0, 0.1, width))

    def steps(self, x: np.ndarray, mask: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Every intermediate result of ``x``, (tokens, width), and the last one, ``y``."""
        norm = self.norm(x)
        query = norm @ self.query + self.query_bias
        key = norm @ self.key + self.key_bias
        value = norm @ self.value + self.value_bias
        weights = real_softmax(query @ key.T / sqrt(self.query.shape[1]), mask)
        context = weights @ value
        output = context @ self.output + self.output_bias
        return {"norm": norm, "query": query, "key": key, "value": value, "weights": weights,
                "context": context, "output": output, "y": x + output}


@dataclass(frozen=True, kw_only=True, eq=False)
class Perceptron(_Block):
    """``x + gelu(norm(x) up + up_bias) down + down_bias``.

    Parameters
    ----------
    gamma, beta : float array, (width,)
        Of the layer norm.
    up : float array, (width, hidden)
    up_bias : float array, (hidden,)
    down : float array, (hidden, width)
    down_bias : float array, (width,)
    epsilon : float
        Of the layer norm.

    Raises
    ------
    ValueError
        Shapes that do not fit each other.
    """
    SHAPES: ClassVar = {"gamma": ("width",), "beta": ("width",), "up": ("width", "hidden"),
              "up_bias": ("hidden",), "down": ("hidden", "width"), "down_bias": ("width",)}
    up: np.ndarray
    up_bias: np.ndarray
    down: np.ndarray
    down_bias: np.ndarray

    @classmethod
    def random(cls, width: int, hidden: int, *, seed: int) -> Self:
        """Weights of variance 1 / inputs, biases of a tenth."""
        rng = np.random.default_rng(seed)
        return cls(gamma=rng.normal(1, 0.2, width), beta=rng.normal(0, 0.2, width),
                   up=_normal(rng, width, hidden), up_bias=rng.normal(0, 0.1, hidden),
                   down=_normal(rng, hidden, width), down_bias=rng.normal(0, 0.1, width))

    def steps(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Every intermediate result of ``x``, (tokens, width), and the last one, ``y``."""
        norm = self.norm(x)
        before = norm @ self.up + self.up_bias
        hidden = FUNCTIONS["gelu"](before)
        output = hidden @ self.down + self.down_bias
        return {"norm": norm, "before": before, "hidden": hidden, "output": output,
                "y": x + output}
