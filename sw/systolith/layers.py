"""Linear layers compiled to one program and memory image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from systolith_hw.checks import check_choice
from systolith_hw.config import CoreConfig
from systolith_hw.formats import RANGES

from .image import Image, Tensor
from .layout import (
    aligned,
    pack_parameters,
    pack_row_parameters,
    pack_weights,
    split_weights,
)
from .product import Product
from .program import Program
from .regions import Regions
from .schedule import emit_product
from .search import choose_tiling
from .tiling import Problem, Tiling

__all__ = ["Linear", "check_format", "compile_layers"]

INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """``y = clamp(requantise((x - input_zero_point) @ (w - weight_zero_point) + bias))``.

    Parameters
    ----------
    weights : int8 array, (K, N)
    bias : int array, (N,), or None
    multiplier : int or int array, (N,), or None
        0 to 2^31 - 1; None: results are the int32 sums.
    shift : int or int array, (N,), or None
        -31 to 7, positive = left.
    input_zero_point, zero_point : int
        -128 to 127: of activations, and of results (with a multiplier only).
    weight_zero_point : int or int array, (N,)
        -128 to 127.
    clamp : tuple of int
        Least and largest result (with a multiplier only).
    table : int8 array, (256,), or None
        What becomes of results from -128 to 127 in the end (with a multiplier only).
    weight_format : str
        How the core gets the weights: ``int8``, ``int4`` (-8 to 7) or ``ternary`` (-1 to 1). Only
        int8 ones have a zero point.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, shape or size; sums that could leave 32 bits.
    """
    weights: np.ndarray
    bias: np.ndarray | None = None
    multiplier: int | np.ndarray | None = None
    shift: int | np.ndarray | None = None
    input_zero_point: int = 0
    weight_zero_point: int | np.ndarray = 0
    zero_point: int = 0
    clamp: tuple[int, int] = (-128, 127)
    table: np.ndarray | None = None
    weight_format: str = "int8"

    def __post_init__(self):
        weights = np.asarray(self.weights)
        if weights.dtype != np.int8:
            raise TypeError(f"weights must be of dtype int8, not {weights.dtype.name!r}")
        if weights.ndim != 2 or 0 in weights.shape:
            raise ValueError(f"weights must have shape (K, N), not {weights.shape!r}")
        object.__setattr__(self, "weights", weights)
        check_choice("weight_format", self.weight_format, tuple(RANGES))
        low, high = RANGES[self.weight_format]
        for bad in weights[(weights < low) | (weights > high)][:1]:
            raise ValueError(f"{self.weight_format} weights must be from {low} to {high}, not "
                             f"{int(bad)!r}")
        if self.weight_format != "int8" and np.any(self.weight_zero_point):
            raise ValueError(f"weight_zero_point of {self.weight_format} weights must be 0, not "
                             f"{self.weight_zero_point!r}")
        _check_scalar("input_zero_point", self.input_zero_point, -128, 127)
        _check_scalar("zero_point", self.zero_point, -128, 127)
        self._channels("weight_zero_point", self.weight_zero_point, -128, 127)
        if len(self.clamp) != 2:
            raise ValueError(f"clamp must be two integers, not {self.clamp!r}")
        _check_scalar("clamp", self.clamp[0], -128, 127)
        _check_scalar("clamp", self.clamp[1], self.clamp[0], 127)
        if self.bias is not None:
            self._channels("bias", self.bias, -INT32_MAX - 1, INT32_MAX)
        if (self.multiplier is None) != (self.shift is None):
            raise ValueError(f"shift must be given exactly where multiplier is, not {self.shift!r}")
        if self.multiplier is not None and self.shift is not None:
            self._channels("multiplier", self.multiplier, 0, INT32_MAX)
            self._channels("shift", self.shift, -31, 7)
        elif self.zero_point or tuple(self.clamp) != (-128, 127):
            raise ValueError("multiplier must be given where zero_point or clamp is, not None")
        if self.table is not None:
            table = np.asarray(self.table)
            if table.dtype != np.int8:
                raise TypeError(f"table must be of dtype int8, not {table.dtype.name!r}")
            if table.shape != (256,):
                raise ValueError(f"table must have shape (256,), not {table.shape!r}")
            if self.multiplier is None:
                raise ValueError("multiplier must be given where a table is, not None")
            object.__setattr__(self, "table", table)
        self._check_overflow()

    def _channels(self, name: str, value: object, low: int, high: int) -> np.ndarray:
        """``value`` as one int64 per output channel, checked."""
        array = np.asarray(value)
        if array.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers, not {array.dtype.name!r}")
        n = self.weights.shape[1]
        if array.shape not in ((), (1,), (n,)):
            raise ValueError(f"{name} must have shape ({n},), not {array.shape!r}")
        for bad in array[(array < low) | (array > high)].reshape(-1)[:1]:
            raise ValueError(f"{name} must be from {low} to {high}, not {int(bad)!r}")
        return np.broadcast_to(array.astype(np.int64), (n,))

    @cached_property
    def parts(self) -> list[np.ndarray]:
        """int8 matrices whose sum is the weights less their zero point."""
        zero = self._channels("weight_zero_point", self.weight_zero_point, -128, 127)
        if not zero.any():
            return [self.weights]
        return split_weights(self.weights.astype(np.int16) - zero.astype(np.int16))

    @cached_property
    def folded_bias(self) -> np.ndarray:
        """Bias less the input zero point times the column sums of the weights; int64, (N,)."""
        bias = 0 if self.bias is None else self.bias
        sums = sum(part.sum(axis=0, dtype=np.int64) for part in self.parts)
        return self._channels("bias", bias, -INT32_MAX - 1, INT32_MAX) - (
            self.input_zero_point * sums)

    @property
    def result_dtype(self) -> str:
        return "int32" if self.multiplier is None else "int8"

    def _check_overflow(self) -> None:
        reach = 128 * sum(np.abs(part, dtype=np.int16).sum(axis=0, dtype=np.int64)
                          for part in self.parts)
        reach = reach + np.abs(self.folded_bias)
        if reach.max() > INT32_MAX:
            column = int(reach.argmax())
            raise ValueError(f"weights must keep every sum of column {column} within {INT32_MAX}, "
                             f"not {int(reach[column])!r}")

    @cached_property
    def channels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bias, multiplier and shift of every output channel."""
        bias = self.folded_bias
        if self.multiplier is None or self.shift is None:
            return bias, np.zeros_like(bias), np.zeros_like(bias)
        return (bias, self._channels("multiplier", self.multiplier, 0, INT32_MAX),
                self._channels("shift", self.shift, -31, 7))

    @property
    def params(self) -> str:
        """``"none"`` where all parameters are 0, ``"shared"`` where all columns have the same,
        otherwise ``"columns"``."""
        if not any(values.any() for values in self.channels):
            return "none"
        return "shared" if all((values == values[0]).all()
                               for values in self.channels) else "columns"


def _check_scalar(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value!r}")


def check_format(name: str, weight_format: str, config: CoreConfig) -> None:
    """Raise ``ValueError`` about ``name`` where the core does not have the format."""
    if weight_format not in config.array.weights:
        raise ValueError(f"{name} must be one of array.weights={','.join(config.array.weights)}, "
                         f"not {weight_format!r}")


def compile_layers(layers: Sequence[Linear], *, config: CoreConfig, rows: int) -> Image:
    """One program that runs ``layers`` one after the other on ``rows`` rows of activations.

    Parameters
    ----------
    layers : sequence of Linear
        Each takes the int8 results of the one before it.
    config : CoreConfig
    rows : int
        M, rows of the input.

    Returns
    -------
    Image
        With an input ``x`` of shape (M, K) and an output ``y`` of shape (M, N).

    Raises
    ------
    TypeError, ValueError
        Layers that do not fit each other, or a core without enough semaphores.
    """
    if not layers:
        raise ValueError(f"layers must be at least one Linear, not {layers!r}")
    _check_scalar("rows", rows, 1, INT32_MAX)
    if any(layer.table is not None for layer in layers) and not config.vector.functions:
        raise ValueError("vector.functions must be at least 256 for layers with a table, not 0")
    for layer in layers:
        check_format("weight_format", layer.weight_format, config)
    for before, layer in zip(layers, layers[1:], strict=False):
        if before.multiplier is None:
            raise ValueError("multiplier of every layer but the last must be given, not None")
        if layer.weights.shape[0] != before.weights.shape[1]:
            raise ValueError(f"weights after {before.weights.shape[1]} outputs must have as many "
                             f"rows, not {layer.weights.shape[0]!r}")
    swapped = _swap_pays(layers, config=config, rows=rows)
    memory = Regions()
    program = Program(config=config)
    place = _Placed(memory=memory, config=config, swapped=swapped)
    tensors = [place.tensor("x", rows, layers[0].weights.shape[0], "int8")]
    for number, layer in enumerate(layers):
        name = "y" if number == len(layers) - 1 else f"hidden{number}"
        tensors.append(place.tensor(name, rows, layer.weights.shape[1], layer.result_dtype))
        if number:
            program.drain()
        problem = _problem(layer, config=config, rows=rows, swapped=swapped)
        _, tiling = choose_tiling(problem)
        emit_product(program, place.product(layer, problem, tiling, *tensors[-2:]), tiling)
    return memory.image(program, (tensors[0],), (tensors[-1],))


def _problem(layer: Linear, *, config: CoreConfig, rows: int, swapped: bool) -> Problem:
    """The product of one layer; swapped, its transposed weights are the activations."""
    k, n = layer.weights.shape
    item = 4 if layer.result_dtype == "int32" else 1
    if not swapped:
        return Problem(config=config, m=rows, n=n, k=k, passes=len(layer.parts),
                       result_bytes=item, params=layer.params, weights=layer.weight_format)
    params = "rows" if layer.params == "columns" else layer.params
    return Problem(config=config, m=n, n=rows, k=k, passes=1, result_bytes=item, params=params,
                   panels=True)


def _swap_pays(layers: Sequence[Linear], *, config: CoreConfig, rows: int) -> bool:
    """Whether all layers together are faster with their operands swapped."""
    if any(len(layer.parts) > 1 or layer.weight_format != "int8" for layer in layers):
        return False
    plain, swapped = ([_problem(layer, config=config, rows=rows, swapped=swap)
                       for layer in layers] for swap in (False, True))
    if sum(map(_array_cycles, swapped)) >= sum(map(_array_cycles, plain)) or any(
            problem.params == "rows" and problem.m > config.memory.par_rows
            for problem in swapped):
        return False
    return (sum(choose_tiling(problem)[0] for problem in swapped)
            < sum(choose_tiling(problem)[0] for problem in plain))


def _array_cycles(problem: Problem) -> int:
    """Least cycles that the array needs."""
    return (max(problem.m, problem.config.array.rows) * problem.k_tiles * problem.n_tiles
            * problem.passes * problem.packing.digits)


@dataclass(kw_only=True)
class _Placed:
    """Gives tensors, weights and parameters their places in memory."""
    memory: Regions
    config: CoreConfig
    swapped: bool

    def tensor(self, name: str, rows: int, cols: int, dtype: str) -> Tensor:
        """A matrix whose rows start at whole bus words, or where operands are swapped, panels."""
        item = 4 if dtype == "int32" else 1
        if self.swapped:
            return Tensor(name=name, address=self.memory.take(rows * cols * item),
                          shape=(rows, cols), dtype=dtype, panel=self.config.array.cols)
        pitch = self._pitch(rows, cols * item)
        return Tensor(name=name, address=self.memory.take(rows * pitch), shape=(rows, cols),
                      strides=(pitch, item), dtype=dtype)

    def product(self, layer: Linear, problem: Problem, tiling: Tiling, source: Tensor,
                target: Tensor) -> Product:
        """One layer, with its weights and parameters in memory."""
        k, n = layer.weights.shape
        if self.swapped:
            pitch = self._pitch(n, k)
            rows = np.zeros((n, pitch), np.int8)
            rows[:, :k] = layer.weights.T
            constants: dict[str, Any] = {
                "a_address": self.memory.keep(rows.tobytes()), "a_pitch": pitch,
                "weights_address": source.address, "out_pitch": 0}
        else:
            packed = pack_weights(layer.parts, config=self.config, padded_rows=tiling.padded_k,
                                  weights=layer.weight_format, tile_rows=tiling.tile_rows)
            constants = {"a_address": source.address, "a_pitch": source.strides[0],
                         "weights_address": self.memory.keep(packed),
                         "out_pitch": target.strides[0]}
        params = b""
        if problem.params == "rows":
            params = pack_row_parameters(*layer.channels, config=self.config)
        elif problem.params == "columns":
            params = pack_parameters(*layer.channels, config=self.config,
                                     weights=layer.weight_format)
        elif problem.params == "shared":
            params = pack_parameters(*(np.full(problem.packing.cols, values[0])
                                       for values in layer.channels), config=self.config)
        return Product(
            m=problem.m, n=problem.n, k=k, params=problem.params,
            params_address=self.memory.keep(params) if params else 0, out_address=target.address,
            table_address=None if layer.table is None else self.memory.keep(layer.table.tobytes()),
            requantised=layer.multiplier is not None, zero_point=int(layer.zero_point),
            clamp=(int(layer.clamp[0]), int(layer.clamp[1])), weights=problem.weights,
            **constants)

    def _pitch(self, rows: int, row_bytes: int) -> int:
        return aligned(row_bytes, self.config.bus.data_bytes) if rows > 1 else row_bytes
