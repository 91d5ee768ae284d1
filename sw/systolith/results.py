"""Results of a product: parameters, vector commands and stores, in units of column tiles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from systolith_hw.config import CoreConfig
from systolith_hw.isa import ONCE, ElementType, Function, Memory, ResultType, Scale

from .layout import Packing
from .product import Product, Residual
from .program import Program, Slot
from .tiling import MAX_RUN_BYTES, Strip, Tiling

__all__ = ["ACC_DONE", "ACC_FREE", "Results", "Unit"]

ACC_DONE, ACC_FREE = "acc_done", "acc_free"
TABLE_ENTRIES = 256
RESULT_TYPES = {1: ResultType.INT8, 2: ResultType.INT16, 4: ResultType.INT32}
STAGE_READY, STAGE_FREE = "stage_ready", "stage_free"
PAR_READY, PAR_FREE = "par_ready", "par_free"
ADDEND_READY, ADDEND_FREE, SUM_READY = "addend_ready", "addend_free", "sum_ready"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What one vector command drains: column tiles, or lane groups of one tile.

    ``number`` counts units of the whole product; ``first`` and ``last`` say whether it is the
    first and last of what lies in its accumulator half.
    """
    number: int
    strip: Strip
    tile: int
    tiles: int
    group: int
    groups: int
    first: bool
    last: bool

    @property
    def end(self) -> int:
        return self.tile + self.tiles


class Results:
    """Appends what follows the accumulator.

    Parameters
    ----------
    program : Program
    product : Product
    tiling : Tiling

    Members
    -------
    units : list of list of Unit
        Of each strip, in the order in which they are drained.
    """
    def __init__(self, *, program: Program, product: Product, tiling: Tiling):
        self.program, self.product, self.tiling = program, product, tiling
        self.config: CoreConfig = program.config
        packing = Packing(self.config, product.weights)
        self.cols, self.row_groups = packing.cols, packing.groups
        self.result_bytes = product.result_bytes
        self.sum_bytes = 2 if product.residual else product.result_bytes
        self.whole = tiling.piece_groups == self.row_groups
        self.column_params = product.params == "columns"
        self.units: list[list[Unit]] = []
        self.count = 0
        self.drained: list[Unit] = []
        self.behind = 0     # units that have been drained and not completed
        if product.residual:
            self.sum_slots, self.addend_slots = product.residual.slots(tiling, self.config)
            self.sum_pitch, self.addend_pitch = product.residual.pitches(tiling, self.config)
            self.behind = self.sum_slots - 1
        for strip in tiling.strips:
            self.units.append(list(self._units(strip)))
            self.count += len(self.units[-1])
        self.param_loads = {unit.number for units in self.units for unit in units
                            if self._loads_params(unit)}

    def tile_cols(self, tile: int) -> int:
        return min(self.cols, self.product.n - tile * self.cols)

    def per_tile(self, strip: Strip) -> bool:
        """Whether whole tiles are drained, each from an accumulator half of its own."""
        return strip.kept and self.whole

    def _units(self, strip: Strip) -> Iterator[Unit]:
        number, tile = self.count, strip.tile
        while tile < strip.end:
            if self.whole:
                size = min(self.tiling.unit_tiles, strip.end - tile)
                if tile < self.product.turned:
                    size = min(size, self.product.turned - tile)
                if strip.last and strip.kept:
                    # What remains after the last sum is small.
                    size = min(size, max(1, (strip.end - tile) // 2))
                yield Unit(number=number, strip=strip, tile=tile, tiles=size, group=0,
                           groups=self.row_groups, first=tile == strip.tile,
                           last=tile + size == strip.end)
                number, tile = number + 1, tile + size
            else:
                step = self.tiling.piece_groups
                groups = -(-self.tile_cols(tile) // self.config.vector.lanes)
                for group in range(0, groups, step):
                    yield Unit(number=number, strip=strip, tile=tile, tiles=1, group=group,
                               groups=min(step, groups - group), first=group == 0,
                               last=group + step >= groups)
                    number += 1
                tile += 1

    def _unit_cols(self, unit: Unit) -> tuple[int, int]:
        """First column of the result and number of columns."""
        lanes = self.config.vector.lanes
        start = unit.tile * self.cols + unit.group * lanes
        end = unit.end * self.cols
        if unit.groups < self.row_groups:
            end = min(end, start + unit.groups * lanes)
        return start, min(end, self.product.n) - start

    def _loads_params(self, unit: Unit) -> bool:
        if self.product.params == "rows":
            return unit.first and unit.strip.tile == unit.tile == 0
        if not self.column_params:
            return False
        if self.tiling.param_resident:
            return unit.strip.block == 0 and (unit.first or self.per_tile(unit.strip))
        return True

    def _param_row(self, unit: Unit) -> int:
        if self.product.params == "rows":
            return unit.strip.first_row
        if not self.column_params:
            return 0
        if self.tiling.param_resident:
            return unit.tile * self.row_groups + unit.group
        slot_rows = self.tiling.unit_tiles * self.tiling.piece_groups
        return unit.number % self.tiling.param_slots * slot_rows

    def load_shared_params(self) -> None:
        """Load what all tiles share; zeros where there are no parameters."""
        product, groups = self.product, self.tiling.piece_groups
        if product.params not in ("shared", "none"):
            return
        row_bytes = self.config.par_row_bytes
        copies = self.tiling.unit_tiles if self.config.control.vector_loops < 4 else 1
        if product.params == "none":
            self.program.fill(memory=Memory.PAR, value=0, row=0, counts=[copies * groups],
                              row_strides=[1], run_bytes=row_bytes)
        else:
            self.program.load(
                memory=Memory.PAR, address=product.params_address, run_bytes=groups * row_bytes,
                row=0, row_bytes=row_bytes, counts=[copies], strides=[0], row_strides=[groups])

    def load_table(self) -> None:
        """Load the table that results go through, if any, into all lanes."""
        if self.product.table_address is not None:
            self.program.load(memory=Memory.FUN, address=self.product.table_address,
                              run_bytes=TABLE_ENTRIES, row_bytes=1,
                              row=self.config.vector.functions)

    def needs_params(self, unit: Unit) -> bool:
        """Whether parameters must be loaded for ``unit``."""
        return unit.number in self.param_loads

    def needs_loads(self, unit: Unit) -> bool:
        """Whether anything must be loaded for ``unit`` before its weights."""
        return self.needs_params(unit) or self.product.residual is not None

    def load_params(self, unit: Unit, *, announce: bool) -> None:
        """Load the parameters of ``unit``, where it does not find them in place, and what it is
        added to."""
        if self.product.residual:
            self._load_addend(unit, self.product.residual)
        if not self.needs_params(unit):
            return
        reused = (self.column_params and not self.tiling.param_resident
                  and unit.number >= self.tiling.param_slots)
        row_bytes = self.config.par_row_bytes
        first = unit.tile * self.row_groups + unit.group
        left, row = unit.tiles * unit.groups, self._param_row(unit)
        if self.product.params == "rows":
            first, left = unit.strip.first_row, unit.strip.rows
        elif self.tiling.param_resident and not self.per_tile(unit.strip):
            # The first unit of an accumulator half finds room for all of it.
            left = (1 if unit.strip.kept else unit.strip.tiles) * self.row_groups
        address = self.product.params_address + first * row_bytes
        while left:
            rows = min(left, MAX_RUN_BYTES // row_bytes)
            left -= rows
            self.program.load(
                memory=Memory.PAR, address=address, run_bytes=rows * row_bytes, row=row,
                row_bytes=row_bytes,
                slots=[Slot(wait=PAR_FREE if reused else None,
                            post=PAR_READY if announce and not left else None)])
            reused = False
            address, row = address + rows * row_bytes, row + rows

    def finish(self, unit: Unit, half: int) -> None:
        """Append the commands that bring ``unit`` to memory.

        Parameters
        ----------
        half : int
            Accumulator halves filled before that of the strip's first tile.
        """
        self._drain(unit, half)
        self.drained.append(unit)
        last = unit.strip.last and unit.last and unit.end == unit.strip.end
        while len(self.drained) > (0 if last else self.behind):
            self._complete(self.drained.pop(0))

    def _complete(self, unit: Unit) -> None:
        if self.product.residual:
            self._add(unit, self.product.residual)
        self._store(unit)

    def _drain(self, unit: Unit, half: int) -> None:
        tiling, config, strip = self.tiling, self.config, unit.strip
        product = self.product
        lanes, pitch, rows = config.vector.lanes, config.acc_group_pitch, strip.rows
        half_groups = config.acc_groups // 2
        # Tiles with parameters of their own are loop 2's; others must not move on in them.
        level = 2 if self.column_params or config.control.vector_loops < 4 else 3
        if strip.kept:
            half += unit.tile - strip.tile
        source = half % 2 * half_groups + unit.group
        if self.per_tile(strip):
            slot = Slot(wait=ACC_DONE, post=ACC_FREE,
                        level=ONCE if product.params == "rows" else level)
            tile_stride = half_groups
        else:
            loaded = PAR_READY if self.needs_params(unit) else None
            slot = Slot(wait=ACC_DONE if unit.first else loaded,
                        post=ACC_FREE if unit.last else None)
            tile_stride = rows * pitch
            if not strip.kept:
                source += (unit.tile - strip.tile) * tile_stride
        if unit.tiles == 1:
            tile_stride = 0
        row_groups = tiling.row_stage_rows * config.act_row_bytes // lanes
        if product.residual:
            row_groups = self.sum_pitch * config.act_row_bytes // lanes
        counts = [unit.groups, rows, *[1] * (config.control.vector_loops - 2)]
        source_strides = [pitch, *[0] * (config.control.vector_loops - 2)]
        result_strides = [row_groups, *[0] * (config.control.vector_loops - 2)]
        if product.params == "rows":
            # Loop 2, which moves on in the parameters, walks rows; the unit is one tile.
            counts[:3] = 1, unit.groups, rows
            source_strides[:2] = 1, pitch
            result_strides[:2] = self.sum_bytes, row_groups
        else:
            counts[level] = unit.tiles
            source_strides[level - 1] = tile_stride
            result_strides[level - 1] = unit.groups * self.sum_bytes
        result = self._stage_row(unit)
        if product.residual:
            result = self._sum_row(unit, product.residual)
        self.program.vector(
            result_type=RESULT_TYPES[self.sum_bytes],
            scale=Scale.CHANNEL if product.requantised else Scale.UNIT,
            counts=counts, source=source, source_strides=source_strides,
            rings=(min(15, config.acc_groups.bit_length() - 1) if unit.tiles > 1 else 0, 0, 0),
            result=result * config.act_row_bytes // lanes, result_strides=result_strides,
            function=Function.NONE if product.table_address is None else Function.TABLE,
            function_first=int(product.residual is not None),   # as that of the sum behind it
            param_base=self._param_row(unit),
            zero_point=0 if product.residual else product.zero_point, clamp=product.clamp,
            slots=[slot, Slot(wait=STAGE_FREE if unit.number >= tiling.stage_slots else None,
                              post=SUM_READY if product.residual else STAGE_READY)])

    def _sum_row(self, unit: Unit, residual: Residual) -> int:
        return (residual.sum_row
                + unit.number % self.sum_slots * max(self.tiling.block_rows) * self.sum_pitch)

    def _addend_row(self, unit: Unit, residual: Residual) -> int:
        return (residual.addend_row + unit.number % self.addend_slots
                * max(self.tiling.block_rows) * self.addend_pitch)

    def _load_addend(self, unit: Unit, residual: Residual) -> None:
        if unit.number == 0:
            self.program.load(memory=Memory.PAR, address=residual.params_address,
                              run_bytes=self.config.par_row_bytes, row=residual.par_row)
        column, columns = self._unit_cols(unit)
        self.program.load(
            memory=Memory.ACT, run_bytes=columns,
            row_bytes=min(columns, self.config.act_row_bytes),
            row=self._addend_row(unit, residual),
            address=residual.address + unit.strip.first_row * residual.pitch + column,
            counts=[unit.strip.rows], strides=[residual.pitch], row_strides=[self.addend_pitch],
            slots=[Slot(wait=ADDEND_FREE if unit.number >= self.addend_slots else None,
                        post=ADDEND_READY)])

    def _add(self, unit: Unit, residual: Residual) -> None:
        """Append the sum of the unit's int16 results and the addend."""
        tiling, units = self.tiling, self.config.act_row_bytes // self.config.vector.lanes
        self.program.vector(
            counts=[unit.tiles * unit.groups, unit.strip.rows], source_type=ElementType.INT16,
            source=self._sum_row(unit, residual) * units, source_step=2,
            source_strides=[self.sum_pitch * units], stream_type=ElementType.INT8,
            stream=self._addend_row(unit, residual) * units,
            stream_strides=[self.addend_pitch * units],
            function=Function.WEIGHTED, function_first=1, immediate=residual.weight,
            param_base=residual.par_row, param_step=0, zero_point=self.product.zero_point,
            result_type=RESULT_TYPES[self.result_bytes], result=self._stage_row(unit) * units,
            result_strides=[tiling.row_stage_rows * units],
            slots=[Slot(wait=SUM_READY, post=STAGE_READY),
                   Slot(wait=ADDEND_READY, post=ADDEND_FREE
                        if unit.number + self.addend_slots < self.count else None)])

    def _stage_row(self, unit: Unit) -> int:
        return (self.tiling.stage_row
                + unit.number % self.tiling.stage_slots * self.tiling.stage_rows)

    def _store(self, unit: Unit) -> None:
        """Append the stores of what ``unit`` left in its staging slot."""
        tiling = self.tiling
        commands = list(self._stores(unit))
        frees_params = (self.column_params and not tiling.param_resident
                        and unit.number + tiling.param_slots in self.param_loads)
        frees_stage = unit.number + tiling.stage_slots < self.count
        for number, fields in enumerate(commands):
            last = number == len(commands) - 1
            slots = [Slot(wait=STAGE_READY if number == 0 else None,
                          post=STAGE_FREE if last and frees_stage else None),
                     Slot(post=PAR_FREE if last and frees_params else None)]
            self.program.store(slots=slots, **fields)

    def _stores(self, unit: Unit) -> Iterator[dict[str, Any]]:
        row = self._stage_row(unit)
        if unit.tile < self.product.turned:
            return self._turned(unit, row)
        return iter([self._plain(unit, row)])

    def _turned(self, unit: Unit, row: int) -> Iterator[dict[str, Any]]:
        """Stores of one byte of each row after the other: few, as they are slow, and commands of
        other engines are behind them."""
        tiling, product, strip = self.tiling, self.product, unit.strip
        width, (start, columns) = self.config.act_row_bytes, self._unit_cols(unit)
        first, end = strip.first_row, strip.first_row + strip.rows
        while first < end:
            panel = first // self.cols * self.cols
            stop, cols = min(end, panel + self.cols), min(self.cols, product.m - panel)
            panels = 1
            if stop - first == self.cols and self.config.control.load_loops > 1:
                panels = (end - first) // self.cols
            for column in range(0, columns, width):
                yield {"address": (product.turned_address + panel * product.turned * self.cols
                                   + (start + column) * cols + first - panel),
                       "run_bytes": stop - first, "row_bytes": 1,
                       "row_step": tiling.row_stage_rows,
                       "row": (row + (first - strip.first_row) * tiling.row_stage_rows
                               + column // width),
                       "counts": [min(width, columns - column), panels],
                       "strides": [cols, self.cols * product.turned * self.cols],
                       "byte_strides": [1, self.cols * tiling.row_stage_rows * width]}
            first = stop + (panels - 1) * self.cols

    def _plain(self, unit: Unit, row: int) -> dict[str, Any]:
        tiling, product, strip = self.tiling, self.product, unit.strip
        column, columns = self._unit_cols(unit)
        run_bytes, rows, pitch = columns * self.result_bytes, strip.rows, product.out_pitch
        address = product.out_address + column * self.result_bytes
        stage_bytes = tiling.row_stage_rows * self.config.act_row_bytes
        if not pitch:
            # A panel's rows follow each other; where those of the stage do too, they are one run.
            pitch = self.tile_cols(unit.tile) * self.result_bytes
            first = unit.tile * self.cols
            address += first * (product.m - 1) * self.result_bytes
            if run_bytes == pitch == stage_bytes and rows * pitch <= MAX_RUN_BYTES:
                run_bytes, rows = rows * run_bytes, 1
        return {"address": address + strip.first_row * pitch, "run_bytes": run_bytes,
                "row_bytes": min(run_bytes, self.config.act_row_bytes), "row": row,
                "counts": [rows], "strides": [pitch], "row_strides": [tiling.row_stage_rows]}
