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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from rich.console import Console
from rich.table import Table
from systolith_hw.array_ice40 import Ice40Array
from systolith_hw.array_soft import SoftArray
from systolith_hw.cells import flat_ports
from systolith_hw.emit import emit_verilog

from .synthesis import run_tool

__all__ = ["CHIPS", "FORMS", "Chip", "Wrapped", "area", "clock", "measure", "synthesise"]


@dataclass(frozen=True, kw_only=True)
class Chip:
    """How Yosys synthesises for a chip, how nextpnr places there, and what its cells are called.

    Yosys may not infer DSPs: on iCE40 the pass that does takes instantiated ones for its own.
    """
    synth: str
    nextpnr: tuple[str, ...]
    logic: tuple[str, str]
    dsp: str
    ff: str


def _ice40(*options: str) -> Chip:
    return Chip(synth="synth_ice40", nextpnr=("nextpnr-ice40", *options),
                logic=("LC", "ICESTORM_LC"), dsp="ICESTORM_DSP", ff="SB_DFF")


def _ecp5(*options: str) -> Chip:
    return Chip(synth="synth_ecp5 -nodsp",
                nextpnr=("nextpnr-ecp5", *options, "--speed", "6", "--out-of-context"),
                logic=("COMB", "TRELLIS_COMB"), dsp="MULT18X18D", ff="TRELLIS_FF")


CHIPS = {
    "up5k": _ice40("--up5k", "--package", "sg48"),
    "hx8k": _ice40("--hx8k", "--package", "ct256"),
    "lfe5u-25f": _ecp5("--25k"),
    "lfe5u-85f": _ecp5("--85k"),
}

# From the options of the command to an array.
FORMS: dict[str, Callable[..., Any]] = {
    "ice40": lambda *, rows, cols, **_: Ice40Array(rows=rows, cols=cols),
    "soft": lambda **parameters: SoftArray(**parameters),
    "soft-ecp5": lambda **parameters: SoftArray(**parameters, family="ecp5"),
}


class Wrapped(wiring.Component):
    """``array`` between registers: its inputs from a shift register, its outputs as one parity.

    Parameters
    ----------
    array : wiring.Component

    Members
    -------
    serial : ``In(1)``
        What is shifted in.
    parity : ``Out(1)``
        Of all outputs, some cycles later.
    """
    def __init__(self, *, array: wiring.Component):
        self.array = array
        super().__init__({"serial": In(1), "parity": Out(1)})

    def elaborate(self: Any, platform: Any) -> Module:
        m = Module()
        m.submodules.array = self.array
        ports = flat_ports(self.array).values()
        inputs: Any = Cat(value for value, is_input in ports if is_input)
        outputs = Cat(value for value, is_input in ports if not is_input)
        line = Signal(len(inputs), reset_less=True)
        m.d.comb += inputs.eq(line)
        m.d.sync += line.eq(Cat(self.serial, line))
        bits: Any = Signal(len(outputs), name="outputs", reset_less=True)
        m.d.sync += bits.eq(outputs)
        while len(bits) > 1:
            parities = Signal(-(-len(bits) // 4), reset_less=True)
            m.d.sync += parities.eq(Cat(bits[i:i + 4].xor() for i in range(0, len(bits), 4)))
            bits = parities
        m.d.comb += self.parity.eq(bits)
        return m


def synthesise(component: wiring.Component, *, chip: str, directory: Path) -> Counter[str]:
    """Synthesise ``component``, leaving ``top.json`` in ``directory``; its cells by type."""
    (directory / "top.v").write_text(emit_verilog(component, name="top", vendor_cells=True))
    script = (f"read_verilog top.v; {CHIPS[chip].synth} -top top; write_json top.json; "
              f"tee -q -o stat.json stat -json")
    run_tool("yosys", ["-q", "-p", script], directory)
    module, = json.loads((directory / "stat.json").read_text())["modules"].values()
    return Counter(module["num_cells_by_type"])


def area(array: wiring.Component, *, chip: str) -> dict[str, int]:
    """Logic cells, flip-flops and DSPs of ``array`` alone, after packing."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        cells = synthesise(array, chip=chip, directory=directory)
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
                             str(seed), "--timing-allow-fail"], directory, timeout=timeout)
    (directory / f"seed-{seed}.log").write_text(output)
    return float(re.findall(r"Max frequency for clock[^:]*: ([\d.]+) MHz", output)[-1])


def measure(make: Callable[[], Any], *, chip: str, seeds: tuple[int, ...], frequency: float,
            timeout: float | None, directory: Path) -> dict[str, Any]:
    """Area of the array that ``make`` makes, per product too, and its clock with each seed.

    The clock is None with a seed that does not route in time; the median is of the others.
    """
    array = make()
    label, _ = CHIPS[chip].logic
    found: dict[str, Any] = dict(area(array, chip=chip))
    found[f"{label}/MAC"] = round(found[label] / (array.rows * array.cols), 1)
    found["latency"] = array.latency
    if not seeds:
        return found
    synthesise(Wrapped(array=make()), chip=chip, directory=directory)
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
@click.option("--strategy", type=click.Choice(list(FORMS)), required=True)
@click.option("--cell", type=click.Choice(["int8", "int4", "ternary"]), default="int8",
              show_default=True)
@click.option("--digits", is_flag=True, help="int4 weights with a fifth bit.")
@click.option("--rows", type=int, required=True)
@click.option("--cols", type=int, required=True)
@click.option("--fanout", type=int, default=4, show_default=True)
@click.option("--chip", type=click.Choice(list(CHIPS)), required=True)
@click.option("--seed", "seeds", type=int, multiple=True, help="Place and route with this seed.")
@click.option("--frequency", default=100.0, show_default=True, help="Target in MHz.")
@click.option("--timeout", type=float, help="Seconds that one place and route may take.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where to leave logs and netlist.")
@click.option("--json", "as_json", is_flag=True, help="Print a record instead of a table.")
def main(strategy: str, chip: str, seeds: tuple[int, ...], frequency: float,
         timeout: float | None, keep: Path | None, as_json: bool, **parameters: Any) -> None:
    """Measure an array: its cells, also per product, and its clock with each seed."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        found = measure(partial(FORMS[strategy], **parameters), chip=chip, seeds=seeds,
                        frequency=frequency, timeout=timeout, directory=directory)
    if as_json:
        print(json.dumps({"strategy": strategy, "chip": chip, **parameters, **found}))
        return
    table = Table(title=f"{strategy} {parameters['cell']} {parameters['rows']} x "
                        f"{parameters['cols']}, {chip}")
    for name in found:
        table.add_column(name, justify="right")
    table.add_row(*map(str, found.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
