"""Area of an emitted core, by block, and its clock, from Yosys and nextpnr.

``python -m systolith_boards.synthesis --preset tiny --family ice40`` prints a table; ``--block
vector`` looks at one part alone. The clock of a part is that of the part between registers.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from amaranth.lib import wiring
from rich.console import Console
from rich.table import Table
from systolith_hw.axi import AxiReader, AxiWriter
from systolith_hw.cells import unused
from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.control import Control
from systolith_hw.core import Core, accumulator_of, scratchpad_of, semaphores_of
from systolith_hw.dispatch import Dispatcher
from systolith_hw.emit import emit_verilog
from systolith_hw.execute import ExecuteEngine
from systolith_hw.fetch import Fetch
from systolith_hw.formats import check_family
from systolith_hw.isa import Memory
from systolith_hw.load import LoadEngine
from systolith_hw.parameters import Parameters
from systolith_hw.store import StoreEngine
from systolith_hw.vector import VectorEngine

from .block_ram import absorb_registers
from .tools import packaged, run_command
from .wrapped import Wrapped

__all__ = ["BLOCKS", "FAMILIES", "Family", "area_by_block", "cells", "clock", "run_tool",
           "summary"]


@dataclass(frozen=True)
class Family:
    """A chip family: how Yosys synthesises for it, how its cells add up, and how nextpnr places
    a core without pins (empty where it cannot)."""
    synth: str
    groups: Mapping[str, tuple[str, ...]]
    nextpnr: tuple[str, ...] = ()


_LUT_XILINX = tuple(f"LUT{i}" for i in range(1, 7))

FAMILIES = {
    "ice40": Family(
        synth="synth_ice40",    # -dsp would lose multipliers of a systolic array
        groups={"LUT": ("SB_LUT4",), "carry": ("SB_CARRY",),
                "FF": ("SB_DFF", "SB_DFFE", "SB_DFFESR", "SB_DFFESS", "SB_DFFSR", "SB_DFFSS"),
                "DSP": ("SB_MAC16",), "RAM": ("SB_RAM40_4K",)}),
    "ecp5": Family(
        synth="synth_ecp5", nextpnr=("nextpnr-ecp5", "--85k", "--speed", "6", "--out-of-context"),
        groups={"LUT": ("LUT4",), "carry": ("CCU2C",), "FF": ("TRELLIS_FF",),
                "DSP": ("MULT18X18D",), "RAM": ("DP16KD",), "LUT RAM": ("TRELLIS_DPR16X4",)}),
    "xilinx": Family(
        synth="synth_xilinx -flatten",
        groups={"LUT": _LUT_XILINX, "carry": ("CARRY4",),
                "FF": ("FDRE", "FDSE", "FDCE", "FDPE"), "DSP": ("DSP48E1",),
                "RAM": ("RAMB18E1", "RAMB36E1")}),
}


def _accumulator(config: CoreConfig) -> wiring.Component:
    execute = ExecuteEngine(config=config)
    unused(execute)
    return accumulator_of(config, sum_bits=execute.sum_bits)


BLOCKS: Mapping[str, Callable[[CoreConfig], wiring.Component]] = {
    "core": lambda config: Core(config=config),
    "control": lambda config: Control(config=config),
    "fetch": lambda config: Fetch(config=config),
    "dispatcher": lambda config: Dispatcher(config=config),
    "semaphores": semaphores_of,
    "reader": lambda config: AxiReader(
        config=config.bus, prefetch=config.control.prefetch, compact=config.control.compact),
    "writer": lambda config: AxiWriter(config=config.bus),
    "load": lambda config: LoadEngine(config=config),
    "execute": lambda config: ExecuteEngine(config=config),
    "vector": lambda config: VectorEngine(config=config),
    "store": lambda config: StoreEngine(config=config),
    "acc": _accumulator,
    "act": lambda config: scratchpad_of(config, Memory.ACT),
    "wgt": lambda config: scratchpad_of(config, Memory.WGT),
    "par": lambda config: Parameters(config=config),
}


def run_tool(tool: str, arguments: list[str], directory: Path, *,
             timeout: float | None = None) -> str:
    """Run a YoWASP tool in ``directory``; its output.

    Raises
    ------
    RuntimeError
        The tool failed, with the end of what it said.
    TimeoutError
        It took more than ``timeout`` seconds.
    """
    return run_command([*packaged(tool), *arguments], tool, directory, timeout=timeout)


def cells(verilog: str, *, top: str, family: str, flatten: bool = True,
          directory: Path | None = None) -> dict[str, Counter[str]]:
    """Cells of each module after synthesis; an ECP5's block RAM has taken registers behind it.

    Parameters
    ----------
    verilog : str
        Text of the design.
    top : str
        Its top module.
    family : str
        One of ``FAMILIES``.
    flatten : bool
        Whether the hierarchy is dissolved, which lets Yosys optimise across it; the top is the
        only module then.
    directory : Path or None
        Where to leave ``<top>.json`` for nextpnr.

    Raises
    ------
    ValueError
        Unknown family.
    RuntimeError
        Yosys failed.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {family!r}")
    with tempfile.TemporaryDirectory() as scratch:
        where = directory or Path(scratch)
        (where / f"{top}.v").write_text(verilog)
        synth = FAMILIES[family].synth
        if not flatten:
            synth = synth.replace(" -flatten", "") + ("" if family == "xilinx" else " -noflatten")
        script = (f"read_verilog {top}.v; {synth} -top {top}; write_json {top}.json; "
                  f"tee -q -o {top}.stat.json stat -json")
        run_tool("yosys", ["-q", "-p", script], where)
        modules = json.loads((where / f"{top}.stat.json").read_text())["modules"]
        counts = {name.removeprefix("\\"): Counter(module["num_cells_by_type"])
                  for name, module in modules.items()}
        if family == "ecp5":
            netlist = json.loads((where / f"{top}.json").read_text())
            for name, gone in absorb_registers(netlist).items():
                if name in counts:
                    counts[name]["TRELLIS_FF"] -= gone
            (where / f"{top}.json").write_text(json.dumps(netlist))
    return counts


def summary(count: Mapping[str, int], family: str) -> dict[str, int]:
    """Cells added up by what they are: LUT, carry, FF, DSP, RAM."""
    return {group: sum(count.get(cell, 0) for cell in members)
            for group, members in FAMILIES[family].groups.items()}


def area_by_block(modules: Mapping[str, Counter[str]], *, top: str) -> dict[str, Counter[str]]:
    """Cells of each part of the core, with all that is below it; ``(top)`` is the glue."""
    def below(name: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for cell, count in modules[name].items():
            if cell in modules:
                for inner, inner_count in below(cell).items():
                    total[inner] += count * inner_count
            else:
                total[cell] += count
        return total

    blocks: dict[str, Counter[str]] = {}
    for cell in modules[top]:
        if cell in modules:
            name = cell.split(".")[-1].removeprefix(f"{top}_")
            blocks[name] = below(cell)
    blocks["(top)"] = Counter({cell: count for cell, count in modules[top].items()
                               if cell not in modules})
    return blocks


def clock(directory: Path, *, top: str, family: str, seed: int, frequency: float) -> float:
    """Highest clock in MHz after place and route of ``<top>.json`` out of context.

    Raises
    ------
    ValueError
        nextpnr cannot place a core of this family without pins.
    RuntimeError
        nextpnr failed, for instance because the design does not fit.
    """
    if not FAMILIES[family].nextpnr:
        placeable = ", ".join(name for name, entry in FAMILIES.items() if entry.nextpnr)
        raise ValueError(f"family must be one of {placeable} for a clock, not {family!r}")
    tool, *options = FAMILIES[family].nextpnr
    output = run_tool(tool, [*options, "--json", f"{top}.json", "--freq", str(frequency), "--seed",
                             str(seed), "--timing-allow-fail"], directory)
    found = re.findall(r"Max frequency for clock[^:]*: ([\d.]+) MHz", output)
    return float(found[-1])


@click.command()
@click.option("--preset", type=click.Choice(list(PRESETS)), required=True)
@click.option("--set", "assignments", multiple=True, metavar="SECTION.FIELD=VALUE")
@click.option("--family", type=click.Choice(list(FAMILIES)), required=True)
@click.option("--block", type=click.Choice(list(BLOCKS)), default="core", show_default=True,
              help="What to synthesise.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Place and route with this seed.")
@click.option("--frequency", default=100.0, show_default=True, help="Target in MHz.")
def main(preset: str, assignments: tuple[str, ...], family: str, block: str,
         seeds: tuple[int, ...], frequency: float) -> None:
    """Synthesise a whole core, or a block of it, and print its area by part."""
    try:
        config = CoreConfig.preset(preset).overridden(list(assignments))
        check_family(config.array.strategy, family)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    top = config.name if block == "core" else block
    verilog = emit_verilog(BLOCKS[block](config), name=top, vendor_cells=True)
    console = Console()
    with tempfile.TemporaryDirectory() as scratch, console.status("synthesising by block"):
        blocks = area_by_block(cells(verilog, top=top, family=family, flatten=False),
                               top=top)
        whole = cells(verilog, top=top, family=family, directory=Path(scratch))
        table = Table(title=f"{preset} {block}, {FAMILIES[family].synth}")
        table.add_column("block")
        for group in FAMILIES[family].groups:
            table.add_column(group, justify="right")
        rows = [(name, summary(count, family)) for name, count in blocks.items()]
        for name, row in sorted(rows, key=lambda item: -item[1]["LUT"]):
            table.add_row(name, *map(str, row.values()))
        table.add_section()
        table.add_row("whole, flattened", *map(str, summary(whole[top], family).values()))
    console.print(table)
    if not seeds:
        return
    if block != "core":
        verilog = emit_verilog(Wrapped(part=BLOCKS[block](config)), name=top, vendor_cells=True)
    with tempfile.TemporaryDirectory() as scratch, console.status("placing and routing"):
        cells(verilog, top=top, family=family, directory=Path(scratch))
        for seed in seeds:
            mhz = clock(Path(scratch), top=top, family=family, seed=seed, frequency=frequency)
            console.print(f"seed {seed}: {mhz:.1f} MHz")


if __name__ == "__main__":
    main()
