"""What a command reads and writes."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType, LoadMode, Memory, Opcode, ResultType, WeightFormat

from ..layout import Packing
from ..model.address import ROW_MASK, loop_offsets, strides_of, wrap
from ..model.uses import Uses
from ..program import GROUP_UNITS

__all__ = ["LINE", "Rows", "sizes", "touched"]

LINE = 64       # bytes of system memory that are told apart
# Rows of an execute command that would keep the vector unit from a bank of the accumulator for too
# long: it begins when the vector unit has done with that bank.
LONG = 512
Rows = tuple[str, np.ndarray]
Fields = Mapping[str, Any]


def sizes(config: CoreConfig, memory_bytes: int) -> dict[str, int]:
    """Rows of each memory that ``touched`` names; lines of system memory."""
    memory = config.memory
    return {"act": memory.act_rows, "wgt": memory.wgt_rows, "par": memory.par_rows,
            "fun": max(1, config.vector.functions), "acc": memory.acc_rows,
            "row": max(1, config.vector.rows), "memory": -(-memory_bytes // LINE)}


def touched(opcode: Opcode, fields: Fields, config: CoreConfig) -> tuple[list[Rows], list[Rows]]:
    """Rows that a command reads and rows that it writes, by memory; each row at least once.

    Parameters
    ----------
    fields : mapping
        Every field of the command, as ``Command.decode`` gives them.
    """
    if opcode == Opcode.EXECUTE:
        return _execute(fields, config)
    if opcode == Opcode.VECTOR:
        return list(_vector_reads(fields, config)), list(_vector_writes(fields, config))
    pad, memory = _transfer(fields, config)
    if opcode == Opcode.STORE:
        return [pad], [memory]
    return [] if fields["mode"] == LoadMode.FILL else [memory], [pad]


def _offsets(fields: Fields, jumps: str, counts: tuple[int, ...]) -> np.ndarray:
    return loop_offsets(counts, strides_of(counts, fields[jumps][:len(counts)]))


def _transfer(fields: Fields, config: CoreConfig) -> tuple[Rows, Rows]:
    counts, run_bytes = fields["counts"], fields["run_bytes"]
    memory = Memory(fields["memory"])
    pitch = {Memory.ACT: config.act_row_bytes, Memory.WGT: config.wgt_row_pitch,
             Memory.PAR: config.par_row_pitch, Memory.FUN: config.fun_row_bytes}[memory]
    firsts = fields["pad_base"] + _offsets(fields, "pad_jumps", counts)
    rows = firsts[:, None] // pitch + fields["row_step"] * np.arange(
        -(-run_bytes // fields["row_bytes"]))
    rows = np.unique(wrap(rows, fields["pad_base"] // pitch, fields["ring"][0]))
    if memory == Memory.FUN:
        rows = np.unique(rows % config.vector.functions)
    first = fields["memory_base"] + _offsets(fields, "memory_jumps", counts)
    lines = (first[:, None] + np.arange(0, run_bytes + LINE - 1, LINE)).clip(
        max=(first + run_bytes - 1)[:, None]) // LINE
    return (memory.name.lower(), rows), ("memory", np.unique(lines))


def _execute(fields: Fields, config: CoreConfig) -> tuple[list[Rows], list[Rows]]:
    depth = config.control.execute_loops
    counts = fields["counts"][:depth]
    act = fields["act_base"] + _offsets(fields, "act_jumps", counts)
    acc = fields["acc_base"] + _offsets(fields, "acc_jumps", counts)
    packing = Packing(config, WeightFormat(fields["format"]).name.lower())
    turn = 2 if packing.digits > 1 else 1
    tiles = np.arange(np.prod(counts[1 + turn:]))
    last = tiles % counts[1 + turn] == counts[1 + turn] - 1
    taken = -(-np.where(last, fields["k_last"], config.array.rows) // packing.parts)
    wgt = fields["wgt_base"] + fields["wgt_rewind"] * (
        tiles // np.prod(counts[1 + turn:depth - 1])) + np.cumsum(taken) - taken
    wgt = np.concatenate([wgt[taken > row] + row for row in range(int(taken.max()))])
    rows = [(name, np.unique(wrap(numbers & ROW_MASK, fields[f"{name}_base"], ring)))
            for name, numbers, ring in zip(("act", "wgt", "acc"), (act, wgt, acc),
                                           fields["ring"][:3], strict=True)]
    if len(act) > LONG:     # a whole bank of sums
        size = config.memory.acc_rows // config.memory.acc_banks
        banks = np.unique(rows[2][1] // size)
        rows[2] = "acc", (banks[:, None] * size + np.arange(size)).reshape(-1)
    return rows, rows[2:]


def _groups(fields: Fields, name: str, step: int, ring: int) -> np.ndarray:
    counts = fields["counts"]
    strides = strides_of(counts, (step, *fields[f"{name}_jumps"]))
    base = fields[f"{name}_base"]
    return np.unique(wrap(base + loop_offsets(counts, strides) & ROW_MASK, base, ring))


def _act_rows(groups: np.ndarray, size: int, config: CoreConfig) -> np.ndarray:
    per_row = config.act_row_bytes // config.vector.lanes
    return np.unique((groups[:, None] + np.arange(size)) // per_row)


def _vector_reads(fields: Fields, config: CoreConfig) -> Iterator[Rows]:
    uses, ring = Uses(fields), fields["ring"]
    kind = ElementType(fields["source_type"])
    if uses.source:
        groups = _groups(fields, "source", fields["source_step"], ring[0])
        if kind == ElementType.ACC:
            yield "acc", np.unique(groups // config.acc_group_pitch)
        else:
            yield "act", _act_rows(groups, GROUP_UNITS[kind], config)
    if uses.stream:
        size = GROUP_UNITS[fields["stream_type"]]
        yield "act", _act_rows(_groups(fields, "stream", size * fields["stream_step"], ring[1]),
                               size, config)
    if uses.param:
        counts = fields["counts"]
        steps = [1, 0, counts[0], 0] if fields["param_step"] else [0] * 4
        yield "par", np.unique(fields["param_base"] + loop_offsets(counts, steps))
    if uses.table:
        yield "fun", np.arange(config.vector.functions)
    if uses.record:
        yield "row", _records(fields, config)


def _vector_writes(fields: Fields, config: CoreConfig) -> Iterator[Rows]:
    kind = ResultType(fields["result_type"])
    if kind < ResultType.NONE:
        size = GROUP_UNITS[int(kind)]
        yield "act", _act_rows(_groups(fields, "result", size * fields["result_step"],
                                       fields["ring"][2]), size, config)
    if kind > ResultType.NONE:
        yield "row", _groups(fields, "result", fields["result_step"], 0) % config.vector.rows
    if fields["sum_results"] or (fields["reduce"] and not fields["fold"]):
        yield "row", _records(fields, config)


def _records(fields: Fields, config: CoreConfig) -> np.ndarray:
    """Of the command's rows."""
    rows = prod(fields["counts"][2 if fields["span"] else 1:])
    return np.unique((fields["row_base"] + np.arange(rows)) % config.vector.rows)
