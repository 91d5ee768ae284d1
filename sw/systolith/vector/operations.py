"""Operations on arrays, ready to compile: what they take, what they give, and their passes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from systolith_hw.isa import ElementType

from ..quantise import MAX_SHIFT, quantise_multiplier
from . import elements, rows
from .passes import Passes
from .tables import Table
from .values import Columns, Rows

__all__ = [
    "ELEMENTS", "Operation", "Quantity", "activation", "addition", "arg_max", "exact_addition",
    "layer_norm", "maximum", "minimum", "product", "quantise_rows", "requantisation", "rms_norm",
    "rotary", "softmax", "top_k",
]

Range = tuple[int, int]
Keep = Callable[[Passes, list[Rows], list[Rows], list[Rows], list[Rows]], None]

ELEMENTS = {"int8": ElementType.INT8, "int16": ElementType.INT16, "int32": ElementType.INT32}
WIDER = {"int8": "int16", "int16": "int32", "int32": "int32"}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Integers that stand for ``scale * (n - zero_point)``.

    Parameters
    ----------
    dtype : str
        ``int8``, ``int16`` or ``int32``.
    cols : int or None
        Columns of each row, where they are not those of the operation.
    spread : bool
        Whether each number takes a lane group of its own.
    """
    dtype: str
    scale: float = 1.0
    zero_point: int = 0
    cols: int | None = None
    spread: bool = False

    def __post_init__(self):
        if self.dtype not in ELEMENTS:
            raise ValueError(f"dtype must be one of {', '.join(ELEMENTS)}, not {self.dtype!r}")

    def integers(self, real: np.ndarray) -> np.ndarray:
        """The nearest integers, saturated."""
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(np.asarray(real, np.float64) / self.scale) + self.zero_point,
                       limits.min, limits.max).astype(self.dtype)

    def real(self, integers: np.ndarray) -> np.ndarray:
        """The numbers that integers stand for; float64."""
        return (np.asarray(integers, np.float64) - self.zero_point) * self.scale


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one operation needs.

    Parameters
    ----------
    name : str
    inputs, outputs : tuple of Quantity
    keep : callable
        Keeps the passes, given ``Passes`` and Rows of inputs, outputs, temporaries, constants.
    by_rows : bool
        Whether rows (the last axis) belong together.
    temporaries : tuple of str
        Types of rows as long as the inputs'.
    records : int
        Of each row.
    constants : tuple of int array, (columns,)
        Rows that lie in the scratchpad throughout.
    """
    name: str
    inputs: tuple[Quantity, ...]
    outputs: tuple[Quantity, ...]
    keep: Keep
    by_rows: bool = False
    temporaries: tuple[str, ...] = ()
    records: int = 0
    constants: tuple[np.ndarray, ...] = field(default=())


def softmax(*, scale: float, dtype: str = "int8", out_dtype: str = "int8",
            masked: bool = False) -> Operation:
    """``rows.softmax``; with a mask, a second input of int8 says which elements take part."""
    out = {"int8": Quantity(dtype="int8", scale=1 / 256, zero_point=-128),
           "int16": Quantity(dtype="int16", scale=2.0 ** -15)}
    if out_dtype not in out:
        raise ValueError(f"out_dtype must be one of {', '.join(out)}, not {out_dtype!r}")

    def keep(passes, inputs, outputs, temporaries, constants):
        rows.softmax(passes, inputs[0], outputs[0], scale=scale,
                     mask=inputs[1] if masked else None)
    inputs = (Quantity(dtype=dtype, scale=scale), Quantity(dtype="int8"))
    return Operation(name="softmax", inputs=inputs[:1 + masked], outputs=(out[out_dtype],),
                     keep=keep, by_rows=True, records=1)


def layer_norm(*, gamma: np.ndarray, beta: np.ndarray, source: Quantity, result: Quantity,
               epsilon: float = 1e-5, peak: float | None = None,
               mean_limit: float | None = None) -> Operation:
    """``rows.layer_norm``; ``epsilon`` and ``mean_limit`` are of real numbers."""
    def keep(passes, inputs, outputs, temporaries, constants):
        rows.layer_norm(passes, inputs[0], outputs[0], gamma=gamma, beta=beta,
                        out_scale=result.scale, zero_point=source.zero_point,
                        out_zero_point=result.zero_point, epsilon=epsilon / source.scale ** 2,
                        peak=peak, mean_limit=mean_limit and mean_limit / source.scale)
    return Operation(name="layer_norm", inputs=(source,), outputs=(result,), keep=keep,
                     by_rows=True, records=2)


def rms_norm(*, gamma: np.ndarray, source: Quantity, result: Quantity, epsilon: float = 1e-5,
             peak: float | None = None) -> Operation:
    """``rows.rms_norm``; ``epsilon`` is of real numbers."""
    def keep(passes, inputs, outputs, temporaries, constants):
        rows.rms_norm(passes, inputs[0], outputs[0], gamma=gamma, out_scale=result.scale,
                      zero_point=source.zero_point, out_zero_point=result.zero_point,
                      epsilon=epsilon / source.scale ** 2, peak=peak)
    return Operation(name="rms_norm", inputs=(source,), outputs=(result,), keep=keep,
                     by_rows=True, records=1)


def arg_max(*, dtype: str = "int8") -> Operation:
    """``rows.arg_max``, int32."""
    def keep(passes, inputs, outputs, temporaries, constants):
        rows.arg_max(passes, inputs[0], outputs[0])
    return Operation(name="arg_max", inputs=(Quantity(dtype=dtype),), by_rows=True, records=1,
                     outputs=(Quantity(dtype="int32", cols=1, spread=True),), keep=keep)


def top_k(k: int, *, cols: int, dtype: str = "int8") -> Operation:
    """``rows.top_k``: the numbers, and their positions as int32; rows of ``cols`` columns."""
    if not 1 <= k <= cols <= 1 << 15:
        raise ValueError(f"k must be from 1 to the columns, at most {1 << 15}, not {k!r}")

    def keep(passes, inputs, outputs, temporaries, constants):
        rows.top_k(passes, inputs[0], *([spread(out, place) for place in range(k)]
                                        for out in outputs),
                   ramp=constants[0], rest=temporaries[0], mask=temporaries[1])
    outputs = (Quantity(dtype=dtype, cols=k, spread=True),
               Quantity(dtype="int32", cols=k, spread=True))
    return Operation(name="top_k", inputs=(Quantity(dtype=dtype),), outputs=outputs, keep=keep,
                     by_rows=True, records=2, temporaries=(WIDER[dtype], "int8"),
                     constants=(np.arange(cols, dtype=np.int16),))


def spread(out: Rows, place: int) -> Rows:
    """One number of rows of which each takes a lane group of its own."""
    return Rows(kind=out.kind, base=out.base + place * out.size, cols=1, pitch=out.pitch)


def quantise_rows(*, dtype: str = "int16") -> Operation:
    """``rows.quantise_rows``: int8, and the peak of each row."""
    def keep(passes, inputs, outputs, temporaries, constants):
        rows.quantise_rows(passes, inputs[0], outputs[0], outputs[1])
    return Operation(name="quantise_rows", inputs=(Quantity(dtype=dtype),), by_rows=True,
                     outputs=(Quantity(dtype="int8"), Quantity(dtype="int32", cols=1, spread=True)),
                     keep=keep, records=1)


def activation(function: str | elements.Real, *, source: Quantity, result: Quantity,
               segments: int = 256) -> Operation:
    """A function of ``elements.FUNCTIONS``, or any other of real arrays."""
    table: Table = elements.activation_table(
        function, source=ELEMENTS[source.dtype], result=ELEMENTS[result.dtype],
        scale=source.scale, zero_point=source.zero_point, out_scale=result.scale,
        out_zero_point=result.zero_point, segments=segments)

    def keep(passes, inputs, outputs, temporaries, constants):
        elements.activate(passes, inputs[0], outputs[0], table)
    name = function if isinstance(function, str) else "function"
    return Operation(name=name, inputs=(source,), outputs=(result,), keep=keep)


def addition(*, a: Quantity, b: Quantity, result: Quantity,
             clamp: Range | None = None) -> Operation:
    """``elements.add``."""
    def keep(passes, inputs, outputs, temporaries, constants):
        elements.add(passes, inputs[0], inputs[1], outputs[0], a_scale=a.scale,
                     b_scale=b.scale, out_scale=result.scale, a_zero_point=a.zero_point,
                     b_zero_point=b.zero_point, out_zero_point=result.zero_point, clamp=clamp)
    return Operation(name="addition", inputs=(a, b), outputs=(result,), keep=keep)


def exact_addition(*, left_shift: int, offsets: tuple[int, int],
                   multipliers: tuple[tuple[int, int], tuple[int, int]],
                   out_multiplier: tuple[int, int], out_zero_point: int = 0, dtype: str = "int8",
                   clamp: Range | None = None) -> Operation:
    """``elements.add_exact``: TFLite's addition bit for bit, with its own parameters."""
    def keep(passes, inputs, outputs, temporaries, constants):
        elements.add_exact(passes, inputs, temporaries, outputs[0], left_shift=left_shift,
                           offsets=offsets, multipliers=multipliers,
                           out_multiplier=out_multiplier, out_zero_point=out_zero_point,
                           clamp=clamp)
    return Operation(name="exact_addition", inputs=(Quantity(dtype=dtype),) * 2,
                     outputs=(Quantity(dtype=dtype),), keep=keep, temporaries=("int32", "int32"))


def product(*, multiplier: tuple[int, int], offsets: tuple[int, int] = (0, 0),
            out_zero_point: int = 0, dtype: str = "int8", out_dtype: str | None = None,
            clamp: Range | None = None) -> Operation:
    """``elements.multiply``: TFLite's product bit for bit, with its own parameters."""
    def keep(passes, inputs, outputs, temporaries, constants):
        elements.multiply(passes, inputs[0], inputs[1], outputs[0], multiplier=multiplier,
                          offsets=offsets, out_zero_point=out_zero_point, clamp=clamp)
    return Operation(name="product", inputs=(Quantity(dtype=dtype),) * 2, keep=keep,
                     outputs=(Quantity(dtype=out_dtype or dtype),))


def _extreme(name: str, dtype: str) -> Operation:
    def keep(passes, inputs, outputs, temporaries, constants):
        elements.extreme(passes, inputs[0], inputs[1], outputs[0], largest=name == "maximum")
    return Operation(name=name, inputs=(Quantity(dtype=dtype),) * 2,
                     outputs=(Quantity(dtype=dtype),), keep=keep)


def maximum(*, dtype: str = "int8") -> Operation:
    """The larger of two."""
    return _extreme("maximum", dtype)


def minimum(*, dtype: str = "int8") -> Operation:
    """The smaller of two."""
    return _extreme("minimum", dtype)


def requantisation(*, source: Quantity, result: Quantity, clamp: Range | None = None,
                   scales: np.ndarray | None = None) -> Operation:
    """From one quantity to another: requantises, and makes fixed point of int8.

    Parameters
    ----------
    scales : float array, (columns,), or None
        Of each column of the source, in place of its scale.
    """
    ratio = (np.asarray(source.scale if scales is None else scales, np.float64)) / result.scale
    fine = source.dtype != "int32" and bool(ratio.max() >= 1 << MAX_SHIFT)
    multiplier, shift = quantise_multiplier(ratio / (1 << elements.FINE if fine else 1))
    scale = ((int(multiplier[0]), int(shift[0])) if scales is None
             else Columns(multiplier=multiplier, shift=shift))

    def keep(passes, inputs, outputs, temporaries, constants):
        elements.requantise(passes, inputs[0], outputs[0], scale=scale,
                            zero_point=source.zero_point, out_zero_point=result.zero_point,
                            clamp=clamp, fine=fine)
    return Operation(name="requantisation", inputs=(source,), outputs=(result,), keep=keep,
                     by_rows=scales is not None)


def rotary(*, quantity: Quantity) -> Operation:
    """``elements.rotate``: two halves, cosines and sines in, two halves out."""
    def keep(passes, inputs, outputs, temporaries, constants):
        elements.rotate(passes, inputs[:2], inputs[2:], temporaries, outputs,
                        zero_point=quantity.zero_point)
    angle = Quantity(dtype="int16", scale=2.0 ** -elements.ROTARY_BITS)
    return Operation(name="rotary", inputs=(quantity, quantity, angle, angle),
                     outputs=(quantity, quantity), keep=keep, temporaries=("int32", "int32"))
