"""cocotb bench of the array: tiles as fast as it takes them, and with gaps, against NumPy."""

import numpy as np
from cocotb.triggers import FallingEdge

from systolith_sim import tb
from systolith_sim.benches.element import quiet


def packed(values):
    """int8 operands side by side in one integer, the first lowest."""
    return int.from_bytes(np.asarray(values, np.int8).tobytes(), "little")


async def run(dut, lengths, rng, gap):
    """Tiles of so many rows each; the cycles of their first rows."""
    parameters = tb.parameters()
    rows, cols, bits = parameters["rows"], parameters["cols"], parameters["sum_bits"]
    row_port, row_valid, swap_port, weights_port, weights_valid, sums_port, sums_valid = (
        getattr(dut, f"array_{rows}x{cols}_{port}") for port in (
            "row", "row_valid", "swap", "weights", "weights_valid", "sums", "sums_valid"))
    tiles = [(rng.integers(-128, 128, (m, rows)), rng.integers(-128, 128, (rows, cols)))
             for m in lengths]
    tiles[0] = (np.full_like(tiles[0][0], -128), np.full_like(tiles[0][1], -128))
    quiet(dut)
    await tb.start(dut)
    await FallingEdge(dut.clk)
    tile = row = weight_tile = weight_row = drained = cycle = 0
    swaps, entered, sums = [], [], []
    while drained <= parameters["latency"] + 1:
        if sums_valid.value:
            raw = int(sums_port.value)
            values = [raw >> bits * c & (1 << bits) - 1 for c in range(cols)]
            sums.append((cycle, [v - (v >> bits - 1 << bits) for v in values]))
        # A tile's first row may enter in the cycle after its last weight row.
        valid = tile < len(tiles) and (row > 0 or tile < weight_tile) and rng.random() >= gap
        swap = bool(valid and row == 0)
        row_valid.value = int(valid)
        swap_port.value = int(swap) if valid else int(rng.integers(2))
        row_port.value = packed(tiles[tile][0][row] if valid else rng.integers(-128, 128, rows))
        if valid:
            entered.append(cycle)
            row += 1
            if swap:
                swaps.append(cycle)
            if row == lengths[tile]:
                tile, row = tile + 1, 0
        # A tile's first weights may enter in the cycle of the swap before them.
        wanted = (weight_tile < len(tiles) and (weight_row > 0 or weight_tile <= len(swaps))
                  and rng.random() >= gap)
        weights_valid.value = int(wanted)
        weights_port.value = packed(tiles[weight_tile][1][rows - 1 - weight_row] if wanted
                                   else rng.integers(-128, 128, cols))
        if wanted:
            weight_row += 1
            if weight_row == rows:
                weight_tile, weight_row = weight_tile + 1, 0
        drained = drained + 1 if tile == len(tiles) else 0
        cycle += 1
        await FallingEdge(dut.clk)
    expected = np.concatenate([acts @ weights for acts, weights in tiles])
    assert np.array_equal(np.array([values for _, values in sums]), expected)
    assert [when for when, _ in sums] == [when + parameters["latency"] for when in entered]
    return swaps


def lengths_of(rng, rows):
    """Activation rows of some tiles: one, as many as the array has, more, and any."""
    return [1, 1, 1, rows, rows, 2 * rows + 3,
            *(int(m) for m in rng.integers(1, 2 * rows + 2, 10))]


@tb.bench(cycles=20_000)
async def a_tile_costs_exactly_the_larger_of_its_rows_and_the_arrays(dut):
    """Numbers and cycles, at one row, at R rows, and mixed."""
    rng = np.random.default_rng(tb.parameters()["seed"])
    rows = tb.parameters()["rows"]
    lengths = lengths_of(rng, rows)
    swaps = await run(dut, lengths, rng, gap=0)
    assert list(np.diff(swaps)) == [max(m, rows) for m in lengths[:-1]]


@tb.bench(cycles=60_000)
async def gaps_in_rows_and_weights_change_no_number(dut):
    """Rows and weight rows held back at random."""
    rng = np.random.default_rng(tb.parameters()["seed"] + 1)
    await run(dut, lengths_of(rng, tb.parameters()["rows"]), rng, gap=0.4)
