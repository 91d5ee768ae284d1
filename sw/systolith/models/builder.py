"""Graphs put together node by node."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from .graph import OPERATORS, Graph, Node, Quantisation, Tensor
from .infer import shape_of

__all__ = ["Builder"]

MOST_BYTES = 1 << 30    # of constants that are made


class Builder:
    """A graph that grows.

    Parameters
    ----------
    name : str
    inputs : sequence of Tensor
    outputs : sequence of str
        Names that its outputs will have.
    """

    def __init__(self, name: str, inputs: Sequence[Tensor], outputs: Sequence[str]):
        self.name = name
        self.inputs = [tensor.name for tensor in inputs]
        self.tensors = {tensor.name: tensor for tensor in inputs}
        self.nodes: list[Node] = []
        self.names: set[str] = set()
        self.taken = {*self.tensors, *outputs}
        self.last: dict[str, int] = {}  # numbers behind names
        self.left = MOST_BYTES

    @classmethod
    def of(cls, graph: Graph) -> "Builder":
        """With the inputs, outputs and constants of a graph, and no nodes."""
        made = cls(graph.name, [graph.tensors[name] for name in graph.inputs], graph.outputs)
        made.tensors.update((name, tensor) for name, tensor in graph.tensors.items()
                            if tensor.data is not None)
        made.taken.update(made.tensors)
        return made

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def fresh(self, name: str, taken: set[str] | None = None) -> str:
        """``name``, or with a number behind it."""
        taken = self.taken if taken is None else taken
        found, number = name, self.last.get(name, 0)
        while found in taken:
            number += 1
            found = f"{name}.{number}"
        self.last[name] = number
        taken.add(found)
        return found

    def constant(self, name: str, data: np.ndarray, *, dtype: str | None = None,
                 quantisation: Quantisation | None = None) -> str:
        """Name of a new constant.

        Raises
        ------
        ValueError
            There are too many bytes of them.
        """
        self.left -= data.nbytes
        if self.left < 0:
            raise ValueError(f"constants must have at most {MOST_BYTES:,} bytes")
        name = self.fresh(name)
        self.tensors[name] = Tensor(name=name, shape=data.shape, dtype=dtype or data.dtype.name,
                                    quantisation=quantisation, data=data)
        return name

    def add(self, name: str, op: str, inputs: Iterable[str], attributes: Mapping[str, Any],
            like: Tensor | None = None) -> str:
        """Name of what a new node makes, of the type and quantisation of ``like``.

        Rounding is ONNX's where ``attributes`` do not say it.

        Raises
        ------
        ValueError
            The operator does not take such inputs.
        """
        inputs = tuple(inputs)
        shape = shape_of(op, attributes, [self.tensors[one].shape for one in inputs])
        if op == "reshape" and prod(shape) != self.tensors[inputs[0]].elements:
            raise ValueError(f"{self.tensors[inputs[0]].shape!r} must have as many elements as "
                             f"{shape!r}")
        if not shape:
            raise ValueError("what it makes must have a dimension")
        if "rounding" in OPERATORS[op].attributes:
            attributes = {"rounding": "even", **attributes}
        name = self.fresh(name, self.names)
        output = self.fresh(name)
        self.tensors[output] = Tensor(
            name=output, shape=shape, dtype=like.dtype if like else "float32",
            quantisation=like.quantisation if like else None)
        self.nodes.append(Node(name=name, op=op, inputs=inputs, output=output,
                               attributes=attributes))
        return output

    def graph(self, outputs: Mapping[str, str]) -> Graph:
        """The graph, whose outputs are the tensors that ``outputs`` names.

        Raises
        ------
        ValueError
            It is no graph.
        """
        renamed: dict[str, str] = {}
        for name, tensor in outputs.items():
            if tensor == name:
                continue
            found = self.tensors[tensor]
            if tensor in self.inputs or found.data is not None or tensor in renamed:
                tensor = self.add(f"{tensor}.copy", "reshape", [tensor], {"shape": found.shape},
                                  found)
            renamed[tensor] = name
        made = {*renamed, *(name for name, tensor in outputs.items() if tensor == name)}
        nodes = [dataclasses.replace(
            node, inputs=tuple(renamed.get(name, name) for name in node.inputs),
            output=renamed.get(node.output, node.output)) for node in self._needed(made)]
        used = {name for node in nodes for name in (*node.inputs, node.output)}
        tensors = {(new := renamed.get(name, name)): dataclasses.replace(tensor, name=new)
                   for name, tensor in self.tensors.items()}
        return Graph(name=self.name, nodes=nodes, inputs=self.inputs, outputs=list(outputs),
                     tensors={name: tensor for name, tensor in tensors.items()
                              if name in used or name in self.inputs or name in outputs})

    def _needed(self, wanted: set[str]) -> list[Node]:
        """Nodes that something comes of."""
        found = []
        for node in reversed(self.nodes):
            if node.output in wanted:
                wanted.update(node.inputs)
                found.append(node)
        return found[::-1]
