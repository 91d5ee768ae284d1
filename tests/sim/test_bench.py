"""The cocotb runner: benches that pass, and every way in which one must not."""

from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.ram import Ram
from systolith_sim.bench import BenchError, run_bench

HERE = Path(__file__).parent


class Passer(wiring.Component):
    """A stream register; `drops` makes it withdraw items."""
    source: In(stream.Signature(8))
    sink: Out(stream.Signature(8))

    def __init__(self, *, drops=False):
        self.drops = drops
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.source.ready.eq(~self.sink.valid | self.sink.ready)
        with m.If(self.source.ready):
            m.d.sync += [self.sink.valid.eq(self.source.valid),
                         self.sink.payload.eq(self.source.payload)]
        if self.drops:
            with m.Elif(self.sink.payload[0]):
                m.d.sync += self.sink.valid.eq(0)
        return m


@pytest.mark.parametrize("depth, width", [(4, 8), (16, 40)])
def test_ram_reads_back_what_was_written(depth, width):
    passed = run_bench(Ram(depth=depth, width=width), name="ram",
                       test_module=HERE / "bench_ram.py",
                       parameters={"depth": depth, "width": width, "seed": depth})
    assert passed == 2


def test_an_assertion_of_the_component_fails_the_bench():
    with pytest.raises(BenchError, match="a row may not be read in the cycle it is written"):
        run_bench(Ram(depth=4, width=8), name="ram", test_module=HERE / "bench_ram.py",
                  testcase="reading_the_row_being_written_is_an_error",
                  parameters={"collide": True})


@pytest.mark.parametrize("pause", [0.0, 0.6])
def test_streams_pass_items_with_pauses_on_both_sides(pause):
    assert run_bench(Passer(), name="passer", test_module=HERE / "bench_queue.py",
                     testcase="passes_every_item_on", parameters={"pause": pause}) == 1


def test_a_withdrawn_item_fails_the_bench():
    with pytest.raises(BenchError, match="item must stay 0x.* until taken, not None"):
        run_bench(Passer(drops=True), name="passer", test_module=HERE / "bench_queue.py",
                  testcase="passes_every_item_on", parameters={"pause": 0.6})


def test_a_bench_without_end_fails():
    with pytest.raises(BenchError, match="bench must be done within 50 cycles"):
        run_bench(Passer(), name="passer", test_module=HERE / "bench_queue.py",
                  testcase="waits_for_an_item_that_never_comes")


def test_a_bench_without_tests_fails(tmp_path):
    (tmp_path / "bench_empty.py").write_text("")
    with pytest.raises(BenchError, match=r"^bench must (run at least one test|end by itself)"):
        run_bench(Passer(), name="passer", test_module=tmp_path / "bench_empty.py")


def test_a_missing_test_module_fails(tmp_path):
    with pytest.raises(BenchError, match="^bench must end by itself"):
        run_bench(Passer(), name="passer", test_module=tmp_path / "bench_none.py")
