"""Random commands one by one, without semaphores: how they are drawn, and what they touch."""

import random
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from systolith.model.address import loop_offsets, wrap
from systolith_hw.config import CoreConfig
from systolith_hw.isa import LoadMode, Memory, Opcode, WeightFormat
from systolith_hw.legal import loops_of

from .steps import Access, Step, draw_base, draw_counts, draw_ring, draw_strides, padded
from .vectors import draw_vector, reading_records, vector_footprint, writing_records

__all__ = [
    "PARAMETERS", "RECORD_BYTES", "WINDOW_BYTES", "draw_step", "footprint", "pads_of",
    "revisits_in_time", "setting_up", "showing",
]

WINDOW_BYTES = 1 << 16
PARAMETERS = range(0x5000, 0x6000)      # records of bias, multiplier and shift, never written
STORES = range(0x6000, WINDOW_BYTES)    # what stores may write; loads read anywhere
SHOWN = range(0xc000, WINDOW_BYTES)     # of these, what only stores at the end write
MEETING = range(0x7e00, 0x8200)         # where loads and stores meet, and bursts end
RECORD_BYTES = 12
VARIED_BYTES = 512      # at the beginning of each scratchpad, that differ from the beginning
TABLE_ENTRIES = 256     # the same of function tables
REVISIT_CYCLES = 5  # from an accumulator row's address until it can be read again


def pads_of(config: CoreConfig) -> dict[Memory, tuple[int, int, int]]:
    """Rows, bytes of a row and row pitch of the scratchpads."""
    sizes = config.memory
    pads = {Memory.ACT: (sizes.act_rows, config.act_row_bytes, config.act_row_bytes),
            Memory.WGT: (sizes.wgt_rows, config.wgt_row_bytes, config.wgt_row_pitch),
            Memory.PAR: (sizes.par_rows, config.par_row_bytes, config.par_row_pitch),
            Memory.FUN: (2 * config.vector.functions, config.fun_row_bytes, config.fun_row_bytes)}
    return {memory: size for memory, size in pads.items() if size[0]}


# What commands touch

def footprint(step: Step, config: CoreConfig) -> list[Access] | None:
    """What the command touches; None where it leaves a memory or breaks a rule of its own."""
    return {Opcode.LOAD: _transfer, Opcode.STORE: _transfer, Opcode.EXECUTE: _execute,
            Opcode.VECTOR: vector_footprint}[step.opcode](step, config)


def _transfer(step: Step, config: CoreConfig) -> list[Access] | None:
    values = step.fields
    memory = Memory(values["memory"])
    rows, row_bytes, pitch = pads_of(config)[memory]
    pad = values["pad_base"] + loop_offsets(step.counts, step.strides["pad_jumps"])
    first_bytes, first_rows = pad % pitch, pad // pitch
    run = np.arange(values["run_bytes"])
    run_row, run_byte = np.divmod(run, values["row_bytes"])
    touched = wrap(first_rows[:, None] + values["row_step"] * run_row,
                   values["pad_base"] // pitch, values["ring"][0])
    if (touched.min() < 0 or touched.max() >= rows
            or first_bytes.max() + values["row_bytes"] > row_bytes):
        return None
    if memory == Memory.FUN:
        touched %= config.vector.functions  # the upper half are the same rows in all lanes
    store = step.opcode == Opcode.STORE
    accesses = [Access(memory.name.lower(), not store, touched)]
    if memory == Memory.ACT and not store:
        accesses.append(Access("act bytes", True,
                               touched * row_bytes + first_bytes[:, None] + run_byte))
    if store or values["mode"] == LoadMode.READ:
        places = values["memory_base"] + loop_offsets(
            step.counts, step.strides["memory_jumps"])[:, None] + run
        allowed = STORES if store else PARAMETERS if memory == Memory.PAR else range(WINDOW_BYTES)
        if places.min() < allowed.start or places.max() >= allowed.stop:
            return None
        accesses.append(Access("memory", store, places))
    return accesses


def _tile_rows(step: Step, config: CoreConfig, name: str) -> np.ndarray:
    """Activation or accumulator rows of an execute, (tiles, rows of a tile)."""
    offsets = step.fields[f"{name}_base"] + loop_offsets(step.counts, step.strides[f"{name}_jumps"])
    ring = step.fields["ring"][{"act": 0, "acc": 2}[name]]
    return wrap(offsets, step.fields[f"{name}_base"], ring).reshape(
        -1, step.counts[0] * step.counts[1])


def _execute(step: Step, config: CoreConfig) -> list[Access] | None:
    values, counts = step.fields, step.counts
    act, acc = (_tile_rows(step, config, name) for name in ("act", "acc"))
    tile = np.arange(prod(counts[2:]))
    name = WeightFormat(values["format"]).name.lower()
    parts = config.weight_parts(name)
    # Iterations of loop 2 that meet the same weights, digit by digit, and tiles of K.
    turns, k_count = (counts[2:4] if config.array.digits(name) > 1 else (1, counts[2]))
    valid = np.where((tile // turns + 1) % k_count == 0, values["k_last"], config.array.rows)
    packed = -(-valid // parts)
    moves = np.where((tile + 1) % turns == 0, packed, 0)
    first = (values["wgt_base"] + np.cumsum(moves) - moves
             + values["wgt_rewind"] * (tile // prod(counts[2:-1])))
    row = np.minimum(np.arange(config.array.rows), packed[:, None] - 1)
    wgt = wrap(first[:, None] + row, values["wgt_base"], values["ring"][1])
    sizes = config.memory
    for rows, limit in ((act, sizes.act_rows), (acc, sizes.acc_rows), (wgt, sizes.wgt_rows)):
        if rows.min() < 0 or rows.max() >= limit:
            return None
    if any(len(set(rows)) < len(rows) for rows in acc.tolist()):
        return None
    return [Access("act", False, act), Access("wgt", False, wgt), Access("acc", True, acc)]


def revisits_in_time(steps: Sequence[Step], config: CoreConfig) -> bool:
    """Whether every accumulating tile comes to its rows after their sums were written.

    Tiles follow each other in ``max(m, R)`` cycles at best; the same rows in the same order are
    never too early.
    """
    least = min(config.array.rows, REVISIT_CYCLES)
    before: dict[int, int] = {}     # cycles from a row of the last tile to this tile's first
    for step in steps:
        if step.opcode != Opcode.EXECUTE:
            continue
        k_tiles = prod(step.counts[2:-1])
        for number, rows in enumerate(_tile_rows(step, config, "acc").tolist()):
            overwrites = number % k_tiles == 0 and not step.fields["accumulate"]
            if not overwrites and any(before.get(row, least) + cycle < least
                                      for cycle, row in enumerate(rows)):
                return False
            tile_cycles = max(len(rows), config.array.rows)
            before = {row: tile_cycles - cycle for cycle, row in enumerate(rows)}
    return True


# Drawing

def setting_up(choice: random.Random, config: CoreConfig) -> list[Step]:
    """Fills of all scratchpads and loads of their first rows, an execute that writes every row of
    the accumulator, and vector commands that write the row file."""
    steps = []

    def load(memory: Memory, rows: int, mode: LoadMode) -> None:
        _, row_bytes, pitch = pads_of(config)[memory]
        # Parameters of seven equal bytes are legal: their multipliers and shifts are.
        fill = choice.randint(0, 7) if memory == Memory.PAR else choice.randint(-128, 127)
        filling = mode == LoadMode.FILL
        run_bytes, runs = (row_bytes, rows) if filling else (rows * row_bytes, 1)
        steps.append(Step(Opcode.LOAD, padded([runs], config, Opcode.LOAD), {
            "memory_jumps": padded([0], config, Opcode.LOAD, 0),
            "pad_jumps": padded([pitch], config, Opcode.LOAD, 0)}, {
            "memory": memory, "mode": mode, "fill": fill if filling else 0, "run_bytes": run_bytes,
            "row_bytes": row_bytes, "row_step": 1, "pad_base": 0, "ring": [0],
            "memory_base": 0 if filling else PARAMETERS.start if memory == Memory.PAR
                           else choice.randrange(STORES.start, SHOWN.start - run_bytes)},
            choice.getrandbits(30), True))

    for memory, (rows, row_bytes, _) in pads_of(config).items():
        load(memory, rows, LoadMode.FILL)
        most = TABLE_ENTRIES if memory == Memory.FUN else -(-VARIED_BYTES // row_bytes)
        load(memory, min(rows, most), LoadMode.READ)
    varied = min(config.memory.act_rows, VARIED_BYTES // config.act_row_bytes)
    steps.append(Step(Opcode.EXECUTE, padded([config.memory.acc_rows], config, Opcode.EXECUTE), {
        "act_jumps": padded([1], config, Opcode.EXECUTE, 0),
        "acc_jumps": padded([1], config, Opcode.EXECUTE, 0)}, {
        "act_base": 0, "acc_base": 0, "wgt_base": 0, "wgt_rewind": 0, "k_last": config.array.rows,
        "format": _draw_format(choice, config), "accumulate": 0,
        "ring": [varied.bit_length() - 1, 0, 0]}, choice.getrandbits(30), True))
    return [*steps, *writing_records(choice, config)]


def showing(choice: random.Random, config: CoreConfig) -> list[Step]:
    """Stores of the activation scratchpad and, through it, of what can be read of the row file."""
    row_bytes = config.act_row_bytes
    end = SHOWN.start

    def store(rows: int) -> Step:
        nonlocal end
        start, end = end, end + rows * row_bytes
        return Step(Opcode.STORE, padded([], config, Opcode.STORE), {
            name: padded([], config, Opcode.STORE, 0) for name in ("memory_jumps", "pad_jumps")}, {
            "memory": Memory.ACT, "run_bytes": rows * row_bytes, "row_bytes": row_bytes,
            "row_step": 1, "memory_base": start, "pad_base": 0, "ring": [0]},
            choice.getrandbits(30))

    steps = [store(min(config.memory.act_rows, len(SHOWN) // 2 // row_bytes))]
    size = min(len(SHOWN) // 8, config.memory.act_rows * row_bytes)
    records, groups = reading_records(choice, config, size // config.vector.lanes)
    for step in records:
        steps += [step, store(-(-groups * config.vector.lanes // row_bytes))]
    return steps


def draw_step(choice: random.Random, config: CoreConfig) -> Step:
    """A random command that stays inside every memory."""
    kinds = {Opcode.LOAD: 3, Opcode.EXECUTE: 3, Opcode.VECTOR: 7, Opcode.STORE: 2}
    opcode = choice.choices(list(kinds), list(kinds.values()))[0]
    draw: Callable[[random.Random, CoreConfig], Step | None] = {
        Opcode.LOAD: _draw_load, Opcode.STORE: _draw_store, Opcode.EXECUTE: _draw_execute,
        Opcode.VECTOR: draw_vector}[opcode]
    while True:
        step = draw(choice, config)
        if (step is not None and footprint(step, config) is not None
                and revisits_in_time([step], config)):
            return step


def _draw_load(choice: random.Random, config: CoreConfig) -> Step | None:
    weights = {Memory.ACT: 5, Memory.WGT: 4, Memory.PAR: 2, Memory.FUN: 2}
    memories = list(pads_of(config))
    memory = choice.choices(memories, [weights[memory] for memory in memories])[0]
    return _draw_transfer(choice, config, Opcode.LOAD, memory)


def _draw_store(choice: random.Random, config: CoreConfig) -> Step | None:
    return _draw_transfer(choice, config, Opcode.STORE, Memory.ACT)


def _draw_transfer(choice: random.Random, config: CoreConfig, opcode: Opcode,
                   memory: Memory) -> Step | None:
    rows, pad_bytes, pitch = pads_of(config)[memory]
    unit = RECORD_BYTES if memory == Memory.PAR else 1  # parameters move as whole records
    row_bytes = unit * choice.choice([pad_bytes // unit, choice.randint(1, pad_bytes // unit)])
    byte = unit * choice.randint(0, (pad_bytes - row_bytes) // unit)
    whole = row_bytes * choice.randint(1, choice.choice([1, 4, 24]))
    run_bytes = choice.choice([whole, unit * choice.randint(1, whole // unit)])
    row_step = choice.choice([1, 1, 1, 2, 3, 0, -1, -2])
    loops = loops_of(opcode, config)
    counts = draw_counts(choice, loops, max(1, min(24, 600 // run_bytes)))
    memory_strides = draw_strides(choice, loops, [0, run_bytes, -run_bytes, unit * 3, unit * 41,
                                              unit * choice.randint(-90, 90)])
    lane = unit * choice.randint(-2, 2) if choice.random() < 0.2 else 0
    pad_strides = draw_strides(choice, loops, [0, pitch, -pitch, pitch * -(-run_bytes // row_bytes),
                                           pitch * choice.randint(-4, 4) + lane])
    ring = draw_ring(choice, rows)
    in_run = row_step * np.arange(-(-run_bytes // row_bytes))
    offsets = loop_offsets(counts, pad_strides)
    row = draw_base(choice, ((byte + offsets) // pitch)[:, None] + in_run, 0, rows)
    if ring:
        row = choice.randrange(rows)
    filling = opcode == Opcode.LOAD and choice.random() < 0.2
    low, high = {Opcode.STORE: (STORES.start, SHOWN.start)}.get(
        opcode, (PARAMETERS.start, PARAMETERS.stop) if memory == Memory.PAR else (0, WINDOW_BYTES))
    if memory != Memory.PAR and choice.random() < 0.6:
        low, high = MEETING.start, MEETING.stop
    places = loop_offsets(counts, memory_strides)[:, None] + np.arange(run_bytes)
    address = draw_base(choice, places, low, high)
    if row is None or address is None:
        return None
    if memory == Memory.PAR:
        address -= (address - PARAMETERS.start) % RECORD_BYTES
    fields: dict[str, Any] = {
        "memory": memory, "run_bytes": run_bytes, "row_bytes": row_bytes, "row_step": row_step,
        "memory_base": address, "pad_base": row * pitch + byte, "ring": [ring]}
    if opcode == Opcode.LOAD:
        fields["mode"] = LoadMode.FILL if filling else LoadMode.READ
        if filling:
            fields["fill"] = (choice.randint(0, 7) if memory == Memory.PAR
                              else choice.randint(-128, 127))
    return Step(opcode, counts, {"memory_jumps": memory_strides, "pad_jumps": pad_strides}, fields,
                choice.getrandbits(30))


def _draw_format(choice: random.Random, config: CoreConfig) -> WeightFormat:
    return WeightFormat[choice.choice(config.array.weights).upper()]


def _draw_execute(choice: random.Random, config: CoreConfig) -> Step | None:
    sizes = config.memory
    loops = loops_of(Opcode.EXECUTE, config)
    counts = draw_counts(choice, loops, 64)
    rows_counts, tile_rows = counts[:2], prod(counts[:2])
    if tile_rows > 16 or prod(counts[2:]) > 16:
        return None
    act_strides = draw_strides(choice, loops, [0, 1, 1, 2, -1, tile_rows, choice.randint(-6, 6)])
    inner = choice.choice([1, 1, 1, 2, -1])
    outer = choice.choice([rows_counts[0] * inner, -rows_counts[0] * inner, 5])
    k_stride = 0 if choice.random() < 0.7 else choice.randint(-3, 3)
    acc_strides = (inner, outer, *[k_stride] * (loops - 3),
                   choice.choice([0, tile_rows, tile_rows + 1, -tile_rows]))
    rings = tuple(draw_ring(choice, rows)
                  for rows in (sizes.act_rows, sizes.wgt_rows, sizes.acc_rows))
    act = draw_base(choice, loop_offsets(counts, act_strides), 0, sizes.act_rows)
    acc = draw_base(choice, loop_offsets(counts, acc_strides), 0, sizes.acc_rows)
    wgt_rows = config.array.rows * prod(counts[2:-1])
    rewind = choice.choice([0, 0, -wgt_rows, choice.randint(-4, 4)])
    wgt = choice.randrange(sizes.wgt_rows)
    act = choice.randrange(sizes.act_rows) if rings[0] else act
    acc = choice.randrange(sizes.acc_rows) if rings[2] else acc
    if act is None or acc is None:
        return None
    return Step(Opcode.EXECUTE, counts, {"act_jumps": act_strides, "acc_jumps": acc_strides}, {
        "act_base": act, "acc_base": acc, "wgt_base": wgt, "wgt_rewind": rewind,
        "k_last": choice.randint(1, config.array.rows), "accumulate": choice.randint(0, 1),
        "format": _draw_format(choice, config),
        "ring": list(rings)}, choice.getrandbits(30))
