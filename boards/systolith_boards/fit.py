"""Builds for ``systolith plan`` to learn from, and what it learns.

``python -m systolith_boards.fit`` synthesises chosen configurations and others drawn at random,
fits the weights, writes both next to this file, and prints how far off the planner is for builds
that it was not fitted to. What ``builds.json`` has is not built again, as long as the planner
counts the same in it as it did; so it goes on where it was interrupted.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .boards import BOARDS, RESOURCES, Board, Chip
from .build import chip_verilog, pack, synthesise
from .count import Design, count
from .plan import FEATURES, WEIGHTS, features, foresee, kind_of
from .report import check_marks, markdown, rewrite
from .soc import top_of

__all__ = ["BUILDS", "Build", "draw", "fit", "load", "samples", "save"]

BUILDS = Path(__file__).with_name("builds.json")
MARKS = ("<!-- fit -->\n", "<!-- end of fit -->\n")
HELD_OUT = (0, 2)  # of five that are drawn for a family, these are not fitted to

# What weights are before any build: a LUT for a bit of a sum, of a choice or of a shift by a power
# of two, a third of one for a bit of a test, of which synthesis leaves some six in ten. Builds of
# alike configurations leave open what takes which share of what they have in common.
_EXPECTED = {
    "luts": {"registers": 0.0, "adders": 0.6, "comparers": 0.6, "equals": 0.2, "gates": 0.3,
             "choices": 0.6, "shifts": 0.6, "assigned": 0.6, "products": 1.2, "lut_rams": 6.0,
             "rows": 0.6, "carries": 2.0, "controllers": 700.0},
    "ffs": {"registers": 0.8, "controllers": 300.0},
}
TRUST = 0.01  # in them, relatively to one build

# Boards' own configurations, and such with what is not drawn.
_CHOSEN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("icebreaker", ()), ("orangecrab_r0_2_25f", ()), ("ice40_hx8k_b_evn", ()), ("ulx3s_25f", ()),
    ("ulx3s_85f", ()), ("orangecrab_r0_2_25f", ("array.strategy=generic",)),
    ("orangecrab_r0_2_25f", ("array.strategy=generic", "array.rows=8", "array.cols=8")))

# What is drawn for the boards of a family beside their own configurations.
_BOARDS = {"ice40": ("icebreaker", "ice40_hx8k_b_evn"),
           "ecp5": ("orangecrab_r0_2_25f", "ulx3s_25f")}
_CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "ice40": {
        "array.rows": (2, 4, 8), "array.cols": (2, 4),
        "memory.act_rows": (128, 256, 512), "memory.wgt_rows": (128, 256, 512),
        "memory.acc_rows": (64, 128, 256), "memory.par_rows": (16, 32, 64, 128),
        "control.queue_depth": (2, 4), "control.semaphores": (4, 8, 16),
        "control.execute_loops": (3, 4, 5), "control.load_loops": (2, 3),
        "control.vector_loops": (2, 3, 4), "control.counters": (False, True),
        "vector.functions": (0, 64), "bus.max_burst": (4, 8, 16),
    },
    "ecp5": {
        "array.rows": (3, 4, 6, 7, 8), "array.cols": (2, 3, 4, 6, 8),
        "memory.act_rows": (512, 1024, 2048), "memory.wgt_rows": (256, 512, 1024),
        "memory.acc_rows": (256, 512), "memory.par_rows": (64, 128),
        "vector.lanes": (1, 2, 4), "vector.elementwise": (False, True),
        "vector.multiply": (False, True), "vector.functions": (0, 256), "vector.rows": (0, 256),
        "vector.requantiser": ("serial", "pipelined"),
        "bus.data_bits": (32, 64), "bus.max_burst": (8, 16), "control.queue_depth": (2, 4),
        "control.semaphores": (8, 16, 32), "control.load_loops": (2, 3),
        "control.execute_loops": (4, 5, 6), "control.vector_loops": (3, 4),
        "control.counters": (False, True),
    },
}


def draw(family: str, seed: int) -> tuple[Board, tuple[str, ...]]:
    """A board of ``family``, and changes of its configuration that go together."""
    rng = random.Random(f"{family} {seed}")
    board = BOARDS[rng.choice(_BOARDS[family])]
    while True:
        changes = tuple(f"{field}={str(rng.choice(values)).lower()}"
                        for field, values in _CHOICES[family].items() if rng.random() < 0.6)
        if board.config.control.shared:     # those have weights of their own
            changes += ("control.shared=false", "memory.par_narrow=false")
        try:
            array = board.config.overridden(list(changes)).array
        except ValueError:
            continue
        if array.strategy == "soft" or array.multipliers <= board.chip.dsps * (
                2 if family == "ice40" else 1):
            return board, changes


@dataclass(frozen=True, kw_only=True)
class Build:
    """A build as the planner sees it.

    Parameters
    ----------
    board : str
        The board's name.
    changes : tuple of str
        ``section.field=value`` assignments on top of its own configuration.
    held_out : bool
        Whether it is not fitted to.
    design : Design
        What was counted in it.
    built : dict of str to int
        What it took, by the names of ``RESOURCES``.
    shared : bool
        Whether its core is one of a shared sequencer.
    """
    board: str
    changes: tuple[str, ...]
    held_out: bool
    design: Design
    built: dict[str, int]
    shared: bool = False

    @property
    def chip(self) -> Chip:
        """The board's chip."""
        return BOARDS[self.board].chip

    @property
    def kind(self) -> str:
        """The kind of core."""
        return kind_of(self.chip, self.shared)

    def foreseen(self, weights: dict[str, Any]) -> dict[str, int]:
        """What the planner says."""
        return foresee(self.design, self.chip, weights[self.kind])

    def off(self, name: str, weights: dict[str, Any]) -> float:
        """By how much the planner is off, relatively."""
        return self.foreseen(weights)[name] / self.built[name] - 1


def samples(drawn: int) -> Iterator[tuple[Board, tuple[str, ...], bool]]:
    """Board, changes and whether it is held out: those that are chosen, and ``drawn`` others."""
    yield from ((BOARDS[name], changes, False) for name, changes in _CHOSEN)
    for i in range(drawn):
        seed, family = divmod(i, len(_BOARDS))
        yield *draw(list(_BOARDS)[family], seed), seed % 5 in HELD_OUT


def load() -> list[Build]:
    """What ``builds.json`` has."""
    return [Build(board=each["board"], changes=tuple(each["changes"]), built=each["built"],
                  held_out=each["held_out"], shared=each.get("shared", False), design=Design(
                      bits=Counter(each["bits"]), cells=Counter(each["cells"]),
                      products=Counter({(a, b): n for a, b, n in each["products"]}),
                      rams=Counter({(rows, bits, enabled): n
                                    for rows, bits, enabled, n in each["rams"]})))
            for each in json.loads(BUILDS.read_text())] if BUILDS.exists() else []


def save(builds: Sequence[Build]) -> None:
    """Write ``builds.json``, a line for each build."""
    lines = [json.dumps({
        "board": each.board, "changes": each.changes, "held_out": each.held_out,
        "built": each.built, **({"shared": True} if each.shared else {}),
        "bits": each.design.bits, "cells": each.design.cells,
        "products": [[*key, n] for key, n in each.design.products.items()],
        "rams": [[*key, n] for key, n in each.design.rams.items()]}) for each in builds]
    BUILDS.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def measure(board: Board, changes: tuple[str, ...], held_out: bool,
            known: Sequence[Build]) -> Build:
    """A build, synthesised unless one of ``known`` is it."""
    config = board.config.overridden(list(changes))
    design = count(top_of(board, config))
    for build in known:
        if (build.board, build.changes, build.design) == (board.name, changes, design):
            return replace(build, held_out=held_out)
    netlist = synthesise(chip_verilog(top_of(board, config)), board)
    return Build(board=board.name, changes=changes, held_out=held_out, design=design,
                 built=pack(netlist, board), shared=config.control.shared)


def fit(builds: Sequence[Build]) -> dict[str, Any]:
    """Weights and errors by kind of core: none is negative, squared relative errors are least."""
    weights: dict[str, Any] = {}
    for kind in sorted({build.kind for build in builds if not build.held_out}):
        mine = [build for build in builds if build.kind == kind]
        fitted = [build for build in mine if not build.held_out]
        values = [features(build.design, build.chip) for build in fitted]
        weights[kind] = {name: dict(zip(expected, _least(
            np.array([[each[bits] for bits in expected] for each in values], float),
            np.array([build.built[name] for build in fitted], float),
            np.array(list(expected.values()))), strict=True))
            for name, expected in _EXPECTED.items()}
        weights[kind]["errors"] = {
            name: round(max((abs(build.off(name, weights)) for build in mine if build.held_out),
                            default=0.0), 4) for name in FEATURES}
    return weights


def _least(rows: np.ndarray, wanted: np.ndarray, expected: np.ndarray) -> list[float]:
    """Weights of at least 0 for which ``rows @ weights`` is closest to ``wanted``, relatively.

    What the rows leave open stays as ``expected``. One weight after the other is made the best
    there is for it, until none changes.
    """
    rows = rows / wanted[:, None]
    sizes = np.linalg.norm(rows, axis=0)
    found = sizes > 0
    rows, start = rows[:, found] / sizes[found], expected[found] * sizes[found]
    gram = rows.T @ rows
    aim = rows.T @ np.ones(len(wanted)) + TRUST * start
    shares, change = start.copy(), 1.0  # of each kind in the builds
    while change > 1e-7:
        before = shares.copy()
        for i in range(len(aim)):
            shares[i] = max(0.0, (aim[i] - gram[i] @ shares + shares[i]) / (1 + TRUST))
        change = float(np.abs(shares - before).max())
    weights = expected.copy()
    weights[found] = shares / sizes[found]
    return [round(float(weight), 4) for weight in weights]


def table(builds: Sequence[Build], weights: dict[str, Any]) -> str:
    """Held-out builds in Markdown: built, and by how much the planner is off."""
    rows = []
    for build in builds:
        if build.held_out:
            foreseen = build.foreseen(weights)
            rows.append((build.board, f"{len(build.changes)}", *(
                f"{build.built[name]:,} ({100 * build.off(name, weights):+.1f} %)"
                if name in FEATURES else
                f"{build.built[name]} ({foreseen[name] - build.built[name]:+d})"
                for name in RESOURCES)))
    return markdown(("board", "fields changed", *RESOURCES.values()), rows, texts=(0,))


@click.command()
@click.option("--drawn", default=28, show_default=True,
              help="Configurations besides those chosen; two of five are held out.")
@click.option("--document", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="File whose table, between its two marks, is replaced.")
def main(drawn: int, document: Path | None) -> None:
    """Synthesise configurations, fit the planner to them and print how far off it is."""
    if document is not None:
        try:
            check_marks(document, MARKS)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    wanted = list(samples(drawn))
    known, builds = load(), []
    with Progress(TextColumn("builds"), MofNCompleteColumn(), TimeElapsedColumn(),
                  TextColumn("{task.description}"), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(wanted))
        for board, changes, held_out in wanted:
            progress.update(task, description=board.name)
            try:
                builds.append(measure(board, changes, held_out, known))
            except RuntimeError as error:  # Yosys' package cannot do every design
                progress.console.print(f"{board.name} {' '.join(changes)}: {error}", markup=False)
            made = {(build.board, build.changes) for build in builds}
            save([*builds, *(build for build in known
                             if (build.board, build.changes) not in made)])
            progress.advance(task)
    weights = fit(builds)
    WEIGHTS.write_text(json.dumps(weights, indent=2) + "\n")
    text = table(builds, weights)
    click.echo(text, nl=False)
    if document is not None:
        rewrite(document, MARKS, text)


if __name__ == "__main__":
    main()
