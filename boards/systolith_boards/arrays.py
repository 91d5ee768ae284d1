"""Area of an array form on a chip, and its clock.

``python -m systolith_boards.arrays --strategy soft --cell ternary --rows 16 --cols 4 --chip hx8k
--seed 1 --seed 2 --seed 3`` prints a table. The area is that of the array alone, after packing;
the clock that of the array between registers, so that no pad is on a path.
"""

import json
import re
import statistics
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from amaranth.lib import wiring
from rich.console import Console
from rich.table import Table
from systolith_hw.arrays import array_of
from systolith_hw.emit import emit_verilog
from systolith_hw.formats import BITS, STRATEGIES, check_family
from systolith_hw.latency import array_latency
from systolith_hw.parts import ArrayConfig

from .placement import SITES_85F, fix, side_by_side
from .synthesis import run_tool
from .wrapped import Wrapped

__all__ = ["CHIPS", "Chip", "area", "clock", "measure", "synthesise"]


@dataclass(frozen=True, kw_only=True)
class Chip:
    """How Yosys synthesises for a chip, how nextpnr places there, and what its cells are called.

    Only for inferred multipliers may Yosys infer DSPs, and never on iCE40: the pass that does takes
    instantiated ones for its own, and of a systolic array it loses some. ``sites`` are the places
    of multipliers from left to right, row by row, where nextpnr should not choose among them.
    """
    family: str
    synth: str
    inferring: str
    nextpnr: tuple[str, ...]
    logic: tuple[str, str]
    dsp: str
    ff: str
    sites: tuple[tuple[str, ...], ...] = ()


def _ice40(*options: str) -> Chip:
    return Chip(family="ice40", synth="synth_ice40", inferring="synth_ice40",
                nextpnr=("nextpnr-ice40", *options),
                logic=("LC", "ICESTORM_LC"), dsp="ICESTORM_DSP", ff="SB_DFF")


def _ecp5(*options: str, **parameters: Any) -> Chip:
    return Chip(family="ecp5", synth="synth_ecp5 -nodsp", inferring="synth_ecp5",
                nextpnr=("nextpnr-ecp5", *options, "--speed", "6", "--out-of-context"),
                logic=("COMB", "TRELLIS_COMB"), dsp="MULT18X18D", ff="TRELLIS_FF", **parameters)


CHIPS = {
    "up5k": _ice40("--up5k", "--package", "sg48"),
    "hx8k": _ice40("--hx8k", "--package", "ct256"),
    "lfe5u-25f": _ecp5("--25k"),
    "lfe5u-85f": _ecp5("--85k", "--router", "router2", sites=SITES_85F),
}


def synthesise(component: wiring.Component, *, chip: str, directory: Path,
               inferring: bool = False) -> Counter[str]:
    """Synthesise ``component``, leaving ``top.json`` in ``directory``; its cells by type."""
    (directory / "top.v").write_text(emit_verilog(component, name="top", vendor_cells=True))
    synth = CHIPS[chip].inferring if inferring else CHIPS[chip].synth
    script = (f"read_verilog top.v; {synth} -top top; write_json top.json; "
              f"tee -q -o stat.json stat -json")
    run_tool("yosys", ["-q", "-p", script], directory)
    module, = json.loads((directory / "stat.json").read_text())["modules"].values()
    return Counter(module["num_cells_by_type"])


def area(array: ArrayConfig, *, chip: str) -> dict[str, int]:
    """Logic cells, flip-flops and DSPs of an array alone, after packing."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        cells = synthesise(array_of(array), chip=chip, directory=directory,
                           inferring=array.strategy == "generic")
        tool, *options = CHIPS[chip].nextpnr
        output = run_tool(tool, [*options, "--json", "top.json", "--pack-only"], directory)
    used = {name: int(count) for name, count in re.findall(r"(\w+): +(\d+)/ *\d+", output)}
    label, logic = CHIPS[chip].logic
    return {label: used[logic],
            "FF": sum(count for name, count in cells.items() if name.startswith(CHIPS[chip].ff)),
            "DSP": used.get(CHIPS[chip].dsp, 0)}


def clock(directory: Path, *, chip: str, seed: int, frequency: float,
          timeout: float | None = None) -> float:
    """Highest clock in MHz after place and route of ``top.json`` in ``directory``.

    Raises
    ------
    RuntimeError
        nextpnr failed.
    TimeoutError
        It took more than ``timeout`` seconds: with some seeds it routes the last wire for ever.
    """
    tool, *options = CHIPS[chip].nextpnr
    output = run_tool(tool, [*options, "--json", "top.json", "--freq", str(frequency), "--seed",
                             str(seed), "--timing-allow-fail", "--log", f"seed-{seed}.log"],
                      directory, timeout=timeout)
    return float(re.findall(r"Max frequency for clock[^:]*: ([\d.]+) MHz", output)[-1])


def measure(array: ArrayConfig, *, chip: str, seeds: tuple[int, ...], frequency: float,
            timeout: float | None, directory: Path, scatter: bool = False) -> dict[str, Any]:
    """Area of an array, per int8 or widest product too, and its clock with each seed.

    The clock is None with a seed that does not route in time; the median is of the others.
    Multipliers of the ``ecp5`` strategy are placed side by side unless they are to ``scatter``.

    Raises
    ------
    ValueError
        The chip lacks the strategy's multipliers.
    """
    check_family(array.strategy, CHIPS[chip].family)
    label, _ = CHIPS[chip].logic
    found: dict[str, Any] = dict(area(array, chip=chip))
    macs = array.rows * array.cols
    found |= {f"{label}/MAC": round(found[label] / macs, 1), "FF/MAC": round(found["FF"] / macs, 1),
              "latency": array_latency(array)}
    if not seeds:
        return found
    synthesise(Wrapped(part=array_of(array)), chip=chip, directory=directory,
               inferring=array.strategy == "generic")
    if array.strategy == "ecp5" and CHIPS[chip].sites and not scatter:
        fix(directory / "top.json", side_by_side(array.rows, array.hard_cols, CHIPS[chip].sites))
    clocks = []
    for seed in seeds:
        try:
            clocks.append(clock(directory, chip=chip, seed=seed, frequency=frequency,
                                timeout=timeout))
            found[f"MHz, seed {seed}"] = clocks[-1]
        except TimeoutError:
            found[f"MHz, seed {seed}"] = None
    found["MHz, median"] = statistics.median(clocks) if clocks else None
    return found


@click.command()
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), required=True)
@click.option("--weights", default="int8", show_default=True, metavar="FORMATS",
              help="Formats that it takes, such as int8,int4.")
@click.option("--cell", type=click.Choice(list(BITS)), help="Default: the widest of the formats.")
@click.option("--pairs", is_flag=True, help="Two narrow weights in the place of an int8.")
@click.option("--rows", type=int, required=True)
@click.option("--cols", type=int, required=True)
@click.option("--fanout", type=int, default=4, show_default=True)
@click.option("--soft-cols", default=0, show_default=True, help="Columns that multiply in LUTs.")
@click.option("--chip", type=click.Choice(list(CHIPS)), required=True)
@click.option("--seed", "seeds", type=int, multiple=True, help="Place and route with this seed.")
@click.option("--frequency", default=100.0, show_default=True, help="Target in MHz.")
@click.option("--scatter", is_flag=True, help="Let nextpnr place multipliers on any chip.")
@click.option("--timeout", type=float, help="Seconds that one place and route may take.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where to leave logs and netlist.")
@click.option("--json", "as_json", is_flag=True, help="Print a record instead of a table.")
def main(weights: str, cell: str | None, chip: str, seeds: tuple[int, ...], frequency: float,
         scatter: bool, timeout: float | None, keep: Path | None, as_json: bool,
         **parameters: Any) -> None:
    """Measure an array: its cells, also per product, and its clock with each seed."""
    formats = tuple(weights.split(","))
    try:
        array = ArrayConfig(weights=formats, cell=cell or max(formats, key=BITS.__getitem__),
                            **parameters)
        check_family(array.strategy, CHIPS[chip].family)
    except (KeyError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    with tempfile.TemporaryDirectory() as scratch:
        directory = keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        found = measure(array, chip=chip, seeds=seeds, frequency=frequency, timeout=timeout,
                        directory=directory, scatter=scatter)
    if as_json:
        print(json.dumps({"chip": chip, **asdict(array), **found}))
        return
    table = Table(title=f"{array.strategy} {'pairs of ' if array.pairs else ''}{array.cell} "
                        f"{array.rows} x {array.cols}, {chip}")
    for name in found:
        table.add_column(name, justify="right")
    table.add_row(*map(str, found.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
