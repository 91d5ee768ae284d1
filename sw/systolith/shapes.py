"""Sizes of matrix products: checked, read from CSV, and suites of them."""

import csv
from dataclasses import astuple, dataclass
from importlib.resources import files

__all__ = ["SUITES", "Shape", "read_shapes", "suite_shapes"]

MAX_ELEMENTS = 1 << 31
COMMENT = "#"
# Each a CSV file of this package, which says where its shapes are from.
SUITES = ("deepbench",)


@dataclass(frozen=True)
class Shape:
    """M x K by K x N.

    Parameters
    ----------
    m, n, k : int
        Rows of activations and results, columns of weights and results, length of a sum.

    Raises
    ------
    ValueError
        A size below 1, or a matrix of more than 2^31 elements.
    """
    m: int
    n: int
    k: int

    def __post_init__(self):
        m, n, k = astuple(self)
        for name, size in (("m", m), ("n", n), ("k", k)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, not {size!r}")
        for name, count in (("m * k", m * k), ("k * n", k * n), ("m * n", m * n)):
            if count > MAX_ELEMENTS:
                raise ValueError(f"{name} must be at most {MAX_ELEMENTS}, not {count!r}")

    def __str__(self) -> str:
        return f"{self.m} x {self.n} x {self.k}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.n * self.k


def read_shapes(text: str, *, name: str) -> list[Shape]:
    """The shapes of a CSV file, in its order.

    The first line names the columns: ``m``, ``n`` and ``k`` in either case and any order, others
    are left aside, as are empty lines and lines that begin with ``#``.

    Parameters
    ----------
    text : str
        Contents of the file.
    name : str
        Of the file, for messages.

    Raises
    ------
    ValueError
        No CSV, a column that lacks, a value that is no size, or no shape at all.
    """
    reader = csv.reader(text.splitlines())
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader
                 if "".join(cells).strip() and not cells[0].startswith(COMMENT)]
    except csv.Error as error:
        raise ValueError(f"shapes must be a CSV file, not {name!r}: {error}") from None
    header = [cell.lower() for cell in lines[0][1]] if lines else []
    for column in "mnk":
        if column not in header:
            raise ValueError(f"shapes must have a column {column}, which {name!r} has not")
    if len(lines) == 1:
        raise ValueError(f"shapes must be at least one, not none as in {name!r}")
    shapes = []
    for number, cells in lines[1:]:
        try:
            shapes.append(Shape(*(_size(column, header, cells) for column in "mnk")))
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
    return shapes


def _size(column: str, header: list[str], cells: list[str]) -> int:
    index = header.index(column)
    text = cells[index] if index < len(cells) else ""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{column} must be an integer, not {text!r}") from None


def suite_shapes(name: str) -> list[Shape]:
    """The shapes of a suite of ``SUITES``.

    Raises
    ------
    ValueError
        There is no such suite.
    """
    if name not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}, not {name!r}")
    return read_shapes((files("systolith") / f"{name}.csv").read_text(), name=f"{name}.csv")
