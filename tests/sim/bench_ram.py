"""cocotb bench of the memory: random writes and reads against an array."""

import random

from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge
from systolith_sim import tb


@tb.bench(cycles=2000)
async def reads_back_what_was_written(dut):
    parameters = tb.parameters()
    depth, width = parameters["depth"], parameters["width"]
    rng = random.Random(parameters["seed"])
    dut.write_en.value = 0
    dut.read_en.value = 0
    await tb.start(dut)
    rows = {}
    expected = None
    for cycle in range(1000):
        write_addr = cycle if cycle < depth else rng.randrange(depth)
        data = rng.randrange(1 << width)
        readable = [row for row in rows if row != write_addr]
        dut.write_addr.value = write_addr
        dut.write_data.value = data
        dut.write_en.value = 1
        dut.read_en.value = int(bool(readable))
        if readable:
            read_addr = rng.choice(readable)
            dut.read_addr.value = read_addr
            expected = rows[read_addr]
        rows[write_addr] = data
        await RisingEdge(dut.clk)
        await ReadOnly()
        if expected is not None:
            assert int(dut.read_data.value) == expected
        await FallingEdge(dut.clk)  # inputs may not be driven in the read-only phase


@tb.bench(cycles=100)
async def reading_the_row_being_written_is_an_error(dut):
    if not tb.parameters().get("collide"):
        return
    await tb.start(dut)
    dut.write_addr.value = dut.read_addr.value = 1
    dut.write_en.value = dut.read_en.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
