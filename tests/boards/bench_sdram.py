"""cocotb benches of external memory with a memory chip on its pins."""

import random

from cocotb import start_soon
from cocotb.triggers import ClockCycles, Lock
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiMaster
from systolith_sim.benches.bus import pauses
from systolith_sim.tb import PERIOD, StreamDriver, StreamMonitor, bench, parameters, start

ADDRESS_BITS = 23   # of the link's words
# Parts of the memory, so that nobody's order with another matters: they lie around ends of rows,
# in all banks, and at the end of the memory. Read by the bus, written by it, used by the link.
READ, WRITTEN, LINKED = 0x00_0f00, 0x12_3d80, 0x1ff_f000
SIZE = 0x1000
INITIALISED = 600   # microseconds within which it is
REFRESH = 7.8125    # microseconds from one to the next on average, so that nothing is lost


def micros():
    """Microseconds since the beginning."""
    return get_sim_time("ns") / PERIOD / parameters()["mhz"]


class Link:
    """Words of four bytes, one after the other."""
    def __init__(self, dut, *, pause, seed):
        self.requests = StreamDriver(dut, "request", pause=pause, seed=seed)
        self.answers = StreamMonitor(dut, "answer", pause=pause, seed=seed)

        self.lock = Lock()

    async def write(self, address, contents):
        async with self.lock:
            await self.requests.send(
                int.from_bytes(contents[i:i + 4], "little") << ADDRESS_BITS + 1
                | 1 << ADDRESS_BITS | (address + i) // 4 for i in range(0, len(contents), 4))

    async def read(self, address, count):
        async with self.lock:
            asking = start_soon(self.requests.send(
                (address + i) // 4 for i in range(0, count, 4)))
            words = await self.answers.receive(count // 4)
            await asking
        return b"".join(word.to_bytes(4, "little") for word in words)


async def masters(dut, *, pause=0.0, longest=256):
    """The bus' and the link's masters, after reset."""
    seed = parameters()["seed"]
    link = Link(dut, pause=pause, seed=seed)
    bus = AxiMaster(AxiBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst,
                    max_burst_len=longest)
    if pause:
        for name, channel in (("aw", bus.write_if.aw_channel), ("w", bus.write_if.w_channel),
                              ("b", bus.write_if.b_channel), ("ar", bus.read_if.ar_channel),
                              ("r", bus.read_if.r_channel)):
            channel.set_pause_generator(pauses(pause, f"{name} {seed}"))
    await start(dut)
    return bus, link


def check_chip(dut):
    """Nothing that the memory chip forbids has happened, and refreshes have come in time."""
    assert int(dut.chip_failure.value) == 0
    assert int(dut.chip_refreshes.value) >= (micros() - INITIALISED) / REFRESH
    assert int(dut.chip_gap.value) <= 2 * REFRESH * parameters()["mhz"]


@bench(cycles=200_000)
async def every_user_finds_what_it_wrote(dut):
    rng = random.Random(parameters()["seed"])
    word_bytes = len(dut.s_axi_wdata) // 8
    expected = {part: bytearray(rng.randbytes(SIZE)) for part in (READ, WRITTEN, LINKED)}
    bus, link = await masters(dut, pause=parameters()["pause"])
    for part in (READ, LINKED):
        await link.write(part, bytes(expected[part]))
    await bus.write(WRITTEN, bytes(expected[WRITTEN]))
    done = []

    def span(most):
        count = rng.randint(1, most)
        return rng.randrange(SIZE - count), count

    async def reads():
        for _ in range(40):
            at, count = span(rng.choice([4, 64, 16 * word_bytes, 256 * word_bytes, SIZE - 1]))
            found = await bus.read(READ + at, count)
            assert bytes(found.data) == expected[READ][at:at + count]
        done.append("read")

    async def writes():
        for _ in range(40):
            at, count = span(rng.choice([4, 64, 16 * word_bytes, SIZE - 1]))
            expected[WRITTEN][at:at + count] = rng.randbytes(count)
            await bus.write(WRITTEN + at, bytes(expected[WRITTEN][at:at + count]))
            # An answered write is seen by everybody, the link's reads first of all.
            at -= at % 4
            assert await link.read(WRITTEN + at, 4) == expected[WRITTEN][at:at + 4]
        done.append("written")

    async def linked():
        while len(done) < 2:
            at = 4 * rng.randrange(SIZE // 4 - 8)
            expected[LINKED][at:at + 16] = rng.randbytes(16)
            await link.write(LINKED + at, bytes(expected[LINKED][at:at + 16]))
            await ClockCycles(dut.clk, rng.randrange(100))

    tasks = [start_soon(task) for task in (reads(), writes(), linked())]
    for task in tasks:
        await task
    for part, contents in expected.items():
        assert await link.read(part, SIZE) == contents
        assert bytes((await bus.read(part, SIZE)).data) == contents
    check_chip(dut)


@bench(cycles=100_000)
async def the_chip_is_initialised_before_its_use(dut):
    bus, _ = await masters(dut)
    await bus.read(0, 4)
    # Twice, with the package's own values; CAS latency of 2, single words.
    assert int(dut.chip_modes.value) == 2
    assert int(dut.chip_mode.value) == 0x020
    assert int(dut.chip_refreshes.value) >= 2
    assert micros() >= 200  # of a running clock
    check_chip(dut)


@bench(cycles=400_000)
async def refresh_goes_on_for_milliseconds(dut):
    rng = random.Random(parameters()["seed"])
    bus, _ = await masters(dut)
    contents = rng.randbytes(2048)
    await bus.write(0x100_0000, contents)
    before = int(dut.chip_refreshes.value)
    began = micros()
    for _ in range(40):
        await ClockCycles(dut.clk, rng.randrange(10_000))
        assert bytes((await bus.read(0x100_0000, 2048)).data) == contents
    assert int(dut.chip_refreshes.value) - before >= (micros() - began) / REFRESH - 1
    check_chip(dut)


@bench(cycles=200_000)
async def long_transfers_use_most_of_the_pins(dut):
    bus, _ = await masters(dut, longest=parameters()["longest"])
    count = 1 << 15
    await bus.read(0, 4)
    figures = {}
    for name, transfers in (
            ("reads", lambda: [bus.read(0, count)]),
            ("writes", lambda: [bus.write(1 << 20, bytes(count))]),
            ("both", lambda: [bus.read(0, count), bus.write(1 << 20, bytes(count))])):
        began = get_sim_time("ns")
        tasks = [start_soon(transfer) for transfer in transfers()]
        for task in tasks:
            await task
        cycles = (get_sim_time("ns") - began) / PERIOD
        figures[name] = len(tasks) * count / cycles
    began = get_sim_time("ns")
    await bus.read(64, 4)
    figures["latency"] = (get_sim_time("ns") - began) / PERIOD
    print(" ".join(f"{name}={figure:.3f}" for name, figure in figures.items()))
    for name, least in parameters()["least"].items():
        assert figures[name] >= least, f"{name}: {figures[name]:.3f} bytes in a cycle"
    check_chip(dut)
