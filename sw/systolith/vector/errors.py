"""How far every operation is from float64: ``python -m systolith.vector.errors``.

Errors are in units of the result's last place, against the real function of the integers that go
in, saturated to the result's range; half a unit is what rounding alone costs. Functions of one
number are computed for every int8 or int16; operations on rows for seeded rows of several lengths
and spreads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from systolith_hw.config import CoreConfig

from ..device import Device, ModelDevice
from . import operations
from .compile import compile_vector
from .elements import FUNCTIONS, ROTARY_BITS
from .operations import Operation, Quantity

__all__ = ["Case", "cases", "measure"]

SEED = 0
LENGTHS = (5, 64, 129, 384)
ROWS = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """An operation with inputs, what real numbers it stands for, and the error it keeps within.

    Parameters
    ----------
    exact : callable
        Real outputs of real inputs.
    bound : float
        Largest error of the first output, in its units.
    """
    name: str
    operation: Operation
    inputs: tuple[np.ndarray, ...]
    exact: Callable[..., np.ndarray | tuple[np.ndarray, ...]]
    bound: float

    def errors(self, device: Device) -> np.ndarray:
        """Magnitudes of the errors of all outputs that ``exact`` gives."""
        image = compile_vector(self.operation, *(x.shape for x in self.inputs),
                               config=device.config)
        results = image.run(device, *self.inputs)
        exact = self.exact(*(quantity.real(x) for quantity, x in zip(
            self.operation.inputs, self.inputs, strict=True)))
        errors = []
        for quantity, result, real in zip(self.operation.outputs, results,
                                          exact if isinstance(exact, tuple) else (exact,),
                                          strict=False):
            limits = np.iinfo(quantity.dtype)
            wanted = np.clip(real / quantity.scale + quantity.zero_point, limits.min, limits.max)
            errors.append(np.abs(result - wanted).reshape(-1))
        return np.concatenate(errors)


def measure(case: Case, device: Device) -> tuple[float, float]:
    """Largest and mean error."""
    errors = case.errors(device)
    return float(errors.max()), float(errors.mean())


def _every(dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.arange(limits.min, limits.max + 1).astype(dtype)


# Largest errors of functions by the types of source and result.
_FUNCTION_BOUNDS = {
    ("int8", "int8"): dict.fromkeys(FUNCTIONS, 0.501),
    ("int8", "int16"): dict.fromkeys(FUNCTIONS, 0.65),
    ("int16", "int8"): dict.fromkeys(FUNCTIONS, 0.7),
    ("int16", "int16"): {"gelu": 1.5, "gelu_tanh": 1.5, "silu": 1.2, "sigmoid": 1.5, "tanh": 7,
                         "hard_swish": 1.1, "leaky_relu": 0.7},
}


def _functions() -> Iterator[Case]:
    for (dtype, out_dtype), bounds in _FUNCTION_BOUNDS.items():
        for name, bound in bounds.items():
            source = Quantity(dtype=dtype, scale=8 / -float(np.iinfo(dtype).min))
            largest = 1 if name in ("sigmoid", "tanh") else 8
            result = Quantity(dtype=out_dtype, scale=largest / -float(np.iinfo(out_dtype).min))
            yield Case(name=f"{name} {dtype} to {out_dtype}", inputs=(_every(dtype),),
                       operation=operations.activation(name, source=source, result=result),
                       exact=FUNCTIONS[name], bound=bound)


def _normal(rng: np.random.Generator, quantity: Quantity, cols: int, spread: float,
            mean: float = 0.0) -> np.ndarray:
    return quantity.integers(rng.normal(mean, spread, (ROWS, cols)))


def real_softmax(x: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Softmax of rows; with a mask, of the elements where it is not 0."""
    taken = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask != 0, x.shape)
    power = np.exp(x - np.where(taken, x, -np.inf).max(axis=-1, keepdims=True)) * taken
    return power / power.sum(axis=-1, keepdims=True)


def real_layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
                    epsilon: float) -> np.ndarray:
    """LayerNorm of rows."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred ** 2).mean(axis=-1, keepdims=True) + epsilon) * gamma + beta


def real_rms_norm(x: np.ndarray, gamma: np.ndarray, epsilon: float) -> np.ndarray:
    """RMSNorm of rows."""
    return x / np.sqrt((x ** 2).mean(axis=-1, keepdims=True) + epsilon) * gamma


_SOFTMAX_BOUNDS = {("int8", "int8"): 0.6, ("int16", "int8"): 0.6, ("int32", "int8"): 0.6,
                   ("int8", "int16"): 4, ("int16", "int16"): 8, ("int32", "int16"): 8}


def _softmaxes(rng: np.random.Generator) -> Iterator[Case]:
    for (dtype, out_dtype), bound in _SOFTMAX_BOUNDS.items():
        for cols in LENGTHS:
            for depth in (1.0, 8.0, 64.0):   # of the real range of the source
                bits = {"int8": 7, "int16": 15, "int32": 20}[dtype]
                source = Quantity(dtype=dtype, scale=depth / 2 ** bits)
                yield Case(
                    name=f"softmax {dtype} to {out_dtype}, {cols} columns, depth {depth:g}",
                    inputs=(_normal(rng, source, cols, depth / 4),), exact=real_softmax,
                    operation=operations.softmax(scale=source.scale, dtype=dtype,
                                                 out_dtype=out_dtype), bound=bound)
    for cols in LENGTHS:
        source = Quantity(dtype="int8", scale=1 / 16)
        mask = rng.integers(0, 2, (ROWS, cols)).astype(np.int8)
        mask[:, 0] = 1
        yield Case(name=f"softmax int8 to int8, {cols} columns, masked",
                   inputs=(_normal(rng, source, cols, 3), mask), exact=real_softmax, bound=0.6,
                   operation=operations.softmax(scale=source.scale, masked=True))


def _norms(rng: np.random.Generator) -> Iterator[Case]:
    epsilon = 1e-5
    for dtype, out_dtype in (("int8", "int8"), ("int16", "int8"), ("int16", "int16")):
        for cols in LENGTHS[1:]:
            source = Quantity(dtype=dtype, scale=2.0 ** (-5 if dtype == "int8" else -12),
                              zero_point=3 if dtype == "int8" else 0)
            result = Quantity(dtype=out_dtype, scale=2.0 ** (-4 if out_dtype == "int8" else -9))
            gamma, beta = rng.normal(1, 0.3, cols), rng.normal(0, 0.5, cols)
            common = {"source": source, "result": result, "epsilon": epsilon, "peak": 7.0}
            x = _normal(rng, source, cols, 0.8, 0.3)
            yield Case(
                name=f"layer_norm {dtype} to {out_dtype}, {cols} columns", inputs=(x,), bound=1,
                operation=operations.layer_norm(gamma=gamma, beta=beta, **common),
                exact=lambda x, gamma=gamma, beta=beta: real_layer_norm(x, gamma, beta, epsilon))
            yield Case(
                name=f"rms_norm {dtype} to {out_dtype}, {cols} columns", inputs=(x,), bound=1,
                operation=operations.rms_norm(gamma=gamma, **common),
                exact=lambda x, gamma=gamma: real_rms_norm(x, gamma, epsilon))


def _others(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in ("int8", "int16"):
        unit = 2.0 ** (-6 if dtype == "int8" else -14)
        quantity = Quantity(dtype=dtype, scale=unit)
        angles = rng.uniform(-np.pi, np.pi, (ROWS, 64))
        angle = Quantity(dtype="int16", scale=2.0 ** -ROTARY_BITS)
        halves = [_normal(rng, quantity, 64, 0.5) for _ in range(2)]
        yield Case(name=f"rotary {dtype}", operation=operations.rotary(quantity=quantity),
                   inputs=(*halves, angle.integers(np.cos(angles)),
                           angle.integers(np.sin(angles))),
                   exact=lambda a, b, c, s: (a * c - b * s, b * c + a * s), bound=0.52)
        # Any two scales: the weight has 9 bits at least.
        for ratio in (1.0, 1.37, 3.3, 50.0):
            a, b = Quantity(dtype=dtype, scale=unit), Quantity(dtype=dtype, scale=unit * ratio)
            result = Quantity(dtype=dtype, scale=unit * (1 + ratio))
            yield Case(name=f"addition {dtype}, scales 1 and {ratio:g}", inputs=(
                _normal(rng, a, 256, 0.5), _normal(rng, b, 256, 0.5 * ratio)),
                operation=operations.addition(a=a, b=b, result=result),
                exact=lambda a, b: a + b, bound=1 if dtype == "int8" else 66)
        yield Case(name=f"quantise_rows {dtype}", inputs=(_normal(rng, quantity, 100, 0.4),),
                   operation=operations.quantise_rows(dtype=dtype), bound=0.52,
                   exact=lambda x: x * 127 / np.abs(x).max(axis=-1, keepdims=True))
    source = Quantity(dtype="int8", scale=0.0371, zero_point=-7)
    for dtype, scale in (("int16", 2.0 ** -11), ("int32", 2.0 ** -18)):
        yield Case(name=f"requantisation int8 to {dtype}", inputs=(_every("int8"),),
                   operation=operations.requantisation(
                       source=source, result=Quantity(dtype=dtype, scale=scale)),
                   exact=lambda x: x, bound=0.51)
    yield Case(name="requantisation int32 to int8", bound=0.51, exact=lambda x: x,
               inputs=(rng.integers(-1 << 20, 1 << 20, (ROWS, 100)).astype(np.int32),),
               operation=operations.requantisation(
                   source=Quantity(dtype="int32", scale=2.0 ** -20),
                   result=Quantity(dtype="int8", scale=1 / 100, zero_point=3)))


def cases(seed: int = SEED) -> Iterator[Case]:
    """All of them."""
    rng = np.random.default_rng(seed)
    yield from _functions()
    yield from _softmaxes(rng)
    yield from _norms(rng)
    yield from _others(rng)


def main() -> None:
    """Print the table."""
    device = ModelDevice(CoreConfig.preset("demo"))
    print(f"{'operation':52}{'largest':>10}{'mean':>10}{'bound':>8}")
    for case in cases():
        largest, mean = measure(case, device)
        print(f"{case.name:52}{largest:10.3f}{mean:10.3f}{case.bound:8.2f}")


if __name__ == "__main__":
    main()
