"""What passes read and write: rows, records, and what is done with their numbers."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType, Scale

from ..program import GROUP_UNITS

__all__ = [
    "INT32", "LIMITS", "MASKED", "ROW", "SQUARE", "Columns", "Product", "Range", "Record",
    "Result", "RowScale", "Rows", "Scaling", "Step", "Weighted", "narrowed",
]

Range = tuple[int, int]

INT32 = (-(1 << 31), (1 << 31) - 1)
LIMITS = {ElementType.INT8: (-128, 127), ElementType.INT16: (-32768, 32767),
          ElementType.INT32: INT32, ElementType.ACC: INT32}
MASKED = INT32[0]       # what stands for an element that a mask leaves out
ROW, SQUARE = "row", "square"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of numbers in the activation scratchpad or the accumulator.

    Parameters
    ----------
    kind : ElementType
        ``INT8``, ``INT16``, ``INT32`` or ``ACC``.
    base : int
        Lane group of the first, in units of ``lanes`` bytes (accumulator: columns).
    cols : int
        Numbers of a row; with runs, of each run.
    pitch : int
        Units from a row to the next; 0 where all rows are one.
    runs, run_pitch : int
        Pieces of each row and units between them, as of the tiles of an accumulator.
    low, high : int or None
        Range of the numbers, where it is smaller than their type's.
    """
    kind: ElementType
    base: int
    cols: int
    pitch: int
    runs: int = 1
    run_pitch: int = 0
    low: int | None = None
    high: int | None = None

    @property
    def size(self) -> int:
        """Units of a lane group."""
        return GROUP_UNITS.get(int(self.kind), 1)

    @property
    def reach(self) -> Range:
        """Range of the numbers."""
        low, high = LIMITS[self.kind]
        return (low if self.low is None else self.low, high if self.high is None else self.high)

    def check(self, config: CoreConfig) -> None:
        """Raise ``ValueError`` where groups are not aligned."""
        if self.kind == ElementType.ACC:
            return
        lanes = config.vector.lanes
        step = max(1, min(self.size * lanes, config.act_row_bytes) // lanes)
        for name in ("base", "pitch", "run_pitch"):
            if getattr(self, name) % step:
                raise ValueError(f"{name} of {self.kind.name.lower()} rows must be a multiple of "
                                 f"{step}, not {getattr(self, name)!r}")


def narrowed(rows: Rows, low: int, high: int) -> Rows:
    """The same rows with a range that is known to be smaller."""
    return replace(rows, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A field of the records of rows: ``value``, ``position`` or ``sum``."""
    base: int
    name: str = "value"


@dataclass(frozen=True, kw_only=True)
class RowScale:
    """Multiplier and shift of a record, from a table of mantissas, as the result of a pass.

    Parameters
    ----------
    record : Record
    exponent : int
        As ``tables.exponent`` gives it.
    root : bool
        Whether half of the normalised number's exponent counts.
    """
    record: Record
    exponent: int
    root: bool = False


@dataclass(frozen=True, kw_only=True)
class Product:
    """``u * (stream - zero)``."""
    stream: Rows
    zero: int = 0


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """``x + stream * weight``."""
    stream: Rows
    weight: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Multiplier and shift, and bias, of each column."""
    multiplier: np.ndarray
    shift: np.ndarray
    bias: np.ndarray | int = 0


Scaling = tuple[int, int] | Columns | str | None
Result = Rows | Record | RowScale | None

@dataclass(kw_only=True)
class Step:
    """A pass that has been checked.

    Parameters
    ----------
    source, result, stream
        What its walks are.
    record : Record or None
        Of each row.
    fields : dict of str to int
        Of the command, but for its walks.
    """
    source: Rows | Record
    result: Result
    stream: Rows | None = None
    record: Record | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """Pieces of each row of the source."""
        return self.source.runs if isinstance(self.source, Rows) else 1

    @property
    def columns(self) -> bool:
        """Whether each column has parameters of its own."""
        return self.fields.get("scale") == Scale.CHANNEL and self.fields.get("param_step", 1) == 1
