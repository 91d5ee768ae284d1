"""Models of real numbers as models on int8, by what they make of calibration data."""

import dataclasses
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
from systolith_hw.checks import check_bool, check_choice
from systolith_hw.formats import BITS, RANGES

from .calibrate import CALIBRATIONS, check_data, ranges
from .evaluate import evaluate
from .fuse import fuse
from .graph import Graph, Tensor
from .quantised_nodes import LAYERS, OPERATORS, Quantiser, quantisations

__all__ = ["MAX_LOSS", "WEIGHTS", "output_error", "quantised_model"]

WEIGHTS = (*RANGES, "auto")
MAX_LOSS = 0.01
MOST_KEPT = 1 << 26     # elements of the largest tensor that are kept at a time


def quantised_model(graph: Graph, data: Mapping[str, np.ndarray], *, weights: str = "int8",
                    calibration: str = "mse", bias_correction: bool = True,
                    max_loss: float = MAX_LOSS) -> Graph:
    """The same model on int8, with its float inputs and outputs.

    Activations are int8 with a zero point, whose ranges are those on the calibration data;
    activation functions go into the ranges. Weights are symmetric with a scale for each output,
    biases int32 in steps of the sums. Results are rounded as TFLite's reference kernels round
    ("twice"), which is what the core does. A ``convert`` makes each input int8 and each output
    real.

    Layers are done one after the other, each with what the layers before it, already quantised,
    make of the data: int4 and ternary weights are those with which the sums are nearest to the
    float model's (``weights.rounded``), and biases take up what the sums are off in the mean
    (Nagel et al., "Data-free quantization through weight equalization and bias correction",
    arXiv:1906.04721, with data).

    Parameters
    ----------
    graph : Graph
        Of float32 activations; weights may be integers with scales, as those of some TFLite files.
    data : mapping of str to array
        Calibration data: for each input, n times its first dimension along that, as ``evaluate``
        takes it. Layers are done with as many runs as have 2^26 elements of the largest tensor.
    weights : str
        ``int8`` (-127 to 127), ``int4`` (-7 to 7) or ``ternary`` (-1 to 1) for all convolutions and
        linear operators; or ``auto``: they get fewer bits one after the other, those first that
        lose least for each bit, as long as the loss on the calibration data is up to ``max_loss``.
    calibration : str
        Which range activations get: ``minmax``, ``percentile`` or ``mse``, see
        ``calibrate.ranges``.
    bias_correction : bool
        Whether biases make up for the mean error of the sums.
    max_loss : float
        Of ``auto``: largest ``output_error``. Where int8 alone has a larger one, all stays int8.

    Returns
    -------
    Graph
        Its weights are of type ``int8``, ``int4`` or ``ternary``; names of inputs, outputs and
        nodes are the old ones. The same arguments make the same graph.

    Raises
    ------
    TypeError, ValueError
        An option is none; the model is already one of integers, or has an operator that int8 has
        not; or the data are none for it. The sentence names the node or tensor.
    """
    check_choice("weights", weights, WEIGHTS)
    check_choice("calibration", calibration, CALIBRATIONS)
    check_bool("bias_correction", bias_correction)
    if isinstance(max_loss, bool) or not isinstance(max_loss, int | float):
        raise TypeError(f"max_loss must be a number, not {max_loss!r}")
    if not 0 <= max_loss < np.inf:
        raise ValueError(f"max_loss must be a number of at least 0, not {max_loss!r}")
    _check(graph)
    check_data(graph, data)
    graph = fuse(graph)
    scales = quantisations(graph, ranges(graph, data, calibration))
    kept = _some(graph, data)

    def quantiser(formats: Mapping[str, str], tried: Sequence[str] = ()) -> Quantiser:
        return Quantiser(graph, scales, formats, bias_correction, tried)

    layers = [node.name for node in graph.nodes if node.op in LAYERS]
    if weights != "auto":
        return quantiser(dict.fromkeys(layers, weights)).graph(kept)

    # Each layer with fewer bits, the others being int8.
    exact = evaluate(graph, data)
    start = quantiser(dict.fromkeys(layers, "int8"), ("int4", "ternary"))
    whole = start.graph(kept)
    loss = {key: _error(exact, evaluate(_with(whole, constants), data))
            for key, constants in start.variants.items()}
    moves = _moves(graph, loss)
    found = {0: whole}

    def too_much(count: int) -> bool:
        found[count] = quantiser(dict.fromkeys(layers, "int8") | dict(moves[:count])).graph(kept)
        return _error(exact, evaluate(found[count], data)) > max_loss

    return found[bisect_right(range(1, len(moves) + 1), False, key=too_much)]


def output_error(graph: Graph, quantised: Graph, data: Mapping[str, np.ndarray]) -> float:
    """Squared error of a model's outputs, as a share of their squared distance from their means.

    That of the worst output: 0 is equal, 1 no better than the mean of each element. Outputs that
    do not vary count with their squares.

    Parameters
    ----------
    graph, quantised : Graph
        Of equal inputs and outputs.
    data : mapping of str to array
        As ``evaluate`` takes it.
    """
    return _error(evaluate(graph, data), evaluate(quantised, data))


def _error(wanted: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    losses = []
    for name, value in wanted.items():
        exact = value.astype(np.float64)
        off = float(((found[name] - exact) ** 2).sum())
        spread = float(((exact - exact.mean(0)) ** 2).sum()) or float((exact ** 2).sum())
        losses.append(off / spread if spread else float(off > 0))
    return max(losses)


def _check(graph: Graph) -> None:
    """Raise ``ValueError`` where a model cannot be one on int8."""
    for tensor in graph.tensors.values():
        if tensor.data is None and tensor.dtype != "float32":
            raise ValueError(f"tensor {tensor.name!r} must be float32 to be quantised, "
                             f"not {tensor}")
    for node in graph.nodes:
        taken = [graph.of(node, number) for number in range(len(node.inputs))]
        if node.op not in OPERATORS:
            raise ValueError(f"node {node.name!r} must be one of {', '.join(OPERATORS)} to be "
                             f"quantised, not {node.op}")
        if all(tensor.data is not None for tensor in taken):
            raise ValueError(f"node {node.name!r} must take what is computed, not constants only")
        if node.op in LAYERS:
            for tensor in taken[1:]:
                if tensor.data is None:
                    raise ValueError(f"node {node.name!r}: {tensor.name!r} must be a constant")


def _some(graph: Graph, data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As many runs of the data as may be kept."""
    largest = max(tensor.elements for tensor in graph.tensors.values() if tensor.data is None)
    many = max(MOST_KEPT // largest, 1)
    return {name: value[:many * graph.tensors[name].shape[0]] for name, value in data.items()}


def _with(graph: Graph, constants: Sequence[Tensor]) -> Graph:
    """A model with other constants of the same names."""
    return dataclasses.replace(
        graph, tensors={**graph.tensors, **{one.name: one for one in constants}})


def _moves(graph: Graph, loss: Mapping[tuple[str, str], float]) -> list[tuple[str, str]]:
    """Layers and formats of fewer bits, in order of the loss for each bit less.

    A layer gets the widest of them first.
    """
    moves = []
    for node in graph.nodes:
        if node.op not in LAYERS:
            continue
        cost = -np.inf
        for wide, narrow in (("int8", "int4"), ("int4", "ternary")):
            bits = graph.of(node, 1).elements * (BITS[wide] - BITS[narrow])
            cost = max(cost, (loss[node.name, narrow] - loss[node.name, wide]) / bits)
            moves.append((cost, (node.name, narrow)))
    return [move for _, move in sorted(moves, key=lambda one: one[0])]
