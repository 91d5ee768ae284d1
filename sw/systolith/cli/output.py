"""What commands print: results on stdout, progress on stderr."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = ["INTERRUPTED", "Steps", "check_folder", "print_facts", "print_json", "print_table",
           "write_file", "write_files"]

Result = TypeVar("Result")

INTERRUPTED = 130  # exit code, as shells have it
PATIENCE = 2       # seconds that interrupted work has to tidy up


def print_json(values: Mapping[str, Any] | list[Any]) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(values, indent=2))


def print_table(columns: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """A table on stdout; numbers stand right."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for i, column in enumerate(columns):
        numeric = all(row[i][:1].isdigit() or row[i] == "-" for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A terminal wraps a long line more legibly than a table folds its cells.
    Console(highlight=False, markup=False, width=200).print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values, aligned, on stdout."""
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:{width}}  {value}")


class _Measure(ProgressColumn):
    """Says what ``measure`` returns; asked for at each refresh."""
    max_refresh = 0.2

    def __init__(self, measure: Callable[[], str]):
        self.measure = measure
        super().__init__()

    def render(self, task: Task) -> Text:
        return Text(self.measure())


class Steps:
    """Progress on stderr: a spinner with its time on a terminal, one plain line elsewhere.

    Parameters
    ----------
    quiet : bool
        Say nothing.
    """
    def __init__(self, *, quiet: bool = False):
        self.quiet = quiet
        self.advance: Callable[[], None] = _nothing
        self.console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str, measure: Callable[[], str] | None = None, *,
             total: int | None = None) -> Iterator[None]:
        """Say that ``text`` is being done, until the block ends.

        With ``total``, the bar fills each time that ``advance`` is called inside the block.
        """
        if self.quiet:
            yield
        elif not self.console.is_terminal:
            self.console.print(f"{text} ...")
            yield
        else:
            columns: list[ProgressColumn] = [
                SpinnerColumn(), TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=12), TimeElapsedColumn()]
            if measure is not None:
                columns.append(_Measure(measure))
            with Progress(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(text, total=total)
                self.advance = lambda: progress.advance(task)
                try:
                    yield
                finally:
                    self.advance = _nothing

    def say(self, text: str) -> None:
        """Say what is done next, where that is a step of its own among many."""
        if not self.quiet:
            self.console.print(f"{text} ...")

    def run(self, text: str, work: Callable[[], Result],
            measure: Callable[[], str] | None = None) -> Result:
        """Do ``work`` as a step; an interrupt ends it also inside a foreign function."""
        try:
            with self.step(text, measure):
                return _interruptible(work)
        except _StillRunning:
            # Foreign code still works on memory that a proper exit would free.
            click.echo("systolith: interrupted", err=True)
            os._exit(INTERRUPTED)


def _nothing() -> None:
    return


class _StillRunning(Exception):
    """The user interrupted, and the work does not end by itself."""


def _interruptible(work: Callable[[], Result]) -> Result:
    """What ``work`` returns or raises, from another thread, so that Ctrl-C gets through here."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    # An event, since an interrupted join() takes the thread for ended (Python 3.11 and 3.12).
    ended = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    try:
        while not ended.wait(0.2):
            pass
    except KeyboardInterrupt:
        if not ended.wait(PATIENCE):  # tools got the signal too; what waits for them tidies up
            raise _StillRunning from None
        raise
    if errors:
        raise errors[0]
    return results[0]


def write_files(folder: Path, texts: Mapping[str, str | bytes]) -> list[Path]:
    """Write files into ``folder``, all of them or none; those that are the same stay untouched.

    Parameters
    ----------
    texts : mapping of str to str or bytes
        Contents by file name.

    Returns
    -------
    list of Path
        Every file, also unchanged ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting: list[tuple[str, Path]] = []
    try:
        for name, content in texts.items():
            data = content.encode() if isinstance(content, str) else content
            target = folder / name
            if target.is_file() and target.read_bytes() == data:
                continue
            if target.is_dir():
                raise IsADirectoryError(21, "is a directory", str(target))
            handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
            waiting.append((temporary, target))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o666 & ~_umask())
        while waiting:
            temporary, target = waiting[0]
            os.replace(temporary, target)
            waiting.pop(0)
    finally:
        for temporary, _ in waiting:
            os.unlink(temporary)
    return [folder / name for name in texts]


def check_folder(path: Path) -> None:
    """Raise ``FileNotFoundError`` where ``path`` lies in no folder."""
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "no such folder", str(path.parent))


def write_file(path: Path, content: str | bytes) -> None:
    """Write one file as ``write_files`` does, into a folder that exists."""
    check_folder(path)
    write_files(path.parent, {path.name: content})


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
