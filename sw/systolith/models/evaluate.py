"""What a model computes, in NumPy: float operators, and integer ones as the node's rounding says.

A model's host operators run here, and compilers are judged by it.
"""

from collections.abc import Callable, Mapping

import numpy as np

from . import floats, integers
from .graph import PRODUCTS, Graph, Node

__all__ = ["computed", "evaluate"]

BATCH_ELEMENTS = 1 << 22    # of the largest tensor, at a time

Watch = Callable[[str, np.ndarray], None]


def evaluate(graph: Graph, inputs: Mapping[str, np.ndarray],
             watch: Watch | None = None) -> dict[str, np.ndarray]:
    """The outputs of a model.

    Parameters
    ----------
    graph : Graph
    inputs : mapping of str to array
        For each input, n times its first dimension along that.
    watch : callable, optional
        Gets the name and values of each tensor that comes in or is made, some runs at a time.

    Returns
    -------
    dict of str to array
        Of each output, the same.

    Raises
    ------
    ValueError
        An input has another type or shape than the model's; or a node's types are not known.
    """
    count = check_inputs(graph, inputs)
    largest = max(tensor.elements for tensor in graph.tensors.values() if tensor.data is None)
    step = max(BATCH_ELEMENTS // largest, 1)
    parts = []
    for first in range(0, count, step):
        many = min(step, count - first)
        values = {name: inputs[name][first * size:(first + many) * size]
                  for name, size in ((name, graph.tensors[name].shape[0])
                                     for name in graph.inputs)}
        parts.append(_run(graph, values, many, watch or _ignore))
    return {name: np.concatenate([part[name] for part in parts]) for name in graph.outputs}


def check_inputs(graph: Graph, inputs: Mapping[str, np.ndarray]) -> int:
    """How many runs of the model ``inputs`` are for.

    Raises
    ------
    ValueError
        As in ``evaluate``.
    """
    if set(inputs) != set(graph.inputs):
        raise ValueError(f"inputs must be {', '.join(graph.inputs)}, not {', '.join(inputs)}")
    counts = set()
    for name in graph.inputs:
        tensor, value = graph.tensors[name], inputs[name]
        whole, rest = divmod(value.shape[0] if value.ndim else 0, (tensor.shape or (1,))[0])
        if value.shape[1:] != tensor.shape[1:] or rest or not whole:
            raise ValueError(f"input {name!r} must be of shape (n * {tensor.shape[0]}, "
                             f"{', '.join(map(str, tensor.shape[1:]))}), not {value.shape!r}")
        if value.dtype != tensor.dtype:
            raise ValueError(f"input {name!r} must be {tensor.dtype}, not {value.dtype}")
        counts.add(whole)
    if len(counts) != 1:
        raise ValueError(f"inputs must be for one number of runs, not {sorted(counts)}")
    return counts.pop()


def _ignore(name: str, values: np.ndarray) -> None:
    """What nobody watches."""


def _run(graph: Graph, values: dict[str, np.ndarray], many: int,
         watch: Watch) -> dict[str, np.ndarray]:
    """Values of the outputs of ``many`` runs at a time."""
    for name in graph.inputs:
        watch(name, values[name])
    last = {name: number for number, node in enumerate(graph.nodes) for name in node.inputs}
    for number, node in enumerate(graph.nodes):
        found = [values[name] if (data := graph.tensors[name].data) is None else data
                 for name in node.inputs]
        values[node.output] = _node(graph, node, found, many)
        watch(node.output, values[node.output])
        for name in node.inputs:    # what nobody takes any more
            if last[name] == number and name not in graph.outputs:
                values.pop(name, None)
    return {name: values[name] for name in graph.outputs}


def _node(graph: Graph, node: Node, found: list[np.ndarray], many: int) -> np.ndarray:
    """What a node makes of its inputs."""
    made = graph.output(node)
    if node.op == "reshape":
        return found[0].reshape(many * made.shape[0], *made.shape[1:])
    if node.op == "transpose":
        runs = found[0].reshape(many, *graph.of(node, 0).shape)
        turned = runs.transpose(0, *(axis + 1 for axis in node["order"]))
        return turned.reshape(many * made.shape[0], *made.shape[1:])
    if node.op == "concat":     # a constant is there in each run
        found = [value if graph.of(node, number).data is None else np.concatenate([value] * many)
                 for number, value in enumerate(found)]
    return computed(graph, node, *found)


def computed(graph: Graph, node: Node, *found: np.ndarray) -> np.ndarray:
    """What a node makes of its inputs, one run of the model; those of operators that work on each
    element may have any shape.

    Raises
    ------
    ValueError
        The node's types are not known.
    """
    made = graph.output(node)
    if node.op == "convert":
        return integers.convert(graph, node, *found)
    real = made.dtype.startswith("float")
    if real:    # weights of a model of real activations may be stored as integers
        found = tuple(floats.real(value, graph.of(node, number))
                      for number, value in enumerate(found))
    kernel = getattr(floats if real else integers, node.op, None)
    if not real and node.op not in PRODUCTS and node.attributes.get(
            "rounding") == "even":
        kernel = integers.even
    if kernel is None:
        raise ValueError(f"node {node.name!r}: {node.op} is not known for {made.dtype}")
    return kernel(graph, node, *found)
