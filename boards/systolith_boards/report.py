"""Every board's figures: the table of ``docs/boards.md``, from builds with several seeds.

``python -m systolith_boards.report`` builds what is not in the cache yet, so that it goes on where
it was interrupted, and writes the table, each row when it is there; ``--board`` and ``--preset``
choose boards and what they run, and leave the rows of others as they are.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from systolith.bound import gops

from .boards import BOARDS, Board
from .build import Built, build, multiplier_sites
from .soc import top_of

__all__ = ["Row", "check_marks", "chosen", "markdown", "report", "rewrite", "table", "written"]

MARKS = ("<!-- report -->\n", "<!-- end of report -->\n")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A board's builds, or why there are none.

    Parameters
    ----------
    board : Board
    preset : str
        The one of the board's that it is.
    builds : tuple of Built
        One for each seed.
    refused : str
        What a build said instead.
    """
    board: Board
    preset: str
    builds: tuple[Built, ...] = ()
    refused: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        board, config = self.board, self.board.config
        array = config.array
        names = (board.name, self.preset, f"{array.rows} x {array.cols} {array.cell}")
        if not self.builds:
            return (*names, *["-"] * 5, f"{board.target_mhz:g}", "-", self.refused)
        built = self.builds[0]
        clocks = [each.clocks[0].fmax_mhz for each in self.builds]
        mhz = min(median(clocks), board.target_mhz)
        return (*names, *(
            f"{getattr(built, name):,} ({100 * getattr(built, name) / available:.0f} %)"
            if available else "0" for name, available in board.chip.available.items()),
            " / ".join(f"{clock:.1f}" for clock in clocks), f"{board.target_mhz:g}",
            f"{config.macs_per_cycle}, {gops(config.macs_per_cycle, mhz):.1f}",
            min(self.builds, key=lambda each: each.clocks[0].fmax_mhz).clocks[0].ends)


COLUMNS = ("board", "preset", "array", "LUTs", "flip-flops", "DSPs", "block RAMs", "fmax, MHz",
           "wanted", "MAC/cycle, GOPS", "slowest path")


def table(rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown, of rows' cells."""
    return markdown(COLUMNS, rows, texts=(0, 1, 2, len(COLUMNS) - 1))


def written(document: Path) -> dict[tuple[str, str], Sequence[str]]:
    """Cells of the table between the marks of ``document``, by board and preset."""
    start, end = map(re.escape, MARKS)
    found = re.search(f"(?s){start}(.*){end}", document.read_text())
    rows = [line[2:-2].split(" | ") for line in (found[1] if found else "").splitlines()[2:]]
    return {(cells[0], cells[1]): cells for cells in rows}


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], *,
             texts: Sequence[int]) -> str:
    """A table in Markdown; columns stand right but those at ``texts``."""
    rule = ["---" if i in texts else "---:" for i in range(len(columns))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (columns, rule, *rows))


def check_marks(document: Path, marks: tuple[str, str]) -> None:
    """Refuse a document that has not the lines ``marks``.

    Raises
    ------
    ValueError
    """
    if not all(mark in document.read_text() for mark in marks):
        start, end = (mark.strip() for mark in marks)
        raise ValueError(f"{document} must have the lines {start} and {end}, not lack one")


def rewrite(document: Path, marks: tuple[str, str], text: str) -> None:
    """Put ``text`` between the lines ``marks`` of ``document``."""
    start, end = map(re.escape, marks)
    document.write_text(re.sub(f"(?s)(?<={start}).*(?={end})", lambda _: text,
                               document.read_text()))


def _builds(preset: str, board: Board, seeds: Sequence[int]) -> Row:
    try:
        return Row(board=board, preset=preset, builds=tuple(
            build(top_of(board, board.config), board, seed=seed,
                  sites=multiplier_sites(board, board.config), allow_timing_fail=True)
            for seed in seeds))
    except (ValueError, RuntimeError) as error:
        return Row(board=board, preset=preset, refused=str(error))


def chosen(names: Sequence[str], presets: Sequence[str]) -> list[tuple[str, Board]]:
    """Boards by preset, in the order of ``names``, a board's presets in theirs; ``presets`` chooses
    among them, if it is not empty.

    Raises
    ------
    ValueError
        None of the boards has one of ``presets``.
    """
    todo = [each for name in names for each in BOARDS[name].each.items()]
    known = dict.fromkeys(preset for preset, _ in todo)
    for preset in presets:
        if preset not in known:
            raise ValueError(f"preset must be one of {', '.join(known)}, not {preset!r}")
    return [each for each in todo if not presets or each[0] in presets]


def report(todo: Sequence[tuple[str, Board]], seeds: Sequence[int], jobs: int) -> Iterator[Row]:
    """Rows in the order of ``todo``, from ``jobs`` builds at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda each: _builds(each[0], each[1], seeds), todo)


@click.command()
@click.option("--board", "names", multiple=True, type=click.Choice(list(BOARDS)),
              help="Only this one; may be repeated (default all).")
@click.option("--preset", "presets", multiple=True,
              help="Only this one of the boards' presets; may be repeated.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(1, 2, 3), show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Boards at a time.")
@click.option("--document", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="File whose table, between its two marks, is replaced.")
def main(names: tuple[str, ...], presets: tuple[str, ...], seeds: tuple[int, ...], jobs: int,
         document: Path | None) -> None:
    """Build every board with every seed and print the table of their figures."""
    console = Console(stderr=True)
    try:
        if document is not None:
            check_marks(document, MARKS)
        todo = chosen(names or tuple(BOARDS), presets)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    order = [(board.name, preset) for board in BOARDS.values() for preset in board.each]
    rows: dict[tuple[str, str], Sequence[str]] = {}
    with Progress(TextColumn("boards"), MofNCompleteColumn(), TimeElapsedColumn(),
                  TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("", total=len(todo))
        for row in report(todo, seeds, jobs):
            rows[row.board.name, row.preset] = row.cells
            progress.update(task, advance=1, description=row.refused or row.cells[7])
            if document is not None:
                known = written(document) | rows
                rewrite(document, MARKS, table([known[key] for key in order if key in known]))
    click.echo(table(list(rows.values())), nl=False)


if __name__ == "__main__":
    main()
