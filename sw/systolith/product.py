"""One matrix product: its operands and results in memory, and what results are added to."""

from dataclasses import dataclass

from systolith_hw.config import CoreConfig

from .tiling import MOST_BUFFERS, Tiling

__all__ = ["Product", "Residual"]


@dataclass(frozen=True, kw_only=True)
class Residual:
    """An int8 matrix x, added to a product y: ``requantise(y + weight * x)``.

    Parameters
    ----------
    address, pitch : int
        Row by row.
    weight : int
        16 bits, signed.
    params_address : int
        A parameter row, the same for all.
    addend_row, sum_row, rows : int
        Free rows of the activation scratchpad for parts of x, and as many, in another bank, for
        int16 results.
    par_row : int
        A free parameter row.
    """
    address: int
    pitch: int
    weight: int
    params_address: int
    addend_row: int
    sum_row: int
    rows: int
    par_row: int

    def pitches(self, tiling: Tiling, config: CoreConfig) -> tuple[int, int]:
        """Scratchpad rows of a row of a unit's int16 results, and of x."""
        row_bytes = tiling.unit_tiles * tiling.piece_groups * config.vector.lanes
        return -(-2 * row_bytes // config.act_row_bytes), -(-row_bytes // config.act_row_bytes)

    def slots(self, tiling: Tiling, config: CoreConfig) -> tuple[int, int]:
        """Units of int16 results, 2 or 1, and of x, that fit.

        With two of each, a unit is added to x when the next one has been drained.
        """
        wide, pitch = self.pitches(tiling, config)
        rows = self.rows // max(tiling.block_rows)
        several = tiling.stage_slots > 1 and (tiling.param_resident or tiling.param_slots > 1)
        return (2 if several and 2 * wide <= rows and 2 * pitch <= rows else 1,
                min(MOST_BUFFERS, rows // pitch))


@dataclass(frozen=True, kw_only=True)
class Product:
    """One matrix product: sizes, places in memory, what becomes of the sums.

    Parameters
    ----------
    m, n, k : int
    a_address, a_pitch : int
        Activations, row by row.
    weights_address : int
        As ``layout.pack_weights`` lays them out.
    params : str
        As in ``Problem``.
    params_address : int
        As ``layout.pack_parameters`` lays them out.
    out_address, out_pitch : int
        Results, row by row; an ``out_pitch`` of 0 means column tile by column tile, each dense.
    requantised : bool
        int8 results; otherwise int32.
    zero_point : int
    clamp : tuple of int
    table_address : int or None
        256 int8: what becomes of results from -128 on.
    wide : bool
        int16 in place of int8 results.
    turned, turned_address : int
        Column tiles, from the first, whose int8 results become weights: they lie transposed, as
        ``layout.pack_panels`` has them, at an address of their own.
    ready : str or None
        Semaphore that is raised each time ``ready_rows`` more rows of activations, or what is
        left, have come to memory; None: they are there.
    ready_rows : int
    residual : Residual or None
        What results are added to; the product's own are then int16 before.
    weights : str
        Format of the weights.
    """
    m: int
    n: int
    k: int
    a_address: int
    a_pitch: int
    weights_address: int
    params: str
    params_address: int
    out_address: int
    out_pitch: int
    requantised: bool
    zero_point: int = 0
    clamp: tuple[int, int] = (-128, 127)
    table_address: int | None = None
    wide: bool = False
    turned: int = 0
    turned_address: int = 0
    ready: str | None = None
    ready_rows: int = 1
    residual: Residual | None = None
    weights: str = "int8"

    @property
    def result_bytes(self) -> int:
        """Bytes of a result."""
        return 1 + self.wide if self.requantised else 4
