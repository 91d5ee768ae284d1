"""Where a program's tables and parameters lie in the function and parameter memories."""

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Function, Memory

from ..layout import parameter_rows
from ..program import Program
from ..tiling import MAX_RUN_BYTES
from .tables import Table, pack

__all__ = ["Constants"]

BLOCK = 64              # entries that a command's function_base counts


class Constants:
    """Hands out entries of the function memory and rows of the parameter memory.

    Parameters
    ----------
    config : CoreConfig
    row : int
        First parameter row that is free.
    """
    def __init__(self, config: CoreConfig, *, row: int = 0):
        self.config = config
        self.first_row = row
        self.used = np.zeros(config.vector.functions, bool)
        self.tables: list[tuple[Table, int]] = []
        self.params: list[np.ndarray] = []
        self.places: dict[bytes, int] = {}

    def table(self, table: Table) -> int:
        """The table's first entry / 64.

        Raises
        ------
        ValueError
            No room is left, or the configuration has no such tables.
        """
        key = b"".join([bytes([table.kind, table.signed]), table.base.tobytes(),
                        table.slope.tobytes()])
        if key in self.places:
            return self.places[key]
        if table.kind != Function.TABLE and not self.config.vector.linear:
            raise ValueError("vector.multiply must be true for segments, not False")
        for block in range(0, max(len(self.used) - table.entries, -1) // BLOCK + 1):
            span = slice(block * BLOCK + table.first, block * BLOCK + table.stop)
            if not self.used[span].any() and block * BLOCK + table.entries <= len(self.used):
                self.used[span] = True
                self.tables.append((table, block))
                self.places[key] = block
                return block
        raise ValueError(f"vector.functions must have {table.stop - table.first} more entries "
                         f"free for this operation, not {int((~self.used).sum())!r} of "
                         f"{len(self.used)}")

    def parameters(self, bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> int:
        """First parameter row of these, one of each column, or of every lane where there is one.

        Raises
        ------
        ValueError
            No room is left.
        """
        lanes = self.config.vector.lanes
        count = max(np.size(value) for value in (bias, multiplier, shift))
        records = parameter_rows(*(np.broadcast_to(value, count if count > 1 else lanes)
                                   for value in (bias, multiplier, shift)), lanes=lanes)
        rows = len(records)
        key = records.tobytes()
        if key not in self.places:
            row = self.first_row + sum(map(len, self.params))
            if row + rows > self.config.memory.par_rows:
                raise ValueError(f"memory.par_rows must be at least {row + rows} for this "
                                 f"operation, not {self.config.memory.par_rows!r}")
            self.places[key] = row
            self.params.append(records)
        return self.places[key]

    def contents(self) -> list[tuple[Memory, int, bytes]]:
        """Memory, first row and bytes of everything handed out.

        Tables that are the same in every lane are there once, for the rows in which the bytes of
        the first lane go to all.
        """
        result = [(Memory.FUN, self._row(table, place), pack(table, config=self.config))
                  for table, place in self.tables]
        if self.params:
            result.append((Memory.PAR, self.first_row,
                           b"".join(records.tobytes() for records in self.params)))
        return result

    def _row(self, table: Table, place: int) -> int:
        alike = table.kind != Function.CHANNEL
        return self.config.vector.functions * alike + place * BLOCK + table.first

    def _width(self, memory: Memory, row: int) -> int:
        """Bytes for each row of a memory from ``row`` on."""
        if memory == Memory.PAR:
            return self.config.par_row_bytes
        unit = self.config.vector
        return self.config.fun_row_bytes // (unit.lanes if row >= unit.functions else 1)

    def load(self, program: Program, address: int) -> None:
        """Append loads of the contents, which lie one after the other from ``address``."""
        for memory, row, data in self.contents():
            width = self._width(memory, row)
            step = MAX_RUN_BYTES // width * width
            for start in range(0, len(data), step):
                program.load(memory=memory, address=address + start, row=row + start // width,
                             run_bytes=min(step, len(data) - start), row_bytes=width)
            address += len(data)
