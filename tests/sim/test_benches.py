"""The cocotb benches: elements, arrays of all shapes, DMA, control, and the whole core."""

import pytest
from amaranth.lib.wiring import In
from systolith_hw.config import CoreConfig
from systolith_hw.core import Core
from systolith_hw.element import sum_bits
from systolith_sim.bench import run_bench
from systolith_sim.benches.tops import ELEMENT_ROWS, SHAPES, Dma, Shapes


def run_shape(part, bench, **parameters):
    """Run a bench of one part of ``Shapes``; all parts are one build."""
    shapes = Shapes()
    inputs = [port for port, member in shapes.signature.members.items()
              if member.flow == In and port != "element_0_sum_above"]  # which has no bits
    return run_bench(shapes, name="shapes", test_module=f"systolith_sim.benches.{bench}",
                     parameters={"inputs": inputs, "latency": shapes.parts[part].latency,
                                 **parameters})


@pytest.mark.parametrize("row", ELEMENT_ROWS)
def test_processing_element(row):
    assert run_shape(f"element_{row}", "element", seed=row, row=row,
                     above_bits=sum_bits(row) if row else 0) == 1


@pytest.mark.parametrize("rows, cols", SHAPES)
def test_array(rows, cols):
    assert run_shape(f"array_{rows}x{cols}", "array", seed=rows + 100 * cols, rows=rows,
                     cols=cols, sum_bits=sum_bits(rows)) == 2


MEMORY = {"act_rows": 64, "act_banks": 2, "wgt_rows": 64, "acc_rows": 16, "par_rows": 16}
DMA = {     # without function tables, which are the vector unit's own
    "row_equals_word": {"memory": MEMORY, "vector": {"lanes": 4, "functions": 0}},
    "row_of_four_words": {"array": {"rows": 16, "cols": 5}, "memory": MEMORY,
                          "bus": {"data_bits": 32, "max_burst": 256, "read_words": 256},
                          "vector": {"lanes": 1, "functions": 0}},
    "word_of_four_rows": {"array": {"rows": 3, "cols": 5}, "memory": MEMORY,
                          "bus": {"data_bits": 128, "max_burst": 2, "read_words": 4,
                                  "write_bursts": 2},
                          "vector": {"lanes": 2, "functions": 0}, "control": {"load_loops": 2}},
}


@pytest.mark.parametrize("name", DMA)
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_dma(name, pause):
    config = CoreConfig.from_dict(DMA[name])
    assert run_bench(Dma(config=config), name="dma", test_module="systolith_sim.benches.dma",
                     parameters={"config": DMA[name], "pause": pause, "seed": 1}) == 3


CORE = {
    "name": "bench_core", "array": {"rows": 4, "cols": 4, "fanout": 2},
    "memory": {"act_rows": 128, "act_banks": 2, "wgt_rows": 128, "acc_rows": 64, "acc_banks": 2,
               "par_rows": 16},
    "vector": {"lanes": 2}, "control": {"semaphores": 16, "params": 8},
}


@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_core(pause):
    config = CoreConfig.from_dict(CORE)
    assert run_bench(Core(config=config), name=config.name,
                     test_module="systolith_sim.benches.core",
                     parameters={"config": CORE, "pause": pause, "seed": 3}) == 7
