"""Toggles of the array's registers and operators with and without gated operands.

``python -m systolith_sim.toggles`` prints a table; ``docs/toggles.md`` keeps one.
"""

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from systolith.demo import load_digits, quantise_classifier, train
from systolith.device import PAGE_BYTES, ModelDevice
from systolith.layers import Linear, compile_layers
from systolith_hw.checks import check_int
from systolith_hw.config import CoreConfig
from systolith_hw.formats import BITS, RANGES

from .device import RtlDevice, core_verilog
from .tools import ToolError

__all__ = ["LAYERS", "PARTS", "Run", "Workload", "array_parts", "core", "count_toggles", "measure",
           "traceable", "workload"]

ARRAY = ("execute", "array")    # instances from the top to the array
# Part of a register or operator: the first whose expression its name holds.
PARTS = {"weights": r"weight|shifts|reach", "inside": r"\.(and|row)_\d+$",
         "multipliers": r"\.multiplier\.",
         "sums": r"\.element_|\.deskew\.|\.sums|\.whole|\.result_", "activations": ""}
K, N = 64, 32   # of random layers
SPARSITIES = {"random": (0, 50, 75, 90), "weights": (0, 33, 66, 90)}
LAYERS = ("digits", "symmetric", *(f"{kind}-{percent}" for kind, percents in SPARSITIES.items()
                                   for percent in percents))


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """Layers and what goes into them.

    Parameters
    ----------
    name : str
        One of ``LAYERS``.
    layers : tuple of Linear
    x : int8 array, (M, K)
    """
    name: str
    layers: tuple[Linear, ...]
    x: np.ndarray

    @property
    def macs(self) -> int:
        return len(self.x) * sum(layer.weights.size for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one workload toggled in one array.

    Parameters
    ----------
    weights, layer : str
        Format, and name of the workload.
    gated : bool
    macs, cycles, idle : int
        Multiply-accumulates, cycles from start to end, and those in which no row came to the array.
    zero_activations, zero_weights : float
        Shares of the multiplications.
    toggles : dict of str to int
        Changes of a bit from one clock cycle to the next, by part of the array.
    """
    weights: str
    layer: str
    gated: bool
    macs: int
    cycles: int
    idle: int
    zero_activations: float
    zero_weights: float
    toggles: dict[str, int]


def core(rows: int, cols: int, *, weights: str, gated: bool) -> CoreConfig:
    """A small core with an array for one format of weights.

    Its parameter memory is too small for the compiler to let activations and weights change roles.
    """
    return CoreConfig.preset("tiny").updated({
        "name": "toggles",
        "array": {"rows": rows, "cols": cols, "weights": (weights,), "cell": weights,
                  "gated": gated},
        "memory": {"act_banks": 4, "acc_rows": 512, "acc_banks": 2, "par_rows": 16},
        "bus": {"data_bits": 64, "read_words": 32},
        "vector": {"lanes": min(4, 1 << (cols - 1).bit_length()), "requantiser": "pipelined"},
        "control": {"traffic": True}})


def _modules(verilog: str) -> dict[str, str]:
    """Text of each module by name."""
    return {match[1]: match[0] for match in
            re.finditer(r"^module (\w+) ?\(.*?^endmodule\n", verilog, re.M | re.S)}


def _instances(module: str) -> dict[str, str]:
    """Modules of the instances in a module's text."""
    return {name: kind for kind, name in re.findall(r"^  (\w+) (\w+) \($", module, re.M)}


def array_parts(verilog: str, *, top: str) -> dict[str, str]:
    """The array's registers, its sums, and what multipliers hold inside, each with its part.

    Keys are hierarchical names below ``top`` in text that is ``traceable``. Other wires are ports,
    slices and selections of these.
    """
    modules = _modules(verilog)
    kind = top
    for name in ARRAY:
        kind = _instances(modules[kind])[name]

    def names(kind: str, path: str) -> Iterator[str]:
        text = modules[kind]
        for name in (*re.findall(r"^  reg (?:\[\S+\] )?\\?(\S+?) ?;$", text, re.M),
                     *re.findall(r"^  assign (\w+) = .* \+ .*;$", text, re.M),
                     *re.findall(r"^  wire signed \[\d+:0\] (\w+) =", text, re.M)):
            yield f"{path}.{name}"
        for name, below in _instances(text).items():
            yield from names(below, f"{path}.{name}")

    return {name: next(part for part, pattern in PARTS.items() if re.search(pattern, name))
            for name in names(kind, ".".join(ARRAY))}


def _opened(module: str) -> str:
    """A module with its multiplication as rows of adders, one for each bit of the weight."""
    match = re.search(r"^  assign (\w+) = \$signed\((\S+ )\) \* \$signed\((\S+ )\);$", module, re.M)
    if match is None:
        return module
    product, activation, weight = match.groups()
    last = int(re.findall(rf"\[(\d+):0\] {product};", module)[0]) - 8     # bit of the weight
    lines = [f"  wire signed [7:0] and_{i} = {weight}[{i}] ? {activation}: 8'h00;"
             for i in range(last + 1)]
    above = "and_0"
    for i in range(1, last + 1):    # the last bit counts negative, and its row is a bit wider
        lines.append(f"  wire signed [{8 + (i == last)}:0] row_{i} = "
                     f"({above} >>> 1) {'-' if i == last else '+'} and_{i};")
        above = f"row_{i}"
    low = "".join(f", row_{i}[0]" for i in range(last - 1, 0, -1))
    lines.append(f"  assign {product} = {{row_{last}{low}, and_0[0]}};")
    return module.replace(match[0], "\n".join(lines))


def traceable(verilog: str, *, top: str) -> str:
    """The same core, with the insides of multipliers and the results of adders under names that a
    trace shows, and with nothing traced outside the array."""
    modules = _modules(verilog)
    kind = top
    shown = {top}
    for name in ARRAY:
        kind = _instances(modules[kind])[name]
        shown.add(kind)

    def add(kind: str) -> None:
        for below in _instances(modules[kind]).values():
            shown.add(below)
            add(below)

    add(kind)
    texts = []
    for name, text in modules.items():
        if name in shown:
            text = _opened(re.sub(r"\b_(\d+)_\b", r"result_\1", text))
        texts.append(f"/* verilator tracing_{'on' if name in shown else 'off'} */\n{text}")
    return "".join(texts)


def count_toggles(path: str | Path, parts: Mapping[str, str], *, top: str) -> Counter[str]:
    """Bits that change in a waveform, by part; the first value of a signal is no change.

    Parameters
    ----------
    path : path
        A VCD file; read once, line by line.
    parts : dict of str to str
        Part of each signal that counts, by hierarchical name below ``top``. Names of one
        identifier in the file are one signal.
    top : str
        Scope of the core.

    Raises
    ------
    ValueError
        The file lacks one of the signals.
    """
    part_of: dict[str, str] = {}
    missing = set(parts)
    scope: list[str] = []
    counts: Counter[str] = Counter(dict.fromkeys(PARTS, 0))
    last: dict[str, int] = {}
    with open(path) as file:
        for line in file:
            words = line.split()
            if words[:1] == ["$scope"]:
                scope.append(words[2])
            elif words[:1] == ["$upscope"]:
                scope.pop()
            elif words[:1] == ["$var"] and top in scope:
                name = ".".join([*scope[scope.index(top) + 1:], words[4]])
                if name in missing:
                    missing.remove(name)
                    part_of.setdefault(words[3], parts[name])
            elif words[:1] == ["$enddefinitions"]:
                break
        if missing:
            raise ValueError(f"{Path(path).name} must hold all {len(parts)} signals, not lack "
                             f"{min(missing)!r}")
        for line in file:
            if line[0] == "b":
                text, code = line[1:].split()
            elif line[0] in "01":
                text, code = line[0], line[1:-1]
            else:
                continue
            if code in part_of:
                value = int(text, 2)
                counts[part_of[code]] += (value ^ last.get(code, value)).bit_count()
                last[code] = value
    return counts


@cache
def _digits(weights: str, *, symmetric: bool) -> tuple[tuple[Linear, ...], np.ndarray]:
    """The classifier of ``systolith demo``, and its held-out images."""
    digits = load_digits()
    classifier = train(digits)
    if weights != "int8":
        classifier = train(digits, pretrained=classifier, weight_format=weights)
    quantised = quantise_classifier(classifier, digits.train_x, weights, symmetric=symmetric)
    return quantised.layers, quantised.quantise(digits.test_x)


def _random(rng: np.random.Generator, shape: tuple[int, int], low: int, high: int,
            zeros: float) -> np.ndarray:
    """int8 values from ``low`` to ``high``, of which so many are zero and all others are not."""
    values = rng.integers(low, high, shape, endpoint=False)
    values += values >= 0
    order = rng.permutation(values.size)
    values.reshape(-1)[order[:round(zeros * values.size)]] = 0
    return values.astype(np.int8)


def workload(name: str, *, weights: str, rows: int) -> Workload:
    """What ``LAYERS`` calls by a name.

    Parameters
    ----------
    name : str
        ``digits``: the classifier of handwritten digits; ``symmetric``: the same, and zero stored
        as 0 everywhere; ``random-p``: random operands, p % of the activations zero, and a third of
        ternary weights; ``weights-p``: p % of the weights zero.
    weights : str
        Format of the weights.
    rows : int
        M.

    Raises
    ------
    ImportError
        scikit-learn, which has the digits, is not installed.
    """
    if name in ("digits", "symmetric"):
        layers, x = _digits(weights, symmetric=name == "symmetric")
        return Workload(name=name, layers=layers, x=x[np.arange(rows) % len(x)])
    kind, percent = name.split("-")
    share = int(percent) / 100
    rng = np.random.default_rng([int(percent), rows, BITS[weights]])
    zeros = {"activations": 0.0, "weights": 1 / 3 if weights == "ternary" else 0.0}
    zeros["activations" if kind == "random" else "weights"] = share
    layer = Linear(weights=_random(rng, (K, N), *RANGES[weights], zeros["weights"]),
                   weight_format=weights)
    return Workload(name=name, layers=(layer,),
                    x=_random(rng, (rows, K), -128, 127, zeros["activations"]))


def _expected(work: Workload, config: CoreConfig) -> tuple[np.ndarray, float]:
    """The model's results, and the share of multiplications whose activation is zero."""
    x, zeros = work.x, 0
    for layer in work.layers:
        zeros += int((x == 0).sum()) * layer.weights.shape[1]
        image = compile_layers([layer], config=config, rows=len(x))
        x = image.run(ModelDevice(config, memory_bytes=_pages(image.memory_bytes)), x)[0]
    return x, zeros / work.macs


def _pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def measure(work: Workload, config: CoreConfig, *,
            say: Callable[[str], None] = lambda text: None) -> Run:
    """Run a workload on a core's Verilog and count what toggles in its array.

    Raises
    ------
    RuntimeError
        The results are not the model's.
    ToolError
        Verilator is missing or refuses the core.
    """
    expected, zero_activations = _expected(work, config)
    image = compile_layers(work.layers, config=config, rows=len(work.x))
    verilog = traceable(core_verilog(config, assertions=False), top=config.name)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "array.vcd"
        say("building the simulation, once per array, and running it")
        with RtlDevice(config, memory_bytes=_pages(image.memory_bytes), trace=trace,
                       verilog=verilog) as device:
            result = image.run(device, work.x)[0]
            counters = device.counters()
        if not np.array_equal(result, expected):
            raise RuntimeError(f"results of {work.name} must be the model's")
        say("counting")
        toggles = count_toggles(trace, array_parts(verilog, top=config.name), top=config.name)
    zero_weights = sum(int((layer.weights == 0).sum()) for layer in work.layers)
    return Run(weights=work.layers[0].weight_format, layer=work.name, gated=config.array.gated,
               macs=work.macs, cycles=counters["cycles"],
               idle=counters["cycles"] - counters["rows"], zero_activations=zero_activations,
               zero_weights=zero_weights * len(work.x) / work.macs, toggles=dict(toggles))


def _table(runs: Sequence[Run], rows: int, cols: int) -> Table:
    """Runs in pairs: without gating, and with it."""
    table = Table(title=f"{rows} x {cols}: toggles per multiply-accumulate")
    table.add_column("weights")
    table.add_column("layer")
    for column in ("zero act.", "zero wgt.", "cycles", "idle", "gated", *PARTS, "all", "saved"):
        table.add_column(column, justify="right")
    for plain, gated in zip(runs[::2], runs[1::2], strict=True):
        saved = 1 - sum(gated.toggles.values()) / sum(plain.toggles.values())
        for run in (plain, gated):
            counts = [*(run.toggles[part] for part in PARTS), sum(run.toggles.values())]
            table.add_row(
                run.weights, run.layer, f"{100 * run.zero_activations:.0f} %",
                f"{100 * run.zero_weights:.0f} %", f"{run.cycles:,}", f"{run.idle:,}",
                "yes" if run.gated else "no", *(f"{count / run.macs:.2f}" for count in counts),
                f"{100 * saved:.1f} %" if run.gated else "")
    return table


class _Size(click.ParamType):
    name = "RxC"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        match = re.fullmatch(r"(\d+)x(\d+)", value)
        if match is None:
            self.fail(f"size must be rows x columns such as 8x8, not {value!r}", param, ctx)
        rows, cols = int(match[1]), int(match[2])
        try:
            check_int("array.rows", rows, 1, 64)
            check_int("array.cols", cols, 1, 64)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return rows, cols


@click.command(epilog="""
\b
Examples:
  python -m systolith_sim.toggles --layer random-0 --layer random-90
  python -m systolith_sim.toggles --weights ternary --size 16x16 --json
""")
@click.option("--size", type=_Size(), default="8x8", show_default=True, help="Array, R x C.")
@click.option("--weights", "formats", multiple=True, type=click.Choice(tuple(BITS)),
              default=("int8", "ternary"), show_default=True,
              help="Format of the weights, and the cell of the array; repeat for several.")
@click.option("--layer", "layers", multiple=True, type=click.Choice(LAYERS), metavar="NAME",
              help=f"What to run, of {', '.join(LAYERS)}; repeat for several; all if not given.")
@click.option("--rows", "m", type=click.IntRange(1, 400), default=96, show_default=True,
              help="Rows of activations, M: images of digits, or random rows.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of a table.")
def main(size: tuple[int, int], formats: tuple[str, ...], layers: tuple[str, ...], m: int,
         as_json: bool) -> None:
    """Count toggles of the array with and without gated operands (array.gated).

    Runs each layer on the Verilog of two small cores and counts the bits that change from one clock
    cycle to the next: of the array's registers, of the results of its adders, and inside its
    multipliers as if each were rows of adders, one for each bit of the weight. Toggles stand for
    dynamic power; glitches within a cycle are not seen.

    digits is the classifier of `systolith demo`. Its zeros are stored as -128, the zero point, so
    that gating finds hardly any; symmetric is the same classifier with zero stored as 0. random-p
    has p % zero activations, weights-p p % zero weights, both with 64 inputs and 32 outputs. A
    third of ternary weights is zero where the name does not say more.
    """
    runs: list[Run] = []
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
                  console=Console(stderr=True)) as progress:
        task = progress.add_task("")
        try:
            for weights in formats:
                for name in layers or LAYERS:
                    what = f"{weights} weights, {name}"
                    progress.update(task, description=f"{what}: preparing")
                    work = workload(name, weights=weights, rows=m)
                    for gated in (False, True):
                        how = "gated" if gated else "not gated"
                        runs.append(measure(
                            work, core(*size, weights=weights, gated=gated),
                            say=lambda text, what=f"{what}, {how}": progress.update(
                                task, description=f"{what}: {text}")))
        except (ImportError, RuntimeError) as error:
            progress.stop()
            click.echo(f"toggles: {error}", err=True)
            sys.exit(2 if isinstance(error, (ImportError, ToolError)) else 1)
    if as_json:
        print(json.dumps([asdict(run) for run in runs], indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 150).print(_table(runs, *size))


if __name__ == "__main__":
    main()
