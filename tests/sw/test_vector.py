"""Vector commands of the model against elements computed one by one in Python integers."""

import random
from math import prod

import numpy as np
import pytest
from configurations import core
from systolith import CoreError, ModelDevice
from systolith.model.state import ROW
from systolith.model.validate import prepare
from systolith_hw.isa import (
    COMMANDS,
    ONCE,
    ErrorCode,
    Function,
    Memory,
    Opcode,
    Reduction,
    ResultType,
    Scale,
    jumps_of,
)
from systolith_hw.legal import supported
from vector_reference import SIZES, Memories, OutsideError, OwnResultError, Vector

MEMORY = {"act_rows": 64, "act_banks": 2, "wgt_rows": 16, "acc_rows": 32, "par_rows": 16}


def vector_core(height, width, lanes, **vector):
    return core(height, width, lanes, MEMORY).updated({"vector": {"lanes": lanes, **vector}})


CONFIGS = {
    "all": vector_core(3, 5, 2),
    "one lane": vector_core(3, 5, 1, rows=16),
    "wide rows": vector_core(16, 7, 4, functions=256),
    "wide groups": vector_core(2, 16, 4, rows=64),
    "no tables": vector_core(5, 3, 2, functions=0),
    "tables of bytes": vector_core(5, 4, 4, multiply=False, functions=256),
    "no row file": vector_core(3, 5, 4, rows=0),
    "row file only": vector_core(3, 5, 2, elementwise=False),
    "least": vector_core(3, 5, 2, elementwise=False, multiply=False, functions=0, rows=0),
}
COMMANDS_EACH = 150     # of each configuration
SEMAPHORE = {"raise0": 0, "raise0_valid": 1}


def random_fields(choice, config, loose):
    """Fields of a command that may be legal and, unless ``loose``, is likely to lie inside."""
    vector = COMMANDS[Opcode.VECTOR]
    f = {field.name: choice.choice(sorted(supported(vector, field.name, config)))
         for field in vector.body if field.values}
    for name in ("function_first", "masked", "fold", "sum_results", "span", "fine", "stream_step",
                 "result_step", "param_step", "function_signed", "segments"):
        f[name] = choice.randrange(2)
    if f["result_type"] in (ResultType.ROW_SCALE, ResultType.ROW_ROOT):
        f |= {"function": Function.LINEAR, "function_first": 1, "scale": Scale.UNIT}
    counts = [choice.randint(1, 5), *(choice.randint(1, 3) for _ in range(3))]
    clamp = sorted(choice.randint(-128, 127) for _ in range(2))
    f |= {"counts": counts, "clamp_low": clamp[0], "clamp_high": clamp[1],
          "zero_point": choice.choice([0, choice.randint(-128, 127)]),
          "immediate": choice.choice([0, choice.randint(-9, 9), choice.randint(-2**15, 2**15 - 1)]),
          "tail": choice.randint(0, config.vector.lanes), "function_shift": choice.randint(0, 23),
          "function_base": choice.choice([0, choice.randrange(8)]),
          "row_base": choice.choice([0, choice.randrange(256)]),
          "param_base": choice.randint(0, 20 if loose else 4),
          "ring": [choice.choice([0, 0, 4, 6]) for _ in range(3)]}
    per_row = config.act_row_bytes // config.vector.lanes
    for name in ("source", "stream", "result"):
        size = SIZES.get(f[f"{name}_type"], 1)
        unit = 1 if loose and choice.random() < 0.2 else min(size, per_row)
        limit = min(config.act_groups, config.acc_groups)
        base = choice.choice([choice.randint(0, limit // 2), choice.randrange(2 * limit)])
        f[f"{name}_base"] = base - base % unit
        if name == "source":
            f["source_step"] = unit * choice.randint(-2, 4)
        step = f["source_step"] if name == "source" else size * f[f"{name}_step"]
        strides = [step, *(unit * choice.randint(-3, 9) for _ in range(3))]
        f[f"{name}_jumps"] = jumps_of(counts, strides)[1:]
    level = choice.choice([None, ONCE, 0, 1, 2, 3])
    if level is not None and (level == ONCE or prod(counts[level:]) <= 15):
        f |= {**SEMAPHORE, "level0": level}     # work is done in parts that end where it is raised
    return f


def is_legal(config, record):
    return prepare(record, config, [0] * config.control.params)[0] == ErrorCode.NONE


def legal_command(choice, config, loose):
    """Fields and record of a command that the core takes."""
    while True:
        fields = random_fields(choice, config, loose)
        record = COMMANDS[Opcode.VECTOR].encode(fields)
        two_values = (fields["reduce"] and not fields["fold"]
                      and fields["result_type"] == ResultType.ROW_VALUE)
        if is_legal(config, record) and not two_values:
            return COMMANDS[Opcode.VECTOR].decode(record), record


def numbers(rng, shape):
    """int32 of any magnitude."""
    return rng.integers(-2**31, 2**31, shape) >> rng.integers(0, 32, shape)


def filled_device(config, seed):
    """A device with random contents in every memory."""
    device = ModelDevice(config, memory_bytes=4096)
    rng = np.random.default_rng(seed)
    state = device.model.state
    for pad in state.pads.values():
        pad.data[...] = rng.integers(0, 256, pad.data.shape, dtype=np.uint8)
    state.act[rng.random(state.act.shape) < 0.2] = 0
    records = state.par.reshape(len(state.par), -1, 12)
    records[:, :, 7] &= 127
    records[:, :, 8] = rng.integers(-31, 8, records.shape[:2]).astype(np.int8).view(np.uint8)
    state.acc[:, :config.array.cols] = numbers(rng, (len(state.acc), config.array.cols))
    state.rows["value"] = numbers(rng, len(state.rows))
    state.rows["sum"] = np.abs(numbers(rng, len(state.rows)) + 1)
    state.rows["position"] = rng.integers(0, 100, len(state.rows))
    state.rows["multiplier"] = rng.integers(0, 2**31, len(state.rows))
    state.rows["shift"] = rng.integers(-31, 8, len(state.rows))
    return device


def memories_of(state):
    """Copies, in Python's types."""
    functions = state.pads.get(Memory.FUN)
    entries = [] if functions is None else functions.data[:functions.rows // 2]
    return Memories(
        act=bytearray(state.act.tobytes()), acc=state.acc.reshape(-1).tolist(),
        par=[row.tobytes() for row in state.par],
        fun=[row.tobytes() for row in entries],
        rows=[dict(zip(ROW.names, row.tolist(), strict=True)) for row in state.rows])


def run(device, record):
    device.write(0, record)
    device.run(0, 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_element_is_the_one_that_integers_give(name):
    config = CONFIGS[name]
    done, seen = 0, set()
    for number in range(40 * COMMANDS_EACH):
        choice = random.Random(f"{name} {number}")
        fields, record = legal_command(choice, config, loose=False)
        device = filled_device(config, number)
        expected = memories_of(device.model.state)
        try:
            Vector(config, fields, expected)
        except (OutsideError, OwnResultError):
            continue
        run(device, record)
        assert memories_of(device.model.state) == expected, (name, number, fields)
        seen |= {(field.name, fields[field.name]) for field in COMMANDS[Opcode.VECTOR].body
                 if field.values}
        seen |= {(fields["function"], fields["function_first"]),
                 (fields["reduce"], fields["fold"], fields["span"])}
        done += 1
        if done == COMMANDS_EACH:
            break
    assert done == COMMANDS_EACH
    if name == "all":
        assert {(field.name, int(value)) for field in COMMANDS[Opcode.VECTOR].body if field.values
                for value in supported(COMMANDS[Opcode.VECTOR], field.name, config)} <= seen
        assert {(int(function), first) for function in Function for first in (0, 1)
                if (function, first) not in ((Function.CHANNEL, 1), (Function.PRODUCT, 0),
                                             (Function.WEIGHTED, 0))} <= seen
        assert {(int(kind), fold, span) for kind in (Reduction.MAXIMUM, Reduction.SUM)
                for fold in (0, 1) for span in (0, 1)} <= seen


@pytest.mark.parametrize("name", CONFIGS)
def test_exactly_the_commands_that_leave_a_memory_are_refused(name):
    config = CONFIGS[name]
    outside = 0
    for number in range(100):
        choice = random.Random(f"{name} loose {number}")
        fields, record = legal_command(choice, config, loose=True)
        device = filled_device(config, number)
        try:
            Vector(config, fields, memories_of(device.model.state))
        except OwnResultError:
            continue
        except OutsideError:
            outside += 1
            with pytest.raises(CoreError) as caught:
                run(device, record)
            assert (caught.value.code, caught.value.index) == (ErrorCode.SCRATCHPAD_ADDRESS, 0)
            continue
        run(device, record)
    assert outside > 20
