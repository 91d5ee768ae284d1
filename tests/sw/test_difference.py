"""The first command that differs is found, with its element."""

import random

import numpy as np
import pytest
import systolith
from configurations import LEAST, core
from faulty import FaultyDevice
from networks import residual
from systolith.compiler.hazards import touched
from systolith.device import ModelDevice
from systolith.difference import first_difference, memory_for
from systolith.errors import CoreError
from systolith.observe import Probe
from systolith.program import decode_program
from systolith.written import Places
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, Memory, Opcode

CORES = {
    "8x8": core(8, 8, 2),
    "5x3 least loops": core(5, 3, 1, {"act_rows": 2048, "acc_rows": 16}, LEAST),
    "4x3 lanes with gaps": core(4, 3, 4),
    "small memories": core(8, 8, 2, {"act_rows": 128, "act_banks": 1, "wgt_rows": 64,
                                     "acc_rows": 16}),
}
SHOWN = ("act", "acc", "memory")
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 3))]


class Case:
    """A network, an input and the commands of its program."""
    def __init__(self, name):
        self.config = CORES[name]
        self.network = systolith.compile(residual(5), config=self.config)
        self.image, = self.network.images
        self.x = np.random.default_rng(6).integers(
            -128, 128, self.network.inputs[0].shape).astype(np.int8)
        program = self.image.setup + self.image.program
        self.setup = self.image.setup_commands
        self.records = [program[at:at + 64] for at in range(0, len(program), 64)]
        self.commands = decode_program(program)

    def writes(self, number):
        """A memory that can be read and the rows of it that a command writes."""
        return next(((name, rows) for name, rows in touched(*self.commands[number], self.config)[1]
                     if name in SHOWN), None)

    def some(self, rng, opcode):
        """A command that occurs once, and writes what can be read."""
        return rng.choice([
            number for number, (kind, fields) in enumerate(self.commands)
            if kind == opcode and self.writes(number) and not fields.get("mode")
            and self.records.count(self.records[number]) == 1])

    def columns(self, number, memory, row):
        """Columns or bytes that a command writes in a row."""
        places = Places(*self.commands[number], self.config)
        width = {"acc": self.config.array.cols, "act": self.config.act_row_bytes,
                 "memory": 64}[memory]
        return [column for column in range(width) if places.find(row, column).element]

    def search(self, **fault):
        """What differs between the model and one with a fault."""
        size = memory_for(self.network)
        devices = (ModelDevice(self.config, memory_bytes=size),
                   FaultyDevice(self.config, memory_bytes=size, **fault))
        return first_difference(self.network, devices, [self.x])


def flip(memory, row, column):
    """What flips a bit of a memory."""
    def harm(state):
        if memory == "memory":
            state.memory[64 * row + column] ^= 64
        else:
            getattr(state, memory)[row, column] ^= 1 << 20 if memory == "acc" else 64
    return harm


@pytest.fixture(scope="module", params=CORES)
def case(request):
    return Case(request.param)


def test_equal_devices_agree_in_any_order_of_engines(case):
    devices = [ModelDevice(case.config, memory_bytes=memory_for(case.network), order=order)
               for order in (None, 3)]
    x = np.concatenate([case.x, case.x // 2])
    assert first_difference(case.network, devices, [x]) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.EXECUTE, Opcode.VECTOR, Opcode.STORE])
def test_one_flipped_bit_is_found_where_it_was_flipped(case, opcode, seed):
    rng = random.Random(f"{case.config.name} {opcode} {seed}")
    found = None
    while found is None:    # some bits are of nothing that is used
        number = case.some(rng, opcode)
        memory, rows = case.writes(number)
        row = rng.choice(rows.tolist())
        column = rng.choice(case.columns(number, memory, row))
        found = case.search(record=case.records[number], harm=flip(memory, row, column))
    assert (found.command, found.memory, found.place.row, found.place.column) == (
        number - case.setup, memory, row, column)
    assert found.differing == 1 <= found.written and not found.overlapping
    assert ((found.values[0] ^ found.values[1]) & 0xffffffff).bit_count() == 1
    assert list(found.around) == [at - case.setup for at in range(
        max(0, number - 3), min(len(case.records), number + 4))]


@pytest.mark.parametrize("seed", SEEDS)
def test_results_off_by_one_are_found_at_the_first(case, seed):
    rng = random.Random(f"{case.config.name} {seed}")
    found = None
    while found is None:    # some are clamped
        number = case.some(rng, Opcode.VECTOR)
        _, fields = case.commands[number]
        other = COMMANDS[Opcode.VECTOR].encode({
            **fields, "zero_point": fields["zero_point"] + (1 if number % 2 else -1)})
        found = case.search(record=case.records[number], other=other)
    assert (found.command, found.memory) == (number - case.setup, "act")
    assert abs(found.values[0] - found.values[1]) == 1


def test_a_command_that_writes_beside_its_rows_is_named_not_the_rows_own(case):
    rng = random.Random(case.config.name)
    number = next(number for number, (opcode, fields) in enumerate(case.commands)
                  if opcode == Opcode.LOAD and fields["memory"] == Memory.PAR
                  and any(case.writes(before) for before in range(number)))
    assert case.records.count(case.records[number]) == 1
    loaded = np.concatenate([rows for at in range(number) for name, rows in [
        case.writes(at) or ("", np.zeros(0, int))] if name == "act"])
    found = None
    while found is None:    # some are of nothing that is used
        row, column = rng.choice(loaded.tolist()), rng.randrange(3)
        found = case.search(record=case.records[number], harm=flip("act", row, column))
    assert (found.command, found.memory, found.place.row, found.place.column) == (
        number - case.setup, "act", row, column)
    assert (found.place.tile, found.place.element) == (-1, {})


def test_weights_that_stay_and_that_do_not_are_both_looked_into():
    assert {bool(Case(name).setup) for name in CORES} == {True, False}


def test_weights_that_were_loaded_from_elsewhere_show_where_they_are_used(case):
    number = next(number for number, (opcode, fields) in enumerate(case.commands)
                  if opcode == Opcode.LOAD and fields["memory"] == Memory.WGT)
    _, fields = case.commands[number]
    other = COMMANDS[Opcode.LOAD].encode({**fields, "memory_base": fields["memory_base"] + 1})
    found = case.search(record=case.records[number], other=other)
    assert case.commands[found.command + case.setup][0] == Opcode.EXECUTE
    assert number - case.setup in found.loaded["wgt"]


def test_a_device_that_stops_is_a_difference(case):
    number = case.some(random.Random(1), Opcode.VECTOR)
    found = case.search(record=case.records[number], other=bytes([9]) + case.records[number][1:])
    assert (found.command, found.memory, found.place) == (number - case.setup, "", None)
    assert found.values[0] == "ran on" and f"command {number - case.setup}" in found.values[1]


def test_when_both_stop_that_is_the_answer(case):
    number = case.some(random.Random(1), Opcode.VECTOR)
    fault = {"record": case.records[number], "other": bytes([9]) + case.records[number][1:]}
    devices = [FaultyDevice(case.config, memory_bytes=memory_for(case.network), **fault)
               for _ in range(2)]
    with pytest.raises(CoreError, match=f"command {number - case.setup}"):
        first_difference(case.network, devices, [case.x])


def test_what_shows_only_in_a_whole_run_is_found_by_longer_beginnings():
    case = Case("8x8")
    number = len(case.commands) // 2

    class Late(ModelDevice):
        """Goes wrong in programs of many commands."""
        def run(self, program_address, commands, *, params=None):
            super().run(program_address, commands, params=params)
            if commands >= number:
                self.model.state.memory[case.image.outputs[0].address] ^= 1

    size = memory_for(case.network)
    found = first_difference(case.network, [
        ModelDevice(case.config, memory_bytes=size), Late(case.config, memory_bytes=size)],
        [case.x])
    assert found.overlapping and found.memory == "memory"


def test_scratchpads_are_read_as_they_are_and_left_so(case):
    config, rng = case.config, np.random.default_rng(3)
    device = ModelDevice(config, memory_bytes=Probe.memory_bytes(100))
    state = device.model.state
    for pad in state.pads.values():
        pad.data[...] = rng.integers(0, 256, pad.data.shape)
    state.acc[:, :config.array.cols] = rng.integers(-2**31, 2**31, (
        config.memory.acc_rows, config.array.cols))
    probe, act, acc = Probe(device, 4096), state.act.copy(), state.acc.copy()
    rows = np.flatnonzero(rng.random(len(act)) < 0.5)
    assert np.array_equal(probe.act(rows).view(np.int8), act[rows, :config.act_row_bytes])
    rows = np.flatnonzero(rng.random(len(acc)) < 0.5)
    assert np.array_equal(probe.acc(rows), acc[rows, :config.array.sum_cols])
    assert np.array_equal(state.act, act)
    probe.clear()
    assert not (state.act.any() or state.wgt.any() or state.par.any() or state.tables.entries.any())


def test_devices_that_differ_once_only_are_said_to():
    case = Case("8x8")
    runs = []

    class Once(ModelDevice):
        def run(self, program_address, commands, *, params=None):
            super().run(program_address, commands, params=params)
            runs.append(commands)
            if len(runs) == 2 + (case.setup > 0):   # memories were cleared first
                self.memory[case.image.outputs[0].address] ^= 1

    size = memory_for(case.network)
    with pytest.raises(RuntimeError, match="not repeatable"):
        first_difference(case.network, [ModelDevice(case.config, memory_bytes=size),
                                        Once(case.config, memory_bytes=size)], [case.x])


def test_inputs_of_another_shape_are_refused():
    case = Case("8x8")
    with pytest.raises(ValueError, match="must be of shape"):
        first_difference(case.network, [], [case.x[:, 1:]])
    assert CoreConfig.from_dict(dict(case.network.config)) == case.config
