"""``systolith compile``."""

from pathlib import Path
from typing import Any

import click

from ..compiler.compile import compile_model
from ..compiler.network import Layer, Network
from ..models.quantiser import WEIGHTS
from ..models.read import read_model
from ..presets import named_bus
from .arrays import named_arrays
from .options import complete, config_options, configuration, json_option
from .output import Steps, check_folder, print_facts, print_json, print_table, write_file

__all__ = ["compile_", "layer_facts", "print_layers", "resident_fact"]


def layer_facts(layer: Layer, peak: float) -> dict[str, Any]:
    """What there is to say of a layer; ``share`` is that of the array's peak."""
    share = layer.macs / layer.cycles / peak if layer.cycles and layer.macs else None
    return {"layer": layer.name, "op": layer.op, "output": list(layer.shape),
            "weights": layer.weights or None, "macs": layer.macs, "cycles": layer.cycles,
            "share": share, "moved_bytes": layer.moved_bytes, "left_out": layer.left_out,
            "host": layer.host or None}


def print_layers(network: Network, peak: float) -> None:
    """A line for each operator, and why some run on the host."""
    rows = []
    pruned = any(layer.left_out for layer in network.layers)
    for layer in network.layers:
        facts = layer_facts(layer, peak)
        share = facts["share"]
        rows.append([layer.name, layer.op, " x ".join(map(str, layer.shape)),
                     layer.weights or "-", f"{layer.macs:,}" if layer.macs else "-",
                     "host" if layer.host else f"{layer.cycles:,}",
                     f"{100 * share:.0f} %" if share else "-",
                     f"{layer.moved_bytes:,}" if layer.moved_bytes else "-"])
        if pruned:
            rows[-1].append(f"{layer.left_out:,}" if layer.left_out else "-")
    print_table(["layer", "operator", "output", "weights", "MACs", "cycles", "of peak",
                 "bytes moved", *["MACs left out"] * pruned], rows)
    for layer in network.layers:
        if layer.host and layer.op != "convert":
            click.echo(f"{layer.name} runs on the host: {layer.host}")


def resident_fact(network: Network) -> dict[str, str]:
    """A line about weights that stay in the core, if some do."""
    if not network.resident_bytes:
        return {}
    return {"stays in the core": f"{network.resident_bytes:,} bytes of weights, loaded once"}


@click.command("compile", epilog="""
\b
Examples:
  systolith compile model.tflite --preset bench16 -o model.slith
  systolith compile model.onnx --calibrate x.npz --preset ulx3s_85f -o model.slith
""")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_options
@click.option("--output", "-o", "output", metavar="FILE", required=True,
              type=click.Path(dir_okay=False, path_type=Path), help="The .slith file to write.")
@click.option("--calibrate", metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help=".npy or .npz file of inputs, by which a float model becomes one of int8.")
@click.option("--weights", metavar="|".join(WEIGHTS), default="int8", show_default=True,
              shell_complete=complete(*WEIGHTS),
              help="Weights of a model that is quantised: one format for all, or what each layer "
                   "can do with.")
@click.option("--close", is_flag=True,
              help="Do also on the core what it does within one unit of the model's own results, "
                   "such as a softmax of a small scale.")
@json_option
def compile_(model: Path, preset: str | None, path: str | None, assignments: tuple[str, ...],
             output: Path, calibrate: Path | None, weights: str, close: bool, as_json: bool):
    """Compile a trained model for a core.

    MODEL is a TFLite or ONNX file, of int8 operators or, with --calibrate, of float ones. Prints a
    line for each operator: what it makes, its multiplications, the cycles that it is predicted to
    end after those before it, the share of the array's peak and the bytes between memory and core.
    Operators that the core does not do run on the host; each says why. Answers are the model's own
    in every byte.
    """
    config = configuration(preset, path, assignments)
    check_folder(output)
    steps = Steps(quiet=as_json)
    graph = read_model(model)
    data = None if calibrate is None else named_arrays(calibrate, graph.inputs, "calibrate")
    what = "compiling" if data is None else "quantising and compiling"
    network = steps.run(f"{what} {model.name}", lambda: compile_model(
        graph, config=config, bus=named_bus(preset), exact=not close, calibrate=data,
        weights=weights))
    write_file(output, network.to_bytes())
    peak = config.macs_per_cycle
    macs = sum(layer.macs for layer in network.layers if not layer.host)
    if as_json:
        print_json({
            "model": network.name, "file": str(output), "memory_bytes": network.memory_bytes,
            "resident_bytes": network.resident_bytes,
            "cycles": network.cycles, "macs": macs, "host_ops": network.host_ops,
            "layers": [layer_facts(layer, peak) for layer in network.layers]})
        return
    print_layers(network, peak)
    print_facts({
        "cycles, predicted": f"{network.cycles:,}",
        "multiplications": f"{macs:,}, {100 * macs / peak / max(1, network.cycles):.0f} % of peak",
        **resident_fact(network),
        "system memory": f"{network.memory_bytes:,} bytes",
        "file": f"{output}; run it: systolith run {output} --input x.npy"})
