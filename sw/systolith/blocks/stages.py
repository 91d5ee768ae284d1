"""One program of several stages: products, and vector programs over rows."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Opcode

from ..image import DTYPES, Image, Tensor
from ..layers import Linear
from ..layout import aligned, pack_parameters, pack_row_parameters, pack_weights
from ..product import Product, Residual
from ..program import Program
from ..regions import Regions
from ..results import TABLE_ENTRIES
from ..schedule import emit_product
from ..search import choose_tiling
from ..tiling import MAX_DEPTH, Problem
from ..vector import Constants, Operation, Passes, Rows
from ..vector.compile import DONE, FREE, READY, ROOM
from ..vector.operations import ELEMENTS
from ..vector.transfers import Buffer, Region, move, pitch_of

__all__ = ["Addend", "Ready", "Stages"]

STORED = "vector_stored"
CHUNKS = 4              # that rows are cut into, at least


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A semaphore that is raised each time so many more rows are in memory.

    ``marks`` are the commands with which the chunks of so many rows begin.
    """
    semaphore: str
    rows: int
    marks: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Addend:
    """What becomes of int16 results y of a product: ``requantise(y + weight * tensor)``."""
    tensor: Tensor
    weight: int
    multiplier: int
    shift: int


class Stages:
    """Places tensors in system memory, and appends one stage after the other.

    A stage begins when the one before has ended, and finds all of the core's memories free.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    memory : Regions
    program : Program
    half : CoreConfig
        Half of the activation and parameter memories, for stages that share them.
    par_used : int
        Parameter rows that the last stage may read to its end; it reads no functions then.
    """
    def __init__(self, config: CoreConfig):
        self.config = config
        self.memory = Regions()
        self.program = Program(config=config)
        self.par_used = 0
        memory = config.memory
        self.half = replace(config, memory=replace(
            memory, act_rows=max(16, memory.act_rows // 2), par_rows=max(4, memory.par_rows // 2)))

    def begin(self) -> None:
        """Wait for the end of the stage before."""
        if len(self.program):
            self.program.drain()

    def constants(self, used: Callable[[Constants], None]) -> Constants:
        """Begin a stage with what ``used`` asks for in place, loaded before the stage in front,
        a product without a table, has ended where there is room."""
        constants = Constants(self.config, row=self.par_used)
        try:
            used(constants)
        except ValueError:
            self.begin()
            used(constants := Constants(self.config))
            self.load(constants)
        else:
            self.load(constants)
            self.begin()
        return constants

    def tensor(self, name: str, rows: int, cols: int, dtype: str = "int8") -> Tensor:
        """A matrix whose rows start at whole bus words."""
        item = DTYPES[dtype].itemsize
        pitch = aligned(cols * item, self.config.bus.data_bytes)
        return Tensor(name=name, address=self.memory.take(rows * pitch), shape=(rows, cols),
                      strides=(pitch, item), dtype=dtype)

    def image(self, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Image:
        """The image of the complete program."""
        return self.memory.image(self.program, inputs, outputs)

    def product(self, layer: Linear, source: Tensor, target: Tensor, *, turned: int = 0,
                after: Ready | None = None, added: Addend | None = None) -> int:
        """Append a product.

        Parameters
        ----------
        layer : Linear
            Without a zero point of its weights; with multipliers.
        source : Tensor
            int8.
        target : Tensor
            int8 or int16.
        turned : int
            Columns, from the first, whole tiles, that become weights.
        after : Ready or None
            What the stage before gave: the product begins while that is still at work.
        added : Addend or None
            What is added to the layer's results.

        Returns
        -------
        int
            Address of these weights, as ``layout.pack_panels`` lays them out.
        """
        (rows, k), n, keep = source.shape, target.shape[1], self.memory.keep
        wide = target.dtype == "int16"
        problem = Problem(config=self.half if after else self.config, m=rows, n=n, k=k, passes=1,
                          result_bytes=1 + wide, params="columns", reserved=added is not None)
        _, tiling = choose_tiling(problem)
        if after and len(tiling.block_rows) == 1:
            # All rows must be there before it can begin.
            after, problem = None, replace(problem, config=self.config)
            _, tiling = choose_tiling(problem)
        if after is None:
            self.begin()
        config, residual = problem.config, None
        if added:
            residual = Residual(
                address=added.tensor.address, pitch=added.tensor.strides[0], weight=added.weight,
                params_address=keep(pack_row_parameters(*(
                    np.array([value]) for value in (0, added.multiplier, added.shift)),
                    config=config)),
                addend_row=problem.act_total, sum_row=problem.stage_row + problem.stage_total,
                rows=problem.reserved_rows, par_row=problem.par_total)
        self.par_used = problem.par_total
        if tiling.param_resident:
            self.par_used = problem.n_tiles * config.groups_per_row
        address, start = self.memory.take(rows * turned), len(self.program)
        emit_product(self.program, Product(
            m=rows, n=n, k=k, a_address=source.address, a_pitch=source.strides[0],
            weights_address=keep(pack_weights(layer.parts, config=config,
                                              padded_rows=tiling.padded_k)),
            params="columns", params_address=keep(pack_parameters(*layer.channels, config=config)),
            out_address=target.address, out_pitch=target.strides[0], requantised=True,
            zero_point=int(layer.zero_point), wide=wide, turned=turned // config.array.cols,
            turned_address=address,
            table_address=None if layer.table is None else keep(layer.table.tobytes()),
            ready=after.semaphore if after else None, ready_rows=after.rows if after else 1,
            residual=residual), tiling)
        if after:
            chunk = -(-tiling.block_rows[0] // after.rows)
            _interleave(self.program, (*after.marks, start)[chunk], start)
        return address

    def rows(self, operation: Operation, *tensors: Tensor, ahead: bool = False
             ) -> Ready | None:
        """Append an operation over rows, chunk by chunk; loads, passes and stores overlap.

        Parameters
        ----------
        operation : Operation
            Without temporaries and constants.
        tensors : Tensor
            Inputs, then an output; all of one shape.
        ahead : bool
            Whether the product that comes next may begin before the end.

        Returns
        -------
        Ready or None
            What that product must wait for; None where there is no room for both.
        """
        self.begin()
        if ahead:
            stage = _RowStage(self, operation, tensors, upper=True)
            if stage.fits:
                return stage.emit()
        _RowStage(self, operation, tensors, upper=False).emit()
        return None

    def load(self, constants: Constants) -> None:
        """Append loads of tables and parameters."""
        constants.load(self.program, self.memory.keep(
            b"".join(data for _, _, data in constants.contents())))

    def units(self, row: int) -> int:
        """Units of the vector unit's addresses in so many rows of the activation scratchpad."""
        return row * self.config.act_row_bytes // self.config.vector.lanes


def _interleave(program: Program, first: int, second: int) -> None:
    """Spread the commands from ``first`` on, loads before, over those from ``second`` on.

    They end before the first vector command of these; each engine's come in the same order.
    """
    commands = list(zip(program.records, program.commands, strict=True))
    spread, rest = commands[first:second], commands[second:]
    merged = [command for command in spread if command[1][0] == Opcode.LOAD]
    spread = [command for command in spread if command[1][0] != Opcode.LOAD]
    length = next(number for number, (_, (opcode, _)) in enumerate(rest)
                  if opcode == Opcode.VECTOR)
    for number, command in enumerate(rest[:length]):
        merged += [command, *spread[number * len(spread) // length:
                                    (number + 1) * len(spread) // length]]
    merged += rest[length:]
    program.records[first:] = [record for record, _ in merged]
    program.commands[first:] = [command for _, command in merged]


class _RowStage:
    """Places buffers and constants, and appends chunk after chunk.

    Parameters
    ----------
    upper : bool
        Whether all is to lie in the upper half of each memory.
    """
    def __init__(self, stages: Stages, operation: Operation, tensors: tuple[Tensor, ...], *,
                 upper: bool):
        self.stages, self.operation, self.tensors, self.upper = stages, operation, tensors, upper
        self.program, config = stages.program, stages.config
        self.count, self.cols = tensors[0].shape
        self.sizes = [DTYPES[tensor.dtype].itemsize for tensor in tensors]
        self.pitches = [pitch_of(self.cols, size, config) for size in self.sizes]
        self.first_row = stages.half.memory.act_rows if upper else 0
        self.space = config.memory.act_rows - self.first_row
        most = self.space // (2 * sum(self.pitches))
        if operation.records:
            most = min(most, config.vector.rows // operation.records)
        self.chunk = min(most, -(-self.count // CHUNKS))

    def _constants(self) -> Constants:
        """With all that the passes need."""
        config = self.stages.config
        constants = Constants(config, row=self.stages.half.memory.par_rows if self.upper else 0)
        if self.upper:
            constants.used[:TABLE_ENTRIES] = True
        self._keep(Passes(Program(config=config, draft=True), constants, rows=self.chunk), 0)
        return constants

    @property
    def fits(self) -> bool:
        """Whether there is room."""
        if not 0 < self.count <= self.chunk * MAX_DEPTH:
            return False
        try:
            self._constants()
        except ValueError:
            return False
        return True

    def _keep(self, passes: Passes, half: int) -> None:
        units, split = self.stages.units, len(self.operation.inputs)
        operands = [Rows(kind=ELEMENTS[tensor.dtype], cols=self.cols, pitch=units(pitch),
                         base=units(self._place(number, half)))
                    for number, (tensor, pitch) in enumerate(zip(self.tensors, self.pitches,
                                                                 strict=True))]
        self.operation.keep(passes, operands[:split], operands[split:], [], [])

    def _place(self, number: int, half: int) -> int:
        """First scratchpad row of a buffer of an operand."""
        before = 2 * sum(self.pitches[:number]) + half * self.pitches[number]
        return self.first_row + self.chunk * before

    def emit(self) -> Ready:
        program, split = self.program, len(self.operation.inputs)
        if self.stages.config.vector.rows < self.operation.records:
            raise ValueError(f"vector.rows must be at least {self.operation.records} for "
                             f"{self.operation.name}, not {self.stages.config.vector.rows!r}")
        if not self.chunk:
            raise ValueError(f"memory.act_rows must be at least {2 * sum(self.pitches)} for "
                             f"{self.operation.name} of rows of {self.cols} columns, "
                             f"not {self.space!r}")
        constants = self._constants()
        self.stages.load(constants)
        program.credit(FREE, 2)
        program.credit(ROOM, 2)
        marks = []
        for number, first in enumerate(range(0, self.count, self.chunk)):
            length, half = min(self.chunk, self.count - first), number % 2
            marks.append(len(program))
            moves = [(Region(addresses=tensor.address + tensor.strides[0] * np.arange(
                first, first + length), cols=self.cols, size=size),
                      Buffer(row=self._place(index, half), pitch=pitch))
                     for index, (tensor, size, pitch) in enumerate(zip(
                         self.tensors, self.sizes, self.pitches, strict=True))]
            for index, (region, buffer) in enumerate(moves[:split]):
                move(program, region, buffer, wait=None if index else FREE,
                     post=READY if index == split - 1 else None)
            passes = Passes(program, constants, rows=length)
            self._keep(passes, half)
            passes.emit(ready=READY, free=FREE, room=ROOM, done=DONE)
            move(program, *moves[-1], store=True, wait=DONE, post=ROOM,
                 announce=STORED if self.upper else None)
        return Ready(semaphore=STORED, rows=self.chunk, marks=tuple(marks))
