"""Vector operations on several cores, and whether their passes wait for what they read."""

import numpy as np
from configurations import core
from systolith import ModelDevice
from systolith.model.address import loop_offsets, strides_of
from systolith.model.uses import Uses
from systolith.vector import compile_vector
from systolith_hw.config import PRESETS
from systolith_hw.isa import (
    COMMAND_BYTES,
    COMMANDS,
    ONCE,
    ElementType,
    Opcode,
    Operand,
    ResultType,
    Scale,
)

CORES = {
    **{name: PRESETS[name] for name in ("demo", "ecp5_85f", "bench16")},
    "one lane, three columns": core(5, 3, 1, {"act_rows": 2048}, {"vector_loops": 3,
                                                                 "load_loops": 1}),
    "wide lanes, narrow rows": core(3, 13, 4, {"act_rows": 4096}),
}
SIZES = {0: 1, 1: 2, 2: 4}


def run(operation, *arrays, config, order=None):
    """The operation's results; its passes wait for what they read."""
    image = compile_vector(operation, *(array.shape for array in arrays), config=config)
    check_waits(image, config)
    with ModelDevice(config, order=order) as device:
        return image.run(device, *arrays)


def vector_commands(image):
    program = image.program
    for start in range(0, len(program), COMMAND_BYTES):
        record = program[start:start + COMMAND_BYTES]
        if record[0] == Opcode.VECTOR:
            yield COMMANDS[Opcode.VECTOR].decode(record)


def _places(fields, name, step, size):
    """Units that each group touches in the scratchpad, (groups, size)."""
    counts = fields["counts"]
    strides = strides_of(counts, (step, *fields[f"{name}_jumps"]))
    return (fields[f"{name}_base"] + loop_offsets(counts, strides)[:, None]
            + np.arange(size)) & 0xffff


def _slots(fields, count):
    """Groups that waits come before and raises after: (semaphore, groups between)."""
    waits, raises = [], []
    for slot in (0, 1):
        level = fields[f"level{slot}"]
        period = count if level == ONCE else int(np.prod(fields["counts"][:level]))
        for kind, found in (("wait", waits), ("raise", raises)):
            if fields[f"{kind}{slot}_valid"]:
                found.append((fields[f"{kind}{slot}"], period))
    return waits, raises


class _Waits:
    """Follows the vector engine group by group: when was what written, and what is known done."""
    def __init__(self):
        self.clock = 0          # groups so far
        self.done = 0           # groups before it are known to have ended
        self.raised = {}        # by semaphore, the clocks of its raises
        self.taken = {}
        self.written = {}       # by memory and place, the clock

    def check(self, number, memory, places):
        for place in places:
            assert self.written.get((memory, int(place)), 0) <= self.done, (
                f"vector command {number} must wait before it reads {memory} {place}")

    def take(self, semaphore):
        position = self.taken.get(semaphore, 0)
        self.taken[semaphore] = position + 1
        raises = self.raised.get(semaphore, [])
        if position < len(raises):
            self.done = max(self.done, raises[position])


def check_waits(image, config):
    """Fail where a vector command reads what one before it wrote without having waited for it."""
    state = _Waits()
    for number, fields in enumerate(vector_commands(image)):
        counts = fields["counts"]
        count = int(np.prod(counts))
        used = Uses(fields)
        span = 2 if fields["span"] else 1
        row_length = int(np.prod(counts[:span]))
        records = fields["row_base"] + np.arange(count) // row_length
        waits, raises = _slots(fields, count)
        reads = []
        if fields["source_type"] < ElementType.ACC:
            reads.append(("act", _places(fields, "source", fields["source_step"],
                                         SIZES[fields["source_type"]])))
        if used.stream:
            size = SIZES[fields["stream_type"]]
            reads.append(("act", _places(fields, "stream", size * fields["stream_step"], size)))
        for name, reads_it in (
                ("value", fields["source_type"] == ElementType.ROW_VALUE
                 or fields["second"] == Operand.ROW),
                ("position", fields["source_type"] == ElementType.ROW_POSITION),
                ("sum", fields["source_type"] == ElementType.ROW_SUM),
                ("scale", fields["scale"] == Scale.ROW)):
            if reads_it:
                reads.append((name, records[:, None]))
        writes = []
        kind = fields["result_type"]
        if kind < ResultType.NONE:
            writes.append(("act", _places(fields, "result", SIZES[kind] * fields["result_step"],
                                          SIZES[kind])))
        elif kind > ResultType.NONE:
            places = _places(fields, "result", fields["result_step"], 1)
            writes += [(name, places) for name in (
                ("value", "position") if kind == ResultType.ROW_VALUE else ("scale",))]
        ends = np.arange(count) % row_length == row_length - 1
        at_end = np.where(ends, records, -1)[:, None]
        if fields["reduce"] and not fields["fold"]:
            writes += [("value", at_end), ("position", at_end)]
        if fields["sum_results"]:
            writes.append(("sum", at_end))
        for group in range(count):
            for semaphore, period in waits:
                if group % period == 0:
                    state.take(semaphore)
            for memory, places in reads:
                state.check(number, memory, places[group])
            for memory, places in writes:
                for place in places[group]:
                    state.written[memory, int(place)] = state.clock + 1
            state.clock += 1
            for semaphore, period in raises:
                if (group + 1) % period == 0:
                    state.raised.setdefault(semaphore, []).append(state.clock)


def passes_of(image, config, elements):
    """Cycles of all vector commands, a group of several scratchpad rows taking as many, by those
    that all elements take once."""
    lanes, width = config.vector.lanes, config.act_row_bytes
    cycles = 0
    for fields in vector_commands(image):
        sizes = [1, *(SIZES[kind] for kind in (fields["source_type"], fields["result_type"])
                      if kind in SIZES)]
        if Uses(fields).stream:
            sizes.append(SIZES[fields["stream_type"]])
        cycles += int(np.prod(fields["counts"])) * max(1, max(sizes) * lanes // width)
    return cycles / (elements / lanes)
