"""Where the array and the vector unit read the same bank of the activation scratchpad.

A bank has one read a cycle, which the array takes first.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType

from .model.address import ROW_MASK, loop_offsets, strides_of
from .model.uses import Uses

__all__ = ["Conflicts"]


class Conflicts:
    """How much longer vector commands take beside the array.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, config: CoreConfig):
        self.config = config
        self.bank_rows = config.memory.act_rows // config.memory.act_banks
        self.array: list[tuple[float, float, np.ndarray]] = []   # from, until, share of each bank
        self.until = 0.0    # when the last of them begins

    def array_reads(self, values: Mapping[str, Any], begin: float, end: float) -> None:
        """The array reads what an execute command names, from ``begin`` to ``end``."""
        depth = self.config.control.execute_loops
        counts = values["counts"][:depth]
        # A strip as a whole, and the first rows of every tile.
        strides = strides_of(counts, values["act_jumps"][:depth])
        rows = values["act_base"] + loop_offsets(counts, strides)
        self.array.append((begin, end, self._shares(rows)))
        self.until = begin

    def concern(self, values: Mapping[str, Any]) -> bool:
        """Whether a vector command reads the activation scratchpad."""
        return "second" in values and Uses(values).scratchpad

    def vector_end(self, values: Mapping[str, Any], begin: float, cycles: float) -> float:
        """When a vector command's reads end that begin at ``begin`` and alone take ``cycles``."""
        while self.array and self.array[0][1] <= begin:
            del self.array[0]
        shares = self._vector_shares(values) if self.array and self.concern(values) else []
        time = begin
        for start, end, banks in self.array if len(shares) else ():
            if time + cycles <= start:
                break
            alone = max(0.0, start - time)
            time, cycles = time + alone, cycles - alone
            # A group waits as long as the array is in one of the banks that it reads.
            rate = float(np.prod([1 - own @ banks for own in shares]))
            room = end - time
            if cycles <= room * rate:
                return time + cycles / rate
            time, cycles = max(time, end), cycles - room * rate
        return time + cycles

    def _shares(self, rows: np.ndarray) -> np.ndarray:
        banks = (rows & ROW_MASK) // self.bank_rows
        return np.bincount(banks.clip(max=self.config.memory.act_banks - 1),
                           minlength=self.config.memory.act_banks) / len(rows)

    def _vector_shares(self, values: Mapping[str, Any]) -> list[np.ndarray]:
        uses, counts = Uses(values), values["counts"]
        per_row = self.config.act_row_bytes // self.config.vector.lanes
        found = []
        for name, read in (("source", uses.source and values["source_type"] < ElementType.ACC),
                           ("stream", uses.stream)):
            if read:
                step = values[f"{name}_step"]
                strides = strides_of(counts, (step, *values[f"{name}_jumps"]))
                groups = values[f"{name}_base"] + loop_offsets(counts, strides)
                found.append(self._shares(groups // per_row))
        return found
