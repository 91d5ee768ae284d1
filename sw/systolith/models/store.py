"""Graphs as JSON and the bytes of their constants."""

from typing import Any

import numpy as np

from .graph import Graph, Node, Quantisation, Tensor

__all__ = ["graph_from", "stored_graph"]


def stored_graph(graph: Graph) -> tuple[dict[str, Any], bytes]:
    """A graph as what JSON can hold, and its constants one after the other.

    Only tensors that nodes, inputs or outputs name.
    """
    names = {name for node in graph.nodes for name in (*node.inputs, node.output)}
    names |= {*graph.inputs, *graph.outputs}
    tensors, contents = [], b""
    for name in sorted(names):
        tensor = graph.tensors[name]
        q, data = tensor.quantisation, tensor.data
        tensors.append({
            "name": name, "shape": list(tensor.shape), "dtype": tensor.dtype,
            "scale": None if q is None else q.scale.astype(float).tolist(),
            "zero_point": None if q is None else q.zero_point.tolist(),
            "axis": None if q is None else q.axis,
            "data": None if data is None else [len(contents), data.dtype.str]})
        if data is not None:
            contents += np.ascontiguousarray(data).tobytes()
    return {"name": graph.name, "inputs": list(graph.inputs), "outputs": list(graph.outputs),
            "tensors": tensors, "nodes": [
                {"name": node.name, "op": node.op, "inputs": list(node.inputs),
                 "output": node.output, "attributes": dict(node.attributes)}
                for node in graph.nodes]}, contents


def graph_from(description: dict[str, Any], contents: bytes) -> Graph:
    """The graph that ``stored_graph`` took apart.

    Raises
    ------
    ValueError
        It is no graph.
    """
    tensors = {}
    for made in description["tensors"]:
        shape, data, q = tuple(made["shape"]), None, None
        if made["scale"] is not None:
            q = Quantisation(np.array(made["scale"], np.float32),
                             np.array(made["zero_point"], np.int64), made["axis"])
        if made["data"] is not None:
            start, kind = made["data"]
            data = np.frombuffer(contents, np.dtype(kind), int(np.prod(shape)), start).reshape(
                shape)
        tensors[made["name"]] = Tensor(name=made["name"], shape=shape, dtype=made["dtype"],
                                       quantisation=q, data=data)
    return Graph(name=description["name"], tensors=tensors, inputs=description["inputs"],
                 outputs=description["outputs"], nodes=[
                     Node(name=node["name"], op=node["op"], inputs=tuple(node["inputs"]),
                          output=node["output"], attributes={
                              name: _tuples(value)
                              for name, value in node["attributes"].items()})
                     for node in description["nodes"]])


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
