"""Which element of a command a place in a memory belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType, Opcode

from .compiler.hazards import LINE
from .model.address import ROW_MASK, loop_offsets, strides_of, wrap
from .program import GROUP_UNITS

__all__ = ["Place", "Places"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """An element that a command wrote.

    Parameters
    ----------
    order : tuple of int
        Sorts the elements of a command as it comes to them.
    tile : int
        Column tile of an execute, row of a vector command, run of a load or store.
    element : dict of str to int
        Where in it; empty where the command should not have written there.
    row, column : int
        Where in the memory: row (line of 64 bytes) and byte in it, or column of the accumulator.
    start, size : int
        First byte in the row and number of bytes; a size of 0 where rows hold no bytes but sums.
    """
    order: tuple[int, ...]
    tile: int
    element: Mapping[str, int]
    row: int
    column: int
    start: int = 0
    size: int = 0

    @property
    def beside(self) -> "Place":
        """The same place as one that a command should not have written."""
        return replace(self, tile=-1, element={})

    def value(self, row: np.ndarray, column: int) -> int:
        """The element, given its row."""
        if not self.size:
            return int(row[column])
        raw = row[self.start:self.start + self.size]
        return int.from_bytes(raw.tobytes(), "little", signed=True)


class Places:
    """What a command writes, element by element.

    Parameters
    ----------
    opcode : Opcode
    fields : mapping
        Of the command.
    config : CoreConfig
    """
    def __init__(self, opcode: Opcode, fields: Mapping[str, Any], config: CoreConfig):
        self.opcode, self.fields, self.config = opcode, fields, config
        self.firsts = self._walk()
        _, index = np.unique(self.firsts, return_index=True)
        self.numbers = {int(self.firsts[i]): int(i) for i in index}

    def _walk(self) -> np.ndarray:
        """Accumulator rows, lane groups or bytes where iterations begin to write."""
        fields, config = self.fields, self.config
        if self.opcode == Opcode.EXECUTE:
            counts = fields["counts"][:config.control.execute_loops]
            strides = strides_of(counts, fields["acc_jumps"][:len(counts)])
            rows = fields["acc_base"] + loop_offsets(counts, strides)
            return wrap(rows & ROW_MASK, fields["acc_base"], fields["ring"][2])
        if self.opcode == Opcode.VECTOR:
            size = GROUP_UNITS[int(ElementType(fields["result_type"]))]
            strides = strides_of(fields["counts"], (
                size * fields["result_step"], *fields["result_jumps"]))
            groups = fields["result_base"] + loop_offsets(fields["counts"], strides)
            return wrap(groups & ROW_MASK, fields["result_base"], fields["ring"][2])
        side = "memory" if self.opcode == Opcode.STORE else "pad"
        strides = strides_of(fields["counts"], fields[f"{side}_jumps"])
        return fields[f"{side}_base"] + loop_offsets(fields["counts"], strides)

    def find(self, row: int, column: int) -> Place:
        """The element at a byte of a row (line) or at a column of an accumulator row."""
        counts = self.fields["counts"]
        if self.opcode == Opcode.EXECUTE:
            number, inner = self.numbers[row], counts[0] * counts[1]
            outer = prod(counts[:self.config.control.execute_loops - 1])
            tile, place = number // outer, number % inner
            return Place(order=(number, column), tile=tile, row=row, column=column,
                         element={"row": place, "column": column})
        if self.opcode == Opcode.VECTOR:
            return self._group(row, column)
        byte = row * (LINE if self.opcode == Opcode.STORE else self.config.act_row_bytes) + column
        found = self._run_of(row, column, byte)
        if found is None:
            return self._beside(row, column)
        run, offset = found
        return Place(order=(run, offset), tile=run, element={"byte": offset}, row=row,
                     column=column, start=column, size=1)

    def _group(self, row: int, column: int) -> Place:
        lanes, size = self.config.vector.lanes, GROUP_UNITS[self.fields["result_type"]]
        unit, byte = divmod(row * self.config.act_row_bytes + column, lanes)
        first = next((unit - back for back in range(size) if unit - back in self.numbers), None)
        if first is None:
            return self._beside(row, column)
        number, lane = self.numbers[first], ((unit - first) * lanes + byte) // size
        across = self.fields["counts"][0]
        start = first * lanes + lane * size
        return Place(order=(number, lane), tile=number // across, row=row, column=column,
                     element={"group": number % across, "lane": lane},
                     start=start % self.config.act_row_bytes, size=size)

    def _beside(self, row: int, column: int) -> Place:
        return Place(order=(len(self.firsts), column), tile=-1, element={}, row=row,
                     column=column, start=column, size=1)

    def _run_of(self, row: int, column: int, byte: int) -> tuple[int, int] | None:
        """Run and byte in it, the first that comes here."""
        fields = self.fields
        if self.opcode == Opcode.STORE:
            inside = (self.firsts <= byte) & (byte < self.firsts + fields["run_bytes"])
            runs = np.flatnonzero(inside).tolist()
            return (runs[0], byte - int(self.firsts[runs[0]])) if runs else None
        pitch, step = self.config.act_row_bytes, np.arange(
            -(-fields["run_bytes"] // fields["row_bytes"]))
        rows = wrap(self.firsts[:, None] // pitch + fields["row_step"] * step,
                    fields["pad_base"] // pitch, fields["ring"][0])
        starts = self.firsts[:, None] % pitch
        inside = (rows == row) & (starts <= column) & (column < starts + fields["row_bytes"])
        if not inside.any():
            return None
        run, part = (int(each[0]) for each in np.nonzero(inside))
        return run, part * fields["row_bytes"] + column - int(starts[run, 0])
