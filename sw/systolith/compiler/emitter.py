"""Commands of one operator after the other, as if each ended before the next began."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Memory

from ..layout import parameter_rows
from ..program import Program
from ..regions import Regions
from ..tiling import MAX_RUN_BYTES
from ..vector.commands import Commands
from ..vector.commands import Piece as RowPiece
from ..vector.constants import Constants
from ..vector.passes import Passes
from ..vector.values import Step
from .maps import FeatureMap, NoRoom

__all__ = ["Emitter", "Keep", "Passing", "Piece"]


@dataclass(frozen=True)
class Piece:
    """Rows of pixels of one plane of an image, or with ``across`` pixels of one such row."""
    image: int
    plane: int
    down: range
    across: range | None = None

    @property
    def rows(self) -> int:
        """What passes take for rows."""
        return len(self.down if self.across is None else self.across)


Keep = Callable[[Passes, Piece, int], None]


class Emitter:
    """What operators share: the program, places in memories that are used in turns, system memory.

    Parameters
    ----------
    config : CoreConfig
    regions : Regions
        Of system memory.
    stay : bool
        Whether all weights have a place of their own in the weight scratchpad and stay there.

    Members
    -------
    program : Program
        A draft.
    setup : Program
        A draft that loads the weights that stay, before the program's first run.
    left_out : int
        Multiplications of weights in tiles of zeros, which take no step.
    """
    def __init__(self, config: CoreConfig, regions: Regions, *, stay: bool = False):
        self.config = config
        self.regions = regions
        self.stay = stay
        self.program = Program(config=config, draft=True)
        self.setup = Program(config=config, draft=True)
        self.staying: dict[tuple[bytes, int], int] = {}     # first rows of weights that stay
        self.next_row = {"wgt": 0, "par": 0, "acc 0": 0, "acc 1": 0}
        self.half = 0
        self.left_out = 0

    @property
    def groups_per_row(self) -> int:
        """Lane groups of a row of the activation scratchpad."""
        return self.config.act_row_bytes // self.config.vector.lanes

    @property
    def half_rows(self) -> int:
        """Rows of an accumulator half."""
        return self.config.memory.acc_rows // 2

    def turn(self, rows: int) -> int:
        """First of ``rows`` rows of the accumulator half that is not the last one, so that the
        array and the vector unit work in different banks."""
        self.half = 1 - self.half
        return self.half * self.half_rows + self._longest_ago(
            f"acc {self.half}", rows, self.half_rows)

    def place(self, memory: str, rows: int) -> int:
        """First of ``rows`` rows, those that were used the longest ago.

        Raises
        ------
        NoRoom
        """
        most = getattr(self.config.memory, f"{memory}_rows")
        if rows > most:
            raise NoRoom(f"memory.{memory}_rows must be at least {rows}, not {most!r}")
        return self._longest_ago(memory, rows, most)

    def _longest_ago(self, where: str, rows: int, most: int) -> int:
        start = self.next_row[where]
        if start + rows > most:
            start = 0
        self.next_row[where] = start + rows
        return start

    def state(self) -> dict[str, Any]:
        """Everything that appending commands changes, for ``restore``."""
        return {"next_row": dict(self.next_row), "half": self.half, "left_out": self.left_out,
                "staying": dict(self.staying), "commands": len(self.program.commands),
                "setup": len(self.setup.commands)}

    def restore(self, state: dict[str, Any]) -> None:
        """Have everything as it was."""
        self.next_row, self.half = dict(state["next_row"]), state["half"]
        self.left_out = state["left_out"]
        self.staying = dict(state["staying"])
        del self.program.commands[state["commands"]:]
        del self.setup.commands[state["setup"]:]

    def load_rows(self, memory: Memory, data: bytes, row: int, row_bytes: int, *,
                  program: Program | None = None) -> None:
        """Load rows that follow each other; ``program`` is the one of the operators unless told."""
        address = self.regions.keep(data)
        step = MAX_RUN_BYTES // row_bytes * row_bytes
        for start in range(0, len(data), step):
            (self.program if program is None else program).load(
                memory=memory, address=address + start, row=row + start // row_bytes,
                row_bytes=row_bytes, run_bytes=min(step, len(data) - start))

    def load_weights(self, data: bytes, row_bytes: int) -> int:
        """First row of weights, each row of ``row_bytes``.

        Raises
        ------
        NoRoom
        """
        rows = len(data) // row_bytes
        if not self.stay:
            row = self.place("wgt", rows)
            self.load_rows(Memory.WGT, data, row, row_bytes)
            return row
        if (data, row_bytes) not in self.staying:
            row, most = self.next_row["wgt"], self.config.memory.wgt_rows
            if row + rows > most:
                raise NoRoom(f"memory.wgt_rows must be at least {row + rows}, not {most!r}")
            self.load_rows(Memory.WGT, data, row, row_bytes, program=self.setup)
            self.staying[data, row_bytes], self.next_row["wgt"] = row, row + rows
        return self.staying[data, row_bytes]

    def load_parameters(self, bias: np.ndarray, multiplier: np.ndarray,
                        shift: np.ndarray) -> int:
        """First row of parameters, one of each column."""
        records = parameter_rows(bias, multiplier, shift, lanes=self.config.vector.lanes)
        row = self.place("par", len(records))
        self.load_rows(Memory.PAR, records.tobytes(), row, self.config.par_row_bytes)
        return row

    def transfer(self, kind: str, loops: Sequence[tuple[int, int, int]], *, row: int,
                 byte: int = 0, address: int = 0, **fields: Any) -> None:
        """Append loads, fills or stores of the activation scratchpad.

        Parameters
        ----------
        kind : str
            ``load``, ``fill`` or ``store``.
        loops : sequence of tuple of int
            Count, bytes of memory and bytes of scratchpad from one to the next, innermost first;
            those that the core has no loop for become commands of their own.
        row, byte, address : int
            First place.
        fields
            As ``Program`` takes them.
        """
        pitch = self.config.act_row_bytes
        loops = [loop for loop in loops if loop[0] > 1]
        depth = self.config.control.load_loops
        own, outer = loops[:depth], loops[depth:]
        counts = [count for count, _, _ in own]
        for places in product(*(range(count) for count, _, _ in outer)):
            steps = list(zip(places, outer, strict=True))
            here = address + sum(i * step for i, (_, step, _) in steps)
            first, start = divmod(row * pitch + byte + sum(i * step for i, (_, _, step) in steps),
                                  pitch)
            where: dict[str, Any] = {"row": first, "byte": start, "counts": counts}
            if kind == "fill":
                where["row_strides"] = [step // pitch for _, _, step in own]
            else:
                where |= {"address": here, "strides": [step for _, step, _ in own],
                          "byte_strides": [step for _, _, step in own]}
            if kind != "store":
                where["memory"] = Memory.ACT
            getattr(self.program, kind)(**where, **fields)

    def fill_border(self, target: FeatureMap, value: int) -> None:
        """Write the zero point around every plane."""
        (top, bottom), (left, right) = target.border
        height, width, across = *target.shape[1:3], target.across
        size = self.config.act_row_bytes
        for y, x, count, length in (
                (-top, -left, 1, top * across + left),
                (0, width, height - 1, left + right),
                (height - 1, width, 1, right + bottom * across)):
            for done in range(0, length if count else 0, MAX_RUN_BYTES // size):
                run = min(length - done, MAX_RUN_BYTES // size)
                self.transfer("fill", [
                    (count, 0, across * size), (target.planes, 0, target.plane * size),
                    (target.shape[0], 0, target.image * size)],
                    row=target.row(0, 0, y, x) + done, value=value, run_bytes=run * size,
                    row_bytes=size)


class Passing:
    """Passes of the vector unit over one piece of rows after the other.

    Parameters
    ----------
    emitter : Emitter
    keep : callable
        Keeps the passes of a piece, given ``Passes``, the piece and its number.
    first : tuple
        A piece, for the constants that passes need, which are loaded first.
    late : int
        How many of the last passes come behind the next piece's others, so that what they read
        has left the pipeline.
    """
    def __init__(self, emitter: Emitter, keep: Keep, first: Piece, *, late: int = 0):
        self.emitter, self.keep, self.late = emitter, keep, late
        config = emitter.config
        trial = Constants(config)
        keep(Passes(Program(config=config, draft=True), trial, rows=first.rows), first, 0)
        count = sum(map(len, trial.params))
        self.constants = Constants(config, row=emitter.place("par", count) if count else 0)
        self._passes(first, 0)
        address = emitter.regions.keep(
            b"".join(data for _, _, data in self.constants.contents()))
        self.constants.load(emitter.program, address)
        self.count = 0
        self.waiting: list[tuple[Step, int]] = []

    def _passes(self, piece: Piece, number: int) -> list[Step]:
        passes = Passes(self.emitter.program, self.constants, rows=piece.rows)
        self.keep(passes, piece, number)
        return passes.steps

    def add(self, piece: Piece) -> None:
        """Append the passes of a piece."""
        steps = self._passes(piece, self.count)
        split = len(steps) - self.late
        self._append([(step, piece.rows) for step in steps[:split]])
        self.flush()
        self.waiting = [(step, piece.rows) for step in steps[split:]]
        self.count += 1

    def flush(self) -> None:
        """Append what has been left to the next piece."""
        self._append(self.waiting)
        self.waiting = []

    def _append(self, steps: Sequence[tuple[Step, int]]) -> None:
        for step, rows in steps:
            commands = Commands(self.emitter.program, rows=rows, chain="", steps=[])
            for part in commands.pieces_of(step, [RowPiece(0, 1, rows)]):
                commands.append(step, part, [])
