"""The microprogram walks commands as the model does; and which cores can have it."""

import random

import numpy as np
import pytest
from systolith.model.address import loop_offsets
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, Opcode, jumps_of
from systolith_hw.microcode import (
    LOOP_PAGES,
    PAGE,
    SEMAPHORE,
    STATE,
    Add,
    Do,
    Field,
    Half,
    If,
    Routine,
    microprogram,
)

SHARED = CoreConfig.preset("tiny").overridden(["control.shared=true", "bus.max_burst=1"])
CONFIGS = {"tiny": SHARED,
           "least": SHARED.overridden(["control.load_loops=1", "control.params=1"]),
           "most": SHARED.overridden(["control.load_loops=3", "control.vector_loops=4",
                                      "control.execute_loops=6"])}
NUMBERS = {Add.MINUS: -1, Add.ONE: 1, Add.RESULT: 2, Add.PARAM: 1, Add.TILE: 3, Add.OFFSET: 4}
MASK = (1 << 32) - 1


class Machine:
    """Runs routines on one command; says what a unit hears.

    Members
    -------
    heard : list of (int, int)
        Fields and what they are.
    loop : int
        Of the last advance, 15 behind the last.
    """
    def __init__(self, config, record):
        self.words, self.pages = microprogram(config)
        self.memory = {i: int.from_bytes(record[4 * i:4 * i + 4], "little") for i in range(16)}
        self.memory[SEMAPHORE] = 0
        self.sum = self.loop = 0
        self.heard = []

    def run(self, page):
        at, arriving, value, more, target = PAGE * page, 0, 0, False, None
        before = None, 0
        for _ in range(1000):
            word = self.words[at]
            addr, half, write = word & 31, Half(word >> 5 & 3), word >> 7 & 1
            do, argument = Do(word >> 8 & 15), word >> 12
            at, target = at + 1 if target is None else target, None
            found = self.sum
            assert do != Do.STEP or before[0] == Do.LOAD
            if do in (Do.LOAD, Do.EMIT) or (do == Do.STEP and self.sum == 1):
                found = value
            elif do == Do.ADD:
                found = (self.sum + value) & MASK
            elif do == Do.PLUS:
                found = (self.sum + NUMBERS[Add(before[1])]) & MASK
            elif do == Do.STEP:
                found = self.sum - 1
            if do == Do.STEP:
                more = self.sum != 1
            if do in (Do.EMIT, Do.SAY):
                self.heard.append((argument, found))
            if do == Do.GO:
                assert value == self.memory[0]
                self.loop = argument
            if do == Do.JUMP and (argument == If.ALWAYS or argument == If.MORE and more):
                target = PAGE * (addr | half << 5)
            if write:
                self.memory[addr] = self.sum
            if do == Do.END:
                return
            value, arriving = arriving, 0
            if not write and do != Do.JUMP:
                arriving = self.read(addr, half)
            self.sum, before = found, (do, argument)
        raise AssertionError("a routine must end")

    def read(self, addr, half):
        word = self.memory.get(addr, 0)
        if half == Half.BYTE:
            return ((word >> 16 & 255) ^ 128) - 128 & MASK
        return {Half.ALL: word, Half.LOW: word & 0xffff, Half.HIGH: word >> 16}[half]

    def said(self, field):
        return [value for name, value in self.heard if name == field]


@pytest.fixture(params=range(20))
def rng(request):
    return random.Random(request.param)


def drawn(rng, loops, bits):
    """Counts of loops, strides and a base."""
    limit = 1 << bits - 6
    return ([rng.randrange(1, 4) for _ in range(loops)],
            [rng.randrange(-limit, limit) for _ in range(loops)], rng.randrange(1 << bits - 2))


def expected(base, counts, strides, bits):
    return [int(each) & (1 << bits) - 1 for each in base + loop_offsets(tuple(counts), strides)]


@pytest.mark.parametrize("name", CONFIGS)
def test_runs_of_bytes_are_those_of_the_loops(rng, name):
    config = CONFIGS[name]
    counts, strides, base = drawn(rng, config.control.load_loops, 32)
    pads, pad = [rng.randrange(-500, 500) for _ in counts], rng.randrange(5000)
    values = {"counts": counts, "memory_base": base, "memory_jumps": jumps_of(counts, strides),
              "pad_base": pad, "pad_jumps": jumps_of(counts, pads), "run_bytes": 70}
    machine = Machine(config, COMMANDS[Opcode.STORE].encode(values))
    machine.run(machine.pages[Routine.BEGIN_TRANSFER])
    while machine.loop != 15:
        machine.run(machine.pages[Routine.NEXT_TRANSFER])
    addresses = expected(base, counts, strides, 32)
    assert machine.said(Field.ADDRESS) == addresses
    assert machine.said(Field.PAD) == expected(pad, counts, pads, 32)
    assert machine.said(Field.LIMIT) == [address + 70 & MASK for address in addresses]
    assert machine.said(Field.WORDS) == [74] * len(addresses)


@pytest.mark.parametrize("name", CONFIGS)
def test_lane_groups_are_those_of_the_loops(rng, name):
    config = CONFIGS[name]
    counts, strides, base = drawn(rng, config.control.vector_loops, 16)
    strides[0] = rng.randrange(-128, 128)
    results, result = [2, *(rng.randrange(-99, 99) for _ in counts[1:])], rng.randrange(5000)
    values = {"counts": counts, "source_base": base, "source_step": strides[0],
              "source_jumps": jumps_of(counts, strides)[1:], "result_base": result,
              "result_jumps": jumps_of(counts, results)[1:], "param_base": 9}
    machine = Machine(config, COMMANDS[Opcode.VECTOR].encode(values))
    machine.run(machine.pages[Routine.BEGIN_VECTOR])
    while machine.loop != 15:
        machine.run(machine.pages[Routine.NEXT_GROUP])
    for field, wanted in ((Field.SOURCE, expected(base, counts, strides, 16)),
                          (Field.RESULT, expected(result, counts, results, 16))):
        assert [value & 0xffff for value in machine.said(field)] == wanted
    index = np.indices(counts[::-1]).reshape(len(counts), -1)[::-1]
    assert machine.said(Field.PARAM) == list(9 + index[0] + index[2] * counts[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_tiles_and_rows_are_those_of_the_loops(rng, name):
    config = CONFIGS[name]
    loops = config.control.execute_loops
    counts, strides, base = drawn(rng, loops, 16)
    jumps = jumps_of(counts, strides)
    values = {"counts": counts, "act_base": base, "act_jumps": jumps, "acc_base": 77,
              "acc_jumps": jumps, "wgt_base": 5, "wgt_rewind": 100}
    machine = Machine(config, COMMANDS[Opcode.EXECUTE].encode(values))
    machine.run(machine.pages[Routine.BEGIN_EXECUTE])
    address, addresses, fresh, advanced = base, [], True, 0
    while machine.loop != 15:
        if fresh:
            machine.run(machine.pages[Routine.NEXT_TILE])
        heard = len(machine.heard)
        machine.run(machine.pages[Routine.NEXT_ROWS] + LOOP_PAGES * advanced)
        address += sum(value for field, value in machine.heard[heard:] if field == Field.ACT)
        for row in range(counts[0]):
            address += jumps[0] if row else 0
            addresses.append(address & 0xffff)
        advanced, fresh = machine.loop, machine.loop > 1
    assert addresses == expected(base, counts, strides, 16)
    index = np.indices(counts[:1:-1]).reshape(loops - 2, -1)[::-1]
    assert machine.said(Field.LEFT) == [counts[2] - i for i in index[0]]
    tiles = np.arange(len(index[0])) * 3 + index[-1] * 100
    assert machine.said(Field.WGT) == list(5 + tiles)


@pytest.mark.parametrize("name", CONFIGS)
def test_words_are_where_pages_say(name):
    words, pages = microprogram(CONFIGS[name])
    assert len(words) <= 512 and all(0 <= word < 1 << 16 for word in words)
    assert len(set(pages.values())) == len(Routine)
    assert pages[Routine.NEXT_ROWS] % (8 * LOOP_PAGES) == 0
    assert STATE < SEMAPHORE < 32


@pytest.mark.parametrize("changes, text", [
    (["control.compact=false"], "control.compact must be True with control.shared, not False"),
    (["control.counters=true"], "control.counters must be False with control.shared, not True"),
    (["bus.max_burst=4"], "bus.max_burst must be 1 with control.shared, not 4"),
    (["vector.functions=256"], "vector.functions must be 0 with control.shared, not 256"),
    (["array.weights=int8,int4"],
     ("array.weights must be 'int8' alone, as array.cell, with control.shared, not "
      "('int8', 'int4')")),
])
def test_what_a_shared_sequencer_cannot_do_is_refused(changes, text):
    with pytest.raises(ValueError) as caught:
        SHARED.overridden(changes)
    assert str(caught.value) == text


def test_a_narrow_parameter_memory_needs_a_shared_sequencer():
    assert SHARED.overridden(["memory.par_narrow=true"]).memory.par_narrow
    with pytest.raises(ValueError) as caught:
        CoreConfig.preset("tiny").overridden(["memory.par_narrow=true"])
    assert str(caught.value) == (
        "memory.par_narrow must be False without control.shared, not True")


def test_parameter_registers_can_be_left_out():
    assert SHARED.overridden(["control.params=1"]).control.params == 1
