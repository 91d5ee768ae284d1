"""How fast the simulated memory is, tried on a stand-in for the core."""

import re
from fractions import Fraction

import numpy as np
import pytest
from systolith_hw.emit import emit_verilog
from systolith_hw.registers import REGISTERS
from systolith_sim.harness import Harness
from systolith_sim.memory import MEMORIES, MemoryTiming, memory_timing

WORD = 8    # bytes
LATENCY = 10


@pytest.fixture
def copies(copier, copier_config):
    """Make a function that copies `words` words from `source` to `target` and returns cycles."""
    text = emit_verilog(copier(copier_config()), name="copier", assertions=True)
    made = []

    def make(**timing):
        memory = np.random.default_rng(1).integers(0, 256, 1 << 16, np.uint8)
        dut = Harness(text, name="copier", memory=memory, assertions=True,
                      timing=MemoryTiming(**{"latency": LATENCY, **timing}))
        made.append(dut)

        def copy(source=0, target=32768, words=4):
            expected = bytes(memory[source:source + WORD * words])
            for name, value in (("control", 4), ("program_address", source), ("param1", target),
                                ("program_commands", words), ("control", 1)):
                dut.write(REGISTERS[name].offset, value)
            assert dut.run(10_000)
            assert bytes(memory[target:target + WORD * words]) == expected
            return dut.read(REGISTERS["counter_cycles"].offset)

        copy.harness = dut
        return copy

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("bandwidth", ["1/2", "1/3", "2/3", "7/9"])
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
def test_words_move_at_exactly_the_bandwidth(copies, bandwidth, shared):
    pace = Fraction(bandwidth)
    fast, slow = copies(), copies(bandwidth=bandwidth, shared=shared)
    # The first word of a burst is there at once, the other three at the pace; the stand-in
    # writes when it has read.
    least, most = 2 * int(3 / pace - 3), 2 * -int(-3 / pace // 1 + 3)
    assert least <= slow() - fast() <= most + 2


def test_the_pace_of_a_long_stream_is_exact(copies):
    cycles, words = 0, 0
    copy = copies(bandwidth="1/5", latency=1)
    # Of four words each way, three wait for five cycles each, and the first of the next way for
    # none: what was not spent is kept up to one word.
    for _ in range(20):
        cycles += copy()
        words += 4
    base = copies(latency=1)
    assert cycles - 20 * base() == 2 * 20 * 3 * (5 - 1)
    assert copy.harness.counts()["load_words"] == words


def test_a_refresh_holds_data_for_its_cycles(copies):
    plain, refreshing = copies(), copies(refresh_interval=200, refresh_cycles=50)
    base = plain()
    extra = []
    for i in range(200):
        for _ in range(i % 23):     # so that copies begin everywhere between two refreshes
            refreshing.harness.read(REGISTERS["magic"].offset)
        extra.append(refreshing() - base)
    assert min(extra) == 0
    # A read that is just due waits for the whole pause; nothing waits longer.
    assert 45 <= max(extra) <= 50


def test_a_row_that_is_not_open_costs_a_miss_and_one_that_is_costs_none(copies):
    copy, base = copies(banks=4, row_bytes=1024, miss_cycles=17), copies()()
    def extra(source, target):
        return copy(source, target) - base
    assert extra(0, 1024) == 34          # nothing is open yet
    assert extra(512, 1024 + 512) == 0   # the same rows
    assert extra(2048, 3072) == 34       # two other banks
    assert extra(0, 1024) == 0           # whose opening closed no row
    assert extra(4096, 1024) == 17       # bank 0 has another row open
    assert extra(0, 1024) == 17          # and opens the first one again
    assert extra(1024, 5120) == 17       # writes after reads, in one bank
    assert extra(1024, 5120) == 34


def test_a_refresh_closes_all_rows(copies):
    copy = copies(banks=2, row_bytes=32768, miss_cycles=300, refresh_interval=4000)
    base = copies()()
    assert [copy() - base for _ in range(3)] == [600, 0, 0]
    while copy.harness.counts()["cycles"] < 4000:
        last = copy() - base
    assert last == 0
    assert copy() - base == 600


def test_dram_is_slower_than_ideal_memory_of_the_same_latency(copies):
    dram = MEMORIES["dram"]
    assert (dram.latency, dram.refresh_interval, dram.refresh_cycles) == (64, 800, 20)
    fields = {name: getattr(dram, name) for name in ("latency", "refresh_interval",
              "refresh_cycles", "banks", "row_bytes", "miss_cycles")}
    slow, fast = copies(**fields), copies(latency=64)
    cycles = [sum(copy(1024 * i, 32768 + 1024 * i) for i in range(20)) for copy in (slow, fast)]
    assert cycles[0] > cycles[1] + 20 * dram.miss_cycles


@pytest.mark.parametrize("name, value, text", [
    ("latency", 0, "latency must be from 1 to 1000000, not 0"),
    ("latency", 2.5, "latency must be an integer, not 2.5"),
    ("jitter", -1, "jitter must be from 0 to 1000000, not -1"),
    ("backpressure", 1.0, "backpressure must be from 0 to below 1, not 1.0"),
    ("bandwidth", 0, "bandwidth must be a number or fraction above 0 and at most 1, not 0"),
    ("bandwidth", "3/2", "bandwidth must be a number or fraction above 0 and at most 1, not '3/2'"),
    ("bandwidth", "x", "bandwidth must be a number or fraction above 0 and at most 1, not 'x'"),
    ("bandwidth", "1/0", "bandwidth must be a number or fraction above 0 and at most 1, not '1/0'"),
    ("shared", 1, "shared must be True or False, not 1"),
    ("refresh_cycles", 1, "refresh_cycles must be from 0 to 0, not 1"),
    ("banks", 2000, "banks must be from 0 to 1024, not 2000"),
    ("row_bytes", 8, "row_bytes must be from 64 to 1048576, not 8"),
])
def test_wrong_timings_are_refused(name, value, text):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(text)}$"):
        MemoryTiming(**{name: value})


def test_memories_have_names_and_fields_to_change():
    assert memory_timing() == MEMORIES["ideal"]
    assert memory_timing("dram", latency=None, bandwidth=0.1) == MemoryTiming(
        latency=64, bandwidth=Fraction(1, 10), refresh_interval=800, refresh_cycles=20, banks=8,
        row_bytes=2048, miss_cycles=3)
    assert memory_timing(MemoryTiming(latency=3), jitter=2) == MemoryTiming(latency=3, jitter=2)
    with pytest.raises(ValueError, match="^memory must be one of ideal, dram, not 'fast'$"):
        memory_timing("fast")
