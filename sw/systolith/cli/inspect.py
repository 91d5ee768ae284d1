"""``systolith inspect``."""

from pathlib import Path

import click

from ..models.graph import Graph, Node
from ..models.read import read_model
from .options import json_option
from .output import print_facts, print_json, print_table

__all__ = ["inspect"]


def _facts(graph: Graph, node: Node) -> dict:
    """What there is to say of a node."""
    made = graph.output(node)
    constants = [tensor for name in node.inputs
                 if (tensor := graph.tensors[name]).data is not None]
    return {"node": node.name, "op": node.op, "output": list(made.shape), "type": made.dtype,
            "weights": constants[0].dtype if constants else None,
            "weight_bytes": sum(tensor.bytes for tensor in constants),
            "macs": graph.macs(node),
            "attributes": {name: value for name, value in node.attributes.items()
                           if value not in ("none", "twice")}}


@click.command(epilog="""
\b
Examples:
  systolith inspect model.tflite
  systolith inspect model.onnx --json
""")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def inspect(model: Path, as_json: bool):
    """Show what a trained model is made of.

    MODEL is a TFLite or ONNX file. A line for each operator: what it makes, the type of its
    weights, their bytes with those of biases, and the multiplications that it adds up.
    """
    graph = read_model(model)
    nodes = [_facts(graph, node) for node in graph.nodes]
    macs = sum(node["macs"] for node in nodes)
    if as_json:
        print_json({"model": graph.name, "macs": macs, "weight_bytes": graph.weight_bytes,
                    "inputs": {name: str(graph.tensors[name]) for name in graph.inputs},
                    "outputs": {name: str(graph.tensors[name]) for name in graph.outputs},
                    "nodes": nodes})
        return
    print_table(["node", "operator", "output", "type", "weights", "bytes", "MACs", "how"], [
        [node["node"], node["op"], " x ".join(map(str, node["output"])), node["type"],
         node["weights"] or "-", f"{node['weight_bytes']:,}" if node["weight_bytes"] else "-",
         f"{node['macs']:,}" if node["macs"] else "-",
         " ".join(f"{name}={_short(value)}" for name, value in node["attributes"].items())]
        for node in nodes])
    print_facts({
        **{f"input {name}": str(graph.tensors[name]) for name in graph.inputs},
        **{f"output {name}": str(graph.tensors[name]) for name in graph.outputs},
        "multiplications": f"{macs:,}", "weights and biases": f"{graph.weight_bytes:,} bytes"})


def _short(value: object) -> str:
    """A value without blanks."""
    return str(value).replace(" ", "")
