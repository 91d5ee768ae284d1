"""``systolith bench vector``."""

import time
from collections.abc import Callable
from typing import Any

import click
from systolith_hw.config import CoreConfig

from ..device import open_device
from ..vector.alone import repeat_alone
from ..vector.speed import Benchmark, Block, benchmarks, measure
from .bench import PRESET
from .gemm import PAGE_BYTES
from .options import (
    check_count,
    complete,
    config_options_for,
    configuration,
    json_option,
    memory_options,
)
from .output import Steps, print_facts, print_json, print_table

__all__ = ["bench_vector"]

PROGRAMS = tuple(dict.fromkeys(benchmark.name for benchmark in benchmarks()))


@click.command("vector", short_help="Programs of the vector unit.", epilog="""
\b
Examples:
  systolith bench vector
  systolith bench vector --lanes 1,2,4,8,16
  systolith bench vector --program softmax --program gelu --rows 32 --cols 128 --json
""")
@click.option("--program", "programs", metavar="NAME", multiple=True,
              shell_complete=complete(*PROGRAMS),
              help=f"Only this program; may be repeated. One of {', '.join(PROGRAMS)}.")
@click.option("--rows", type=int, metavar="COUNT",
              help="Rows of a block (default 64); pixels where is pooled.")
@click.option("--cols", type=int, metavar="COUNT",
              help="Columns of a row (default 64 or 256); channels where is pooled.")
@click.option("--lanes", metavar="LIST",
              help="Numbers of lanes, such as 1,2,4,8,16, each a core of its own (default: that of "
                   "the configuration).")
@config_options_for(PRESET)
@memory_options
@click.option("--seed", type=int, default=0, show_default=True, help="Of numbers and jitter.")
@json_option
def bench_vector(programs: tuple[str, ...], rows: int | None, cols: int | None,
                 lanes: str | None, preset: str | None, path: str | None,
                 assignments: tuple[str, ...], memory_timing: dict[str, Any], seed: int,
                 as_json: bool):
    """Cycles of every program of the vector unit on the emitted Verilog, in passes.

    A pass is elements / lanes cycles: one lane group a cycle. Passes are the cycles that one more
    block of rows costs, all of whose arrays stand in the activation scratchpad: those of a program
    that computes it twice less those of one that computes it once, from start to done. Nothing
    else is left out: passes over records (one row a cycle), waiting for results, changes of
    setting and gaps between commands count. Loads and stores do not.

    Beside them the least: the passes over data that the program consists of, where a group whose
    elements fill several scratchpad rows takes as many cycles. First is a block alone, from its
    first command to its last result, with the pipeline's latency.

    Where not all rows fit the scratchpad or the row file at once, the block is smaller. Every
    result is compared with the bit-exact model; exit code 1 where one differs.
    """
    config = configuration(preset, path, assignments, default=PRESET)
    check_count("seed", seed, 0)
    for name, value in (("rows", rows), ("cols", cols)):
        if value is not None:
            check_count(name, value)
    if not config.control.counters:
        raise ValueError("control.counters must be true to measure the vector engine, not False")
    chosen = [benchmark for benchmark in benchmarks() if _chosen(benchmark, programs, rows, cols)]
    steps = Steps(quiet=as_json)
    started = time.monotonic()
    cores = []
    for core in _cores(config, lanes):
        blocks, refused = _blocks(core, chosen, rows, cols)
        cores.append({"lanes": core.vector.lanes, "fingerprint": f"{core.fingerprint:016x}",
                      "programs": _measured(core, blocks, steps, memory_timing, seed),
                      "refused": refused})
    seconds = round(time.monotonic() - started, 3)
    exact = all(row["bit_exact"] for core in cores for row in core["programs"])
    if as_json:
        print_json({"preset": None if path else preset or PRESET, "core": config.name,
                    "memory": memory_timing, "seed": seed, "bit_exact": exact, "seconds": seconds,
                    "cores": cores})
    else:
        _print(config, cores, memory_timing, exact, seconds)
    for core in cores:
        for row in core["programs"]:
            if not row["bit_exact"]:
                click.echo(f"systolith: results of {row['program']}, {row['types']}, with "
                           f"{core['lanes']} lanes must equal the model's, not differ", err=True)
    if not exact:
        click.get_current_context().exit(1)


def _chosen(benchmark: Benchmark, programs: tuple[str, ...], rows: int | None,
            cols: int | None) -> bool:
    """Whether it is asked for; a second shape is left out where the shape is given."""
    for name in programs:
        if name not in PROGRAMS:
            raise ValueError(f"program must be one of {', '.join(PROGRAMS)}, not {name!r}")
    twice = cols is not None and benchmark.name == "softmax" and benchmark.cols != 64
    return not twice and (not programs or benchmark.name in programs)


def _cores(config: CoreConfig, lanes: str | None) -> list[CoreConfig]:
    if lanes is None:
        return [config]
    if not all(word.strip().isdecimal() for word in lanes.split(",")):
        raise ValueError(f"lanes must be numbers with commas between them, not {lanes!r}")
    return [config.overridden([f"vector.lanes={int(word)}"]) for word in lanes.split(",")]


def _blocks(config: CoreConfig, chosen: list[Benchmark], rows: int | None,
            cols: int | None) -> tuple[list[tuple[Benchmark, Block]], dict[str, str]]:
    """What the core can do, and why it cannot the rest."""
    blocks, refused = [], {}
    for benchmark in chosen:
        try:
            blocks.append((benchmark, benchmark.block(config, rows=rows, cols=cols)))
        except ValueError as error:
            refused[f"{benchmark.name}, {benchmark.types}"] = str(error)
    if not blocks:
        raise ValueError("; ".join(f"{name}: {text}" for name, text in refused.items()))
    return blocks, refused


def _measured(config: CoreConfig, blocks: list[tuple[Benchmark, Block]], steps: Steps,
              memory_timing: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    most = max(repeat_alone(block.image, 2, config=config).memory_bytes for _, block in blocks)
    lanes = config.vector.lanes
    device = steps.run(f"Emitting and building the simulation with {lanes} lanes",
                       lambda: open_device("rtl", config, seed=seed, **memory_timing,
                                           memory_bytes=-(-most // PAGE_BYTES) * PAGE_BYTES))
    result = []
    with device, steps.step(f"Running {len(blocks)} programs with {lanes} lanes",
                            lambda: f"{len(result)} of {len(blocks)}", total=len(blocks)):
        for benchmark, block in blocks:
            result.append({"program": benchmark.name, "types": benchmark.types,
                           "rows": block.rows, "cols": block.cols, "elements": block.elements,
                           **measure(block, device, seed=seed)})
            steps.advance()
    return result


COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("program", "program", str), ("types", "types", str), ("rows", "rows", str),
    ("cols", "cols", str), ("cycles", "cycles", "{:,}".format),
    ("passes", "passes", "{:.2f}".format), ("least", "least_passes", "{:.2f}".format),
    ("first", "first_passes", "{:.2f}".format),
    ("bit-exact", "bit_exact", lambda exact: "yes" if exact else "no"))


def _print(config: CoreConfig, cores: list[dict[str, Any]], memory_timing: dict[str, Any],
           exact: bool, seconds: float) -> None:
    for core in cores:
        print_table([title for title, _, _ in COLUMNS],
                    [[show(row[key]) for _, key, show in COLUMNS] for row in core["programs"]],
                    title=f"{core['lanes']} lane{'s' * (core['lanes'] > 1)}")
        for name, text in core["refused"].items():
            click.echo(f"left out: {name}: {text}")
    memory = ", ".join(f"{name} {value}" for name, value in memory_timing.items())
    print_facts({"core": f"{config.name}, {config.act_row_bytes} bytes a scratchpad row"
                         + (f", memory {memory}" if memory else ""),
                 "bit-exact": "yes, all" if exact else "no", "time": f"{seconds:.1f} s"})
