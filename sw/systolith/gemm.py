"""Matrix products on a device."""

import numpy as np
from systolith_hw.config import CoreConfig

from .device import Device
from .image import Image
from .layers import Linear, compile_layers

__all__ = ["gemm", "plan_gemm"]


def _signed(name: str, array: np.ndarray, zero_point: int | np.ndarray) -> tuple[
        np.ndarray, int | np.ndarray]:
    """int8 operand and zero point; uint8 is shifted by 128."""
    array = np.asarray(array)
    if isinstance(zero_point, np.integer):
        zero_point = int(zero_point)
    if array.dtype == np.int8:
        return array, zero_point
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be of dtype int8 or uint8, not {array.dtype.name!r}")
    return (array ^ 0x80).view(np.int8), (
        zero_point - 128 if isinstance(zero_point, int) else np.asarray(zero_point, np.int64) - 128)


def plan_gemm(b: np.ndarray, bias: np.ndarray | None = None, *, config: CoreConfig, rows: int,
              multiplier: int | np.ndarray | None = None, shift: int | np.ndarray | None = None,
              zero_point: int = 0, a_zero_point: int = 0, b_zero_point: int | np.ndarray = 0,
              clamp: tuple[int, int] = (-128, 127), table: np.ndarray | None = None,
              weight_format: str = "int8") -> Image:
    """Compile ``a @ b`` for ``rows`` rows of int8 activations; parameters as ``gemm``.

    Returns
    -------
    Image
        With an input ``x`` of shape (M, K) and an output ``y`` of shape (M, N).
    """
    weights, weight_zero_point = _signed("b", b, b_zero_point)
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"b must have shape (K, N), not {weights.shape!r}")
    layer = Linear(weights=weights, bias=bias, multiplier=multiplier, shift=shift,
                   input_zero_point=a_zero_point, weight_zero_point=weight_zero_point,
                   zero_point=zero_point, clamp=clamp, table=table, weight_format=weight_format)
    return compile_layers([layer], config=config, rows=rows)


def gemm(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, *, device: Device,
         multiplier: int | np.ndarray | None = None, shift: int | np.ndarray | None = None,
         zero_point: int = 0, a_zero_point: int = 0, b_zero_point: int | np.ndarray = 0,
         clamp: tuple[int, int] = (-128, 127), table: np.ndarray | None = None,
         weight_format: str = "int8") -> np.ndarray:
    """``(a - a_zero_point) @ (b - b_zero_point) + bias``, requantised where asked, on ``device``.

    Any M, N and K; what does not fit the scratchpads is cut into pieces.

    Parameters
    ----------
    a : int8 or uint8 array, (M, K)
    b : int8 or uint8 array, (K, N)
    bias : int array, (N,), or None
    device : Device
    multiplier : int or int array, (N,), or None
        0 to 2^31 - 1; None: the result is int32.
    shift : int or int array, (N,), or None
        -31 to 7, positive = left: the result is about ``sum * multiplier / 2^31 * 2^shift``.
    zero_point : int
        Added to the result before the clamp (with a multiplier only).
    a_zero_point : int
    b_zero_point : int or int array, (N,)
        Values of ``a`` and ``b`` that stand for 0; in the range of their dtype.
    clamp : tuple of int
        Least and largest result (with a multiplier only).
    table : int8 array, (256,), or None
        What becomes of results from -128 to 127 in the end (with a multiplier only).
    weight_format : str
        How the core gets ``b``: ``int8``, or ``int4`` or ``ternary``, which take half and a quarter
        of the memory and need ``b`` from -8 to 7 and from -1 to 1.

    Returns
    -------
    int8 array, (M, N), or int32 array

    Raises
    ------
    TypeError, ValueError
        Operands of the wrong dtype, shape or range; a device with too little memory.
    CoreError
        The core stopped.
    """
    activations, a_zero = _signed("a", a, a_zero_point)
    if activations.ndim != 2 or 0 in activations.shape:
        raise ValueError(f"a must have shape (M, K), not {activations.shape!r}")
    if np.ndim(b) != 2 or np.shape(b)[0] != activations.shape[1]:
        raise ValueError(f"b must have shape ({activations.shape[1]}, N), not {np.shape(b)!r}")
    if not isinstance(a_zero, int):
        raise TypeError(f"a_zero_point must be an integer, not {a_zero_point!r}")
    image = plan_gemm(b, bias, config=device.config, rows=len(activations),
                      multiplier=multiplier, shift=shift, zero_point=zero_point,
                      a_zero_point=a_zero, b_zero_point=b_zero_point, clamp=clamp, table=table,
                      weight_format=weight_format)
    return image.run(device, activations)[0]
