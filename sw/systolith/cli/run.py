"""``systolith run`` and ``systolith evaluate``: compiled models at work."""

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
from systolith_hw.config import CoreConfig

from ..compiler.network import Network
from ..device import Device, open_device
from ..models.evaluate import evaluate as reference
from ..models.read import read_model
from .arrays import named_arrays
from .options import (
    baud_option,
    check_count,
    complete,
    device_settings,
    json_option,
    memory_options,
)
from .output import Steps, print_facts, print_json, write_file

__all__ = ["evaluate", "run"]

DEVICES = ("model", "rtl")

network_argument = click.argument(
    "network", type=click.Path(exists=True, dir_okay=False, path_type=Path))
device_option = click.option(
    "--device", "spec", metavar="model|rtl|board:PORT", default="model", show_default=True,
    shell_complete=complete(*DEVICES),
    help="The bit-exact model, the Verilog in Verilator, or a board.")


def _arrays(path: Path, network: Network, option: str = "input") -> list[np.ndarray]:
    """The network's inputs from a file."""
    return list(named_arrays(path, [port.name for port in network.inputs], option).values())


def _device(network: Network, spec: str, settings: dict[str, Any]) -> Device:
    return open_device(spec, CoreConfig.from_dict(dict(network.config)),
                       memory_bytes=network.memory_bytes, **settings)


def _count(network: Network, arrays: Sequence[np.ndarray]) -> int:
    return len(arrays[0]) // network.inputs[0].shape[0] if arrays[0].ndim else 0


@click.command(epilog="""
\b
Examples:
  systolith run model.slith --input x.npy
  systolith run model.slith --input x.npz --device rtl --compare model.tflite
""")
@network_argument
@click.option("--input", "-i", "source", metavar="FILE", required=True,
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help=".npy file, or .npz file with an array for each input; one or more runs along "
                   "the first dimension.")
@device_option
@click.option("--compare", metavar="MODEL",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TFLite or ONNX file that it was compiled from: what its integer reference "
                   "makes must be the same.")
@click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help=".npz file for the answers, as integers.")
@memory_options
@baud_option
@json_option
def run(network: Path, source: Path, spec: str, compare: Path | None, output: Path | None,
        memory_timing: dict[str, Any], baud: int | None, as_json: bool):
    """Run a compiled model.

    NETWORK is what `systolith compile` wrote. Prints the answers as real numbers, and the cycles
    where the device counts them. With --compare, exit code 1 where an answer differs.
    """
    compiled = Network.load(network)
    settings = device_settings(spec, DEVICES, baud=baud, memory_timing=memory_timing, trace=None)
    arrays = _arrays(source, compiled)
    count = _count(compiled, arrays)
    steps = Steps(quiet=as_json)
    cycles: list[int] = []
    with _device(compiled, spec, settings) as device:
        def counted() -> None:
            with suppress(KeyError):
                cycles.append(device.counters()["cycles"])
            steps.advance()
        with steps.step(f"running {compiled.name} on {spec}",
                        total=count * len(compiled.images)):
            found = compiled.run(device, *arrays, each=counted)
    same = None
    if compare is not None:
        graph = read_model(compare)
        wanted = reference(graph, {port.name: port.taken(array) for port, array in zip(
            compiled.inputs, arrays, strict=True)})
        same = [bool(np.array_equal(array, wanted[port.name]))
                for port, array in zip(compiled.outputs, found, strict=True)]
    if output is not None:
        _save(output, {port.name: array for port, array in zip(compiled.outputs, found,
                                                               strict=True)})
    per_run = sum(cycles) // count if cycles else None
    answers = {port.name: port.real(array).tolist()
               for port, array in zip(compiled.outputs, found, strict=True)}
    if as_json:
        print_json({"device": spec, "runs": count, "cycles": per_run, "outputs": answers,
                    "equal": None if same is None else all(same)})
    else:
        for port, array in zip(compiled.outputs, found, strict=True):
            click.echo(np.array2string(port.real(array), precision=4, suppress_small=True,
                                       threshold=200))
        facts = {"runs": f"{count}, on {spec}"}
        if per_run:
            facts["cycles of a run"] = f"{per_run:,}"
        if same is not None:
            facts["reference"] = "the same in every byte" if all(same) else "DIFFERENT"
        print_facts(facts)
    if same is not None and not all(same):
        raise SystemExit(1)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez(file, **arrays)    # type: ignore[arg-type]
    write_file(path, file.getvalue())


@click.command(epilog="""
\b
Examples:
  systolith evaluate model.slith --data x.npy --labels y.csv
  systolith evaluate model.slith --data x.npz --labels y.npy --device rtl --count 20
""")
@network_argument
@click.option("--data", metavar="FILE", required=True,
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Inputs, as `systolith run` takes them.")
@click.option("--labels", metavar="FILE", required=True,
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help=".npy file of class numbers, or .csv file with one in the last column that is "
                   "an integer in every line.")
@click.option("--count", type=int, metavar="N", help="Only the first N.")
@device_option
@memory_options
@baud_option
@json_option
def evaluate(network: Path, data: Path, labels: Path, count: int | None, spec: str,
             memory_timing: dict[str, Any], baud: int | None, as_json: bool):
    """Count how many inputs a compiled model names right.

    The class is the position of the largest answer.
    """
    compiled = Network.load(network)
    settings = device_settings(spec, DEVICES, baud=baud, memory_timing=memory_timing, trace=None)
    arrays = _arrays(data, compiled, "data")
    wanted = _labels(labels)
    if count is not None:
        check_count("count", count)
        arrays = [array[:count * port.shape[0]]
                  for array, port in zip(arrays, compiled.inputs, strict=True)]
        wanted = wanted[:count]
    runs = _count(compiled, arrays)
    if len(wanted) != runs:
        raise ValueError(f"labels must be {runs}, one for each run, not {len(wanted)!r}")
    steps = Steps(quiet=as_json)
    with _device(compiled, spec, settings) as device, steps.step(
            f"running {compiled.name} on {spec}", total=runs * len(compiled.images)):
        found, *_ = compiled.run(device, *arrays, each=steps.advance)
    right = int((found.reshape(runs, -1).argmax(1) == wanted).sum())
    if as_json:
        print_json({"device": spec, "runs": runs, "right": right, "accuracy": right / runs})
    else:
        print_facts({"right": f"{right:,} of {runs:,}, {100 * right / runs:.1f} %",
                     "device": spec})


def _labels(path: Path) -> np.ndarray:
    """Class numbers from a file."""
    if path.suffix == ".npy":
        found = np.load(path, allow_pickle=False)
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise ValueError(f"labels must be integers in one dimension, not {found.dtype} of "
                             f"shape {found.shape!r}")
        return found
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    for column in reversed(range(min(map(len, rows), default=0))):
        with suppress(ValueError):
            return np.array([int(row[column]) for row in rows])
    raise ValueError(f"labels must have a column of integers in {path.name}")
