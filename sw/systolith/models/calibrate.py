"""Ranges of the tensors of a float model, of what they are on calibration data."""

from collections.abc import Mapping

import numpy as np

from ..quantise import activation_scale
from . import floats
from .evaluate import check_inputs, evaluate
from .graph import Graph

__all__ = ["CALIBRATIONS", "ranges"]

CALIBRATIONS = ("minmax", "percentile", "mse")
PERCENTILE = 99.99      # of the numbers lie in the range, as many above it as below
BINS = 4096             # of a histogram
LEAST_WIDTH = float(np.finfo(np.float32).tiny)
SHARES = tuple((0.95 ** np.arange(32)).tolist())    # of each end of the range, that mse tries

Range = tuple[float, float]


def ranges(graph: Graph, data: Mapping[str, np.ndarray],
           calibration: str = "minmax") -> dict[str, Range]:
    """Least and greatest number that each float tensor should have as int8.

    ``minmax`` is all of them; ``percentile`` all but the outermost 0.01 %; ``mse`` the range whose
    256 steps have the least squared error. The model runs once, and a second time for a histogram
    of each tensor where one is needed; nothing else is kept of the data.

    Parameters
    ----------
    graph : Graph
    data : mapping of str to array
        For each input, as ``evaluate`` takes it.
    calibration : str
        One of ``CALIBRATIONS``.

    Raises
    ------
    ValueError
        The data are none for the model's inputs, or what it makes of them is not finite.
    """
    check_data(graph, data)
    found: dict[str, Range] = {}

    def widen(name: str, values: np.ndarray) -> None:
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"tensor {name!r} must be finite on the calibration data, "
                             f"not from {low} to {high}")
        before = found.get(name, (low, high))
        found[name] = min(low, before[0]), max(high, before[1])

    for name, tensor in graph.tensors.items():
        if tensor.data is not None:
            widen(name, floats.real(tensor.data, tensor))
    with np.errstate(over="ignore", invalid="ignore"):
        evaluate(graph, data, widen)
    if calibration == "minmax":
        return found
    made = {*graph.inputs, *(node.output for node in graph.nodes)}
    histograms = {name: Histogram(*found[name]) for name in made}
    evaluate(graph, data, lambda name, values: histograms[name].add(values))
    return found | {name: getattr(histogram, calibration)()
                    for name, histogram in histograms.items()}


def check_data(graph: Graph, data: Mapping[str, np.ndarray]) -> None:
    """Raise ``ValueError`` where calibration data are none for a model."""
    check_inputs(graph, data)
    for name in graph.inputs:
        if not np.isfinite(data[name]).all():
            raise ValueError(f"input {name!r} must be finite numbers, not inf or NaN")


class Histogram:
    """How often numbers from ``low`` to ``high`` are, in ``BINS`` bins, and the mean of each bin.

    Parameters
    ----------
    low, high : float
    """

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high
        self.counts = np.zeros(BINS, np.int64)
        self.sums = np.zeros(BINS)

    def add(self, values: np.ndarray) -> None:
        """More numbers."""
        flat = values.reshape(-1).astype(np.float64)
        width = max(self.high - self.low, LEAST_WIDTH)
        bins = np.minimum((flat - self.low) * (BINS / width), BINS - 1).astype(np.int64)
        self.counts += np.bincount(bins, minlength=BINS)
        self.sums += np.bincount(bins, flat, BINS)

    def percentile(self) -> Range:
        """All but the outermost numbers."""
        used = np.flatnonzero(self.counts)
        outside = self.counts.sum() * (100 - PERCENTILE) / 200
        below, above = np.cumsum(self.counts), np.cumsum(self.counts[::-1])[::-1]
        first = used[below[used] > outside][0]
        last = used[above[used] > outside][-1]
        means = self.sums[[first, last]] / self.counts[[first, last]]
        return (self.low if first == used[0] else float(means[0]),
                self.high if last == used[-1] else float(means[1]))

    def mse(self) -> Range:
        """The range of ``SHARES`` of its ends with the least squared error of int8."""
        used = np.flatnonzero(self.counts)
        counts = self.counts[used]
        means = self.sums[used] / counts
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        best, least = (low, high), np.inf
        for below in SHARES if low < 0 else (1.0,):
            for above in SHARES if high > 0 else (1.0,):
                scale, zero = activation_scale(low * below, high * above)
                whole = np.clip(np.rint(means / scale), -128 - zero, 127 - zero)
                error = float(counts @ (whole * scale - means) ** 2)
                if error < least:
                    best, least = (low * below, high * above), error
        return best
