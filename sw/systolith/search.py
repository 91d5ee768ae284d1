"""Which tiling is fastest: every possible one by a formula, the best of them by prediction."""

from functools import lru_cache

from systolith_hw.isa import COMMAND_BYTES

from .cycles import predict_cycles
from .pieces import GROUP, ROWS, RUN, TILE, TOKEN
from .product import Product
from .program import Program
from .schedule import emit_product
from .tiling import Problem, Tiling, possible_tilings

__all__ = ["choose_tiling", "estimate_cycles", "predict_product"]

FIRST_LOOK = 40     # kinds of tilings whose best one is predicted, at most
SECOND_LOOK = 16    # of each of the three kinds that come out best, at most
BUDGET = 12_000     # commands and chunks of weights that a search's predictions may follow
PROGRAM_SHARE = 4   # of the memory that can be addressed, for commands: the inverse
ROUND_TRIP = 60     # cycles, besides R + C, from a chunk's last use to the next one in its place


def estimate_cycles(problem: Problem, tiling: Tiling) -> float:
    """About how many cycles a product takes: its busiest part, and what cannot overlap.

    The array, the vector unit and the bus each have their work; the first span must come before,
    the last unit must go after.
    """
    config, rows = problem.config, tiling.block_rows[0]
    array_rows, data_bytes = config.array.rows, config.bus.data_bytes
    blocks, strips = len(tiling.block_rows), len(tiling.strips)
    k_tiles = tiling.k_tiles_of(tiling.padded_k) * tiling.passes
    packing = problem.packing
    row_bytes = packing.row_bytes(packing.cols)
    tile_bytes = packing.rows(tiling.tile_rows, tiling.tile_rows) * row_bytes
    array = k_tiles * packing.digits * tiling.n_tiles * sum(
        max(size, array_rows) for size in tiling.block_rows)
    groups = packing.groups
    if problem.result_bytes == 4:
        groups *= -(-4 * config.vector.lanes // min(4 * config.vector.lanes,
                                                    config.act_row_bytes))
    vector = problem.m * tiling.n_tiles * groups

    streamed = 1 if tiling.kept else len(tiling.streamed)  # times that activations come
    commands, _ = _work(tiling)
    units = blocks * -(-tiling.n_tiles // tiling.unit_tiles)
    row_words = problem.k / data_bytes + (problem.k % data_bytes != 0)
    params = 0
    if problem.params == "columns":
        commands += units if not tiling.param_resident else tiling.n_tiles // tiling.unit_tiles
        params = tiling.n_tiles * packing.groups * config.par_row_bytes * (
            1 if tiling.param_resident else blocks)
    weight_bytes = packing.rows(tiling.padded_k, tiling.tile_rows) * tiling.passes * (
        problem.n if problem.weights == "int8" else tiling.n_tiles * row_bytes)
    reads = (problem.m * row_words * tiling.passes * streamed
             + (blocks * weight_bytes + params + commands * COMMAND_BYTES) / data_bytes)
    last = tiling.strips[-1]
    tail = last.rows * groups * (min(last.tiles, tiling.unit_tiles) if last.kept else last.tiles)
    # While the first strip's activations arrive the array has no more than its tiles to do, and
    # nothing before all have come where that strip is a kept one.
    first = tiling.strips[0]
    head = first.rows * row_words
    if not first.kept:
        weights = first.tiles * tile_bytes / data_bytes
        head = k_tiles * max(0, first.rows + weights - max(first.rows, array_rows) * first.tiles)
    # A chunk's place in the ring is used again only after a round trip.
    chunk_tiles = tiling.chunk_tiles if tiling.kept else tiling.span_tiles
    used = chunk_tiles * packing.digits * max(rows, array_rows)
    loaded = chunk_tiles * tile_bytes / data_bytes
    trip = used + loaded + array_rows + config.array.cols + ROUND_TRIP
    chunks = blocks * tiling.n_tiles * k_tiles / chunk_tiles
    ring = chunks * max(used, loaded, trip / tiling.depth)
    if config.control.shared:   # it does one thing after the other
        tiles = blocks * tiling.n_tiles * k_tiles
        runs = problem.m * (streamed * tiling.passes + 1) + chunks
        return (GROUP * vector + (TILE + ROWS) * tiles + RUN * runs
                + TOKEN * (2 * chunks + 4 * units))
    return max(array, vector, reads, ring) + tail + min(head, array) + 20 * strips


def predict_product(problem: Problem, tiling: Tiling) -> int | None:
    """Cycles of the product's program; None where it would never end."""
    program = Program(config=problem.config, draft=True)
    item = problem.result_bytes
    data_bytes = problem.config.bus.data_bytes
    emit_product(program, Product(
        m=problem.m, n=problem.n, k=problem.k, a_address=0,
        a_pitch=-(-problem.k // data_bytes) * data_bytes, weights_address=0,
        params=problem.params, params_address=0, out_address=0,
        out_pitch=0 if problem.panels else -(-problem.n * item // data_bytes) * data_bytes,
        requantised=item == 1, weights=problem.weights), tiling)
    return predict_cycles(program.commands, config=problem.config)


@lru_cache(maxsize=256)
def choose_tiling(problem: Problem) -> tuple[float, Tiling]:
    """Cycles, and the tiling of ``problem`` that is predicted to take the fewest.

    Of every kind of tiling (activations kept or not, number of blocks, size of a chunk) the one
    with the best estimate is predicted first; then more of the best kinds.
    """
    def kind_of(tiling: Tiling) -> tuple[bool, int, int]:
        return tiling.kept, len(tiling.block_rows), tiling.chunk_tiles

    kinds: dict[tuple, list[tuple[float, int, Tiling]]] = {}
    tilings = list(possible_tilings(problem))
    # Where memory is small, commands must leave room for operands.
    most = (1 << problem.config.bus.addr_bits) // (PROGRAM_SHARE * COMMAND_BYTES)
    small = [tiling for tiling in tilings if _work(tiling)[0] <= most]
    for number, tiling in enumerate(small or [min(tilings, key=lambda tiling: _work(tiling)[0])]):
        kinds.setdefault(kind_of(tiling), []).append(
            (estimate_cycles(problem, tiling), number, tiling))
    for members in kinds.values():
        members.sort()
    order = sorted(kinds, key=lambda kind: kinds[kind][0])
    left = BUDGET
    results: list[tuple[float, int, Tiling]] = []

    def look(members: list[tuple[float, int, Tiling]]) -> None:
        nonlocal left
        for _, number, tiling in members:
            work = sum(_work(tiling))
            if work > left:
                continue
            left -= work
            cycles = predict_product(problem, tiling)
            if cycles is not None:
                results.append((cycles, number, tiling))

    for kind in order[:FIRST_LOOK]:
        look(kinds[kind][:1])
    for _, kind in sorted((cycles, kind_of(tiling)) for cycles, _, tiling in results)[:3]:
        look(kinds[kind][1:SECOND_LOOK])
    cycles, _, tiling = min(results) if results else kinds[order[0]][0]
    return cycles, tiling


def _work(tiling: Tiling) -> tuple[int, int]:
    """About how many commands a program has, and how many chunks of weights it loads."""
    kept = sum(strip.tiles for strip in tiling.strips if strip.kept)
    streamed = [strip.tiles for strip in tiling.strips if not strip.kept]
    spans = tiling.passes * -(-tiling.padded_k // (tiling.span_tiles * tiling.tile_rows))
    units = len(tiling.block_rows) * -(-tiling.n_tiles // tiling.unit_tiles)
    commands = 3 * spans * len(streamed) + 2 * units + 4 * (len(tiling.strips) - len(streamed))
    return commands, tiling.passes * kept * tiling.chunks + spans * sum(streamed)
