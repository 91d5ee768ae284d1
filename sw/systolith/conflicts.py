"""Where the array and the vector unit read the same bank of a memory.

A bank of the activation scratchpad or of the accumulator has one read a cycle, which the array
takes first. Of sums it reads those that it adds to, and not those that it overwrites.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType

from .model.address import ROW_MASK, loop_offsets, strides_of, wrap
from .model.uses import Uses

__all__ = ["ArrayReads", "Conflicts"]

TILE = 2        # the first loop of an execute command that walks tiles
Reading = tuple[float, float, np.ndarray]   # from, until, share of each bank


@dataclass(frozen=True, eq=False)
class ArrayReads:
    """Shares of banks that an execute command reads: of the activation scratchpad as a whole, of
    the accumulator in each tile of each iteration."""
    act: np.ndarray
    acc: np.ndarray


class Conflicts:
    """How much longer vector commands take beside the array.

    Parameters
    ----------
    config : CoreConfig
    sums_after : float
        Cycles from the array's read of a row of activations to that of the sums it adds to.
    """
    def __init__(self, config: CoreConfig, sums_after: float = 0):
        self.config, self.sums_after = config, sums_after
        memory = config.memory
        self.rows = {"act": memory.act_rows, "acc": memory.acc_rows}
        self.banks = {"act": memory.act_banks, "acc": memory.acc_banks}
        self.array: dict[str, list[Reading]] = {"act": [], "acc": []}
        self.until = 0.0    # when the last of them begins

    def of_execute(self, values: Mapping[str, Any], count: int) -> ArrayReads:
        """What the array reads in ``count`` iterations of an execute command."""
        depth = self.config.control.execute_loops
        counts = values["counts"][:depth]
        # A strip as a whole, and the first rows of every tile.
        act = values["act_base"] + loop_offsets(
            counts, strides_of(counts, values["act_jumps"][:depth]))
        strides = strides_of(counts, values["acc_jumps"][:depth])
        tiles = loop_offsets(counts[TILE:], strides[TILE:])
        last = sum((n - 1) * stride for n, stride in zip(counts[:TILE], strides, strict=False))
        ends = wrap(values["acc_base"] + tiles[:, None] + np.array((0, last)), values["acc_base"],
                    values["ring"][2])
        acc = (self._banks("acc", ends)[:, :, None] == np.arange(self.banks["acc"])).mean(axis=1)
        if not values["accumulate"]:
            acc[::prod(counts[TILE:-1])] = 0
        return ArrayReads(self._shares("act", act), acc.reshape(count, -1, self.banks["acc"]))

    def array_reads(self, reads: ArrayReads, number: int, begin: float, end: float,
                    rows: float) -> None:
        """The array reads what iteration ``number`` says, so many ``rows`` of activations from
        ``begin`` to ``end``."""
        share = rows / (end - begin)    # of the cycles: tiles of few rows leave some
        self.array["act"].append((begin, end, reads.act * share))
        tiles = reads.acc[number]
        period = (end - begin) / len(tiles)
        changes = np.flatnonzero((tiles[1:] != tiles[:-1]).any(axis=1)) + 1
        for first, after in pairwise((0, *changes, len(tiles))):
            if tiles[first].any():
                start = begin + self.sums_after
                self.array["acc"].append((start + first * period, start + after * period,
                                          tiles[first] * share))
        self.until = begin

    def concern(self, values: Mapping[str, Any]) -> bool:
        """Whether a vector command reads the activation scratchpad, or sums."""
        return "second" in values and (Uses(values).scratchpad
                                       or values["source_type"] == ElementType.ACC)

    def of_vector(self, values: Mapping[str, Any], count: int) -> list[tuple[str, np.ndarray]]:
        """Memories that a vector command reads, and the shares of their banks in each of ``count``
        iterations."""
        if not self.concern(values):
            return []
        uses, counts = Uses(values), values["counts"]
        found = []
        for ring, (name, read) in zip(values["ring"], (("source", uses.source),
                                                       ("stream", uses.stream)), strict=False):
            if read:
                step = values[f"{name}_step"]
                strides = strides_of(counts, (step, *values[f"{name}_jumps"]))
                base = values[f"{name}_base"]
                groups = wrap(base + loop_offsets(counts, strides), base, ring)
                sums = name == "source" and values["source_type"] == ElementType.ACC
                pitch = (self.config.acc_group_pitch if sums else
                         self.config.act_row_bytes // self.config.vector.lanes)
                memory = "acc" if sums else "act"
                rows = (groups // pitch).reshape(count, -1)
                found.append((memory, np.array([self._shares(memory, own) for own in rows])))
        return found

    def vector_end(self, shares: list[tuple[str, np.ndarray]], number: int, begin: float,
                   cycles: float) -> float:
        """When reads of iteration ``number`` end that begin at ``begin`` and alone take
        ``cycles``."""
        met: list[tuple[float, float, float]] = []   # from, until, share of the reads that wait
        for memory, of_each in shares:
            own, readings = of_each[number], self.array[memory]
            while readings and readings[0][1] <= begin:
                del readings[0]
            met += [(start, end, float(own @ banks)) for start, end, banks in readings
                    if start < end and own @ banks]
        time = begin
        for until in sorted({edge for start, end, _ in met for edge in (start, end)}):
            if until <= time:
                continue
            # A group waits as long as the array is in one of the banks that it reads.
            rate = prod(1 - share for start, end, share in met if start <= time < end)
            if cycles <= (until - time) * rate:
                return time + cycles / rate
            time, cycles = until, cycles - (until - time) * rate
        return time + cycles

    def _banks(self, memory: str, rows: np.ndarray) -> np.ndarray:
        return np.minimum((rows & ROW_MASK) // (self.rows[memory] // self.banks[memory]),
                          self.banks[memory] - 1)

    def _shares(self, memory: str, rows: np.ndarray) -> np.ndarray:
        return np.bincount(self._banks(memory, rows), minlength=self.banks[memory]) / len(rows)
