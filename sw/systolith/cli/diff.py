"""``systolith diff``."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from systolith_hw.config import CoreConfig

from ..compiler.network import Network
from ..device import open_device
from ..difference import Difference, first_difference, memory_for
from .arrays import named_arrays
from .options import baud_option, complete, device_settings, json_option, memory_options
from .output import Steps, print_facts, print_json
from .run import DEVICES, network_argument

__all__ = ["diff"]

MEMORIES = {"act": "activation scratchpad", "acc": "accumulator", "memory": "system memory",
            "wgt": "weights", "par": "parameters", "fun": "tables", "row": "row file"}


@click.command(epilog="""
\b
Examples:
  systolith diff model.slith --input x.npy --devices model,rtl
  systolith diff model.slith --input x.npz --devices model,board:/dev/ttyUSB0 --json
""")
@network_argument
@click.option("--input", "-i", "source", metavar="FILE", required=True,
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help=".npy or .npz file, as `systolith run` takes it.")
@click.option("--devices", "specs", metavar="A,B", default="model,rtl", show_default=True,
              shell_complete=complete("model,rtl", "model,board:", "rtl,board:"),
              help="Two of model, rtl and board:PORT.")
@memory_options
@baud_option
@json_option
def diff(network: Path, source: Path, specs: str, memory_timing: dict[str, Any],
         baud: int | None, as_json: bool):
    """Run a compiled model on two devices, and find where they differ first.

    NETWORK is what `systolith compile` wrote. Each program is run whole on both. Where a byte of
    system memory then differs, it is run again in stretches of a few commands, after which both
    devices' activation scratchpads, accumulators and memories are read, up to the first command
    that leaves something else: its tile, the element, both values and the commands around it.
    Weights, parameters and tables cannot be read back: a wrong load of those shows in the first
    command that uses them, and the loads are named. Exit code 1 where something differs.
    """
    compiled = Network.load(network)
    names = specs.split(",")
    if len(names) != 2:
        raise ValueError(f"devices must be two, with a comma between them, not {specs!r}")
    if memory_timing and "rtl" not in names:
        raise ValueError(f"{next(iter(memory_timing))} must be given with device rtl, "
                         f"not with {specs!r}")
    if baud is not None and not any(name.startswith("board:") for name in names):
        raise ValueError(f"baud must be given with device board:PORT, not with {specs!r}")
    settings = [device_settings(
        name, DEVICES, baud=baud if name.startswith("board:") else None,
        memory_timing=memory_timing if name == "rtl" else {}, trace=None) for name in names]
    arrays = list(named_arrays(source, [port.name for port in compiled.inputs],
                               "input").values())
    config = CoreConfig.from_dict(dict(compiled.config))
    steps = Steps(quiet=as_json)
    with ExitStack() as stack:
        devices = [stack.enter_context(steps.run(f"opening {name}", lambda name=name, more=more: (
            open_device(name, config, memory_bytes=memory_for(compiled), **more))))
            for name, more in zip(names, settings, strict=True)]
        current = stack.enter_context(ExitStack())

        def begin(text: str, parts: int) -> Callable[[], None]:
            current.close()
            current.enter_context(steps.step(text, total=parts))
            return steps.advance
        found = first_difference(compiled, devices, arrays, progress=begin)
    _, runs = compiled.taken(arrays)
    if as_json:
        print_json({"equal": found is None, "devices": names, "runs": runs,
                    **({} if found is None else _facts(compiled, found, names))})
    elif found is None:
        size = sum(image.memory_bytes for image in compiled.images)
        print_facts({"devices": " and ".join(names), "runs": str(runs),
                     "system memory": f"all {size:,} bytes agree after each"})
    else:
        _print(_facts(compiled, found, names))
    if found is not None:
        click.get_current_context().exit(1)


def _facts(network: Network, found: Difference, names: list[str]) -> dict[str, Any]:
    """A difference as JSON has it."""
    engine, _, _ = found.around[found.command].partition(" ")
    place = found.place
    return {
        "run": found.run, "program": found.step, "command": found.command, "engine": engine,
        "memory": found.memory or None,
        "tile": place.tile if place else None, "element": dict(place.element) if place else None,
        "row": place.row if place else None, "column": place.column if place else None,
        "values": [{"device": name, "value": value}
                   for name, value in zip(names, found.values, strict=True)],
        "rows_different": found.differing, "rows_written": found.written,
        "loaded_by": found.loaded, "overlapping": found.overlapping,
        "around": [{"command": number, "text": text} for number, text in found.around.items()]}


def _print(facts: dict[str, Any]) -> None:
    lines = {"differ": f"command {facts['command']}, {facts['engine']}, of program "
                       f"{facts['program']}, run {facts['run']}"}
    if facts["memory"]:
        tile = {"execute": "column tile", "vector": "row"}.get(facts["engine"], "run")
        part = "column" if facts["memory"] == "acc" else "byte"
        inside = ", ".join(f"{name} {value}" for name, value in facts["element"].items())
        lines["element"] = (f"{tile} {facts['tile']}: {inside}" if inside else
                            "beside what the command writes")
        unit = "line" if facts["memory"] == "memory" else "row"
        lines["where"] = (f"{MEMORIES[facts['memory']]}, {unit} {facts['row']}, {part} "
                          f"{facts['column']}")
        lines["rows"] = (f"{facts['rows_different']:,} of the {facts['rows_written']:,} that it "
                         f"writes differ")
    for each in facts["values"]:
        lines[each["device"]] = str(each["value"])
    for name, commands in facts["loaded_by"].items():
        lines[MEMORIES[name]] = f"written by commands {', '.join(map(str, commands))}"
    if facts["overlapping"]:
        lines["only"] = "when engines overlap: no difference in stretches of a few commands"
    print_facts(lines)
    click.echo()
    for each in facts["around"]:
        mark = ">" if each["command"] == facts["command"] else " "
        click.echo(f"{mark} {each['command']:5}  {each['text']}")
