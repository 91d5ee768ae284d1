"""Engines meet in the banks of the scratchpads: what is known of it, and how it is avoided."""

import pytest
from systolith import Program
from systolith.compiler.hazards import LONG, touched
from systolith.compiler.maps import NoRoom, Space
from systolith.compiler.ordered import ordered
from systolith.conflicts import Conflicts
from systolith.program import decode_program
from systolith.transfers import RunCosts
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType, Memory, Opcode, Operand

CONFIG = CoreConfig.preset("bench16")
BANK = CONFIG.memory.act_rows // CONFIG.memory.act_banks
HALF = CONFIG.memory.acc_rows // CONFIG.memory.acc_banks
ACC_GROUPS = CONFIG.acc_group_pitch
DEPTH = CONFIG.control.execute_loops


def append_execute(program, row=0, *, acc=0, wgt=0, rows=64, tiles=1, **fields):
    program.execute(counts=[rows, 1, tiles, *[1] * (DEPTH - 3)], act_row=row,
                    act_strides=[1, *[0] * (DEPTH - 1)], acc_row=acc,
                    acc_strides=[1, *[0] * (DEPTH - 1)], wgt_row=wgt, k_last=16, **fields)


def command(append):
    """Fields of the one command that ``append`` appends."""
    program = Program(config=CONFIG)
    append(program)
    (_, fields), = decode_program(program.encode())
    return fields


def execute(row, **places):
    return command(lambda program: append_execute(program, row, **places))


def vector(row, source=ElementType.INT8):
    return command(lambda program: program.vector(
        counts=[2, 64], source=2 * row, source_strides=[2], result_strides=[2], source_type=source,
        second=Operand.IMMEDIATE, param_step=0))


@pytest.mark.parametrize("row, source, end", [
    (0, ElementType.INT8, 450), (BANK, ElementType.INT8, 150), (0, ElementType.ACC, 150),
    (BANK - 32, ElementType.INT8, 200)])
def test_a_vector_command_waits_while_the_array_reads_its_bank(row, source, end):
    assert vector_end(execute(0), vector(row, source)) == end


def vector_end(array, unit, begin=50, sums_after=0):
    """When reads end that alone take 100 cycles, beside an array that reads from 100 to 400."""
    conflicts = Conflicts(CONFIG, sums_after)
    conflicts.array_reads(conflicts.of_execute(array, 1), 0, 100, 400, 300)
    return conflicts.vector_end(conflicts.of_vector(unit, 1), 0, begin, 100)


@pytest.mark.parametrize("row, fields, end", [
    (0, {"accumulate": True}, 450), (HALF, {"accumulate": True}, 150), (0, {"tiles": 3}, 150),
    (0, {"tiles": 3, "begin": 170}, 470), (HALF - 32, {"accumulate": True}, 200),
    (0, {"tiles": 3, "begin": 170, "sums_after": 20}, 470),
    (0, {"tiles": 3, "begin": 380, "sums_after": 40}, 540)])
def test_a_vector_command_waits_while_the_array_adds_to_its_bank_of_sums(row, fields, end):
    places = {name: fields.pop(name) for name in ("begin", "sums_after") if name in fields}
    unit = vector(row * ACC_GROUPS // 2, ElementType.ACC)
    assert vector_end(execute(BANK, **fields), unit, **places) == end


def test_sums_of_several_iterations_lie_where_each_is():
    conflicts = Conflicts(CONFIG)
    fields = command(lambda program: program.execute(
        counts=[64, 1, 2, 1, 1, 2], act_row=BANK, act_strides=[1, 0, 0, 0, 0, 0], acc_row=0,
        acc_strides=[1, 0, 0, 0, 0, HALF], wgt_row=0, k_last=16))
    reads = conflicts.of_execute(fields, 2)
    conflicts.array_reads(reads, 0, 100, 200, 100)
    conflicts.array_reads(reads, 1, 200, 300, 100)
    own = conflicts.of_vector(vector(HALF * ACC_GROUPS // 2, ElementType.ACC), 1)
    assert conflicts.vector_end(own, 0, 140, 70) == 210    # the first adds in the other bank
    assert conflicts.vector_end(own, 0, 190, 70) == 310    # the second, from 250 on, in this one


def test_what_has_ended_is_forgotten():
    assert vector_end(execute(0), vector(0), begin=400) == 500


def test_runs_cost_what_they_do_in_the_mean():
    costs = RunCosts(CONFIG)    # of a bus of 16 bytes
    program = Program(config=CONFIG)
    for strides in ((4,), (16,), (2,)):
        program.load(memory=Memory.ACT, address=0, row=0, run_bytes=4, counts=[8], strides=strides,
                     row_strides=[1])
    assert [costs.of(fields) for _, fields in decode_program(program.encode())] == [
        (1, 1), (1, 1), (9 / 8, 9 / 8)]


def test_a_long_execute_has_a_bank_of_sums_for_itself():
    half = CONFIG.memory.acc_rows // 2
    for tiles, rows in ((1, 64), (LONG // 64 + 1, half)):
        _, written = touched(Opcode.EXECUTE, execute(0, tiles=tiles, acc=half + 5), CONFIG)
        assert {name: len(places) for name, places in written} == {"acc": rows}
        assert min(places.min() for _, places in written) >= half


def test_small_maps_lie_in_banks_of_their_own_and_large_ones_at_the_ends():
    space = Space("rows", 400, bank_rows=100, spread=60)
    assert [space.take(name, 50) for name in "abcde"] == [0, 100, 200, 300, 50]
    for name in "abcde":
        space.give(name)
    assert [space.take(name, 120) for name in "abc"] == [0, 280, 120]
    with pytest.raises(NoRoom) as info:
        space.take("d", 41)
    assert "rows must be at least 441" in str(info.value)


def test_marks_stay_until_their_rows_are_taken():
    space = Space("rows", 400, bank_rows=100)
    space.take("a", 50)
    space.mark("a", "filled")
    space.give("a")
    space.take("b", 20)
    assert not space.marks


def test_the_next_executes_and_their_loads_come_before_the_vector_unit():
    program = Program(config=CONFIG, draft=True)
    for unit in range(3):
        program.load(memory=Memory.WGT, address=0, row=16 * unit, row_bytes=16, run_bytes=256)
        append_execute(program, acc=64 * unit, wgt=16 * unit)
        program.vector(counts=[2, 64], source=128 * unit, source_strides=[2], result=2048,
                       result_strides=[2])
    names = [opcode.name[0] for opcode, _ in decode_program(
        ordered(
            program, memory_bytes=4096, spare_row=CONFIG.memory.act_rows - 1)[0].encode())]
    assert "".join(names) == "LELEVLEVV"


def test_what_needs_results_stays_behind_them():
    program = Program(config=CONFIG, draft=True)
    for _ in range(2):      # the second reads what the first has written
        append_execute(program)
        program.vector(counts=[2, 64], source=0, source_strides=[2], result=0, result_strides=[2])
    names = [opcode.name[0] for opcode, _ in decode_program(
        ordered(
            program, memory_bytes=4096, spare_row=CONFIG.memory.act_rows - 1)[0].encode())]
    assert "".join(names) == "EVEV"


def test_iterations_that_change_banks_with_the_array_never_meet_it():
    conflicts = Conflicts(CONFIG)
    unit = command(lambda program: program.vector(
        counts=[2, 32, 2], source=0, source_strides=[2, ACC_GROUPS * HALF],
        result_strides=[2, 64], source_type=ElementType.ACC, second=Operand.IMMEDIATE,
        param_step=0))
    conflicts.array_reads(conflicts.of_execute(execute(BANK, accumulate=True), 1), 0, 100, 400, 300)
    own = conflicts.of_vector(unit, 2)
    assert conflicts.vector_end(own, 0, 150, 100) == 500    # in the bank that the array adds to
    assert conflicts.vector_end(own, 1, 150, 100) == 250


def test_an_array_that_reads_half_of_the_time_leaves_the_other_half():
    conflicts = Conflicts(CONFIG)
    conflicts.array_reads(conflicts.of_execute(execute(0), 1), 0, 100, 400, 150)
    own = conflicts.of_vector(vector(0, ElementType.INT8), 1)
    assert conflicts.vector_end(own, 0, 100, 100) == 300
