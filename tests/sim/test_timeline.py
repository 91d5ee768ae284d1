"""The timeline of the engines: whole, true to the counters, and without influence on the core."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from systolith import CoreError, Program, gemm
from systolith.assembly import disassemble
from systolith_hw import observe
from systolith_hw.config import PRESETS
from systolith_hw.emit import emit_verilog
from systolith_hw.isa import COMMAND_BYTES, ControlOp, Memory, Opcode, ResultType, Scale
from systolith_hw.registers import ENGINES
from systolith_sim.device import RtlDevice
from systolith_sim.timeline import INTERVAL, PHASES

CONFIG = PRESETS["tiny"].updated({"control": {"counters": True}})
BYTES = 1 << 16
MEMORIES = {
    "ideal": {},
    "dram": {"memory": "dram", "bandwidth": "1/2", "shared": True},
    "rough": {"latency": 7, "jitter": 40, "backpressure": 0.3, "seed": 5},
}
TRACKS = (*ENGINES, "fetch")


def load_trace(path):
    trace = json.loads(path.read_text())
    tids = {event["args"]["name"]: event["tid"] for event in trace["traceEvents"]
            if event["ph"] == "M" and event["name"] == "thread_name"}
    slices = {name: [event for event in trace["traceEvents"]
                     if event["ph"] == "X" and event["tid"] == tid] for name, tid in tids.items()}
    return trace, slices


def product(device, seed=1, scale=False):
    """A product with several commands for every engine; bytes, counters and all cycles after it."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-128, 128, (40, 37), np.int8), rng.integers(-128, 128, (37, 19), np.int8)
    options = {"multiplier": 1 << 30, "shift": -8} if scale else {}
    result = gemm(a, b, device=device, **options)
    if not scale:
        assert (result == a.astype(np.int32) @ b).all()
    return (device.read(0, BYTES).tobytes(), device.counters(), device.harness.counts())


@pytest.fixture(scope="module", params=MEMORIES)
def traced(request, tmp_path_factory):
    """Two products, traced: the counters after each, the trace, and the slices of each track."""
    path = tmp_path_factory.mktemp("timeline") / "trace.json"
    with RtlDevice(CONFIG, memory_bytes=BYTES, trace=path, **MEMORIES[request.param]) as device:
        outcomes = [product(device), product(device, seed=2, scale=True)]
    return request.param, outcomes, *load_trace(path)


def within(events, program):
    first, after = program["ts"], program["ts"] + program["dur"]
    return [event for event in events if first <= event["ts"] < after]


def test_tracing_changes_neither_bytes_nor_cycles(traced):
    name, outcomes, *_ = traced
    with RtlDevice(CONFIG, memory_bytes=BYTES, **MEMORIES[name]) as device:
        assert [product(device), product(device, seed=2, scale=True)] == outcomes


def test_programs_last_as_long_as_the_core_counts(traced):
    _, outcomes, trace, slices = traced
    assert [event["dur"] for event in slices["program"]] == [
        counters["cycles"] for _, counters, _ in outcomes]
    assert slices["program"][0]["ts"] == 0
    assert trace["otherData"]["programs"] == 2
    assert trace["otherData"]["truncated"] is None


@pytest.mark.parametrize("track", TRACKS)
def test_commands_follow_each_other_and_states_lie_within_them(traced, track):
    _, _, _, slices = traced
    commands = [event for event in slices[track] if event["cat"] == "command"]
    assert all(event["dur"] > 0 for event in slices[track])
    for one, other in pairwise(commands):
        assert one["ts"] + one["dur"] <= other["ts"]
    # A viewer nests slices by their times; an outer one must come first in the file.
    outer = None
    for event in slices[track]:
        if event["cat"] == "command":
            outer, at = event, event["ts"]
        else:
            assert event["ts"] == at
            at += event["dur"]
            assert at <= outer["ts"] + outer["dur"]
            assert event["name"] in PHASES.values()
    covered = sum(event["dur"] for event in slices[track] if event["cat"] == "state")
    assert covered == sum(event["dur"] for event in commands)


def test_states_last_as_long_as_the_core_counts(traced):
    _, outcomes, _, slices = traced
    for program, (_, counters, _) in zip(slices["program"], outcomes, strict=True):
        for engine in ENGINES:
            own = within(slices[engine], program)
            states = {state: sum(event["dur"] for event in own if event["name"] == name)
                      for state, name in PHASES.items()}
            wanted = {state: counters[f"{engine}_{state}"] for state in PHASES}
            wanted["stall"] += counters.get(f"{engine}_weights", 0)
            assert states == wanted
            commands = [event for event in own if event["cat"] == "command"]
            idle = program["dur"] - sum(event["dur"] for event in commands)
            assert sum(states.values()) + idle == counters["cycles"]
        busy = sum(event["dur"] for event in within(slices["fetch"], program)
                   if event["name"] == "busy")
        assert busy == counters["fetch_words"]


def test_words_and_rows_add_up_to_what_the_core_counts(traced):
    _, outcomes, trace, slices = traced
    counts = [event for event in trace["traceEvents"] if event["ph"] == "C"]
    for program, (_, counters, _) in zip(slices["program"], outcomes, strict=True):
        own = within(counts, program)
        total = {}
        for event in own:
            assert (event["ts"] - program["ts"]) % INTERVAL == 0
            for text, value in event["args"].items():
                assert 0 <= value <= INTERVAL
                total[text] = total.get(text, 0) + value
        assert total == {"loads": counters["load_words"], "commands": counters["fetch_words"],
                         "stores": counters["store_words"], "rows": counters["rows"]}


def execute(program, rows):
    loops = CONFIG.control.execute_loops
    strides = [1] + [0] * (loops - 1)
    program.execute(counts=[rows, *[1] * (loops - 1)], act_row=0, act_strides=strides, acc_row=0,
                    acc_strides=strides, wgt_row=0, k_last=1)


def load_weights(program, count):
    program.load(memory=Memory.WGT, address=8192, run_bytes=count * CONFIG.bus.data_bytes, row=0,
                 row_bytes=CONFIG.wgt_row_bytes)


def store(program, count):
    program.store(address=16384, run_bytes=count * CONFIG.bus.data_bytes, row=0,
                  row_bytes=CONFIG.act_row_bytes)


def vector(program, groups):
    row = CONFIG.act_row_bytes // CONFIG.vector.lanes
    program.vector(result_type=ResultType.INT32, scale=Scale.UNIT, counts=[1, groups], source=0,
                   source_strides=[CONFIG.acc_group_pitch], result=8 * row,
                   result_strides=[4 * row])


def small_program():
    """Every engine in turns, twice, with fences between; all memories are written first."""
    program = Program(config=CONFIG)

    def fence():
        program.control(ControlOp.FENCE)

    for memory, size in ((Memory.ACT, CONFIG.act_row_bytes), (Memory.WGT, CONFIG.wgt_row_bytes),
                         (Memory.PAR, CONFIG.par_row_bytes)):
        program.fill(memory=memory, value=3, run_bytes=size, row=0, counts=[16], row_strides=[1])
        fence()
    for _ in range(2):
        for add, amount in ((load_weights, 4), (execute, 12), (vector, 2), (store, 8)):
            add(program, amount)
            fence()
    return program


def test_each_command_has_one_slice_with_its_text_where_it_did_its_work(tmp_path):
    path, program = tmp_path / "trace.json", small_program()
    records = program.encode()
    with RtlDevice(CONFIG, memory_bytes=BYTES, trace=path) as device:
        device.write(0, records)
        device.run(0, len(program))
    texts = disassemble(records).splitlines()
    _, slices = load_trace(path)
    opcodes = {Opcode(1 + i): name for i, name in enumerate(ENGINES)}
    ends = []
    for index, text in enumerate(texts):
        opcode = Opcode(records[index * COMMAND_BYTES])
        found = [event for track in ENGINES for event in slices[track]
                 if event["cat"] == "command" and event["args"]["command"] == index]
        fetched = [event for event in slices["fetch"]
                   if event["cat"] == "command" and event["args"]["command"] == index]
        assert [event["args"]["text"] for event in fetched] == [text]
        if opcode not in opcodes:
            assert found == []
            ends.append(fetched[0]["ts"] + fetched[0]["dur"])     # a fence: all that was is done
            continue
        assert [event["name"] for event in found] == [f"{opcodes[opcode]} #{index}"]
        assert found[0]["args"]["text"] == text
        assert found[0]["ts"] >= max(ends, default=0)
        busy = sum(event["dur"] for event in within(slices[opcodes[opcode]], found[0])
                   if event["name"] == "busy")
        assert busy > 0
        ends.append(found[0]["ts"] + found[0]["dur"])


@pytest.mark.parametrize("add, track, amounts", [
    (load_weights, "load", [3, 1, 4, 2, 5]),
    (execute, "execute", [12, 9, 14, 16, 10]),
    (vector, "vector", [2, 1, 4, 3, 1]),
    (store, "store", [8, 2, 5, 1, 7]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_commands_that_queue_up_are_told_apart_by_their_work(tmp_path, add, track, amounts):
    path, program = tmp_path / "trace.json", small_program()
    first = len(program)
    for amount in amounts:
        add(program, amount)
    with RtlDevice(CONFIG, memory_bytes=BYTES, trace=path, latency=3) as device:
        device.write(0, program.encode())
        device.run(0, len(program))
    _, slices = load_trace(path)
    found = [event for event in slices[track]
             if event["cat"] == "command" and event["args"]["command"] >= first]
    assert [event["args"]["command"] for event in found] == list(
        range(first, first + len(amounts)))
    for one, other in pairwise(found):
        assert one["ts"] + one["dur"] <= other["ts"]
    if track in ("execute", "vector"):      # one row or group a cycle
        assert [sum(event["dur"] for event in within(slices[track], command)
                    if event["name"] == "busy") for command in found] == amounts


def test_an_error_leaves_a_whole_file(tmp_path):
    path = tmp_path / "trace.json"
    records = small_program().encode() + bytes(COMMAND_BYTES)
    with RtlDevice(CONFIG, memory_bytes=BYTES, trace=path) as device:
        device.write(0, records)
        for _ in range(2):
            with pytest.raises(CoreError):
                device.run(0, len(records) // COMMAND_BYTES)
        cycles = device.counters()["cycles"]
    _, slices = load_trace(path)
    assert [event["dur"] for event in slices["program"]] == [cycles, cycles]


def test_a_program_beyond_the_window_is_the_cores_to_refuse(tmp_path):
    path = tmp_path / "trace.json"
    with RtlDevice(CONFIG, memory_bytes=BYTES, trace=path) as device, pytest.raises(CoreError):
        device.run(BYTES - COMMAND_BYTES, 9)
    assert load_trace(path)[1]["program"]


def test_too_many_changes_end_the_timeline_and_it_says_where(tmp_path):
    path = tmp_path / "trace.json"
    with RtlDevice(CONFIG, memory_bytes=BYTES, trace=path, trace_limit=100) as device:
        product(device)
        product(device, seed=2)
        truncated = device.timeline.truncated
    trace, slices = load_trace(path)
    assert 0 < truncated == trace["otherData"]["truncated"]
    assert len(slices["program"]) == 1
    assert slices["program"][0]["dur"] == truncated
    assert slices["program"][0]["args"]["complete"] is False
    ends = [event["ts"] + event["dur"] for track in slices.values() for event in track]
    assert max(ends) == truncated
    assert sum(event["cat"] == "state" for track in slices.values() for event in track) <= 105


def test_the_limit_is_checked(tmp_path):
    for limit, text in ((0, "trace_limit must be at least 1, not 0"),
                        (1.5, "trace_limit must be an integer, not 1.5")):
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(text)}$"):
            RtlDevice(CONFIG, memory_bytes=BYTES, trace=tmp_path / "x.json", trace_limit=limit)
    assert list(tmp_path.iterdir()) == []


def test_a_core_that_lacks_what_a_timeline_needs_is_refused(copier, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(observe, "WORK", {**observe.WORK, "load": "load_bytes"})
        with pytest.raises(RuntimeError, match="^core must count load_bytes for a timeline$"):
            emit_verilog(observe.ObservedCore(config=CONFIG), name="tiny")
    monkeypatch.setattr(observe, "Core", lambda config: copier(config))
    with pytest.raises(RuntimeError, match="^core must have control.events for a timeline$"):
        emit_verilog(observe.ObservedCore(config=CONFIG), name="tiny")
