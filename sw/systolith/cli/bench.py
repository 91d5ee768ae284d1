"""``systolith bench``."""

import csv
import io
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

import click
from systolith_hw.config import CoreConfig

from ..layers import check_format
from ..shapes import SUITES, Shape, read_shapes, suite_shapes
from ..vector.elements import FUNCTIONS
from .gemm import PAGE_BYTES
from .measure import GOOD_SHARE, RESULTS, Task, measure
from .options import (
    check_count,
    complete,
    config_options_for,
    configuration,
    json_option,
    memory_options,
    weights_option,
)
from .output import (
    INTERRUPTED,
    Steps,
    check_folder,
    print_facts,
    print_json,
    print_table,
    write_file,
)

__all__ = ["bench", "bench_gemm", "measure_all"]

DEVICES = ("rtl", "model", "predict")
PRESET = "bench16"


@click.group(no_args_is_help=False, epilog="""
\b
Examples:
  systolith bench gemm -m 256 -n 256 -k 256
  systolith bench gemm --suite deepbench
""")
def bench():
    """Measure cycles, and compare them with the fewest possible."""


@bench.command("gemm", short_help="Matrix products of one shape, a file or a suite.", epilog="""
\b
Examples:
  systolith bench gemm -m 256 -n 256 -k 256
  systolith bench gemm -m 1 -n 4096 -k 4096 --params --latency 100
  systolith bench gemm -m 256 -n 256 -k 256 --params --function gelu
  systolith bench gemm --suite deepbench --json > deepbench.json
  systolith bench gemm --shapes layers.csv --preset demo --output cycles.csv
where layers.csv has a line such as m,n,k and below it one such as 100,70,300 for each shape.
""")
@click.option("-m", type=int, metavar="M", help="Rows of activations and results.")
@click.option("-n", type=int, metavar="N", help="Columns of weights and results.")
@click.option("-k", type=int, metavar="K", help="Columns of activations, rows of weights.")
@click.option("--shapes", "file", metavar="FILE", type=click.Path(),
              help="CSV with columns m, n and k, in any order and beside others.")
@click.option("--suite", metavar="NAME", shell_complete=complete(*SUITES),
              help="Shapes that come along: deepbench, the 88 of DeepBench's inference sets, "
                   "scaled to M up to 128, N and K up to 768.")
@config_options_for(PRESET)
@click.option("--device", "device_name", metavar="|".join(DEVICES), default=DEVICES[0],
              show_default=True, shell_complete=complete(*DEVICES),
              help="The emitted Verilog in Verilator; the bit-exact model, which counts bytes but "
                   "no cycles; or the compiler's own expectation, without running anything.")
@click.option("--params", is_flag=True,
              help="Bias, multiplier and shift for every column, 12 bytes each, instead of one "
                   "scale for all.")
@click.option("--int32", is_flag=True, help="Results are the int32 sums, not requantised int8.")
@click.option("--function", metavar="NAME", shell_complete=complete(*FUNCTIONS),
              help="int8 results go through a table of this function, in steps of 1/16: one of "
                   f"{', '.join(FUNCTIONS)}.")
@weights_option
@memory_options
@click.option("--seed", type=int, default=0, show_default=True, help="Of operands and jitter.")
@click.option("--jobs", type=int, metavar="COUNT",
              help="Shapes to run side by side (default: one for each processor).")
@click.option("--output", metavar="FILE", type=click.Path(), help="All figures, as CSV.")
@json_option
def bench_gemm(m: int | None, n: int | None, k: int | None, file: str | None, suite: str | None,
               preset: str | None, path: str | None, assignments: tuple[str, ...],
               device_name: str, params: bool, int32: bool, function: str | None,
               weight_format: str, memory_timing: dict[str, Any], seed: int, jobs: int | None,
               output: str | None, as_json: bool):
    """Run matrix products, check them, and compare their cycles with the bound.

    The bound is what array or bus need at least, whichever is more: with an array of R x C, the
    array max(M, R) * ceil(K/R) * ceil(N/C) cycles, or those with M and N exchanged; the bus one
    cycle for each word of operands, parameters and results. Where bound or peak are reached to
    less than 85 %, the table says what took most of the rest: padding (tiles that are not full),
    bus, fill (the array has no command yet or no more) or waiting (it has, and waits for
    operands). Every result is compared with NumPy; exit code 1 where one differs.

    A shape that occurs several times is run and shown once, and counted several times.
    """
    config = configuration(preset, path, assignments, default=PRESET)
    check_format("weights", weight_format, config)
    if device_name not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device_name!r}")
    if memory_timing and device_name != "rtl":
        raise ValueError(f"{next(iter(memory_timing))} must be given with device rtl, "
                         f"not with {device_name!r}")
    if int32 and params:
        raise ValueError("int32 must be given without params, not with them")
    if function is not None:
        if function not in FUNCTIONS:
            raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, not {function!r}")
        if int32:
            raise ValueError("int32 must be given without function, not with one")
    check_count("seed", seed, 0)
    jobs = check_count("jobs", (os.cpu_count() or 1) if jobs is None else jobs)
    if output is not None:
        check_folder(Path(output))
    shapes = _shapes({"m": m, "n": n, "k": k}, file, suite)
    results = "int32" if int32 else "params" if params else "int8"
    tasks = [Task(config=config, shape=shape, results=results, function=function, seed=seed,
                  weight_format=weight_format, device=device_name, memory_timing=memory_timing)
             for shape in shapes]
    for task in tasks:
        task.check()
    steps = Steps(quiet=as_json)
    if device_name == "rtl":
        tasks = _prepared(tasks, steps)
    started = time.monotonic()
    rows = measure_all(tasks, jobs=jobs, steps=steps)
    summary = {**_summary(rows), "seconds": round(time.monotonic() - started, 3)}
    if output is not None:
        write_file(Path(output), _csv(rows))
    if as_json:
        print_json({"preset": None if path else preset or PRESET, "core": config.name,
                    "fingerprint": f"{config.fingerprint:016x}", "config": config.to_dict(),
                    "device": device_name, "memory": memory_timing, "results": results,
                    "function": function, "weights": weight_format, "seed": seed, **summary,
                    "shapes": rows})
    else:
        _print(config, rows, summary, tasks[0], output)
    wrong = {str(_shape(row)): None for row in rows if row["bit_exact"] is False}
    for shape in wrong:
        click.echo(f"systolith: results of {shape} must equal NumPy's, not differ", err=True)
    if wrong:
        click.get_current_context().exit(1)


def _shapes(sizes: dict[str, int | None], file: str | None, suite: str | None) -> list[Shape]:
    """Shapes from the one of three sources that is given."""
    given = [name for name, size in sizes.items() if size is not None]
    if bool(given) + (file is not None) + (suite is not None) != 1:
        raise ValueError("shapes must be given by one of -m -n -k, --shapes and --suite, not by "
                         f"{'more' if given or file or suite else 'none'}")
    if suite is not None:
        return suite_shapes(suite)
    if file is None:
        for name, size in sizes.items():
            if size is None:
                raise ValueError(f"{name} must be given with {' and '.join(given)}, not left out")
        return [Shape(**{name: size for name, size in sizes.items() if size is not None})]
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"shapes must be a CSV file, not {file!r}") from None
    return read_shapes(text, name=file)


def _prepared(tasks: list[Task], steps: Steps) -> list[Task]:
    """The tasks with their Verilog, whose simulation is built."""
    with steps.run("Emitting and building the simulation, once per configuration",
                   lambda: tasks[0].open(PAGE_BYTES)):
        from systolith_sim.device import core_verilog

        verilog = core_verilog(tasks[0].config, assertions=False)
    return [replace(task, verilog=verilog) for task in tasks]


def measure_all(tasks: Sequence[Task], *, jobs: int, steps: Steps) -> list[dict[str, Any]]:
    """What ``measure`` says of every task, in their order; equal tasks are run once.

    Parameters
    ----------
    tasks : sequence of Task
        All for one device.
    jobs : int
        Processes side by side; with 1, all runs in this one.
    steps : Steps
        Where progress is shown.

    Raises
    ------
    RuntimeError
        A process was ended from outside, as it is where memory does not suffice.
    """
    places = {task.shape: place for place, task in enumerate(tasks)}
    distinct = [tasks[place] for place in places.values()]
    if min(jobs, len(distinct)) == 1:
        reports = {task.shape: measure(task, steps, f"Running {task.shape} ({number} of "
                                                    f"{len(distinct)})")
                   for number, task in enumerate(distinct, 1)}
    else:
        reports = _in_processes(distinct, min(jobs, len(distinct)), steps)
    return [dict(reports[task.shape]) for task in tasks]


def _in_processes(tasks: Sequence[Task], jobs: int, steps: Steps) -> dict[Shape, dict[str, Any]]:
    reports: dict[Shape, dict[str, Any]] = {}

    def done() -> str:
        cycles = sum(report["cycles"] or 0 for report in list(reports.values()))
        return f"{len(reports)} of {len(tasks)}, {cycles:,} cycles"

    # Not forked: the bar has a thread, and what it holds would stay held in the copy.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"),
                             initializer=_follow_parent) as pool, \
            steps.step(f"Running {len(tasks)} shapes in {jobs} processes", done, total=len(tasks)):
        # The longest first, so that the processes end together.
        shapes = {pool.submit(measure, task): task.shape
                  for task in sorted(tasks, key=lambda task: -task.bound.cycles)}
        try:
            for future in as_completed(shapes):
                reports[shapes[future]] = future.result()
                steps.advance()
        except BrokenExecutor:
            raise RuntimeError("memory of this computer must suffice for all processes, which "
                               "fewer --jobs help with; one was ended") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if len(reports) < len(tasks):
                for process in multiprocessing.active_children():
                    process.terminate()
    return reports


def _follow_parent() -> None:
    """In a process of the pool: leave interrupts to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(INTERRUPTED)

    threading.Thread(target=follow, daemon=True).start()


def _shape(row: dict[str, Any]) -> Shape:
    return Shape(row["m"], row["n"], row["k"])


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures over all shapes; None where a device does not count."""
    exact = [row["bit_exact"] for row in rows if row["bit_exact"] is not None]
    summary: dict[str, Any] = {"bit_exact": all(exact) if exact else None}
    shares = [row["share_of_bound"] for row in rows]
    if None in shares:
        return {**summary, "geomean_share_of_bound": None, "lowest_share_of_bound": None,
                "cycles": None}
    return {**summary, "geomean_share_of_bound": exp(sum(map(log, shares)) / len(shares)),
            "lowest_share_of_bound": min(shares), "cycles": sum(row["cycles"] for row in rows)}


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("times", "times", str), ("m", "m", str), ("n", "n", str), ("k", "k", str),
    ("orientation", "orientation", str),
    ("cycles", "cycles", "{:,}".format),
    ("predicted", "predicted_cycles", "{:,}".format),
    ("bound", "bound_cycles", "{:,}".format),
    ("of bound", "share_of_bound", _percent),
    ("MAC/cycle", "macs_per_cycle", "{:.2f}".format),
    ("of peak", "utilization", _percent),
    ("read bus", "bus_share", _percent),
    ("bytes moved", "moved_bytes", "{:,}".format),
    ("of compulsory", "traffic", "{:.3f}".format),
    ("bit-exact", "bit_exact", _yes_no),
    (f"below {100 * GOOD_SHARE:.0f} %", "reason", str),
)


def _print(config: CoreConfig, rows: list[dict[str, Any]], summary: dict[str, Any], task: Task,
           output: str | None) -> None:
    times = Counter(map(_shape, rows))
    once = [{"times": times[shape], **next(row for row in rows if _shape(row) == shape)}
            for shape in times]
    columns = [column for column in COLUMNS
               if any(row.get(column[1]) is not None for row in once)]
    if len(once) == len(rows):
        columns = columns[1:]
    print_table([title for title, _, _ in columns], [
        ["" if row.get(key) is None else show(row[key]) for _, key, show in columns]
        for row in once])
    memory = ", ".join(f"{name} {value}" for name, value in task.memory_timing.items())
    facts = {"core": f"{config.name}, {config.array.rows} x {config.array.cols}, "
                     f"{config.bus.data_bytes} bytes a bus word, device {task.device}"
                     + (f", memory {memory}" if memory else ""),
             "results": RESULTS[task.results].text
                        + (f", then {task.function}" if task.function else "")}
    if task.weight_format != "int8":
        facts["weights"] = task.weight_format
    if summary["geomean_share_of_bound"] is not None:
        lowest = min(rows, key=lambda row: row["share_of_bound"])
        facts["of bound"] = (f"{_percent(summary['geomean_share_of_bound'])} (geometric mean), "
                             f"lowest {_percent(lowest['share_of_bound'])} at {_shape(lowest)}")
        facts["cycles"] = f"{summary['cycles']:,} in all"
    if summary["bit_exact"] is not None:
        facts["bit-exact"] = (f"yes, all {len(rows)}" if summary["bit_exact"] else "no")
    if output is not None:
        facts["figures"] = output
    facts["time"] = f"{summary['seconds']:.1f} s"
    print_facts(facts)
