"""The engines as coroutines that stop wherever a command waits for or raises a semaphore.

An engine yields the number of the semaphore it waits for, or ``PROGRESS`` after a piece of work.
"""

from collections.abc import Callable, Generator
from math import prod

import numpy as np
from systolith_hw.isa import ONCE, ErrorCode, LoadMode, Memory, Opcode, WeightFormat

from ..errors import CoreError
from .address import ROW_MASK, loop_offsets, ring_fits, strides_of, wrap
from .arithmetic import matmul_int8
from .state import CoreState
from .validate import Fields
from .vector import VectorWork
from .weights import Weights

__all__ = ["PROGRESS", "RUN", "Engine"]

PROGRESS = -1

Engine = Generator[int, None, None]


def _iterations(state: CoreState, index: int, fields: Fields, counts: tuple[int, ...],
                split: int, work: Callable[[int], None]) -> Engine:
    """Call ``work(t)`` for every iteration t of the loops from ``split`` up, with semaphores."""
    slots = []
    for slot in (0, 1):
        wait = fields[f"wait{slot}"] if fields[f"wait{slot}_valid"] else None
        post = fields[f"raise{slot}"] if fields[f"raise{slot}_valid"] else None
        if wait is not None or post is not None:
            level = fields[f"level{slot}"]
            slots.append((prod(counts[split:len(counts) if level == ONCE else level]), wait, post))
    for t in range(prod(counts[split:])):
        for period, wait, _ in slots:
            if wait is not None and t % period == 0:
                while state.semaphores[wait] == 0:
                    yield wait
                state.semaphores[wait] -= 1
        work(t)
        for period, _, post in slots:
            if post is not None and (t + 1) % period == 0:
                state.raise_semaphore(post, 1, index)
        yield PROGRESS


def _split_level(fields: Fields, counts: tuple[int, ...]) -> int:
    """Lowest loop level at whose iterations something happens with semaphores."""
    levels = [len(counts)]
    for slot in (0, 1):
        if fields[f"wait{slot}_valid"] or fields[f"raise{slot}_valid"]:
            levels.append(fields[f"level{slot}"])
    return min(levels)


def _transfer(state: CoreState, index: int, fields: Fields, store: bool) -> Engine:
    counts = fields["counts"]
    split = _split_level(fields, counts)
    memory_strides = strides_of(counts, fields["memory_jumps"])
    pad_strides = strides_of(counts, fields["pad_jumps"])
    memory_inner = fields["memory_base"] + loop_offsets(counts[:split], memory_strides[:split])
    pad_inner = fields["pad_base"] + loop_offsets(counts[:split], pad_strides[:split])
    memory_outer = loop_offsets(counts[split:], memory_strides[split:])
    pad_outer = loop_offsets(counts[split:], pad_strides[split:])
    run_bytes, row_bytes = fields["run_bytes"], fields["row_bytes"]
    pad = state.pads[Memory(fields["memory"])]
    ring = fields["ring"][0]
    fill = not store and fields["mode"] == LoadMode.FILL

    def work(t: int) -> None:
        runs = pad.run_rows(pad_inner + pad_outer[t], base=fields["pad_base"], ring=ring,
                            run_bytes=run_bytes, row_bytes=row_bytes, row_step=fields["row_step"])
        if not ring_fits(state.config, ring, pad.rows):
            runs = None
        if fill:
            if runs is None:
                raise CoreError(ErrorCode.SCRATCHPAD_ADDRESS, index)
            pad.write(*runs, row_bytes, np.full((1, len(runs[0]), run_bytes), fields["fill"] & 0xff,
                                                np.uint8))
            return
        addresses = state.memory_runs(memory_inner + memory_outer[t], run_bytes, index)
        if runs is None:
            raise CoreError(ErrorCode.SCRATCHPAD_ADDRESS, index)
        if store:
            state.counters["store_words"] += state.words(addresses, run_bytes)
            state.window(run_bytes)[:, addresses] = pad.read(*runs, row_bytes, run_bytes)
        else:
            state.counters["load_words"] += state.words(addresses, run_bytes)
            if len(addresses) == 1:
                first = int(addresses[0])
                data = state.memories[:, None, first:first + run_bytes]
            else:
                data = state.window(run_bytes)[:, addresses]
            pad.write(*runs, row_bytes, data)

    return _iterations(state, index, fields, counts, split, work)


def load(state: CoreState, index: int, fields: Fields) -> Engine:
    """Memory to scratchpad, or a constant to scratchpad."""
    return _transfer(state, index, fields, False)


def store(state: CoreState, index: int, fields: Fields) -> Engine:
    """Activation scratchpad to memory."""
    return _transfer(state, index, fields, True)


def execute(state: CoreState, index: int, fields: Fields) -> Engine:
    """Activation rows through the array into the accumulator."""
    config = state.config
    depth = config.control.execute_loops
    rows = config.array.rows
    weights = Weights(config, WeightFormat(fields["format"]).name.lower())
    digits, parts, cols = weights.digits, weights.parts, weights.columns
    sum_cols = config.array.sum_cols    # beyond a tile's columns, sums are 0
    counts = fields["counts"][:depth]
    split = _split_level(fields, counts)
    act_strides = strides_of(counts, fields["act_jumps"][:depth])
    acc_strides = strides_of(counts, fields["acc_jumps"][:depth])
    tile_counts = counts[2:]
    tiles = prod(tile_counts)
    act_rows = fields["act_base"] + loop_offsets(counts[:2], act_strides[:2])
    acc_rows = fields["acc_base"] + loop_offsets(counts[:2], acc_strides[:2])
    act_tiles = loop_offsets(tile_counts, act_strides[2:])
    acc_tiles = loop_offsets(tile_counts, acc_strides[2:])

    number = np.arange(tiles)
    k_tiles = prod(counts[2:depth - 1])          # of one column tile
    # Of weights with several digits loop 2 walks the digits, and the next loop K.
    turns = counts[2] if digits > 1 else 1
    k_count = counts[3] if digits > 1 else counts[2]
    digit = number % turns % digits
    valid = np.where(number // turns % k_count == k_count - 1, fields["k_last"], rows)
    taken = np.where(number % turns == turns - 1, -(-valid // parts), 0)
    wgt_tiles = (fields["wgt_base"] + np.cumsum(taken) - taken
                 + fields["wgt_rewind"] * (number // k_tiles))
    first = number % k_tiles == 0                # of a column tile
    overwrite = first & (not fields["accumulate"])
    # A group of tiles is one matrix product: the same accumulator rows, overwritten at most first.
    cut = np.ones(tiles + 1, bool)
    cut[1:-1] = (np.diff(acc_tiles) != 0) | first[1:]
    step = prod(counts[2:split])                 # tiles between semaphores
    cut[::step] = True
    cuts = np.flatnonzero(cut)

    def scratchpad_rows(numbers: np.ndarray, base: int, ring: int, limit: int) -> np.ndarray:
        numbers = wrap(numbers & ROW_MASK, base, ring)
        if (base > ROW_MASK or numbers.max() >= limit
                or not ring_fits(config, ring, limit)):
            raise CoreError(ErrorCode.SCRATCHPAD_ADDRESS, index)
        return numbers

    def product(start: int, stop: int) -> None:
        count = stop - start
        sources = scratchpad_rows(act_rows[:, None] + act_tiles[start:stop], fields["act_base"],
                                  fields["ring"][0], config.memory.act_rows)
        targets = scratchpad_rows(acc_rows + acc_tiles[start], fields["acc_base"],
                                  fields["ring"][2], config.memory.acc_rows)
        packed_rows = -(-rows // parts)
        weight_rows = wgt_tiles[start:stop, None] + np.arange(packed_rows)
        used = parts * np.arange(packed_rows) < valid[start:stop, None]
        tiles = np.zeros((count, packed_rows, parts, cols), np.int8)
        values = weights.values(state.wgt[scratchpad_rows(
            weight_rows[used], fields["wgt_base"], fields["ring"][1],
            config.memory.wgt_rows)].view(np.uint8))
        of_digit = np.broadcast_to(digit[start:stop, None], used.shape)[used]
        tiles[used] = values[np.arange(len(values)), :, of_digit]
        tiles = tiles.reshape(count, packed_rows * parts, cols)[:, :rows]
        tiles[np.arange(rows) >= valid[start:stop, None]] = 0
        operands = state.acts[:, sources, :rows].reshape(-1, count * rows)
        sums = matmul_int8(operands, tiles.reshape(count * rows, cols)).reshape(
            state.copies, -1, cols)
        if overwrite[start]:
            state.accs[:, targets, :cols] = sums
            state.accs[:, targets, cols:sum_cols] = 0
        else:
            state.accs[:, targets, :cols] += sums
        state.counters["rows"] += sources.size

    def work(t: int) -> None:
        low, high = np.searchsorted(cuts, (t * step, (t + 1) * step))
        for position in range(low, high):
            product(int(cuts[position]), int(cuts[position + 1]))

    return _iterations(state, index, fields, counts, split, work)


def vector(state: CoreState, index: int, fields: Fields) -> Engine:
    """Groups of lanes from accumulator or activation scratchpad, through the vector unit."""
    counts = fields["counts"]
    split = _split_level(fields, counts)
    return _iterations(state, index, fields, counts, split,
                       VectorWork(state, index, fields, split))


RUN = {Opcode.LOAD: load, Opcode.EXECUTE: execute, Opcode.VECTOR: vector, Opcode.STORE: store}
