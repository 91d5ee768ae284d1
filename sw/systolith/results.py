"""Results of a product: parameters, vector commands and stores, in units of column tiles."""

from collections.abc import Iterator
from dataclasses import dataclass

from systolith_hw.config import CoreConfig
from systolith_hw.isa import ONCE, Memory, VectorOp

from .program import Program, Slot
from .tiling import MAX_RUN_BYTES, Product, Strip, Tiling

__all__ = ["ACC_DONE", "ACC_FREE", "Results", "Unit"]

ACC_DONE, ACC_FREE = "acc_done", "acc_free"
STAGE_READY, STAGE_FREE = "stage_ready", "stage_free"
PAR_READY, PAR_FREE = "par_ready", "par_free"


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
        self.cols = self.config.array.cols
        self.row_groups = self.config.groups_per_row
        self.result_bytes = 1 if product.requantised else 4
        self.whole = tiling.piece_groups == self.row_groups
        self.column_params = product.params == "columns"
        self.units: list[list[Unit]] = []
        self.count = 0
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

    def needs_params(self, unit: Unit) -> bool:
        """Whether parameters must be loaded for ``unit``."""
        return unit.number in self.param_loads

    def load_params(self, unit: Unit, *, announce: bool) -> None:
        """Load the parameters of ``unit``, where it does not find them in place."""
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
        slot_row = tiling.stage_row + unit.number % tiling.stage_slots * tiling.stage_rows
        counts = [unit.groups, rows, *[1] * (config.control.vector_loops - 2)]
        source_strides = [pitch, *[0] * (config.control.vector_loops - 2)]
        result_strides = [row_groups, *[0] * (config.control.vector_loops - 2)]
        if product.params == "rows":
            # Loop 2, which moves on in the parameters, walks rows; the unit is one tile.
            counts[:3] = 1, unit.groups, rows
            source_strides[:2] = 1, pitch
            result_strides[:2] = self.result_bytes, row_groups
        else:
            counts[level] = unit.tiles
            source_strides[level - 1] = tile_stride
            result_strides[level - 1] = unit.groups * self.result_bytes
        self.program.vector(
            operation=VectorOp.REQUANTISE if product.requantised else VectorOp.ADD_BIAS,
            counts=counts, source=source, source_strides=source_strides,
            source_ring=min(15, config.acc_groups.bit_length() - 1) if unit.tiles > 1 else 0,
            result=slot_row * config.act_row_bytes // lanes, result_strides=result_strides,
            param_row=self._param_row(unit), zero_point=product.zero_point,
            clamp=product.clamp,
            slots=[slot, Slot(wait=STAGE_FREE if unit.number >= tiling.stage_slots else None,
                              post=STAGE_READY)])

    def _store(self, unit: Unit) -> None:
        """Append the store of what ``unit`` left in its staging slot."""
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
        frees_params = (self.column_params and not tiling.param_resident
                        and unit.number + tiling.param_slots in self.param_loads)
        self.program.store(
            address=address + strip.first_row * pitch,
            run_bytes=run_bytes, row_bytes=min(run_bytes, self.config.act_row_bytes),
            row=tiling.stage_row + unit.number % tiling.stage_slots * tiling.stage_rows,
            counts=[rows], strides=[pitch],
            row_strides=[tiling.row_stage_rows],
            slots=[Slot(wait=STAGE_READY, post=STAGE_FREE
                        if unit.number + tiling.stage_slots < self.count else None),
                   Slot(post=PAR_FREE if frees_params else None)])
