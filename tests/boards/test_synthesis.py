"""What synthesis leaves of an emitted core: its multipliers, its memories, and less for less."""

import pytest
from systolith_boards.synthesis import cells, summary
from systolith_hw.config import CoreConfig
from systolith_hw.core import Core
from systolith_hw.emit import emit_verilog

pytestmark = pytest.mark.full

BASE = CoreConfig.from_dict({
    "name": "small", "array": {"rows": 4, "cols": 4}, "vector": {"lanes": 2},
    "memory": {"act_rows": 4096, "act_banks": 2, "wgt_rows": 1024, "acc_rows": 512,
               "par_rows": 64},
    "bus": {"data_bits": 32}, "control": {"semaphores": 8, "params": 4, "counters": False}})


@pytest.fixture(scope="module")
def counted():
    """Cells of a core by kind, each synthesised once; flattened, as a user's chip would be."""
    found = {}

    def count(family, *changes):
        key = (family, *changes)
        if key not in found:
            config = BASE.overridden(list(changes))
            verilog = emit_verilog(Core(config=config), name=config.name)
            modules = cells(verilog, top=config.name, family=family)
            found[key] = summary(modules[config.name], family)
        return found[key]

    return count


def test_every_element_keeps_its_multiplier(counted):
    whole, half = counted("ecp5"), counted("ecp5", "vector.lanes=1")
    lane = whole["DSP"] - half["DSP"]   # of the requantiser and of the function unit
    without = counted("ecp5", "vector.multiply=false")
    assert whole["DSP"] - without["DSP"] == BASE.vector.lanes   # one of the function unit
    assert whole["DSP"] - BASE.vector.lanes * lane == BASE.array.rows * BASE.array.cols


def test_half_the_rows_are_half_the_multipliers(counted):
    # LUTs say little at this size: what is not array is most of them, and mapping is not monotonic.
    whole, half = counted("ecp5", "array.rows=8"), counted("ecp5")
    assert whole["DSP"] - half["DSP"] == 4 * BASE.array.cols
    assert half["FF"] < whole["FF"]
    assert half["carry"] < whole["carry"]


def test_half_the_lanes_are_fewer_registers(counted):
    # Not clearly fewer LUT: narrower groups are more to choose from.
    whole, half = counted("ecp5"), counted("ecp5", "vector.lanes=1")
    assert half["FF"] < whole["FF"]
    assert half["DSP"] < whole["DSP"]


def test_half_the_activation_rows_are_less_block_ram(counted):
    # 4096 rows of 32 bits are 8 blocks of 18 Kbit, with byte enables.
    whole, half = counted("ecp5"), counted("ecp5", "memory.act_rows=2048")
    assert whole["RAM"] - half["RAM"] == 4
    assert half["DSP"] == whole["DSP"]


def test_xilinx_infers_multipliers(counted):
    assert counted("xilinx")["DSP"] >= BASE.array.rows * BASE.array.cols


# Measured are 21,367 (multipliers and their registers are cells there) and 16,020; the smallest
# memory in registers would be 4,096 more.
@pytest.mark.parametrize("family, most", [("ice40", 24_000), ("xilinx", 19_000)])
def test_other_families_infer_block_ram(counted, family, most):
    found = counted(family)
    assert found["RAM"] >= 8
    assert found["FF"] < most
