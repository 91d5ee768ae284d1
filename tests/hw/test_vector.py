"""The vector engine against the bit-exact model, and its cycles."""

from itertools import product

import numpy as np
import pytest
from systolith_hw.isa import (
    COMMANDS,
    ONCE,
    ElementType,
    ErrorCode,
    Function,
    Opcode,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)
from systolith_hw.legal import supported
from systolith_hw.reads import GROUPS
from systolith_hw.stages import Stages

from .vectors import PORTS, RECORDS, TB, config_of

VECTOR = COMMANDS[Opcode.VECTOR]
# Rows, columns, lanes and loops; rows of activations hold four groups of bytes, or a quarter of a
# group of int32.
SHAPES = {
    "1_lane": config_of(4, 3, 1, 3),
    "2_lanes": config_of(8, 5, 2),
    "4_lanes": config_of(3, 6, 4),
    "8_lanes": config_of(8, 8, 8, functions=512),
    "8_lanes_wide_rows": config_of(32, 8, 8, 3),
    "no_row_file": config_of(8, 9, 4, rows=0),
    "no_scratchpad": config_of(4, 4, 2, 3, elementwise=False),
    "no_multiplier": config_of(4, 2, 2, multiply=False),
    "no_functions": config_of(8, 4, 1, functions=0),
    "neither": config_of(8, 8, 4, multiply=False, functions=0),
    "requantiser": config_of(3, 3, 2, 3, elementwise=False, rows=0, multiply=False, functions=0),
    "serial": config_of(8, 5, 2, requantiser="serial"),
    "serial_no_row_file": config_of(3, 6, 4, rows=0, requantiser="serial"),
    "serial_requantiser": config_of(3, 3, 1, 3, elementwise=False, rows=0, multiply=False,
                                    functions=0, requantiser="serial"),
    "compact": config_of(8, 5, 2, compact=True),
    "compact_serial": config_of(8, 5, 2, requantiser="serial", compact=True),
    "compact_requantiser": config_of(4, 4, 1, 3, elementwise=False, rows=0, multiply=False,
                                     functions=0, requantiser="serial", compact=True),
}
FULL = SHAPES["4_lanes"]
PAIR = config_of(3, 5, 2)   # groups of int32 take two rows
FOUR = config_of(4, 8, 4)   # groups of bytes as wide as rows
WIDE = config_of(16, 8, 4)  # groups of int32 as wide as rows
PLAIN = {"source_type": ElementType.INT8, "second": Operand.IMMEDIATE, "scale": Scale.UNIT}


# Results

@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_random_commands_equal_the_model(name, pause):
    tb = TB(SHAPES[name], seed=f"{name} {pause}", pause=pause)
    commands = tb.give_records_contents() if tb.config.vector.rows else []
    few = {} if tb.stages.interval == 1 else {"counts": [2] + [1] * (
        tb.config.control.vector_loops - 1)}
    tb.run(commands + [tb.random_command(**few) for _ in range(9)])
    tb.check()


@pytest.mark.parametrize("port", PORTS)
def test_a_port_that_does_not_grant_only_costs_time(port):
    tb = TB(PAIR, seed=port, pause={port: 0.8})
    tb.run(tb.give_records_contents() + [tb.random_command() for _ in range(12)])
    tb.check()


def choices(config, *names):
    """Every combination of values of enumerated fields that ``config`` takes."""
    return product(*(sorted(supported(VECTOR, name, config)) for name in names))


def test_every_function_before_and_after_the_scale_with_every_result():
    tb = TB(PAIR, seed=1)
    commands = tb.give_records_contents()
    for function, first, result in product(
            (f for f, in choices(PAIR, "function")), (0, 1), range(7)):
        product_ = function in (Function.PRODUCT, Function.WEIGHTED)
        to_scale = result in (ResultType.ROW_SCALE, ResultType.ROW_ROOT)
        if (product_ and not first or first and function == Function.CHANNEL
                or to_scale and not (function == Function.LINEAR and first)):
            continue
        commands.append(tb.random_command(
            function=function, function_first=first, result_type=result, sum_results=0,
            reduce=Reduction.NONE, fold=0, counts=[2, 2],
            **({"scale": Scale.UNIT} if to_scale else {})))
    assert len(commands) > 45
    tb.run(commands)
    tb.check()


def test_every_operation_on_every_operand():
    tb = TB(PAIR, seed=2)
    tb.run(tb.give_records_contents() + [
        tb.random_command(operation=operation, second=second, masked=masked, reduce=0, fold=0,
                          scale=Scale.UNIT, function=Function.NONE, counts=[3],
                          result_type=ResultType.INT32)
        for operation, second in choices(PAIR, "operation", "second") for masked in (0, 1)])
    tb.check()


@pytest.mark.parametrize("source", ElementType)
def test_every_type_in_and_out(source):
    tb = TB(PAIR, seed=source)
    tb.run(tb.give_records_contents() + [
        tb.random_command(source_type=source, stream_type=stream, result_type=result,
                          operation=VectorOp.ADD, second=Operand.STREAM, fine=fine, fold=0,
                          reduce=0, scale=Scale.UNIT, function=0, counts=[2, 2])
        for stream in range(3) for result in range(3) for fine in (0, 1)])
    tb.check()


@pytest.mark.parametrize("reduce", [Reduction.MAXIMUM, Reduction.SUM])
def test_every_reduction_with_every_tail_and_span(reduce):
    tb = TB(FULL, seed=reduce)
    tb.run(tb.give_records_contents() + [
        tb.random_command(reduce=reduce, fold=fold, span=span, tail=tail, sum_results=sums,
                          result_type=ResultType.INT16, function=0, scale=Scale.CHANNEL,
                          counts=[2, 2, 2])
        for fold in (0, 1) for span in (0, 1) for sums in (0, 1) for tail in (0, 1, 3)])
    tb.check()


def test_a_maximum_stands_at_the_first_of_its_equals():
    tb = TB(FOUR, seed=0)
    places = [(0,), (3, 4), (9, 4, 7), (5, 8), (11,), (10, 1, 2), tuple(range(12))]
    tb.act[:3 * len(places)] = 0x80
    for number, equals in enumerate(places):
        tb.act[3 * number:3 * number + 3].reshape(-1)[list(equals)] = 5
    tb.begin()
    tb.run([tb.command(**PLAIN, counts=[3, len(places)], source_strides=[3],
                       reduce=Reduction.MAXIMUM, result_type=ResultType.NONE)])
    tb.check()
    assert tb.records["value"][:7].tolist() == [5] * 7
    assert tb.records["position"][:7].tolist() == [min(equals) for equals in places]


@pytest.mark.parametrize("sums", [0, 1])
def test_commands_write_the_same_records_in_turn(sums):
    tb = TB(FOUR, seed=sums)
    tb.run([tb.command(counts=[groups, count], source=4 * i, source_strides=[2], param_step=0,
                       result_type=ResultType.NONE, reduce=Reduction.SUM, sum_results=sums)
            for groups in (1, 2) for count in (1, *range(6, RECORDS - 1)) for i in range(2)])
    tb.check()


def test_parameter_rows_follow_the_column_tiles():
    tb = TB(SHAPES["2_lanes"], seed=0)
    # Groups of a row, rows, column tiles: i0 + 2 * i2.
    tb.run([tb.command(counts=[2, 3, 4], source_strides=[1, 1], result=64 * step,
                       result_strides=[2, 6], param_base=5, param_step=step) for step in (1, 0)])
    tb.check()


@pytest.mark.parametrize("level", [*range(4), ONCE])
def test_groups_wait_for_their_token_and_raise_when_all_is_written(level):
    tb = TB(FULL, seed=level, pause={"wait": 0.97})
    counts = [2, 3, 2, 2]
    seen = tb.run([tb.command(
        counts=counts, source_strides=[2, 3, 5], result_strides=[4, 12, 24], sum_results=1,
        reduce=Reduction.SUM, scale=Scale.UNIT, wait0=7, wait0_valid=1, wait1=8, wait1_valid=1,
        raise0=3, raise0_valid=1, raise1=4, raise1_valid=1, level0=level, level1=level)])
    tb.check()
    per = int(np.prod(counts[:level]))      # groups of an iteration; all of them for ONCE
    for number in (7, 8):
        tokens = [cycle for cycle, what in seen.waits if what == number]
        assert all(cycle < first for cycle, first in zip(tokens, seen.busy[::per], strict=True))
    for number in (3, 4):
        raised = [cycle for cycle, what in seen.raises if what == number]
        late = np.subtract(raised, seen.busy[per - 1::per])
        assert late.min() > tb.stages.done
        assert late.max() <= tb.stages.done + 4


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_a_command_reads_what_the_one_before_wrote_row_by_row(pause):
    tb = TB(WIDE, seed=0, pause=pause, tokens=True)
    rows = {"counts": [4, 16], **PLAIN, "source_strides": [4], "level0": 1}
    first = tb.command(**rows, result=256, result_strides=[4], operation=VectorOp.SUBTRACT,
                       immediate=9, raise0=3, raise0_valid=1, reduce=Reduction.MAXIMUM)
    second = tb.command(**rows | {"second": Operand.ROW}, source=256, result=384,
                        result_strides=[4], operation=VectorOp.REVERSE, wait0=3, wait0_valid=1)
    seen = tb.run([first, second])
    tb.check()
    if not pause:
        assert np.diff(seen.busy).tolist() == [1] * 63 + [2] + [1] * 63


def test_waits_while_a_token_is_missing_and_says_so():
    tb = TB(FOUR, seed=0, tokens=True)
    commands = [tb.command(index=1, result=64),
                tb.command(index=2, wait0=5, wait0_valid=1, level0=0)]
    with pytest.raises(TimeoutError):
        tb.run(commands, cycles=400, watch=("idle", "blocked", "waiting", "waiting_index"))
    first = tb.seen.watched.index({"idle": 0, "blocked": 1, "waiting": 1, "waiting_index": 2})
    assert first > tb.seen.acts[0]
    assert tb.seen.watched[first:].count(tb.seen.watched[first]) == len(tb.seen.watched) - first
    assert len(tb.seen.busy) == 1


def test_halt_stops_it_after_the_groups_that_were_handed_to_the_reader():
    tb = TB(FOUR, seed=0)
    seen = tb.run([tb.command(counts=[2, 8], source_strides=[1])], halt=5, after=100)
    assert len(seen.busy) == len(seen.acts) == 5 + GROUPS


# Cycles

def busy_cycles(config, *commands, **options):
    """Cycles in which the engine reads for the commands."""
    tb = TB(config, seed=0, **options)
    seen = tb.run([tb.command(**command) for command in commands])
    tb.check()
    return tb, np.array(seen.busy)


@pytest.mark.parametrize("wait, rows", [(0, (1, 9, 2, 1, 1, 12)), (1, (6, 9, 7, 4))])
def test_commands_of_equal_settings_follow_each_other_a_cycle_apart(wait, rows):
    _, busy = busy_cycles(FOUR, *(
        {"counts": [3, count], "source_strides": [3], "result": 8 * i, "result_strides": [3],
         "rings": (4, 0, 7), "param_base": i, "wait0_valid": wait, "wait0": 5,
         "raise0_valid": wait, "raise0": i} for i, count in enumerate(rows)))
    ends = np.cumsum(rows)[:-1] * 3 - 1
    assert np.diff(busy).tolist() == [1 + (i in ends) for i in range(3 * 26 - 1)]


def test_two_different_settings_may_be_under_way_and_a_third_waits_for_the_first():
    tb, busy = busy_cycles(FOUR, *(
        {"counts": [3], "source": 2 * i, "result": 8 * i, "zero_point": 5 * i, "clamp": (-100, i)}
        for i in range(5)))
    gap = tb.stages.done + 2    # from the last group of the command but one
    assert np.diff(busy).tolist() == [
        1, 1, 2, 1, 1, gap - 4, 1, 1, 2, 1, 1, gap - 4, 1, 1]


def test_commands_as_long_as_the_pipeline_follow_each_other_whatever_their_settings():
    latency = Stages(FOUR).done
    _, busy = busy_cycles(FOUR, *(
        {"counts": [2, latency // 2 + 1], "source_strides": [0], "result": 4 * i,
         "zero_point": 5 * i} for i in range(4)))
    groups = 2 * (latency // 2 + 1)
    assert np.diff(busy).tolist() == [1 + (i % groups == 0) for i in range(1, 4 * groups)]


@pytest.mark.parametrize("other", [
    {"function": Function.SQUARE, "function_first": 1}, {"result_type": ResultType.ROW_VALUE}])
def test_another_order_or_writer_of_records_waits_until_the_pipeline_is_empty(other):
    tb, busy = busy_cycles(FOUR, *({"counts": [40], "param_step": 0, "rings": (5, 0, 6), **order}
                                   for order in ({}, {**other, "result_step": 0}, {})))
    gaps = np.diff(busy)
    assert gaps[[39, 79]].tolist() == [tb.stages.done + 2] * 2
    assert np.delete(gaps, [39, 79]).tolist() == [1] * 117


@pytest.mark.parametrize("config, beats", [
    (FOUR, (1, 2, 4)), (WIDE, (1, 1, 1)), (SHAPES["8_lanes"], (1, 2, 4)),
    (SHAPES["1_lane"], (1, 1, 1))])
@pytest.mark.parametrize("which", ["source_type", "stream_type", "result_type"])
def test_a_group_of_several_rows_takes_as_many_cycles(config, beats, which):
    half = config.act_groups // 2
    for size, rows in enumerate(beats):
        _, busy = busy_cycles(config, {
            **PLAIN, "counts": [3], "stream": half, "operation": VectorOp.SELECT,
            "source_step": 1 << size, "result": half + 16, which: size})
        assert np.diff(busy).tolist() == [1] * (3 * rows - 1)


@pytest.mark.parametrize("stream, cycles", [(64, 2), (256, 1)])
def test_operands_of_one_bank_take_turns(stream, cycles):
    _, busy = busy_cycles(WIDE, {**PLAIN, "counts": [6], "second": Operand.STREAM,
                                 "stream": stream, "result": 400})
    assert np.diff(busy).tolist() == [cycles] * 5


@pytest.mark.parametrize("name", SHAPES)
def test_results_are_written_end_cycles_after_their_group_and_records_until_latency(name):
    config = SHAPES[name]
    tb = TB(config, seed=name)
    rows = {"reduce": Reduction.SUM, "sum_results": 1} if config.vector.rows else {}
    seen = tb.run([tb.command(counts=[1], result_type=ResultType.INT32, scale=Scale.UNIT, **rows,
                              raise0=1, raise0_valid=1)])
    tb.check()
    issued = seen.busy[-1]      # when the last beat is read
    beats = max(1, 4 * config.vector.lanes // config.act_row_bytes)
    assert len(seen.busy) == beats
    assert seen.acts == [issued + tb.stages.end + beat for beat in range(beats)]
    assert max(seen.acts + seen.values + seen.sums) == issued + tb.stages.done
    assert len(seen.sums) == len(seen.values) == bool(rows)
    assert [cycle for cycle, _ in seen.raises] == [issued + tb.stages.done + 1]


@pytest.mark.parametrize("size", range(3))
def test_a_narrow_result_waits_until_a_wide_one_is_written(size):
    tb, busy = busy_cycles(FOUR, {"counts": [3], "result_type": ResultType.INT32},
                           {"counts": [3], "result_type": size, "result": 64})
    assert np.diff(tb.seen.acts).tolist() == [1] * (3 * 4 + 3 * (1 << size) - 1)
    assert busy[12 + (1 << size) - 1] - busy[11] == 4


# Errors

ACC, ACT = FOUR.acc_groups, FOUR.act_groups
OUTSIDE = {
    "accumulator": {"source": ACC},
    "accumulator's second group": {"source": ACC - 1, "counts": [2]},
    "accumulator below": {"counts": [1, 2], "source_strides": [-1]},
    "accumulator beyond 16 bits": {"source": 1 << 16},
    "source beyond 16 bits": {**PLAIN, "source": 1 << 16},
    "source": {**PLAIN, "source": ACT},
    "source of int16": {**PLAIN, "source": ACT - 2, "source_type": 1, "counts": [2],
                        "source_step": 2},
    "source of int32": {**PLAIN, "source": ACT - 4, "source_type": 2, "counts": [1, 2],
                        "source_strides": [4]},
    "stream": {"second": Operand.STREAM, "stream": ACT},
    "stream of a mask": {"masked": 1, "stream": ACT - 1, "counts": [2]},
    "stream of a product": {"function": Function.PRODUCT, "function_first": 1, "stream": ACT - 2,
                            "stream_type": 1, "counts": [3]},
    "result": {"result": ACT},
    "result's second group": {"result": ACT - 1, "counts": [2]},
    "result of int32": {"result": ACT - 4, "result_type": 2, "counts": [2]},
    "bias": {"param_base": 16, "scale": Scale.UNIT},
    "scale": {"param_base": 15, "second": Operand.IMMEDIATE, "counts": [2]},
    "record of a sum": {"row_base": RECORDS - 1, "sum_results": 1, "counts": [1, 2]},
    "record of a reduction": {"row_base": RECORDS, "reduce": Reduction.SUM},
    "record of a scale": {"row_base": RECORDS, "scale": Scale.ROW},
    "record as source": {"row_base": RECORDS, "source_type": ElementType.ROW_SUM},
    "record as operand": {"row_base": RECORDS - 1, "second": Operand.ROW, "counts": [2, 2]},
    "record as result": {"result": RECORDS, "result_type": ResultType.ROW_VALUE},
    "scale as result": {"result": RECORDS - 1, "result_type": ResultType.ROW_ROOT, "function": 2,
                        "function_first": 1, "scale": Scale.UNIT, "counts": [2]},
    "table": {"function": Function.TABLE, "function_base": 1},
    "segments": {"function": Function.LINEAR, "function_base": 4},
    "wide segments": {"function": Function.LINEAR, "function_base": 1, "segments": 1},
    "channel": {"function": Function.CHANNEL, "function_base": 3, "counts": [65],
                "param_step": 0, "rings": (3, 0, 4)},
}
UNALIGNED = {
    "source of int16": {**PLAIN, "source": 1, "source_type": 1},
    "source of int32": {**PLAIN, "source": 2, "source_type": 2},
    "stream of int32": {"second": Operand.STREAM, "stream_type": 2, "stream": 6},
    "result of int16": {"result": 3, "result_type": 1},
    "result of int32": {"result": 4, "result_type": 2, "counts": [1, 2], "result_strides": [1]},
}


def stops(config, values):
    """Run a good command and one that is refused: nothing is written but by groups before."""
    tb = TB(config, seed=0)
    commands = [tb.command(result_type=ResultType.INT16, result=8)]
    commands.append(tb.refused(index=9, **values))
    seen = tb.run(commands, after=tb.stages.done + 10)
    assert seen.error == (ErrorCode.SCRATCHPAD_ADDRESS, 9)
    seen.error = None
    tb.check()


@pytest.mark.parametrize("name", OUTSIDE)
def test_reports_what_lies_outside(name):
    stops(FOUR, OUTSIDE[name])


@pytest.mark.parametrize("name", UNALIGNED)
def test_reports_what_is_not_aligned_to_its_size(name):
    stops(WIDE, UNALIGNED[name])


@pytest.mark.parametrize("name", UNALIGNED)
def test_takes_what_is_aligned_to_a_row(name):
    busy_cycles(FOUR, UNALIGNED[name])
