"""Results of a product: parameters, vector commands and stores, in units of column tiles."""

from collections.abc import Iterator
from dataclasses import dataclass

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Memory, VectorOp

from .program import Program, Slot
from .tiling import MAX_RUN_BYTES, Product, Tiling, split_evenly

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
    block: int
    tile: int
    tiles: int
    group: int
    groups: int
    first: bool
    last: bool


class Results:
    """Appends what follows the accumulator.

    Parameters
    ----------
    program : Program
    product : Product
    tiling : Tiling

    Members
    -------
    units : list of Unit
        In the order in which they are drained.
    per_tile : bool
        Whether units are whole tiles, each tile in an accumulator half of its own.
    """
    def __init__(self, *, program: Program, product: Product, tiling: Tiling):
        self.program, self.product, self.tiling = program, product, tiling
        self.config: CoreConfig = program.config
        self.cols = self.config.array.cols
        self.n_tiles = -(-product.n // self.cols)
        self.row_groups = self.config.groups_per_row
        self.result_bytes = 1 if product.requantised else 4
        self.per_tile = tiling.resident and tiling.piece_groups == self.row_groups
        self.units = list(self._units())
        self.param_loads = {unit.number for unit in self.units if self._loads_params(unit)}

    def tile_cols(self, tile: int) -> int:
        return min(self.cols, self.product.n - tile * self.cols)

    def tile_blocks(self) -> list[tuple[int, int]]:
        """First column tile and number of tiles of each accumulator half, for one row block."""
        if self.tiling.resident:
            return [(tile, 1) for tile in range(self.n_tiles)]
        sizes = split_evenly(self.n_tiles, -(-self.n_tiles // self.tiling.block_tiles))
        return [(sum(sizes[:i]), size) for i, size in enumerate(sizes)]

    def _units(self) -> Iterator[Unit]:
        number = 0
        blocks = len(self.tiling.block_rows)
        whole = self.tiling.piece_groups == self.row_groups
        ranges = [(0, self.n_tiles)] if self.tiling.resident and whole else self.tile_blocks()
        for block in range(blocks):
            for start, count in ranges:
                tile, end = start, start + count
                while whole and tile < end:
                    size = min(self.tiling.unit_tiles, end - tile)
                    if block == blocks - 1 and end == self.n_tiles:
                        # What remains after the last sum is small.
                        size = min(size, max(1, (end - tile) // 2))
                    yield Unit(number=number, block=block, tile=tile, tiles=size, group=0,
                                groups=self.row_groups, first=tile == start,
                                last=tile + size == end)
                    number, tile = number + 1, tile + size
                if not whole:
                    step = self.tiling.piece_groups
                    groups = -(-self.tile_cols(start) // self.config.vector.lanes)
                    for group in range(0, groups, step):
                        yield Unit(number=number, block=block, tile=start, tiles=1, group=group,
                                    groups=min(step, groups - group), first=group == 0,
                                    last=group + step >= groups)
                        number += 1

    def _unit_cols(self, unit: Unit) -> tuple[int, int]:
        """First column of the result and number of columns."""
        lanes = self.config.vector.lanes
        start = unit.tile * self.cols + unit.group * lanes
        end = (unit.tile + unit.tiles) * self.cols
        if unit.groups < self.row_groups:
            end = min(end, start + unit.groups * lanes)
        return start, min(end, self.product.n) - start

    def _loads_params(self, unit: Unit) -> bool:
        if self.product.params_address is None:
            return False
        if self.tiling.param_resident:
            return unit.block == 0 and (unit.first or self.per_tile)
        return True

    def _param_row(self, unit: Unit) -> int:
        if self.product.params_address is None:
            return 0
        if self.tiling.param_resident:
            return unit.tile * self.row_groups + unit.group
        slot_rows = self.tiling.unit_tiles * self.tiling.piece_groups
        return unit.number % self.tiling.param_slots * slot_rows

    def load_params(self, unit: Unit, *, announce: bool) -> None:
        """Load the parameters of ``unit``, where it does not find them in place."""
        if unit.number not in self.param_loads or self.product.params_address is None:
            return
        reused = not self.tiling.param_resident and unit.number >= self.tiling.param_slots
        row_bytes = self.config.par_row_bytes
        first = unit.tile * self.row_groups + unit.group
        left, row = unit.tiles * unit.groups, self._param_row(unit)
        if self.tiling.param_resident and not self.per_tile:
            # The first unit of an accumulator half finds room for all of it.
            left = dict(self.tile_blocks())[unit.tile] * self.row_groups
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

    def drain(self, unit: Unit, half: int, rows: int) -> None:
        """Append the vector command of ``unit``, from accumulator half ``half`` on."""
        tiling, config = self.tiling, self.config
        lanes, pitch = config.vector.lanes, config.acc_group_pitch
        half_groups = config.acc_groups // 2
        source = half % 2 * half_groups + unit.group
        if self.per_tile:
            slot = Slot(wait=ACC_DONE, post=ACC_FREE, level=2)
            tile_stride = half_groups
        else:
            loaded = PAR_READY if unit.number in self.param_loads else None
            slot = Slot(wait=ACC_DONE if unit.first else loaded,
                        post=ACC_FREE if unit.last else None)
            tile_stride = rows * pitch
            if not tiling.resident:
                source += (unit.tile - self._block_start(unit.tile)) * tile_stride
        if unit.tiles == 1:
            tile_stride = 0
        row_groups = tiling.row_stage_rows * config.act_row_bytes // lanes
        slot_row = tiling.stage_row + unit.number % tiling.stage_slots * tiling.stage_rows
        self.program.vector(
            operation=VectorOp.REQUANTISE if self.product.requantised else VectorOp.ADD_BIAS,
            counts=[unit.groups, rows, unit.tiles, *[1] * (config.control.vector_loops - 3)],
            source=source, source_strides=[pitch, tile_stride, *[0] * (
                config.control.vector_loops - 3)],
            source_ring=min(15, config.acc_groups.bit_length() - 1) if unit.tiles > 1 else 0,
            result=slot_row * config.act_row_bytes // lanes,
            result_strides=[row_groups, unit.groups * self.result_bytes,
                            *[0] * (config.control.vector_loops - 3)],
            param_row=self._param_row(unit), zero_point=self.product.zero_point,
            clamp=self.product.clamp,
            slots=[slot, Slot(wait=STAGE_FREE if unit.number >= tiling.stage_slots else None,
                              post=STAGE_READY)])

    def _block_start(self, tile: int) -> int:
        return max(start for start, _ in self.tile_blocks() if start <= tile)

    def store(self, unit: Unit, first_row: int, rows: int) -> None:
        """Append the store of what ``unit`` left in its staging slot."""
        tiling, product = self.tiling, self.product
        column, columns = self._unit_cols(unit)
        run_bytes = columns * self.result_bytes
        frees_params = (not tiling.param_resident
                        and unit.number + tiling.param_slots in self.param_loads)
        self.program.store(
            address=product.out_address + first_row * product.out_pitch
            + column * self.result_bytes,
            run_bytes=run_bytes, row_bytes=min(run_bytes, self.config.act_row_bytes),
            row=tiling.stage_row + unit.number % tiling.stage_slots * tiling.stage_rows,
            counts=[rows], strides=[product.out_pitch], row_strides=[tiling.row_stage_rows],
            slots=[Slot(wait=STAGE_READY, post=STAGE_FREE
                        if unit.number + tiling.stage_slots < len(self.units) else None),
                   Slot(post=PAR_FREE if frees_params else None)])
