"""Random vector commands: how they are drawn, and what they touch."""

import random
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from systolith.model.address import loop_offsets, wrap
from systolith.model.uses import Uses
from systolith_hw.config import CoreConfig
from systolith_hw.isa import (
    COMMANDS,
    ElementType,
    Function,
    Opcode,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)
from systolith_hw.legal import MAX_FUNCTION_SHIFT, loops_of, supported

from .steps import (
    ELEMENT_BYTES,
    Access,
    Step,
    draw_base,
    draw_counts,
    draw_ring,
    draw_strides,
    padded,
)

__all__ = ["draw_vector", "entries_of", "places_of", "reading_records", "vector_footprint",
           "writing_records"]

STREAMS = ("source", "stream", "result")
ROW_SCALES = (ResultType.ROW_SCALE, ResultType.ROW_ROOT)
PRODUCTS = (Function.PRODUCT, Function.WEIGHTED)
MEETING_RECORDS = 12    # of the row file, where commands meet
UNUSED = range(-2000, 2000)  # strides of streams that a command does not use


# What commands touch

def places_of(step: Step, name: str) -> np.ndarray:
    """First lane group of each iteration of a stream."""
    base = step.fields[f"{name}_base"]
    strides = [step.group_step(name), *step.strides[f"{name}_jumps"]]
    return wrap(base + loop_offsets(step.counts, strides), base,
                step.fields["ring"][STREAMS.index(name)])


def entries_of(step: Step) -> np.ndarray:
    """Entries of the function table that each iteration may use."""
    values = step.fields
    total = prod(step.counts)
    first = 64 * values["function_base"]
    if values["function"] == Function.CHANNEL:
        return first + np.arange(total)[:, None] % step.counts[0]
    wide = values["function"] == Function.TABLE or values["segments"]
    return np.broadcast_to(first + np.arange(256 if wide else 64), (total, 256 if wide else 64))


def vector_footprint(step: Step, config: CoreConfig) -> list[Access] | None:
    """What the command touches; None where it leaves a memory or reads what it has written."""
    limits = {"acc": config.memory.acc_rows, "par": config.memory.par_rows,
              "fun": config.vector.functions, "act": config.memory.act_rows,
              "act bytes": config.memory.act_rows * config.act_row_bytes,
              **{f"row {name}": config.vector.rows for name in ("value", "sum", "scale")}}
    if not all(_lies_inside(step, config, name) for name in STREAMS):
        return None
    accesses = [*_reads(step, config), *_writes(step, config)]
    for access in accesses:
        if access.places.min() < 0 or access.places.max() >= limits[access.resource]:
            return None
    return accesses if _reads_first(accesses, prod(step.counts)) else None


def _lies_inside(step: Step, config: CoreConfig, name: str) -> bool:
    """Whether all groups of a stream are there and begin where they may, also results of groups
    that are folded into others."""
    kind = step.fields[f"{name}_type"]
    places = places_of(step, name)
    if name == "result" and kind > ResultType.NONE:
        return bool(places.min() >= 0 and places.max() < config.vector.rows)
    if kind not in ELEMENT_BYTES or (name == "stream" and not Uses(step.fields).stream):
        return True
    return bool(places.min() >= 0
                and places.max() + ELEMENT_BYTES[kind] <= config.act_groups
                and not (places % alignment(config, kind)).any())


def alignment(config: CoreConfig, kind: int) -> int:
    """Lane groups that a group of such elements begins at a multiple of."""
    return min(ELEMENT_BYTES[kind], config.act_row_bytes // config.vector.lanes)


def _scratchpad(step: Step, name: str) -> np.ndarray:
    """Lane groups of the activation scratchpad, (iterations, groups of each)."""
    return places_of(step, name)[:, None] + np.arange(ELEMENT_BYTES[step.fields[f"{name}_type"]])


def _records(step: Step) -> np.ndarray:
    """The record of each row."""
    rows = prod(step.counts[1 + step.fields["span"]:])
    return step.fields["row_base"] + np.arange(rows)[:, None]


def _reads(step: Step, config: CoreConfig) -> Iterator[Access]:
    values, counts = step.fields, step.counts
    used = Uses(values)
    per_row = config.act_row_bytes // config.vector.lanes
    records = np.repeat(_records(step), prod(counts[:1 + values["span"]]), axis=0)
    source = values["source_type"]
    if source == ElementType.ACC:
        yield Access("acc", False, places_of(step, "source")[:, None] // config.acc_group_pitch)
    elif source < ElementType.ACC:
        yield Access("act", False, _scratchpad(step, "source") // per_row)
    else:
        yield Access("row sum" if source == ElementType.ROW_SUM else "row value", False, records)
    if used.stream:
        yield Access("act", False, _scratchpad(step, "stream") // per_row)
    if used.param:
        steps = [1, 0, counts[0], 0][:len(counts)] if values["param_step"] else [0] * len(counts)
        yield Access("par", False, values["param_base"] + loop_offsets(counts, steps)[:, None])
    if values["second"] == Operand.ROW:
        yield Access("row value", False, records)
    if values["scale"] == Scale.ROW:
        yield Access("row scale", False, records)
    if used.table:
        yield Access("fun", False, entries_of(step))


def _writes(step: Step, config: CoreConfig) -> Iterator[Access]:
    values = step.fields
    kind = values["result_type"]
    if values["reduce"] and not values["fold"]:
        yield Access("row value", True, _records(step))
    if values["sum_results"]:
        yield Access("row sum", True, _records(step))
    span = prod(step.counts[:1 + values["span"]]) if values["fold"] else 1
    if kind in ELEMENT_BYTES:
        groups = _scratchpad(step, "result")[span - 1::span]
        lanes = np.arange(config.vector.lanes)
        yield Access("act", True, groups * config.vector.lanes // config.act_row_bytes)
        yield Access("act bytes", True, (groups[:, :, None] * config.vector.lanes + lanes).reshape(
            len(groups), -1))
    elif kind != ResultType.NONE:
        yield Access("row scale" if kind in ROW_SCALES else "row value", True,
                     places_of(step, "result")[span - 1::span, None])


def _reads_first(accesses: Sequence[Access], total: int) -> bool:
    """Whether nothing is read after it was written; of the scratchpad, a row that is read and
    written belongs to one group."""
    for write in accesses:
        if not write.write:
            continue
        size = 1 + max(int(access.places.max()) for access in accesses
                       if access.resource == write.resource)
        first = np.full(size, total)
        np.minimum.at(first, write.places.reshape(-1), write.iterations(total))
        last = np.full(size, -1)
        np.maximum.at(last, write.places.reshape(-1), write.iterations(total))
        for read in accesses:
            if read.write or read.resource != write.resource:
                continue
            places, when = read.places.reshape(-1), read.iterations(total)
            if (when > first[places]).any():
                return False
            own = (when == first[places]) & (when == last[places])
            if read.resource == "act" and (~own & (last[places] >= 0)).any():
                return False
    return True


# Drawing

_DEFAULTS: dict[str, Any] = {
    field.name: field.default if field.count == 1 else [field.default] * field.count
    for field in COMMANDS[Opcode.VECTOR].body
    if field.name != "counts" and not field.name.endswith("_jumps")} | {"ring": [0, 0, 0]}


def _of_records(choice: random.Random, config: CoreConfig, rows: int, step: int,
                fixed: bool, **fields: Any) -> Step:
    """A command of a group for each of so many records, results ``step`` groups apart."""
    strides = {"source": 0, "stream": 0, "result": step}
    return Step(Opcode.VECTOR, padded([1, rows], config, Opcode.VECTOR),
                {f"{name}_jumps": padded([0, stride], config, Opcode.VECTOR, 0)[1:]
                 for name, stride in strides.items()},
                {**_DEFAULTS, "second": Operand.IMMEDIATE, "scale": Scale.UNIT, **fields},
                choice.getrandbits(30), fixed)


def writing_records(choice: random.Random, config: CoreConfig) -> list[Step]:
    """Commands that write every record of the row file, as far as it can be written."""
    rows = config.vector.rows
    steps = []
    if rows:
        steps.append(_of_records(
            choice, config, rows, 0, True, immediate=choice.randint(-200, 200),
            result_type=ResultType.NONE, reduce=choice.choice([Reduction.MAXIMUM, Reduction.SUM]),
            sum_results=1))
    if rows and config.vector.linear:
        steps.append(_of_records(
            choice, config, rows, 1, True, immediate=choice.randint(-200, 200),
            result_type=choice.choice(ROW_SCALES), function=Function.LINEAR, function_first=1))
    return steps


def reading_records(choice: random.Random, config: CoreConfig,
                    groups: int) -> tuple[list[Step], int]:
    """Commands that each write a part of the row file as int32 to the first of so many lane groups
    of the activation scratchpad; and how many groups."""
    size = ELEMENT_BYTES[ElementType.INT32]
    rows = min(config.vector.rows, groups // size)
    parts: list[dict[str, Any]] = [{"source_type": kind} for kind in ElementType
                                   if kind > ElementType.ACC]
    if config.vector.linear:
        parts.append({"source_type": ElementType.ROW_VALUE, "scale": Scale.ROW})
    return [_of_records(choice, config, rows, size, False, result_type=ResultType.INT32, **part)
            for part in parts if rows], rows * size


def draw_vector(choice: random.Random, config: CoreConfig) -> Step | None:
    """A random vector command; None where a stream found no place."""
    loops = loops_of(Opcode.VECTOR, config)
    counts = draw_counts(choice, loops, 48)
    if choice.random() < 0.3:
        counts = (config.groups_per_row, *counts[1:])
    fields = _draw_meaning(choice, config)
    fields |= _draw_numbers(choice, config)
    if fields["result_type"] in ROW_SCALES:
        fields["zero_point"] = choice.randint(-64, 8)   # the exponent
    fields |= _draw_table(choice, config, fields, counts)
    used = Uses(fields)
    strides: dict[str, tuple[int, ...]] = {}
    rings = [0, 0, 0]
    for i, name in enumerate(STREAMS):
        walk = _draw_walk(choice, config, name, fields, counts)
        if walk is None:
            return None
        fields[f"{name}_base"], fields[f"{name}_step"], *rest, rings[i] = walk
        strides[f"{name}_jumps"] = tuple(rest)
    fields["ring"] = rings
    _draw_in_place(choice, config, fields, strides)
    steps = [1, 0, counts[0], 0][:loops] if fields["param_step"] else [0] * loops
    param = draw_base(choice, loop_offsets(counts, steps), 0, config.memory.par_rows)
    if used.param and param is None:
        return None
    fields["param_base"] = param if used.param else choice.getrandbits(16)
    low = choice.randrange(min(MEETING_RECORDS, max(config.vector.rows, 1)))
    fields["row_base"] = choice.choice([low, low, choice.getrandbits(8)])
    return Step(Opcode.VECTOR, counts, strides, fields, choice.getrandbits(30))


def _draw_meaning(choice: random.Random, config: CoreConfig) -> dict[str, Any]:
    """Operations, types and flags, as far as the core has them; every fifth time those of a
    product's results."""
    unit, command = config.vector, COMMANDS[Opcode.VECTOR]
    fields: dict[str, Any] = {}
    for field in command.body:
        values = supported(command, field.name, config)
        if values is not None:
            fields[field.name] = choice.choice(sorted(values))
    for name in ("function_first", "sum_results", "span", "fine", "fold", "masked", "param_step",
                 "function_signed", "segments"):
        fields[name] = choice.randrange(2)
    for name in ("function", "reduce"):
        if choice.random() < 0.2:
            fields[name] = 0
    if choice.random() < 0.2:
        fields |= {"operation": VectorOp.ADD, "source_type": ElementType.ACC,
                   "second": Operand.CHANNEL, "function": Function.NONE, "scale": Scale.CHANNEL,
                   "result_type": choice.choice([ResultType.INT8, ResultType.INT32])}
    if not unit.elementwise:
        fields |= {"masked": 0, "fold": 0}
    if not unit.combines:
        fields["fine"] = 0
    if not unit.rows:
        fields |= {"sum_results": 0, "fold": int(unit.elementwise)}
    if not unit.linear and fields["scale"] == Scale.ROW:
        fields["scale"] = Scale.UNIT    # nothing writes the scale of a record
    result = fields["result_type"]
    if result in ROW_SCALES:
        fields |= {"function": Function.LINEAR, "function_first": 1, "scale": Scale.UNIT}
    if result > ResultType.NONE:
        fields["sum_results"] = 0
    if fields["function"] in PRODUCTS:
        fields["function_first"] = 1
    if fields["function"] == Function.CHANNEL:
        fields["function_first"] = 0
    if not fields["reduce"]:
        fields["fold"] = 0
    elif result == ResultType.ROW_VALUE and not fields["fold"]:
        fields["reduce"] = Reduction.NONE   # each group and each row would write a value
    return fields


def _draw_numbers(choice: random.Random, config: CoreConfig) -> dict[str, Any]:
    """Constants: often 0 or small, sometimes anything."""
    clamp = sorted(choice.choice([-128, 0, 127, choice.randint(-128, 127)]) for _ in range(2))
    return {"clamp_low": clamp[0], "clamp_high": clamp[1],
            "zero_point": choice.choice([0, choice.randint(-20, 20), choice.randint(-128, 127)]),
            "immediate": choice.choice([0, choice.randint(-9, 9), choice.randint(-32768, 32767)]),
            "tail": choice.choice([0, choice.randint(0, config.vector.lanes)])}


def _draw_table(choice: random.Random, config: CoreConfig, fields: dict[str, Any],
                counts: Sequence[int]) -> dict[str, Any]:
    """Where a function finds its entries."""
    entries = {Function.TABLE: 256, Function.LINEAR: 256 if fields["segments"] else 64,
               Function.CHANNEL: counts[0]}.get(fields["function"])
    first = range(8) if entries is None else range((config.vector.functions - entries) // 64 + 1)
    return {"function_base": choice.choice([0, choice.choice(first)]),
            "function_shift": choice.choice([choice.randint(0, 8),
                                             choice.randint(0, MAX_FUNCTION_SHIFT)])}


def _draw_walk(choice: random.Random, config: CoreConfig, name: str, fields: dict[str, Any],
               counts: tuple[int, ...]) -> list[int] | None:
    """Base, step of loop 0, strides of the other loops and ring of a stream; None: no place."""
    kind = fields[f"{name}_type"]
    loops = len(counts) - 1
    flag = choice.choice([1, 1, 1, 0])  # the step of stream and result
    records = name == "result" and kind > ResultType.NONE
    if records:
        unit, step, size = 1, flag, min(config.vector.rows, choice.choice(
            [MEETING_RECORDS + prod(counts), config.vector.rows]))
        strides = [1, counts[0], 0, -1, choice.randint(-4, 4)]
    elif name == "source" and kind == ElementType.ACC:
        pitch = config.acc_group_pitch
        unit, size, step = 1, config.acc_groups, choice.choice([1, 1, 1, 1, 0, -1, 2, pitch])
        strides = [pitch, 0, 1, -pitch, choice.randint(-9, 9)]
    elif kind in ELEMENT_BYTES and (name != "stream" or Uses(fields).stream):
        groups, unit = ELEMENT_BYTES[kind], alignment(config, kind)
        per_row = config.act_row_bytes // config.vector.lanes
        size = choice.choice([config.act_groups, max(config.act_groups // 4, 16)]) - groups + 1
        step = groups * flag if name != "source" else choice.choice(
            [groups] * 4 + [0, -groups, 2 * groups, per_row, unit * choice.randint(-6, 6)])
        strides = [per_row, counts[0] * groups, 0, -per_row, unit * choice.randint(-6, 6)]
    else:
        step = flag if name != "source" else choice.randint(-128, 127)
        return [choice.getrandbits(16), step, *draw_strides(choice, loops, UNUSED),
                draw_ring(choice, 1 << 15)]
    drawn = draw_strides(choice, loops, strides)
    ring = draw_ring(choice, size)
    base = draw_base(choice, loop_offsets(counts, [step, *drawn]), 0, size)
    base = choice.randrange(size) if ring else base
    if base is None:
        return None
    return [base - base % unit, step if name == "source" else flag, *drawn, ring]


def _draw_in_place(choice: random.Random, config: CoreConfig, fields: dict[str, Any],
                   strides: dict[str, tuple[int, ...]]) -> None:
    """Perhaps let results take the place of the source or of the stream."""
    kind = fields["result_type"]
    groups = ELEMENT_BYTES.get(kind, 0)
    names = [name for name in ("source", "stream") if fields[f"{name}_type"] == kind]
    if (groups * config.vector.lanes < config.act_row_bytes or not names
            or choice.random() < 0.3):
        return
    name = choice.choice(names)
    fields["result_step"] = 1
    fields[f"{name}_step"] = groups if name == "source" else 1
    fields[f"{name}_base"] = fields["result_base"]
    fields["ring"][STREAMS.index(name)] = fields["ring"][2]
    strides[f"{name}_jumps"] = strides["result_jumps"]
