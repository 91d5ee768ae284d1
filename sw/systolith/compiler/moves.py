"""Operators that move elements, where none need be moved."""

from dataclasses import replace

from ..models.graph import Graph, Node

__all__ = ["without_moves"]


def without_moves(graph: Graph) -> Graph:
    """The same graph; transposes that leave elements where they are become reshapes, and padding
    that only convolutions read becomes theirs."""
    nodes = [_kept(graph, node) for node in graph.nodes]
    for pad in reversed(graph.nodes):
        takers = [number for number, node in enumerate(nodes) if pad.output in node.inputs]
        if pad.op != "pad" or pad.output in graph.outputs:
            continue
        joined = [_joined(graph, pad, nodes[number]) for number in takers]
        if None not in joined:
            for number, node in zip(takers, joined, strict=True):
                assert node is not None
                nodes[number] = node
            nodes = [node for node in nodes if node.name != pad.name]
    return replace(graph, nodes=nodes)


def _kept(graph: Graph, node: Node) -> Node:
    shape = graph.of(node, 0).shape
    moved = [axis for axis in node.attributes.get("order", ()) if shape[axis] > 1]
    if node.op != "transpose" or moved != sorted(moved):
        return node
    return replace(node, op="reshape", attributes={"shape": graph.output(node).shape})


def _joined(graph: Graph, pad: Node, node: Node) -> Node | None:
    """A convolution that pads what ``pad`` does, where one can."""
    source, made = graph.of(pad, 0), graph.output(pad)
    if node.op != "conv" or node.inputs[1:].count(pad.output) or len(made.shape) != 4 or (
            source.dtype != "int8" or source.quantisation is None or made.quantisation is None
            or (source.scale, source.zero_point) != (made.scale, made.zero_point)):
        return None
    images, *pads, channels = pad["pads"]
    pads = tuple((before + top, behind + bottom) for (before, behind), (top, bottom) in zip(
        pads, node["pads"], strict=True))
    kernel = graph.of(node, 1).shape[1:3]
    if any((*images, *channels)) or any(max(pair) > (size - 1) * step for pair, size, step in zip(
            pads, kernel, node["dilation"], strict=True)):
        return None
    return replace(node, inputs=(pad.inputs[0], *node.inputs[1:]),
                   attributes={**node.attributes, "pads": pads})
