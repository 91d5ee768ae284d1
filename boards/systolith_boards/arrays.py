"""Area and clock of an array alone, from Yosys and nextpnr.

``python -m systolith_boards.arrays --strategy ecp5 --rows 16 --cols 8 --pairs --chip 85k --seed 1``
prints a table. The area is that of the array after packing. For the clock the array is placed out
of context between registers: its inputs come from a shift register, its outputs are registered and
end in a pipelined parity, so that no pad and no other logic is on a path.
"""

import json
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from rich.console import Console
from rich.table import Table
from systolith_hw.array_ecp5 import ArrayEcp5
from systolith_hw.cells import flat_ports
from systolith_hw.emit import emit_verilog

from .synthesis import run_tool

__all__ = ["CHIPS", "FORMS", "Chip", "Harness", "area", "clock", "fix", "netlist", "side_by_side"]


@dataclass(frozen=True)
class Chip:
    """A chip: how Yosys synthesises for it, how nextpnr places and routes without pins, and the
    cells of nextpnr's report to count by what a table calls them, those of the logic first.
    ``sites`` are the places of its multipliers from left to right, row by row, if nextpnr should
    not choose among them."""
    synth: str
    nextpnr: tuple[str, ...]
    cells: Mapping[str, str]
    sites: tuple[tuple[str, ...], ...] = ()


def _ecp5(size: str, **parameters: Any) -> Chip:
    return Chip("synth_ecp5", ("nextpnr-ecp5", f"--{size}", "--speed", "6", "--out-of-context",
                               "--router", "router2"),
                {"COMB": "TRELLIS_COMB", "FF": "TRELLIS_FF", "DSP": "MULT18X18D"}, **parameters)


# A block of nine columns has four multipliers; no block is at the two clock columns from 67 on.
_BLOCKS_85K = (*range(4, 67, 9), *range(69, 123, 9))

CHIPS = {
    "25k": _ecp5("25k"),
    "85k": _ecp5("85k", sites=tuple(
        tuple(f"X{x + offset}/Y{y}/MULT18_{index}" for x in _BLOCKS_85K
              for offset, index in ((0, 0), (1, 1), (4, 4), (5, 5)))
        for y in (10, 34, 58))),
}

# Constructors of arrays; they take rows, cols and what else the command line names.
FORMS: dict[str, Callable[..., wiring.Component]] = {"ecp5": ArrayEcp5}


class Harness(wiring.Component):
    """An array between registers: ``bit`` is shifted through a line as long as its inputs, which
    take it with ``load``; ``parity`` is that of its outputs, some cycles later.

    Inputs that were the line itself would be delays of each other, and so would all that the array
    delays: a synthesiser would merge registers of the array that have nothing to do with another.

    Parameters
    ----------
    array : wiring.Component

    Members
    -------
    bit : ``In(1)``
    load : ``In(1)``
    parity : ``Out(1)``
    """
    def __init__(self, *, array: wiring.Component):
        self.array = array
        super().__init__({"bit": In(1), "load": In(1), "parity": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = self.array
        ports   = flat_ports(self.array).values()
        inputs  = Cat(value for value, is_input in ports if is_input)
        outputs = Cat(value for value, is_input in ports if not is_input)
        line = Signal(len(inputs), reset_less=True)
        held = Signal(len(inputs), reset_less=True)
        m.d.sync += line.eq(Cat(self.bit, line))
        with m.If(self.load):
            m.d.sync += held.eq(line)
        m.d.comb += inputs.eq(held)
        level = Signal(len(outputs), name="outputs", reset_less=True)
        m.d.sync += level.eq(outputs)
        while len(level) > 1:
            parts = [level[i:i + 4] for i in range(0, len(level), 4)]
            level = Signal(len(parts), name=f"parity_{len(parts)}", reset_less=True)
            m.d.sync += level.eq(Cat(part.xor() for part in parts))
        m.d.comb += self.parity.eq(level)
        return m


def side_by_side(rows: int, cols: int, sites: Sequence[Sequence[str]]) -> dict[str, str]:
    """The site of each multiplier of an array, by the end of the multiplier's name.

    The columns are side by side across the chip. Each is spread over all rows of sites, the array's
    upper rows first, in steps of two neighbours, whose products meet first.

    Raises
    ------
    ValueError
        The array has more multipliers than there are sites in a row for it.
    """
    pairs, bands = -(-rows // 2), len(sites)
    lines: list[list[str]] = [[] for _ in sites]
    for c in range(cols):
        numbers = iter(range(rows))
        for band, line in enumerate(lines):
            wide = 2 * (pairs // bands + ((band + c) % bands < pairs % bands))
            line += [f"column_{c}.multiplier_{r}.cell" for r in islice(numbers, wide)]
    placed = {}
    for line, row in zip(lines, sites, strict=True):
        if len(line) > len(row):
            raise ValueError(f"sites must be at least {len(line)} in each row, not {len(row)!r}")
        start = (len(row) - len(line)) // 2
        placed |= dict(zip(line, row[start:], strict=False))
    return placed


def fix(netlist: Path, sites: Mapping[str, str]) -> None:
    """Tie cells of a netlist, named by the ends of their names, to sites of the chip."""
    design = json.loads(netlist.read_text())
    for name, cell in design["modules"]["top"]["cells"].items():
        for end, site in sites.items():
            if f".{name}".endswith(f".{end}"):
                cell["attributes"]["BEL"] = site
    netlist.write_text(json.dumps(design))


def netlist(component: wiring.Component, *, chip: str, directory: Path) -> Path:
    """The netlist of ``component`` for ``chip``, as ``top.json`` in ``directory``."""
    (directory / "top.v").write_text(emit_verilog(component, name="top", vendor_cells=True))
    script = f"read_verilog top.v; {CHIPS[chip].synth} -top top; write_json top.json"
    run_tool("yosys", ["-q", "-p", script], directory)
    return directory / "top.json"


def area(array: wiring.Component, *, chip: str) -> dict[str, int]:
    """Cells of the array alone after packing, by what ``Chip.cells`` calls them."""
    with tempfile.TemporaryDirectory() as scratch:
        netlist(array, chip=chip, directory=Path(scratch))
        tool, *options = CHIPS[chip].nextpnr
        report = run_tool(tool, [*options, "--json", "top.json", "--pack-only"], Path(scratch))
    used = dict(re.findall(r"(\w+): +(\d+)/ *\d+ +\d+%", report))
    return {name: int(used.get(cell, 0)) for name, cell in CHIPS[chip].cells.items()}


def clock(directory: Path, *, chip: str, seed: int, frequency: float, limit: float) -> float | None:
    """Highest clock in MHz of ``top.json`` in ``directory`` after place and route with the target
    ``frequency``; None when nextpnr took longer than ``limit`` seconds. Its report is
    ``seed_<seed>.log`` there."""
    tool, *options = CHIPS[chip].nextpnr
    try:
        output = run_tool(tool, [*options, "--json", "top.json", "--freq", str(frequency),
                                 "--seed", str(seed), "--timing-allow-fail",
                                 "--log", f"seed_{seed}.log"], directory, limit=limit)
    except subprocess.TimeoutExpired:
        return None
    return float(re.findall(r"Max frequency for clock[^:]*: ([\d.]+) MHz", output)[-1])


@click.command()
@click.option("--strategy", type=click.Choice(list(FORMS)), required=True)
@click.option("--rows", type=int, required=True)
@click.option("--cols", type=int, required=True)
@click.option("--pairs", is_flag=True, help="Tiles of int4 pairs besides int8.")
@click.option("--fanout", type=int, help="Columns in a group.")
@click.option("--chip", type=click.Choice(list(CHIPS)), required=True)
@click.option("--seed", "seeds", type=int, multiple=True, help="Place and route with this seed.")
@click.option("--frequency", default=160.0, show_default=True, help="Target in MHz.")
@click.option("--scatter", is_flag=True, help="Let nextpnr place the multipliers on any chip.")
@click.option("--limit", default=600.0, show_default=True, help="Seconds for a seed.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave netlist and reports here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(strategy: str, rows: int, cols: int, pairs: bool, fanout: int | None, chip: str,
         seeds: tuple[int, ...], frequency: float, scatter: bool, limit: float,
         keep: Path | None, as_json: bool) -> None:
    """Measure one array: its cells, cells per multiplication, and its clock for each seed."""
    parameters = {"rows": rows, "cols": cols}
    parameters |= {"pairs": True} if pairs else {}
    parameters |= {"fanout": fanout} if fanout else {}
    console = Console(stderr=as_json)
    with tempfile.TemporaryDirectory() as scratch:
        where = keep or Path(scratch)
        where.mkdir(parents=True, exist_ok=True)
        with console.status("packing"):
            found = {"array": f"{rows}x{cols}", **area(FORMS[strategy](**parameters), chip=chip)}
        logic = next(iter(CHIPS[chip].cells))
        found[f"{logic} per MAC"] = round(found[logic] / (rows * cols), 1)
        if seeds:
            with console.status("synthesising"):
                harness = netlist(Harness(array=FORMS[strategy](**parameters)), chip=chip,
                                  directory=where)
                if CHIPS[chip].sites and not scatter:
                    fix(harness, side_by_side(rows, cols, CHIPS[chip].sites))
        clocks = []
        for seed in seeds:
            with console.status(f"placing and routing with seed {seed}"):
                clocks.append(clock(where, chip=chip, seed=seed, frequency=frequency, limit=limit))
            found[f"MHz, seed {seed}"] = clocks[-1]
        if clocks:
            found["MHz, median"] = statistics.median(mhz or 0.0 for mhz in clocks)
    if as_json:
        print(json.dumps({"strategy": strategy, "chip": chip, "pairs": pairs, **found}))
        return
    table = Table(title=f"{strategy}{', pairs' if pairs else ''} on {chip}")
    for name in found:
        table.add_column(name, justify="right")
    table.add_row(*("none" if value is None else str(value) for value in found.values()))
    console.print(table)


if __name__ == "__main__":
    main()
