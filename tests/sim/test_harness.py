"""The memory and register model, tried on a stand-in for the core."""

import re

import numpy as np
import pytest
from systolith_hw.emit import emit_verilog
from systolith_hw.registers import MAGIC, REGISTERS
from systolith_sim import build
from systolith_sim.harness import Harness
from systolith_sim.memory import MemoryTiming
from systolith_sim.tools import ToolError


def start(harness, *, source=0, target=4096, words=4, faults=0):
    for name, value in (("control", 4), ("program_address", source), ("param1", target),
                        ("program_commands", words), ("param2", faults), ("control", 1)):
        harness.write(REGISTERS[name].offset, value)


def status(harness):
    value = harness.read(REGISTERS["status"].offset)
    return {name for i, name in enumerate(REGISTERS["status"].bits) if value >> i & 1}


@pytest.fixture
def harness(copier, copier_config):
    """Make a harness around the stand-in; closed when the test ends."""
    made = []

    def make(data_bits=64, *, assertions=False, memory_bytes=1 << 16, seed=0, trace=None,
             **timing):
        text = emit_verilog(copier(copier_config(data_bits)), name="copier", assertions=assertions)
        memory = np.random.default_rng(data_bits).integers(0, 256, memory_bytes, np.uint8)
        made.append(Harness(text, name="copier", memory=memory, assertions=assertions,
                            seed=seed, trace=trace, timing=MemoryTiming(**timing)))
        return made[-1], memory

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("data_bits", [32, 64, 128, 512])
def test_copies_words_at_every_bus_width(harness, data_bits):
    dut, memory = harness(data_bits)
    assert dut.read(REGISTERS["magic"].offset) == MAGIC
    before = memory.copy()
    start(dut)
    assert dut.run(1000)
    assert status(dut) == {"done", "interrupt"}
    count = 4 * data_bits // 8
    assert bytes(memory[4096:4096 + count]) == bytes(before[:count])
    before[4096:4096 + count] = before[:count]
    assert (memory == before).all()


@pytest.mark.parametrize("latency", [1, 2, 32, 100])
def test_latency_counts_from_address_to_first_word_and_from_last_word_to_response(
        harness, latency):
    dut, _ = harness(latency=latency)
    start(dut)
    assert dut.run(1000)
    # One cycle each for both addresses; four words each way, the first and the last of which are
    # part of the latencies.
    assert dut.read(REGISTERS["counter_cycles"].offset) == 2 * latency + 2 + 3 + 4


def test_counts_words_and_bursts(harness):
    dut, _ = harness()
    start(dut, words=3)
    assert dut.run(1000)
    counts = dut.counts()
    assert counts.pop("cycles") > 10
    assert counts == {"load_words": 3, "fetch_words": 0, "store_words": 3, "read_bursts": 1,
                      "write_bursts": 1}


@pytest.mark.parametrize("seed", range(5))
def test_back_pressure_and_jitter_change_nothing_but_time(harness, seed):
    dut, memory = harness(backpressure=0.7, jitter=20, seed=seed, assertions=True)
    for target in range(4096, 40960, 4096):
        expected = bytes(memory[target - 4096:target - 4096 + 32])
        start(dut, source=target - 4096, target=target)
        assert dut.run(10_000)
        assert bytes(memory[target:target + 32]) == expected


def test_the_same_seed_gives_the_same_cycles(harness):
    cycles = []
    for seed in (1, 1, 2):
        dut, _ = harness(backpressure=0.7, jitter=20, seed=seed)
        start(dut)
        assert dut.run(10_000)
        cycles.append(dut.counts()["cycles"])
    assert cycles[0] == cycles[1] != cycles[2]


def test_injected_errors_and_addresses_without_memory_are_answered_with_an_error(harness):
    dut, memory = harness()
    dut.inject_errors(8192, 8200)
    for source, target in ((8192, 0), (0, 8192), (1 << 20, 0), (0, 1 << 20)):
        start(dut, source=source, target=target)
        assert dut.run(1000)
        assert "error" in status(dut)
    start(dut, source=8200, target=0)
    dut.run(1000)
    assert "done" in status(dut)
    assert (memory[:32] == memory[8200:8232]).all()


@pytest.mark.parametrize("source, target, faults, latency, text", [
    (0, 4096, 1, 32, "wlast must mark the last word of a burst"),
    (4088, 0, 0, 32, "araddr and len must not cross a 4 KB boundary"),
    (0, 4088, 0, 32, "awaddr and len must not cross a 4 KB boundary"),
])
def test_broken_bus_rules_are_named(harness, source, target, faults, latency, text):
    dut, _ = harness(latency=latency)
    with pytest.raises(RuntimeError, match=f"^{re.escape(text)}"):
        start(dut, source=source, target=target, faults=faults)
        dut.run(1000)


def test_withdrawing_a_request_is_named(harness):
    dut, _ = harness(backpressure=0.95, seed=3)
    with pytest.raises(RuntimeError, match="^awvalid and its payload must be stable until awready"):
        for _ in range(50):
            start(dut, faults=2)
            dut.run(1000)


def test_a_failing_assertion_gives_its_message(harness):
    dut, _ = harness(assertions=True)
    with pytest.raises(AssertionError, match=r"^bit 3 of param2 must be 0 \(cycle \d+\)$"):
        start(dut, faults=8)
        dut.run(1000)


def test_a_reset_recovers_from_a_run_that_never_ends(harness):
    dut, memory = harness()
    start(dut, faults=16)
    assert not dut.run(1000)
    dut.reset()
    expected = bytes(memory[:32])
    start(dut)
    assert dut.run(1000)
    assert bytes(memory[4096:4128]) == expected


@pytest.mark.parametrize("suffix", ["vcd", "fst"])
def test_writes_a_waveform_when_asked(harness, tmp_path, suffix):
    path = tmp_path / f"wave.{suffix}"
    try:
        dut, _ = harness(trace=path)
    except ToolError as error:
        assert str(error) == ("lz4.h must be installed for FST waveforms: "
                              "apt install liblz4-dev (VCD needs nothing)")
        pytest.skip(str(error))
    start(dut)
    assert dut.run(1000)
    dut.close()
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("options, text", [
    ({"trace": "wave.txt"}, "trace must end in .fst, .vcd or .json, not 'wave.txt'"),
    ({"memory_bytes": 8}, "memory must have at least 64 bytes, not 8"),
])
def test_wrong_parameters_are_refused(harness, options, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        harness(**options)


def test_the_stand_in_passes_the_lint(copier, copier_config):
    build.lint(emit_verilog(copier(copier_config()), name="copier"), name="copier")


def test_text_that_is_not_verilog_is_refused():
    with pytest.raises(ToolError, match="^Verilator must accept the text, not end with"):
        build.lint("module top(; endmodule", name="top")
