"""How a core grows with its array: text, tools' time, simulation speed, products of matrices.

``python -m systolith_sim.growth`` prints a table; ``docs/growth.md`` keeps one.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from systolith.device import PAGE_BYTES, ModelDevice
from systolith.gemm import plan_gemm
from systolith.quantise import quantise_multiplier
from systolith_hw.config import CoreConfig
from systolith_hw.core import Core
from systolith_hw.emit import emit_verilog

from .build import build_core, lint
from .device import RtlDevice
from .tools import ToolError

__all__ = ["Growth", "measure", "scaled"]

SIZES = ("8x8", "16x16", "32x32", "64x64", "64x1", "1x64")


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What one size of array costs and does; None where it was not simulated.

    Parameters
    ----------
    rows, cols : int
        R and C.
    lanes, bus_bits : int
        Of the vector unit and of the bus.
    emit_seconds, lint_seconds, build_seconds : float
        CPU time of the emission, of Verilator's lint, and of Verilator and the C++ compiler.
    verilog_bytes, verilog_lines : int
        Size of the text.
    cycles_per_second : float
        Simulated clock cycles in a second of CPU time.
    cycles : int
        What the product took.
    macs_per_cycle : float
        Multiply-accumulates of the product in a cycle, of R x C at best.
    """
    rows: int
    cols: int
    lanes: int
    bus_bits: int
    emit_seconds: float
    verilog_bytes: int
    verilog_lines: int
    lint_seconds: float
    build_seconds: float | None = None
    cycles_per_second: float | None = None
    cycles: int | None = None
    macs_per_cycle: float | None = None


def scaled(rows: int, cols: int) -> CoreConfig:
    """The default core with an array of this size, and what feeds it in proportion.

    A vector lane for every fourth column, as far as activation rows are that wide; a bus as wide
    as half an activation row or a weight row, whichever is larger; and always as many rows of
    memory, enough for a 64 x 64 array to meet the weights it has loaded many times.
    """
    row_bytes = max(4, 1 << (rows - 1).bit_length())
    lanes = min(max(1, 1 << (cols // 4).bit_length() >> 1), row_bytes)
    bus_bits = max(32, 4 << (max(rows, cols) - 1).bit_length())
    act_rows = min(4096, (1 << 16) * lanes // row_bytes)    # lane groups have 16-bit addresses
    return CoreConfig.from_dict({
        "name": f"core_{rows}x{cols}", "array": {"rows": rows, "cols": cols},
        "memory": {"act_rows": act_rows, "wgt_rows": 2048, "acc_rows": 1024},
        "vector": {"lanes": lanes}, "bus": {"data_bits": bus_bits}})


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Builds begin anew, and leave nothing behind."""
    before = os.environ.get("SYSTOLITH_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SYSTOLITH_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["SYSTOLITH_CACHE"]
            if before is not None:
                os.environ["SYSTOLITH_CACHE"] = before


def _cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def measure(config: CoreConfig, *, size: int, simulate: bool = True,
            say: Callable[[str], None] = lambda text: None) -> Growth:
    """Emit and lint a core; build it, and run a product of two matrices on it.

    Parameters
    ----------
    config : CoreConfig
    size : int
        M, N and K of the product; its results are requantised int8.
    simulate : bool
        Whether to build and run.
    say : function of str
        Is told what is under way.

    Raises
    ------
    RuntimeError
        The product is not the model's in every byte of memory.
    ToolError
        Verilator is missing or refuses the core.
    """
    def timed(text: str, work: Callable[[], Any]) -> tuple[Any, float]:
        say(f"{config.array.rows} x {config.array.cols}: {text}")
        start = _cpu_seconds()
        result = work()
        return result, _cpu_seconds() - start

    verilog, emit_seconds = timed(
        "emitting", lambda: emit_verilog(Core(config=config), name=config.name))
    _, lint_seconds = timed("checking with lint", lambda: lint(verilog, name=config.name))
    text = {"rows": config.array.rows, "cols": config.array.cols, "lanes": config.vector.lanes,
            "bus_bits": config.bus.data_bits, "emit_seconds": emit_seconds,
            "verilog_bytes": len(verilog.encode()), "verilog_lines": verilog.count("\n"),
            "lint_seconds": lint_seconds}
    if not simulate:
        return Growth(**text)
    rng = np.random.default_rng(size)
    a, b = (rng.integers(-128, 128, (size, size), np.int8) for _ in range(2))
    multiplier, shift = quantise_multiplier(np.full(size, 1 / (128 * size ** 0.5)))
    image = plan_gemm(b, config=config, rows=size, multiplier=multiplier, shift=shift)
    memory_bytes = -(-image.memory_bytes // PAGE_BYTES) * PAGE_BYTES
    model = ModelDevice(config, memory_bytes=memory_bytes)
    image.run(model, a)
    with _empty_cache():
        _, build_seconds = timed("building the simulation",
                                 lambda: build_core(verilog, name=config.name))
        with RtlDevice(config, memory_bytes=memory_bytes, verilog=verilog) as device:
            _, seconds = timed("running a product", lambda: image.run(device, a))
            if (device.read(0, memory_bytes) != model.memory).any():
                raise RuntimeError(f"memory after the product must be the model's on {config.name}")
            cycles = device.counters()["cycles"]
    return Growth(**text, build_seconds=build_seconds, cycles_per_second=cycles / seconds,
                  cycles=cycles, macs_per_cycle=size ** 3 / cycles)


def _table(rows: Sequence[Growth], size: int) -> Table:
    table = Table(title=f"times are CPU seconds; product of {size} x {size} matrices")
    for column in ("array", "lanes", "bus", "emission", "Verilog bytes", "lines", "lint", "build",
                   "cycles/s", "cycles", "MAC/cycle", "of peak"):
        table.add_column(column, justify="right")
    for row in rows:
        run = ["-"] * 5
        if row.cycles is not None and row.macs_per_cycle is not None:
            run = [f"{row.build_seconds:.0f} s", f"{row.cycles_per_second:,.0f}",
                   f"{row.cycles:,}", f"{row.macs_per_cycle:.1f}",
                   f"{100 * row.macs_per_cycle / (row.rows * row.cols):.1f} %"]
        table.add_row(f"{row.rows} x {row.cols}", str(row.lanes), str(row.bus_bits),
                      f"{row.emit_seconds:.1f} s", f"{row.verilog_bytes:,}",
                      f"{row.verilog_lines:,}", f"{row.lint_seconds:.1f} s", *run)
    return table


class _Size(click.ParamType):
    name = "RxC"

    def convert(self, value: Any, param: Any, ctx: Any) -> CoreConfig:
        match = re.fullmatch(r"(\d+)x(\d+)", value) if isinstance(value, str) else None
        try:
            if match is None:
                raise ValueError(f"size must be rows x columns such as 8x8, not {value!r}")
            return scaled(*(max(int(part), 0) for part in match.groups()))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("sizes", type=_Size(), nargs=-1, metavar="[RxC]...")
@click.option("--gemm", "size", type=click.IntRange(1, 4096), default=512, show_default=True,
              help="M, N and K of the product that is simulated.")
@click.option("--elements", type=click.IntRange(0), default=1024, show_default=True,
              help="Simulate arrays of up to so many elements; that of 64 x 64 builds for long.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of a table.")
def main(sizes: tuple[CoreConfig, ...], size: int, elements: int, as_json: bool) -> None:
    """Measure cores of several array sizes (default 8x8 16x16 32x32 64x64 64x1 1x64).

    Emits each, checks it with Verilator's lint, builds it, and runs a product that must be the
    bit-exact model's in every byte of memory.
    """
    configs = sizes or tuple(scaled(*map(int, text.split("x"))) for text in SIZES)
    rows: list[Growth] = []
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
                  console=Console(stderr=True)) as progress:
        task = progress.add_task("")
        try:
            for config in configs:
                rows.append(measure(
                    config, size=size, simulate=config.macs_per_cycle <= elements,
                    say=lambda text: progress.update(task, description=text)))
        except RuntimeError as error:
            progress.stop()
            click.echo(f"growth: {error}", err=True)
            sys.exit(2 if isinstance(error, ToolError) else 1)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 132).print(_table(rows, size))


if __name__ == "__main__":
    main()
