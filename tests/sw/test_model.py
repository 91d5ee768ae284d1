"""Transfers and executes of the model against an interpreter that walks every loop and moves every
byte by itself."""

import random
from math import prod

import numpy as np
import pytest
from configurations import core
from systolith import CoreError, ModelDevice, Program
from systolith.model.address import strides_of
from systolith_hw.isa import COMMANDS, LoadMode, Memory, Opcode, jumps_of
from walking import Walk, wrapped

CONFIG = core(3, 5, 2, {"act_rows": 64, "act_banks": 2, "wgt_rows": 64, "acc_rows": 32,
                        "par_rows": 16})
MEMORY_BYTES = 4096
PROGRAM = 3072  # data lies before it


def run(program, seed):
    """Memories before and after the one command of ``program``, and counters."""
    device = ModelDevice(CONFIG, memory_bytes=MEMORY_BYTES)
    rng = np.random.default_rng(seed)
    state = device.model.state
    for array in (device.memory, *(pad.data for pad in state.pads.values())):
        array[...] = rng.integers(0, 256, array.shape, dtype=np.uint8)
    records = state.par.reshape(len(state.par), -1, 12)
    records[:, :, 7] &= 127                                     # multipliers are positive
    records[:, :, 8] = rng.integers(-31, 8, records.shape[:2]).astype(np.int8).view(np.uint8)
    state.acc[:, :CONFIG.array.cols] = rng.integers(-2**31, 2**31, (32, CONFIG.array.cols))
    device.write(PROGRAM, program.encode())
    after = {"memory": device.memory, "act": state.act, "wgt": state.wgt, "par": state.par,
             "fun": state.pads[Memory.FUN].data, "acc": state.acc}
    before = {name: array.copy() for name, array in after.items()}
    device.run(PROGRAM, len(program))
    return before, after, device.counters()


def attempt(build, seed):
    """Run random commands until one is inside all memories."""
    for number in range(1000):
        choice = random.Random(f"{seed} {number}")
        program = Program(config=CONFIG)
        try:
            values = build(program, choice)
            return values, *run(program, seed)
        except (CoreError, ValueError):
            continue
    raise AssertionError("no random command was in range")


def same(before, after):
    return all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", ["load", "fill", "store"])
def test_transfers_move_the_bytes_that_the_loops_name(kind, seed):
    def build(program, choice):
        memory = Memory.ACT if kind == "store" else choice.choice(list(Memory))
        pad_bytes = {Memory.ACT: 4, Memory.WGT: 5, Memory.PAR: 24, Memory.FUN: 8}[memory]
        row_bytes = choice.randint(1, pad_bytes)
        fields = {
            "memory": memory, "counts": [choice.randint(1, 4) for _ in range(3)],
            "run_bytes": choice.randint(1, 30), "row_bytes": row_bytes,
            "row_step": choice.randint(-3, 4), "memory_base": choice.randint(0, 2000),
            "memory_jumps": [choice.randint(-100, 200) for _ in range(3)],
            "pad_base": choice.randint(0, 500), "ring": [choice.choice([0, 0, 2, 4])],
            "pad_jumps": [choice.randint(-40, 60) for _ in range(3)]}
        if kind != "store":
            fields |= {"mode": LoadMode.FILL if kind == "fill" else LoadMode.READ,
                       "fill": choice.randint(-128, 127)}
        opcode = Opcode.STORE if kind == "store" else Opcode.LOAD
        program.records.append(COMMANDS[opcode].encode(fields))
        return fields

    fields, before, after, counters = attempt(build, seed)
    name = Memory(fields["memory"]).name.lower()
    pad, memory = before[name].view(np.uint8), before["memory"]
    pitch = {"act": 4, "wgt": 8, "par": 32, "fun": 8}[name]
    words = 0
    pads = Walk(fields["pad_base"], fields["pad_jumps"], 32)(fields["counts"])
    for (address, _), (place, _) in zip(
            Walk(fields["memory_base"], fields["memory_jumps"], 32)(fields["counts"]), pads,
            strict=True):
        size = fields["run_bytes"]
        words += (address + size - 1) // 4 - address // 4 + 1
        for i in range(size):
            row = place // pitch + i // fields["row_bytes"] * fields["row_step"]
            row = wrapped(row, fields["pad_base"] // pitch, fields["ring"][0])
            byte = place % pitch + i % fields["row_bytes"]
            if kind == "store":
                memory[address + i] = pad[row, byte]
            else:
                pad[row, byte] = memory[address + i] if kind == "load" else fields["fill"] & 255
    assert same(before, after)
    assert counters["load_words"] == (words if kind == "load" else 0)
    assert counters["store_words"] == (words if kind == "store" else 0)


@pytest.mark.parametrize("seed", range(60))
def test_execute_adds_what_the_loops_name(seed):
    rows, cols = CONFIG.array.rows, CONFIG.array.cols

    def build(program, choice):
        counts = [choice.randint(1, 3), choice.randint(1, 2), *(choice.randint(1, 3)
                                                                for _ in range(4))]
        # Rows of one tile differ in their accumulator row.
        acc_strides = [1, counts[0], *(choice.choice([0, 0, 7]) for _ in range(4))]
        fields = {
            "counts": counts, "act_row": choice.randint(0, 40),
            "act_strides": [choice.randint(-3, 3) for _ in range(6)],
            "acc_row": choice.randint(0, 20), "acc_strides": acc_strides,
            "wgt_row": choice.randint(0, 63), "wgt_rewind": choice.choice([0, -5]),
            "k_last": choice.randint(1, rows), "accumulate": choice.random() < 0.5,
            "rings": (choice.choice([0, 4]), 6, choice.choice([0, 5]))}
        program.execute(**fields)
        return fields

    fields, before, after, counters = attempt(build, seed)
    counts = fields["counts"]
    position, last = fields["wgt_row"], 0
    for k in np.ndindex(*counts[:1:-1]):
        index = (0, 0, *k[::-1])
        if index[5] != last:
            position, last = position + fields["wgt_rewind"], index[5]
        taken = fields["k_last"] if index[2] == counts[2] - 1 else rows
        tile = [before["wgt"][wrapped((position + i) & 0xffff, fields["wgt_row"],
                                      fields["rings"][1])] for i in range(taken)]
        position += taken
        for i1 in range(counts[1]):
            for i0 in range(counts[0]):
                at = (i0, i1, *index[2:])
                act_row, acc_row = (
                    wrapped((fields[f"{name}_row"] + sum(
                        i * s for i, s in zip(at, fields[f"{name}_strides"], strict=True)))
                        & 0xffff, fields[f"{name}_row"], ring)
                    for name, ring in (("act", fields["rings"][0]), ("acc", fields["rings"][2])))
                for column in range(cols):
                    total = sum(int(before["act"][act_row, i]) * int(tile[i][column])
                                for i in range(taken))
                    if fields["accumulate"] or any(index[2:5]):
                        total += int(before["acc"][acc_row, column])
                    before["acc"][acc_row, column] = (total + 2**31) % 2**32 - 2**31
    assert same(before, after)
    assert counters["rows"] == prod(counts)


def test_strides_undo_jumps():
    counts, strides = (3, 1, 4, 2), [5, -7, 100, 0]
    assert strides_of(counts, tuple(jumps_of(counts, strides))) == strides
