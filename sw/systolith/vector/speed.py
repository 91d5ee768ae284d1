"""Cycles of every program of the library, without loads and stores.

What is measured is the cycles that one more block of rows costs: all arrays stand in the
activation scratchpad, and a program that computes them twice is compared with one that computes
them once, from start to done. Between its first and its last group nothing is left out: passes
over data and over records, waiting for results of its own, changes of setting, gaps between
commands. A pass is elements / lanes cycles.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig

from ..device import Device, ModelDevice
from ..image import Image
from . import operations
from .alone import data_cycles, repeat_alone
from .compile import compile_resident
from .operations import Operation, Quantity
from .pooling import Pooling, compile_pooling, fits_at_once

__all__ = ["Benchmark", "Block", "benchmarks", "measure"]

PAGE_BYTES = 4096
STATES = ("busy", "wait", "stall", "idle")
LIMITS = {"int8": (-128, 128), "int16": (-1 << 15, 1 << 15), "int32": (-1 << 20, 1 << 20)}
HEIGHT = 8      # of arrays that are pooled
PEAK = 7.0      # largest normalised number of norms
K = 4           # of the largest numbers

UNITS = {"int8": Quantity(dtype="int8", scale=1 / 16),
         "int16": Quantity(dtype="int16", scale=2.0 ** -12),
         "int32": Quantity(dtype="int32", scale=2.0 ** -20)}
NORMS = {"int8": Quantity(dtype="int8", scale=1 / 16),
         "int16": Quantity(dtype="int16", scale=2.0 ** -9)}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A program on rows that all stand in the scratchpad.

    Parameters
    ----------
    image : Image
    rows, cols : int
    elements : int
        That a pass walks.
    """
    image: Image
    rows: int
    cols: int
    elements: int


Compile = Callable[[CoreConfig, int, int], Block]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A program of the library with a shape.

    Parameters
    ----------
    name, types : str
    rows, cols : int
        Of the arrays; where is pooled, rows are pixels and columns channels.
    compile : callable
        The block for a configuration, rows and columns: of as many of the rows as fit at once.
    """
    name: str
    types: str
    compile: Compile
    rows: int = 64
    cols: int = 256

    def block(self, config: CoreConfig, *, rows: int | None = None,
              cols: int | None = None) -> Block:
        """As many of the rows as fit the core at once.

        Raises
        ------
        ValueError
            Not even one does, or the configuration leaves out what the program needs.
        """
        return self.compile(config, rows or self.rows, cols or self.cols)


def _resident(make: Callable[[int], Operation], *, halves: int = 1) -> Compile:
    """Of an operation, given columns; it may walk several arrays of so many columns."""
    def compiled(config: CoreConfig, rows: int, cols: int) -> Block:
        image = compile_resident(make(cols), rows=rows, cols=cols, config=config)
        rows = image.inputs[0].shape[0]
        return Block(image=image, rows=rows, cols=cols, elements=halves * rows * cols)
    return compiled


def _pooled(window: int, stride: int, *, average: bool) -> Compile:
    """Of an array ``HEIGHT`` pixels high; elements are those of all windows."""
    def compiled(config: CoreConfig, rows: int, cols: int) -> Block:
        if rows < HEIGHT * window or rows % HEIGHT:
            raise ValueError(f"rows must be a multiple of {HEIGHT} pixels from "
                             f"{HEIGHT * window} on for pooling, not {rows!r}")
        width, pad = rows // HEIGHT, (window - stride) // 2
        shape = (1, HEIGHT, width, cols)
        pooling = Pooling(average=average, window=(window, window), stride=(stride, stride),
                          padding=(pad, pad), outputs=(HEIGHT // stride, width // stride))
        if not fits_at_once(pooling, shape, config=config):
            return compiled(config, rows // 2 // HEIGHT * HEIGHT, cols)
        spans = (sum(size for _, size in pooling.spans(axis, shape[1 + axis])) for axis in (0, 1))
        return Block(image=compile_pooling(pooling, shape, config=config), rows=rows, cols=cols,
                     elements=prod(spans) * cols)
    return compiled


def _of_type(dtype: str) -> Iterator[Benchmark]:
    source, types = UNITS[dtype], f"{dtype} to {dtype}"

    def of(name: str, make: Callable[[int], Operation], *, rows: int = 64, cols: int = 256,
           types: str = types, halves: int = 1) -> Benchmark:
        return Benchmark(name=name, types=types, rows=rows, cols=cols,
                         compile=_resident(make, halves=halves))

    def softmax(cols: int, *, masked: bool = False) -> Operation:
        return operations.softmax(scale=source.scale, dtype=dtype, out_dtype=dtype, masked=masked)

    def gains(cols: int) -> np.ndarray:
        return np.linspace(0.8, 1.2, cols)

    yield of("softmax", softmax, cols=64)
    yield of("softmax", softmax)
    yield of("softmax masked", partial(softmax, masked=True), cols=64)
    yield of("layer_norm", lambda cols: operations.layer_norm(
        gamma=gains(cols), beta=gains(cols) - 1, source=source, result=NORMS[dtype], peak=PEAK))
    yield of("rms_norm", lambda cols: operations.rms_norm(
        gamma=gains(cols), source=source, result=NORMS[dtype], peak=PEAK))
    for name in ("gelu", "silu", "sigmoid", "tanh", "hard_swish"):
        yield of(name, lambda cols, name=name: operations.activation(name, source=source,
                                                                     result=source))
    yield of("addition", lambda cols: operations.addition(a=source, b=source, result=source))
    yield of("product", lambda cols: operations.product(multiplier=(1 << 30, -7), dtype=dtype))
    yield of("maximum", lambda cols: operations.maximum(dtype=dtype))
    yield of("requantisation", lambda cols: operations.requantisation(
        source=UNITS["int32"], result=source), types=f"int32 to {dtype}")
    # Of 64 rows, temporaries would share banks of the scratchpad with what they are read beside.
    yield of("rotary", lambda cols: operations.rotary(quantity=source), rows=32, cols=64, halves=2)
    yield of("quantise_rows", lambda cols: operations.quantise_rows(dtype=dtype),
             types=f"{dtype} to int8")
    yield of("arg_max", lambda cols: operations.arg_max(dtype=dtype), types=dtype)
    yield of(f"top_k {K}", lambda cols: operations.top_k(K, cols=cols, dtype=dtype), types=dtype)


def benchmarks() -> Iterator[Benchmark]:
    """All of them."""
    yield from _of_type("int8")
    yield from _of_type("int16")
    yield Benchmark(name="maximum pooling 2 x 2", types="int8", cols=64,
                    compile=_pooled(2, 2, average=False))
    yield Benchmark(name="average pooling 3 x 3", types="int8", cols=64,
                    compile=_pooled(3, 1, average=True))


def measure(block: Block, device: Device, *, seed: int = 0) -> dict[str, Any]:
    """Cycles of a block.

    Returns
    -------
    dict
        ``cycles``, and how many of them the vector engine was ``busy``, in ``wait``, ``stall`` or
        ``idle``; ``passes`` and ``least_passes``, which count no scalar passes; ``first_passes`` of
        a block that nothing follows or comes before, until its results stand; ``bit_exact``.
    """
    config, image = device.config, block.image
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(*LIMITS[tensor.dtype], tensor.shape).astype(tensor.dtype)
              for tensor in image.inputs]
    model = ModelDevice(config, memory_bytes=-(-image.memory_bytes // PAGE_BYTES) * PAGE_BYTES)
    expected = image.run(model, *inputs)
    counters, exact = [], True
    for times in range(3):
        results = repeat_alone(image, times, config=config).run(device, *inputs)
        counters.append(device.counters())
        exact &= times == 0 or all(map(np.array_equal, results, expected))
    once = counters[1]["cycles"] - counters[0]["cycles"]
    cycles, *states = (counters[2][name] - counters[1][name]
                       for name in ("cycles", *(f"vector_{state}" for state in STATES)))
    least = data_cycles(image, config=config)

    def passes(count: int) -> float:
        return count * config.vector.lanes / block.elements
    return {"cycles": cycles, **dict(zip(STATES, states, strict=True)), "passes": passes(cycles),
            "least_passes": passes(least), "first_passes": passes(once), "bit_exact": exact}
