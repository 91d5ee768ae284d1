"""Weights as integers, rounded so that sums of products with the data stay what they are."""

from dataclasses import dataclass

import numpy as np
from systolith_hw.formats import RANGES

from .graph import Node
from .windows import spread_windows_of, windows_of

__all__ = ["LEAST_SCALE", "MOST_PRODUCTS", "Moments", "factors", "grouped", "rounded"]

MOST_PRODUCTS = 1 << 22     # of inputs of a layer, up to which they are kept, 32 MB of float64
LEAST_SCALE = float(np.finfo(np.float32).tiny)
DAMPING = 0.1   # of the mean square of the inputs, for what the data do not say
SHARES = tuple(np.linspace(0.3, 1.0, 15).tolist())  # of a channel's range, as first scales
SWEEPS = 8


def grouped(weights: np.ndarray, groups: int) -> np.ndarray:
    """Weights (outputs, ...) as (groups, outputs / groups, weights of an output)."""
    return weights.reshape(groups, len(weights) // groups, -1)


def factors(node: Node, x: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """What each weight of an output is multiplied by: (groups, sums, weights of an output)."""
    if node.op == "linear":
        return x.reshape(1, -1, x.shape[-1])
    if node.op == "transposed_conv":
        windows = spread_windows_of(x, kernel, node["stride"], node["dilation"], node["pads"])[
            ..., ::-1, ::-1]
    else:
        windows = windows_of(x, kernel, node["stride"], node["dilation"], node["pads"], 0)
    batch, rows, columns, channels, height, width = windows.shape
    groups = node["groups"]
    apart = windows.reshape(batch, rows, columns, groups, channels // groups, height, width)
    return apart.transpose(3, 0, 1, 2, 5, 6, 4).reshape(groups, batch * rows * columns, -1)


@dataclass
class Moments:
    """Means of what weights are multiplied by: ``real`` as the float model has it and ``whole`` as
    the quantised one, and of their products where asked for.

    Parameters
    ----------
    groups, inputs : int
        Weights of an output are ``inputs``.
    products : bool
        Whether to keep products.
    """
    groups: int
    inputs: int
    products: bool

    def __post_init__(self):
        self.count = 0
        self.real = np.zeros((self.groups, self.inputs))
        self.whole = np.zeros((self.groups, self.inputs))
        if self.products:
            square = (self.groups, self.inputs, self.inputs)
            self.crossed, self.squared = np.zeros(square), np.zeros(square)

    def add(self, real: np.ndarray, whole: np.ndarray) -> None:
        """More of both, (groups, sums, inputs)."""
        self.count += real.shape[1]
        self.real += real.sum(1, dtype=np.float64)
        self.whole += whole.sum(1, dtype=np.float64)
        if self.products:
            turned = whole.transpose(0, 2, 1)
            self.crossed += turned @ real
            self.squared += turned @ whole

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Of ``real`` and ``whole``, (groups, inputs)."""
        return self.real / self.count, self.whole / self.count

    def forms(self, centred: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean products of ``whole`` with ``real`` and with itself, (groups, inputs, inputs).

        Centred, those of what is about their means, where a bias makes up for the means.
        """
        crossed, squared = self.crossed / self.count, self.squared / self.count
        if centred:
            real, whole = self.means()
            crossed = crossed - whole[:, :, None] * real[:, None]
            squared = squared - whole[:, :, None] * whole[:, None]
        damping = DAMPING * np.einsum("gii->g", squared) / self.inputs
        own = np.where(damping > 0, damping, 1)[:, None, None] * np.eye(self.inputs)
        return crossed + own, squared + own


def rounded(weights: np.ndarray, dtype: str,
            forms: tuple[np.ndarray, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers and a scale for each output.

    int8 ones are the nearest that spread the range of the output. Others minimise the mean square
    of what ``integers * scale`` makes of the quantised inputs less what the weights make of the
    real ones: beginning from the best of some shares of the range, one integer after the other
    takes its best value (Nair and Suggala, "CDQuant", arXiv:2406.17542), and the scale its own,
    by turns. Without ``forms``, inputs are taken as independent and alike.

    Parameters
    ----------
    weights : float array, (groups, outputs, inputs)
    dtype : str
        ``int8``, ``int4`` or ``ternary``.
    forms : pair of float arrays, (groups, inputs, inputs)
        As ``Moments.forms``.

    Returns
    -------
    whole : int8 array, (groups, outputs, inputs)
        -127 to 127, -7 to 7, or -1 to 1.
    scale : float64 array, (groups, outputs)
        1 where all weights are 0, or no normal float32 numbers.
    """
    weights = weights.astype(np.float64)
    high = RANGES[dtype][1]
    peak = np.abs(weights).max(2)
    peak = np.where(peak > high * LEAST_SCALE, peak, high)
    if dtype == "int8":
        scale = peak / high
        return np.rint(weights / scale[..., None]).astype(np.int8), scale
    crossed, squared = forms or (None, None)
    target = weights if crossed is None else weights @ crossed.transpose(0, 2, 1)
    best = np.full(peak.shape, np.inf)
    whole, scale = np.zeros_like(weights), peak / high
    for share in SHARES:
        tried = share * peak / high
        found = np.clip(np.rint(weights / tried[..., None]), -high, high)
        error = _error(found, tried, target, squared)
        better = error < best
        best = np.where(better, error, best)
        scale = np.where(better, tried, scale)
        whole = np.where(better[..., None], found, whole)
    for _ in range(SWEEPS):
        before = whole.copy()
        if squared is None:
            whole = np.clip(np.rint(weights / scale[..., None]), -high, high)
        else:
            _sweep(whole, scale, target, squared, high)
        scale = _scale(whole, scale, target, squared)
        if np.array_equal(before, whole):
            break
    return whole.astype(np.int8), scale


def _error(whole: np.ndarray, scale: np.ndarray, target: np.ndarray,
           squared: np.ndarray | None) -> np.ndarray:
    """Mean square of each output's error, but for what does not depend on the integers."""
    made = _made(whole, squared)
    return scale ** 2 * made - 2 * scale * np.einsum("gri,gri->gr", whole, target)


def _made(whole: np.ndarray, squared: np.ndarray | None) -> np.ndarray:
    """Mean square of what integers make."""
    return np.einsum("gri,gri->gr", whole if squared is None else whole @ squared, whole)


def _scale(whole: np.ndarray, scale: np.ndarray, target: np.ndarray,
           squared: np.ndarray | None) -> np.ndarray:
    """The scale of each output with the least error."""
    made = _made(whole, squared)
    wanted = np.einsum("gri,gri->gr", whole, target)
    fits = (made > 0) & (wanted > 0)
    return np.where(fits, wanted / np.where(fits, made, 1), scale)


def _sweep(whole: np.ndarray, scale: np.ndarray, target: np.ndarray, squared: np.ndarray,
           high: int) -> None:
    """Each integer in turn becomes the one with the least error, all others being as they are."""
    slope = whole @ squared - target / scale[..., None]     # in steps of the scale
    for i in range(whole.shape[2]):
        own = squared[:, None, i, i]
        wanted = whole[..., i] - slope[..., i] / np.where(own > 0, own, 1)
        step = np.clip(np.rint(wanted), -high, high) - whole[..., i]
        whole[..., i] += step
        slope += step[..., None] * squared[:, None, i]
