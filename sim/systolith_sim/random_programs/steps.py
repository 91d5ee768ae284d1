"""Random commands one by one, without semaphores: their fields, and what they touch."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from systolith.model.address import loop_offsets, wrap
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ONCE, ElementType, LoadMode, Memory, Opcode, VectorOp, jumps_of
from systolith_hw.legal import loops_of

__all__ = [
    "PARAMETERS", "RECORD_BYTES", "STORES", "WINDOW_BYTES", "Access", "Step", "draw_step",
    "footprint", "levels_of", "revisits_in_time", "setting_up", "smaller", "units_of",
]

WINDOW_BYTES = 1 << 16
PARAMETERS = range(0x5000, 0x6000)      # records of bias, multiplier and shift, never written
STORES = range(0x6000, WINDOW_BYTES)    # what stores may write; loads read anywhere
MEETING = range(0x7e00, 0x8200)         # where loads and stores meet, and bursts end
RECORD_BYTES = 12
REVISIT_CYCLES = 4  # from an accumulator row's address until it can be read again


@dataclass(frozen=True)
class Step:
    """A command before anything orders it among the others.

    Parameters
    ----------
    opcode : Opcode
    counts : tuple of int
        Of as many loops as the core walks.
    strides : mapping of str to tuple of int
        By the name of the field that takes the jumps; of vector commands from loop 1 on.
    fields : mapping of str to value
        All others but slots, parameter registers and counts.
    seed : int
        Of what is decided about the command later.
    fixed : bool
        Part of every program, also of a shrunk one.
    """
    opcode: Opcode
    counts: tuple[int, ...]
    strides: Mapping[str, tuple[int, ...]]
    fields: Mapping[str, Any]
    seed: int = 0
    fixed: bool = False

    def values(self) -> dict[str, Any]:
        """Fields as ``Command.encode`` takes them."""
        values = {**self.fields, "counts": list(self.counts)}
        for name, strides in self.strides.items():
            if self.opcode == Opcode.VECTOR:
                unit = 4 if name == "result_jumps" and _is_wide(self) else 1
                jumps = jumps_of(self.counts, [unit, *strides])[1:]
            else:
                jumps = jumps_of(self.counts, strides)
            if self.opcode in (Opcode.VECTOR, Opcode.EXECUTE):  # addresses of 16 bits wrap
                jumps = [(jump + 0x8000 & 0xffff) - 0x8000 for jump in jumps]
            values[name] = jumps
        return values


@dataclass
class Access:
    """Places of one memory that a command touches.

    Parameters
    ----------
    resource : str
        ``memory`` and ``act bytes``: bytes; ``act``, ``wgt``, ``par``, ``acc``: rows.
    write : bool
    places : int array, (iterations, places of each)
        Iterations of the innermost loops that a semaphore can see.
    """
    resource: str
    write: bool
    places: np.ndarray
    _set: np.ndarray = field(init=False)

    def __post_init__(self):
        self._set = np.unique(self.places)

    def meets(self, other: "Access") -> bool:
        """Whether the two must be ordered.

        Engines may write different bytes of a row at once, but not read a row that is written.
        """
        if self.resource != other.resource or not (self.write or other.write):
            return False
        if self.resource == "act" and self.write and other.write:
            return False
        return bool(np.isin(self._set, other._set, assume_unique=True).any())


def levels_of(step: Step) -> list[int]:
    """Loop levels at which the command's semaphores can act."""
    first = 2 if step.opcode == Opcode.EXECUTE else 0
    return [ONCE, *range(first, len(step.counts))]


def units_of(step: Step, level: int) -> int:
    """Iterations of loop ``level`` in the whole command."""
    return 1 if level == ONCE else prod(step.counts[level:])


def _is_wide(step: Step) -> bool:
    return step.fields["result_type"] == ElementType.INT32


def _pads(config: CoreConfig) -> dict[Memory, tuple[int, int, int]]:
    """Rows, bytes of a row and row pitch of the scratchpads."""
    sizes = config.memory
    return {Memory.ACT: (sizes.act_rows, config.act_row_bytes, config.act_row_bytes),
            Memory.WGT: (sizes.wgt_rows, config.wgt_row_bytes, config.wgt_row_pitch),
            Memory.PAR: (sizes.par_rows, config.par_row_bytes, config.par_row_pitch)}


# What commands touch

def footprint(step: Step, config: CoreConfig) -> list[Access] | None:
    """What the command touches; None where it leaves a memory or breaks a rule of its own."""
    return {Opcode.LOAD: _transfer, Opcode.STORE: _transfer, Opcode.EXECUTE: _execute,
            Opcode.VECTOR: _vector}[step.opcode](step, config)


def _transfer(step: Step, config: CoreConfig) -> list[Access] | None:
    values = step.fields
    memory = Memory(values["memory"])
    rows, row_bytes, pitch = _pads(config)[memory]
    pad = values["pad_base"] + loop_offsets(step.counts, step.strides["pad_jumps"])
    first_bytes, first_rows = pad % pitch, pad // pitch
    run = np.arange(values["run_bytes"])
    run_row, run_byte = np.divmod(run, values["row_bytes"])
    touched = wrap(first_rows[:, None] + values["row_step"] * run_row,
                   values["pad_base"] // pitch, values["ring"][0])
    if (touched.min() < 0 or touched.max() >= rows
            or first_bytes.max() + values["row_bytes"] > row_bytes):
        return None
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
    valid = np.where((tile + 1) % counts[2] == 0, values["k_last"], config.array.rows)
    first = (values["wgt_base"] + np.cumsum(valid) - valid
             + values["wgt_rewind"] * (tile // prod(counts[2:-1])))
    row = np.minimum(np.arange(config.array.rows), valid[:, None] - 1)
    wgt = wrap(first[:, None] + row, values["wgt_base"], values["ring"][1])
    sizes = config.memory
    for rows, limit in ((act, sizes.act_rows), (acc, sizes.acc_rows), (wgt, sizes.wgt_rows)):
        if rows.min() < 0 or rows.max() >= limit:
            return None
    if any(len(set(rows)) < len(rows) for rows in acc.tolist()):
        return None
    return [Access("act", False, act), Access("wgt", False, wgt), Access("acc", True, acc)]


def _vector(step: Step, config: CoreConfig) -> list[Access] | None:
    values = step.fields
    counts = step.counts
    units = 4 if _is_wide(step) else 1
    per_row = config.act_row_bytes // config.vector.lanes
    source = wrap(values["source_base"] + loop_offsets(counts, [1, *step.strides["source_jumps"]]),
                  values["source_base"], values["ring"][0])
    result = wrap(values["result_base"] + loop_offsets(
        counts, [units, *step.strides["result_jumps"]]), values["result_base"], values["ring"][2])
    par = values["param_base"] + loop_offsets(counts, [1, 0, counts[0], 0][:len(counts)])
    groups = result[:, None] + np.arange(units)
    if (source.min() < 0 or source.max() >= config.acc_groups or par.max() >= config.memory.par_rows
            or groups.min() < 0 or groups.max() >= config.act_groups
            or (result % min(units, per_row)).any()):
        return None
    lanes = np.arange(config.vector.lanes)
    return [Access("acc", False, source[:, None] // config.acc_group_pitch),
            Access("par", False, par[:, None]),
            Access("act", True, groups // per_row),
            Access("act bytes", True, (groups[:, :, None] * config.vector.lanes + lanes).reshape(
                len(groups), -1))]


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
    """Fills of all scratchpads, and an execute that writes every row of the accumulator."""
    steps = []
    for memory, (rows, row_bytes, pitch) in _pads(config).items():
        # Parameters of seven equal bytes are legal: their multipliers and shifts are.
        fill = choice.randint(0, 7) if memory == Memory.PAR else choice.randint(-128, 127)
        steps.append(Step(Opcode.LOAD, _padded([rows], config, Opcode.LOAD), {
            "memory_jumps": _padded([0], config, Opcode.LOAD, 0),
            "pad_jumps": _padded([pitch], config, Opcode.LOAD, 0)}, {
            "memory": memory, "mode": LoadMode.FILL, "fill": fill, "run_bytes": row_bytes,
            "row_bytes": row_bytes, "row_step": 1, "memory_base": 0, "pad_base": 0, "ring": [0]},
            choice.getrandbits(30), True))
    steps.append(Step(Opcode.EXECUTE, _padded([config.memory.acc_rows], config, Opcode.EXECUTE), {
        "act_jumps": _padded([0], config, Opcode.EXECUTE, 0),
        "acc_jumps": _padded([1], config, Opcode.EXECUTE, 0)}, {
        "act_base": 0, "acc_base": 0, "wgt_base": 0, "wgt_rewind": 0, "k_last": 1,
        "accumulate": 0, "ring": [0, 0, 0]}, choice.getrandbits(30), True))
    return steps


def draw_step(choice: random.Random, config: CoreConfig) -> Step:
    """A random command that stays inside every memory."""
    kinds = {Opcode.LOAD: 3, Opcode.EXECUTE: 3, Opcode.VECTOR: 3, Opcode.STORE: 2}
    opcode = choice.choices(list(kinds), list(kinds.values()))[0]
    draw: Callable[[random.Random, CoreConfig], Step | None] = {
        Opcode.LOAD: _draw_load, Opcode.STORE: _draw_store, Opcode.EXECUTE: _draw_execute,
        Opcode.VECTOR: _draw_vector}[opcode]
    while True:
        step = draw(choice, config)
        if (step is not None and footprint(step, config) is not None
                and revisits_in_time([step], config)):
            return step


def _padded(values: Sequence[int], config: CoreConfig, opcode: Opcode,
            filler: int = 1) -> tuple[int, ...]:
    return (*values, *[filler] * (loops_of(opcode, config) - len(values)))


def _counts(choice: random.Random, loops: int, most: int) -> tuple[int, ...]:
    """Counts whose product is at most ``most``; often a one, sometimes all or as few as can be."""
    counts = [1] * loops
    repeating, largest = choice.choice([(0.6, 16), (0.6, 16), (0.85, 2), (1.0, 2), (0.0, 1)])
    for i in choice.sample(range(loops), loops):
        high = most // prod(counts)
        if high > 1 and choice.random() < repeating:
            counts[i] = choice.randint(2, min(high, choice.choice([2, 3, 4, 16]), largest))
    return tuple(counts)


def _base(choice: random.Random, offsets: np.ndarray, low: int, high: int) -> int | None:
    """A base that keeps it and ``offsets`` within ``low`` to ``high - 1``."""
    least, largest = min(0, int(offsets.min())), max(0, int(offsets.max()))
    if high - largest <= low - least:
        return None
    return choice.randrange(low - least, high - largest)


def _ring(choice: random.Random, rows: int) -> int:
    return choice.randint(1, rows.bit_length() - 1) if choice.random() < 0.3 else 0


def _strides(choice: random.Random, loops: int, values: Sequence[int]) -> tuple[int, ...]:
    return tuple(choice.choice(values) for _ in range(loops))


def _draw_load(choice: random.Random, config: CoreConfig) -> Step | None:
    memory = choice.choices(list(Memory), [5, 4, 2])[0]
    return _draw_transfer(choice, config, Opcode.LOAD, memory)


def _draw_store(choice: random.Random, config: CoreConfig) -> Step | None:
    return _draw_transfer(choice, config, Opcode.STORE, Memory.ACT)


def _draw_transfer(choice: random.Random, config: CoreConfig, opcode: Opcode,
                   memory: Memory) -> Step | None:
    rows, pad_bytes, pitch = _pads(config)[memory]
    unit = RECORD_BYTES if memory == Memory.PAR else 1  # parameters move as whole records
    row_bytes = unit * choice.choice([pad_bytes // unit, choice.randint(1, pad_bytes // unit)])
    byte = unit * choice.randint(0, (pad_bytes - row_bytes) // unit)
    whole = row_bytes * choice.randint(1, choice.choice([1, 4, 24]))
    run_bytes = choice.choice([whole, unit * choice.randint(1, whole // unit)])
    row_step = choice.choice([1, 1, 1, 2, 3, 0, -1, -2])
    loops = loops_of(opcode, config)
    counts = _counts(choice, loops, max(1, min(24, 600 // run_bytes)))
    memory_strides = _strides(choice, loops, [0, run_bytes, -run_bytes, unit * 3, unit * 41,
                                              unit * choice.randint(-90, 90)])
    lane = unit * choice.randint(-2, 2) if choice.random() < 0.2 else 0
    pad_strides = _strides(choice, loops, [0, pitch, -pitch, pitch * -(-run_bytes // row_bytes),
                                           pitch * choice.randint(-4, 4) + lane])
    ring = _ring(choice, rows)
    in_run = row_step * np.arange(-(-run_bytes // row_bytes))
    offsets = loop_offsets(counts, pad_strides)
    row = _base(choice, ((byte + offsets) // pitch)[:, None] + in_run, 0, rows)
    if ring:
        row = choice.randrange(rows)
    filling = opcode == Opcode.LOAD and choice.random() < 0.2
    low, high = {Opcode.STORE: (STORES.start, STORES.stop)}.get(
        opcode, (PARAMETERS.start, PARAMETERS.stop) if memory == Memory.PAR else (0, WINDOW_BYTES))
    if memory != Memory.PAR and choice.random() < 0.6:
        low, high = MEETING.start, MEETING.stop
    address = _base(choice, loop_offsets(counts, memory_strides)[:, None] + np.arange(run_bytes),
                    low, high)
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


def _draw_execute(choice: random.Random, config: CoreConfig) -> Step | None:
    sizes = config.memory
    loops = loops_of(Opcode.EXECUTE, config)
    counts = _counts(choice, loops, 64)
    rows_counts, tile_rows = counts[:2], prod(counts[:2])
    if tile_rows > 16 or prod(counts[2:]) > 16:
        return None
    act_strides = _strides(choice, loops, [0, 1, 1, 2, -1, tile_rows, choice.randint(-6, 6)])
    inner = choice.choice([1, 1, 1, 2, -1])
    outer = choice.choice([rows_counts[0] * inner, -rows_counts[0] * inner, 5])
    k_stride = 0 if choice.random() < 0.7 else choice.randint(-3, 3)
    acc_strides = (inner, outer, *[k_stride] * (loops - 3),
                   choice.choice([0, tile_rows, tile_rows + 1, -tile_rows]))
    rings = tuple(_ring(choice, rows) for rows in (sizes.act_rows, sizes.wgt_rows, sizes.acc_rows))
    act = _base(choice, loop_offsets(counts, act_strides), 0, sizes.act_rows)
    acc = _base(choice, loop_offsets(counts, acc_strides), 0, sizes.acc_rows)
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
        "ring": list(rings)}, choice.getrandbits(30))


def _draw_vector(choice: random.Random, config: CoreConfig) -> Step | None:
    wide = choice.random() < 0.4
    unit = 4 if wide else 1
    loops = loops_of(Opcode.VECTOR, config)
    counts = _counts(choice, loops, 48)
    if choice.random() < 0.5:
        counts = (config.groups_per_row, *counts[1:])
    per_row = config.act_row_bytes // config.vector.lanes
    step = min(unit, per_row)   # results begin at multiples
    source_strides = _strides(choice, loops - 1, [
        config.acc_group_pitch, 0, 1, -config.acc_group_pitch, choice.randint(-9, 9)])
    result_strides = _strides(choice, loops - 1, [
        per_row, counts[0] * unit, 0, -per_row, step * choice.randint(-6, 6)])
    rings = (_ring(choice, config.acc_groups), 0, _ring(choice, config.act_groups))
    if wide and rings[2] == 1:
        return None     # a result of four groups does not fit
    source = _base(choice, loop_offsets(counts, [1, *source_strides]), 0, config.acc_groups)
    result = _base(choice, loop_offsets(counts, [unit, *result_strides]), 0,
                   config.act_groups - unit + 1)
    source = choice.randrange(config.acc_groups) if rings[0] else source
    result = choice.randrange(config.act_groups) if rings[2] else result
    if source is None or result is None:
        return None
    par = _base(choice, loop_offsets(counts, [1, 0, counts[0], 0][:loops]), 0,
                config.memory.par_rows)
    if par is None:
        return None
    clamp = sorted(choice.choice([-128, 0, 127, choice.randint(-128, 127)]) for _ in range(2))
    fields = {"operation": VectorOp.ADD_BIAS if wide else VectorOp.REQUANTISE,
              "source_type": ElementType.ACC,
              "result_type": ElementType.INT32 if wide else ElementType.INT8,
              "source_base": source, "result_base": result - result % step, "param_base": par,
              "zero_point": choice.choice([0, choice.randint(-128, 127)]), "clamp_low": clamp[0],
              "clamp_high": clamp[1], "ring": list(rings)}
    return Step(Opcode.VECTOR, counts, {"source_jumps": source_strides,
                                        "result_jumps": result_strides}, fields,
                choice.getrandbits(30))


def smaller(step: Step) -> Iterator[Step]:
    """The step with one count or length reduced, the largest reductions first."""
    for i, count in enumerate(step.counts):
        for value in sorted({1, count // 2, count - 1}):
            if 0 < value < count:
                counts = (*step.counts[:i], value, *step.counts[i + 1:])
                yield Step(step.opcode, counts, step.strides, step.fields, step.seed)
    if "run_bytes" in step.fields and step.fields["memory"] != Memory.PAR:
        for value in sorted({1, step.fields["run_bytes"] // 2}):
            if 0 < value < step.fields["run_bytes"]:
                yield Step(step.opcode, step.counts, step.strides,
                           {**step.fields, "run_bytes": value}, step.seed)
