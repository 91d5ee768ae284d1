"""The cocotb benches: elements, arrays of all shapes, DMA, control, and the whole core."""

import pytest
from amaranth.lib.wiring import In
from systolith_hw.element import sum_bits
from systolith_sim.bench import run_bench
from systolith_sim.benches.tops import ELEMENT_ROWS, SHAPES, Shapes


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
