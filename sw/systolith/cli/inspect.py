"""``systolith inspect``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from systolith_hw.config import PRESETS, CoreConfig

from ..compiler.network import KIND as NETWORK
from ..compiler.network import HostStep, Network, Port
from ..contents import bytes_by_kind, commands_by_engine
from ..image import VERSION, Image, unpack_file
from ..models.graph import Graph, Node
from ..models.read import read_model
from .compile import layer_facts, print_layers, resident_fact
from .options import json_option
from .output import print_facts, print_json, print_table

__all__ = ["inspect"]


@click.command(epilog="""
\b
Examples:
  systolith inspect model.tflite
  systolith inspect model.onnx --json
  systolith inspect model.slith
""")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def inspect(model: Path, as_json: bool):
    """Show what a trained or compiled model is made of.

    MODEL is a TFLite or ONNX file: a line for each operator, with what it makes, the type of its
    weights, their bytes with those of biases, and the multiplications that it adds up. Or it is a
    .slith file: the core that it is for, inputs and outputs, the layers as `systolith compile`
    prints them, what runs on the host and why, commands by engine and bytes by what they are for.
    """
    if model.suffix.lower() != ".slith":
        _show_graph(read_model(model), as_json)
        return
    raw = model.read_bytes()
    description, _ = unpack_file(raw, kind=None, name=str(model))
    if description["kind"] == NETWORK:
        _show_network(Network.from_bytes(raw, name=str(model)), len(raw), as_json)
    else:
        _show_image(Image.from_bytes(raw, name=str(model)), len(raw), as_json)


# Trained models.

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


def _show_graph(graph: Graph, as_json: bool) -> None:
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


# Compiled ones.

def _show_network(network: Network, file_bytes: int, as_json: bool) -> None:
    config = CoreConfig.from_dict(dict(network.config))
    sizes = _sizes(network.images)
    host_bytes = sum(step.graph.weight_bytes for step in network.steps
                     if isinstance(step, HostStep))
    steps = [{"on": "host", "operators": [node.name for node in step.graph.nodes]}
             if isinstance(step, HostStep) else
             {"on": "core", "commands": commands_by_engine([step.image]),
              "inputs": list(step.inputs), "outputs": list(step.outputs),
              "memory_bytes": step.image.memory_bytes, "bytes": bytes_by_kind(step.image)}
             for step in network.steps]
    if as_json:
        print_json({
            "kind": NETWORK, "model": network.name, "version": VERSION, "core": config.name,
            "fingerprint": f"{config.fingerprint:016x}", "file_bytes": file_bytes,
            "memory_bytes": network.memory_bytes, "bytes": sizes, "host_bytes": host_bytes,
            "resident_bytes": network.resident_bytes,
            "cycles": network.cycles, "host_ops": network.host_ops,
            "inputs": [asdict(port) for port in network.inputs],
            "outputs": [asdict(port) for port in network.outputs],
            "layers": [layer_facts(layer, config.macs_per_cycle) for layer in network.layers],
            "steps": steps})
        return
    print_layers(network, config.macs_per_cycle)
    core = [step for step in steps if step["on"] == "core"]
    print_facts({
        "model": network.name,
        "core": f"{config.name} ({config.array.rows} x {config.array.cols}), fingerprint "
                f"{config.fingerprint:016x}",
        **{f"input {port.name}": _port(port) for port in network.inputs},
        **{f"output {port.name}": _port(port) for port in network.outputs},
        "programs": f"{len(core)}; {_commands(network.images)}",
        "host": ", ".join(f"{layer.name}" for layer in network.layers if layer.host) or "nothing",
        "cycles, predicted": f"{network.cycles:,}",
        **resident_fact(network),
        "system memory": f"{network.memory_bytes:,} bytes; {_listed(sizes)}",
        "host's constants": f"{host_bytes:,} bytes",
        "file": f"{file_bytes:,} bytes, version {VERSION}"})


def _show_image(image: Image, file_bytes: int, as_json: bool) -> None:
    sizes = bytes_by_kind(image)
    name = next((name for name, config in PRESETS.items()
                 if config.fingerprint == image.fingerprint), None)
    if as_json:
        print_json({
            "kind": "image", "version": VERSION, "core": name,
            "fingerprint": f"{image.fingerprint:016x}", "file_bytes": file_bytes,
            "memory_bytes": image.memory_bytes, "bytes": sizes,
            "commands": commands_by_engine([image]),
            "inputs": [asdict(tensor) for tensor in image.inputs],
            "outputs": [asdict(tensor) for tensor in image.outputs]})
        return
    print_facts({
        "core": f"{name or 'none of the presets'}, fingerprint {image.fingerprint:016x}",
        **{f"{kind} {tensor.name}": f"{tensor.dtype} {_shape(tensor.shape)} at "
                                    f"{tensor.address:#x}"
           for kind, tensors in (("input", image.inputs), ("output", image.outputs))
           for tensor in tensors},
        "commands": _commands([image]),
        "system memory": f"{image.memory_bytes:,} bytes; {_listed(sizes)}",
        "file": f"{file_bytes:,} bytes, version {VERSION}"})


def _sizes(images: Sequence[Image]) -> dict[str, Any]:
    return dict(sum((Counter(bytes_by_kind(image)) for image in images), Counter()))


def _commands(images: Sequence[Image]) -> str:
    found = commands_by_engine(images)
    return f"{sum(found.values()):,} commands; {_listed(found)}"


def _listed(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in values.items())


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _port(port: Port) -> str:
    scale = f", {port.scale:g} * (n - {port.zero_point})" if port.scale else ""
    return f"{port.dtype} {_shape(port.shape)}{scale}"
