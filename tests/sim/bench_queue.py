"""cocotb bench of a stream that passes items on, and of how benches fail."""

import random

import cocotb
from systolith_sim import tb


@tb.bench(cycles=5000)
async def passes_every_item_on(dut):
    parameters = tb.parameters()
    items = [random.Random(7).randrange(256) for _ in range(200)]
    driver = tb.StreamDriver(dut, "source", pause=parameters["pause"])
    monitor = tb.StreamMonitor(dut, "sink", pause=parameters["pause"])
    await tb.start(dut)
    cocotb.start_soon(driver.send(items))
    assert await monitor.receive(len(items)) == items


@tb.bench(cycles=50)
async def waits_for_an_item_that_never_comes(dut):
    tb.StreamDriver(dut, "source")  # drives its valid low; inputs start at random
    monitor = tb.StreamMonitor(dut, "sink")
    await tb.start(dut)
    await monitor.receive(1)
