"""One operation on arrays in system memory, as an image of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from systolith_hw.config import CoreConfig

from ..device import Device
from ..image import DTYPES, Image
from ..program import Program
from ..regions import Regions
from .commands import TOKENS
from .constants import Constants
from .operations import ELEMENTS, Operation, Quantity
from .passes import Passes
from .transfers import Buffer, Chunk, Region, issue, move, pitch_of
from .values import Rows

__all__ = ["compile_resident", "compile_vector", "run_real"]

READY, FREE, ROOM, DONE = "vector_ready", "vector_free", "vector_room", "vector_done"
CHUNK_GROUPS = 1024     # of a chunk, where there is room: many times the latencies
CHUNKS = 4              # at least, where they are not shorter than CHUNK_GROUPS
LONG = 1 << 12          # numbers of a row of what may be cut anywhere


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stretch:
    """Rows of one length: for each operand the number of its first element in every row."""
    cols: int
    starts: list[np.ndarray]

    def cut(self, first: int, length: int) -> list[np.ndarray]:
        return [starts[first:first + length] for starts in self.starts]


def compile_vector(operation: Operation, *shapes: Sequence[int], config: CoreConfig) -> Image:
    """An image that computes ``operation`` on arrays of these shapes.

    Shapes are broadcast against each other; what works on rows takes the last axis as a row, which
    is not. Loads, passes and stores of different chunks overlap.

    Parameters
    ----------
    shapes : sequence of int
        One for each input.

    Returns
    -------
    Image
        With inputs ``x0``, ``x1``... and outputs ``y0``... as integers.

    Raises
    ------
    ValueError
        Shapes that do not fit the operation or each other; a row and what it needs does not fit
        the scratchpads; numbers that could saturate where that is not meant.
    """
    if len(shapes) != len(operation.inputs):
        raise ValueError(f"shapes must be {len(operation.inputs)} for {operation.name}, "
                         f"not {len(shapes)!r}")
    try:
        shape = np.broadcast_shapes(*map(tuple, shapes))
    except ValueError:
        raise ValueError(f"shapes must broadcast to one, not {shapes!r}") from None
    if not prod(shape) or not shape:
        raise ValueError(f"shapes must have at least one element in each axis, not {shapes!r}")
    if operation.by_rows and any(tuple(s)[-1:] != shape[-1:] for s in shapes):
        raise ValueError(f"rows must all have {shape[-1]} columns, not {shapes!r}")
    return _Compiler(operation, [tuple(s) for s in shapes], shape, config).image()


def compile_resident(operation: Operation, *, rows: int, cols: int, config: CoreConfig) -> Image:
    """An image that computes ``operation`` on as many of these rows as fit the core at once: one
    load, the passes, one store of each array.

    Raises
    ------
    ValueError
        As ``compile_vector``.
    """
    operation = replace(operation, by_rows=True)

    def compiler(count: int) -> _Compiler:
        return _Compiler(operation, [(count, cols)] * len(operation.inputs), (count, cols), config,
                         resident=True)
    return compiler(compiler(rows).most_rows).image()


class _Compiler:
    """Places arrays and buffers, and appends chunk after chunk.

    Parameters
    ----------
    resident : bool
        Whether chunks are as large as fits, in one buffer of each array.
    """
    def __init__(self, operation: Operation, shapes: list[tuple[int, ...]],
                 shape: tuple[int, ...], config: CoreConfig, *, resident: bool = False):
        self.operation, self.config, self.shape = operation, config, shape
        self.resident = resident
        self.memory, self.program = Regions(), Program(config=config)
        self.constants = Constants(config)
        self.inputs = [self.memory.tensor(f"x{number}", given, quantity.dtype)
                       for number, (given, quantity) in enumerate(
                           zip(shapes, operation.inputs, strict=True))]
        self.outputs = [self.memory.tensor(
            f"y{number}", shape if quantity.cols is None else (*shape[:-1], quantity.cols),
            quantity.dtype) for number, quantity in enumerate(operation.outputs)]
        self.dense: list[bool] = [True] * len(shapes)
        self.copies = 1 if resident else 2
        self.stretches = self._by_rows(shapes) if operation.by_rows else self._by_elements(shapes)

    # Rows.

    def _by_rows(self, shapes: list[tuple[int, ...]]) -> list[_Stretch]:
        count, cols = prod(self.shape[:-1]), self.shape[-1]
        starts = [_starts(given[:-1], self.shape[:-1]) * cols for given in shapes]
        starts += [np.arange(count) * (quantity.cols or cols)
                   for quantity in self.operation.outputs]
        return [_Stretch(cols=cols, starts=starts)]

    def _by_elements(self, shapes: list[tuple[int, ...]]) -> list[_Stretch]:
        """Rows of the innermost axes in which each operand is either whole or repeated."""
        rank = len(self.shape)
        given = [(1,) * (rank - len(s)) + s for s in shapes]

        def repeated(axis: int) -> list[bool]:
            return [s[axis] == 1 != self.shape[axis] for s in given]

        inner = rank
        pattern = [False] * len(given)
        while inner and (self.shape[inner - 1] == 1 or inner == rank
                         or repeated(inner - 1) == pattern
                         or prod(self.shape[inner:]) == 1):
            inner -= 1
            if self.shape[inner] > 1:
                pattern = repeated(inner)
        self.dense = [not whole for whole in pattern]
        cols = prod(self.shape[inner:])
        starts = [_starts(s[:inner], self.shape[:inner]) * (cols if dense else 1)
                  for s, dense in zip(given, self.dense, strict=True)]
        starts += [np.arange(prod(self.shape[:inner])) * cols for _ in self.operation.outputs]
        steps = [*self.dense, *[True] * len(self.operation.outputs)]
        long = min(LONG, self._longest())
        if cols <= long:
            return [_Stretch(cols=cols, starts=starts)]
        whole, rest = divmod(cols, long)
        cut = np.arange(whole) * long
        stretches = [_Stretch(cols=long, starts=[
            (begin[:, None] + cut * step).reshape(-1)
            for begin, step in zip(starts, steps, strict=True)])]
        if rest:
            stretches.append(_Stretch(cols=rest, starts=[
                begin + whole * long * step for begin, step in zip(starts, steps, strict=True)]))
        return stretches

    def _longest(self) -> int:
        """Numbers of a row of which eight in each buffer fit, a multiple of scratchpad rows."""
        width = self.config.act_row_bytes
        row = sum(self._pitches(width))
        return max(1, self.config.memory.act_rows // (TOKENS * row)) * width

    # Buffers.

    def _operands(self) -> list[Quantity]:
        return [*self.operation.inputs, *self.operation.outputs]

    def _pitches(self, cols: int) -> list[int]:
        """Scratchpad rows of a row of each operand, once for each of its buffers, and of each
        temporary."""
        return ([pitch for pitch in self._operand_pitches(cols) for _ in range(self.copies)]
                + [pitch_of(cols, DTYPES[dtype].itemsize, self.config)
                   for dtype in self.operation.temporaries])

    def _operand_pitches(self, cols: int) -> list[int]:
        return [pitch_of(quantity.cols or cols, DTYPES[quantity.dtype].itemsize, self.config,
                         spread=quantity.spread) for quantity in self._operands()]

    def _rows(self, stretch: _Stretch, space: int) -> int:
        """Rows of a chunk."""
        pitches, needed = self._pitches(stretch.cols), self.operation.records
        most = space // sum(pitches)
        if needed:
            most = min(most, self.config.vector.rows // needed)
        if not most:
            what = (f"memory.act_rows must be at least {sum(pitches)} beside constants for rows "
                    f"of {stretch.cols} columns, not {space!r}"
                    if space < sum(pitches) else
                    f"vector.rows must be at least {needed} for {self.operation.name}, "
                    f"not {self.config.vector.rows!r}")
            raise ValueError(what)
        groups = -(-stretch.cols // self.config.vector.lanes)
        count = len(stretch.starts[0])
        wanted = count if self.resident else max(-(-count // CHUNKS), -(-CHUNK_GROUPS // groups))
        rows = min(most, wanted, count)
        if rows <= TOKENS or self.resident and rows == count:
            return rows
        return rows // TOKENS * TOKENS

    @property
    def most_rows(self) -> int:
        """Rows of the first chunk."""
        constants = sum(pitch_of(len(values), values.dtype.itemsize, self.config)
                        for values in self.operation.constants)
        return self._rows(self.stretches[0], self.config.memory.act_rows - constants)

    def image(self) -> Image:
        config, operation = self.config, self.operation
        cols = self.stretches[0].cols
        row, constants, contents = 0, [], []
        for values in operation.constants:
            size = values.dtype.itemsize
            kind = ELEMENTS[values.dtype.name]
            constants.append(Rows(kind=kind, base=self._groups(row), cols=len(values), pitch=0))
            contents.append((values, Buffer(row=row, pitch=0)))
            row += pitch_of(len(values), size, config)
        space = config.memory.act_rows - row
        if sum(self._pitches(cols)) > space:
            self.copies = 1     # long rows: loads, passes and stores take turns
        rows = self._rows(self.stretches[0], space)
        sizes = [pitch * rows for pitch in self._pitches(cols)]
        places = self._places(row, sizes)
        self._place_constants(operation, rows, constants)
        for values, buffer in contents:
            address = self.memory.keep(values.astype(values.dtype.newbyteorder("<")).tobytes())
            move(self.program, Region(addresses=np.array([address]), cols=len(values),
                                      size=values.dtype.itemsize), buffer)
        self.program.credit(FREE, self.copies)
        self.program.credit(ROOM, self.copies)
        chunks: list[Chunk] = []
        for stretch in self.stretches:
            # Shorter rows lie in the same regions.
            fitting = min([self._rows(stretch, space), *(
                size // pitch for size, pitch in zip(sizes, self._pitches(stretch.cols),
                                                     strict=True))])
            for first in range(0, len(stretch.starts[0]), fitting):
                chunks.append(self._chunk(stretch, stretch.cut(first, fitting),
                                          len(chunks) % self.copies, places, constants))
        issue(chunks, copies=self.copies)
        return self.memory.image(self.program, self.inputs, self.outputs)

    def _places(self, first: int, sizes: list[int]) -> list[int]:
        """First scratchpad rows of all buffers: operands in banks by turns, so that two that are
        read together meet in none; where they do not fit so, one after the other."""
        memory = self.config.memory
        bank_rows = memory.act_rows // memory.act_banks
        free = [max(first, bank * bank_rows) for bank in range(memory.act_banks)]
        starts = [*range(0, self.copies * len(self._operands()), self.copies)]
        starts += range(starts[-1] + self.copies, len(sizes))
        places = []
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(sizes)], strict=True)):
            bank = number % memory.act_banks
            *rows, free[bank] = np.cumsum([free[bank], *sizes[start:end]]).tolist()
            if free[bank] > (bank + 1) * bank_rows:
                return np.cumsum([first, *sizes])[:-1].tolist()
            places += rows
        return places

    def _place_constants(self, operation: Operation, rows: int, constants: list[Rows]) -> None:
        """Find out which tables and parameters the passes need, and load them first."""
        trial = Passes(Program(config=self.config, draft=True), self.constants, rows=rows)
        cols = self.stretches[0].cols
        operands = [self._rows_at(quantity, 0, cols) for quantity in self._operands()]
        split = len(operation.inputs)
        operation.keep(trial, operands[:split], operands[split:],
                       [self._rows_at(Quantity(dtype=dtype), 0, cols)
                        for dtype in operation.temporaries], constants)
        address = self.memory.keep(b"".join(data for _, _, data in self.constants.contents()))
        self.constants.load(self.program, address)

    def _groups(self, row: int) -> int:
        return row * self.config.act_row_bytes // self.config.vector.lanes

    def _rows_at(self, quantity: Quantity, row: int, cols: int) -> Rows:
        size = DTYPES[quantity.dtype].itemsize
        pitch = pitch_of(quantity.cols or cols, size, self.config, spread=quantity.spread)
        return Rows(kind=ELEMENTS[quantity.dtype], base=self._groups(row),
                    cols=1 if quantity.spread else quantity.cols or cols,
                    pitch=self._groups(pitch))

    def _chunk(self, stretch: _Stretch, starts: list[np.ndarray], copy: int, places: list[int],
               constants: list[Rows]) -> Chunk:
        operation, cols, count = self.operation, stretch.cols, len(starts[0])
        operands = self._operands()
        tensors, split = [*self.inputs, *self.outputs], len(self.inputs)
        rows_of, moves = [], []
        for number, (quantity, tensor, begin) in enumerate(zip(operands, tensors, starts,
                                                               strict=True)):
            row, size = places[self.copies * number + copy], DTYPES[tensor.dtype].itemsize
            rows_of.append(self._rows_at(quantity, row, cols))
            moves.append((
                Region(addresses=tensor.address + begin * size, cols=quantity.cols or cols,
                       size=size, dense=number >= split or self.dense[number]),
                Buffer(row=row, spread=quantity.spread, pitch=pitch_of(
                    quantity.cols or cols, size, self.config, spread=quantity.spread))))
        temporaries = [self._rows_at(Quantity(dtype=dtype), place, cols) for dtype, place in zip(
            operation.temporaries, places[self.copies * len(operands):], strict=True)]

        def load() -> None:
            for number, (region, buffer) in enumerate(moves[:split]):
                move(self.program, region, buffer, wait=FREE if number == 0 else None,
                     post=READY if number == split - 1 else None)

        def compute() -> None:
            passes = Passes(self.program, self.constants, rows=count)
            operation.keep(passes, rows_of[:split], rows_of[split:], temporaries, constants)
            passes.emit(ready=READY, free=FREE, room=ROOM, done=DONE)

        def store() -> None:
            for number, (region, buffer) in enumerate(moves[split:]):
                move(self.program, region, buffer, store=True, wait=DONE if number == 0 else None,
                     post=ROOM if number == len(moves) - split - 1 else None)
        return Chunk(load, compute, store)


def _starts(given: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Which of the rows of shape ``given`` each row of ``shape`` is."""
    return np.broadcast_to(np.arange(prod(given)).reshape(given), shape).reshape(-1)


def run_real(image: Image, operation: Operation, device: Device,
             *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Run on real numbers: quantised as the operation's inputs say, and outputs back to float64."""
    results = image.run(device, *(quantity.integers(values) for quantity, values in zip(
        operation.inputs, inputs, strict=True)))
    return tuple(quantity.real(values) for quantity, values in zip(
        operation.outputs, results, strict=True))
