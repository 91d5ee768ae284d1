"""cocotb bench of DMA: random and swept transfers against ``AxiRam`` and the bit-exact model."""

import random
from collections import Counter

import cocotb
import numpy as np
from cocotb.triggers import ReadOnly, RisingEdge
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ErrorCode, Opcode
from systolith_hw.scratchpad import Scratchpad

from systolith_sim import tb
from systolith_sim.benches.bus import BusRules, memory
from systolith_sim.benches.transfers import PAGE, Transfers

SIZE = 4 * PAGE       # of the window
WINDOW = 3 * PAGE     # where it lies on the bus


class Bench:
    """The engines under test, memory, the model of both, and what the semaphores saw."""
    def __init__(self, dut):
        parameters = tb.parameters()
        self.dut = dut
        self.config = CoreConfig.from_dict(parameters["config"])
        self.pause = parameters["pause"]
        self.rng = random.Random(parameters["seed"])
        self.ram = memory(dut, size=WINDOW + SIZE + PAGE, pause=self.pause,
                          seed=parameters["seed"])
        self.rules = BusRules(dut, self.config.bus, may_write=set())
        contents = np.random.default_rng(parameters["seed"]).integers(
            0, 256, WINDOW + SIZE + PAGE, np.uint8)
        self.ram.write(0, contents.tobytes())
        self.outside = (contents[:WINDOW].tobytes(), contents[WINDOW + SIZE:].tobytes())
        self.transfers = Transfers(self.config, contents[WINDOW:WINDOW + SIZE].copy(), self.rng)
        self.drivers = {name: tb.StreamDriver(dut, name, pause=self.pause)
                        for name in ("load", "store")}
        self.seen = {f"{engine}_{what}": Counter() for engine in ("load", "store")
                     for what in ("wait", "raise")}

    async def start(self):
        """Reset, and answer semaphores from now on."""
        dut = self.dut
        dut.window.value = WINDOW
        dut.window_bytes.value = SIZE
        dut.peek_addr.value = 0
        for name in self.seen:
            getattr(dut, f"{name}__ready").value = 0
        await tb.start(dut)
        for name, seen in self.seen.items():
            cocotb.start_soon(self._take(name, seen))

    async def _take(self, name, seen):
        """The semaphores' side: grants now and then."""
        valid, ready, payload = (getattr(self.dut, f"{name}__{part}")
                                 for part in ("valid", "ready", "payload"))
        while True:
            grants = self.rng.random() >= self.pause
            ready.value = int(grants)
            await ReadOnly()
            if grants and valid.value:
                seen[int(payload.value)] += 1
            await RisingEdge(self.dut.clk)

    async def run(self, opcode, records):
        """Send commands, wait until nothing moves, and compare everything."""
        dut = self.dut
        self.rules.may_write |= {WINDOW + byte for byte in self.transfers.written}
        await self.drivers[opcode.name.lower()].send(
            int.from_bytes(record, "little") for record in records)
        while not dut.idle.value:
            await RisingEdge(dut.clk)
        await self.compare()

    async def compare(self):
        """Everything the engines did is what the model did."""
        dut, state = self.dut, self.transfers.state
        assert not dut.load_error.value.to_unsigned() & 1
        assert not dut.store_error.value.to_unsigned() & 1
        assert self.seen == self.transfers.semaphores
        assert self.rules.reads == state.counters["load_words"]
        assert self.rules.writes == state.counters["store_words"]
        assert not self.rules.announced
        inside = np.frombuffer(self.ram.read(WINDOW, SIZE), np.uint8)
        wrong = np.flatnonzero(inside != state.memory)
        assert not len(wrong), f"memory differs at {wrong[:10]}"
        assert self.outside == (bytes(self.ram.read(0, WINDOW)),
                                bytes(self.ram.read(WINDOW + SIZE, PAGE)))
        for name, pad in state.pads.items():
            port = getattr(dut, f"peek_{name.name.lower()}")
            for row in range(pad.rows):
                dut.peek_addr.value = row
                for _ in range(Scratchpad.READ_LATENCY):
                    await RisingEdge(dut.clk)
                await ReadOnly()
                found = int(port.value).to_bytes(pad.row_bytes, "little")
                await RisingEdge(dut.clk)
                assert found == pad.data[row].tobytes(), f"{name.name} row {row}"

    async def fill_all(self):
        """Known contents everywhere: block RAM starts undefined."""
        await self.run(Opcode.LOAD, self.transfers.fill_all())


@tb.bench(cycles=120_000)
async def random_transfers_equal_the_model(dut):
    """Loops, rings, odd lanes, fills, waits and raises; every byte beside them stays."""
    bench = Bench(dut)
    await bench.start()
    await bench.fill_all()
    for _ in range(2):
        for opcode in (Opcode.LOAD, Opcode.STORE):
            await bench.run(opcode, [bench.transfers.random_command(opcode) for _ in range(25)])


@tb.bench(cycles=120_000)
async def every_offset_and_length_around_4_kb(dut):
    """One run for each first byte beside a boundary, both ways, and some that span it."""
    bench = Bench(dut)
    await bench.start()
    await bench.fill_all()
    word = bench.config.bus.data_bytes
    starts = range(PAGE - word - 1, PAGE + word)
    for opcode in (Opcode.STORE, Opcode.LOAD):
        runs = [(start, count) for start in starts for count in (1, word - 1, word, 2 * word + 1)]
        runs += [(2 * PAGE - bench.rng.randrange(1, 150), bench.rng.randrange(150, 400))
                 for _ in range(4)]
        bench.rng.shuffle(runs)
        await bench.run(opcode, [bench.transfers.one_run(opcode, *run) for run in runs])


@tb.bench(cycles=4000)
async def an_address_outside_is_reported_and_not_used(dut):
    """Memory beyond the window, scratchpad rows beyond the last."""
    bench = Bench(dut)
    await bench.start()
    for opcode, values, code in (
            (Opcode.LOAD, {"memory_base": SIZE - 3, "run_bytes": 4, "row_bytes": 4},
             ErrorCode.MEMORY_ADDRESS),
            (Opcode.STORE, {"memory_base": SIZE - 3, "run_bytes": 4, "row_bytes": 4},
             ErrorCode.MEMORY_ADDRESS),
            (Opcode.LOAD, {"pad_base": 1 << 20}, ErrorCode.SCRATCHPAD_ADDRESS),
            (Opcode.STORE, {"pad_base": 1 << 20}, ErrorCode.SCRATCHPAD_ADDRESS)):
        name = opcode.name.lower()
        record = COMMANDS[opcode].encode({**values, "index": 7})
        sending = cocotb.start_soon(bench.drivers[name].send([int.from_bytes(record, "little")]))
        error = 0
        while not error & 1:
            await RisingEdge(dut.clk)
            error = getattr(dut, f"{name}_error").value.to_unsigned()
        assert (error >> 1 & 15, error >> 5) == (code, 7)
        assert bench.rules.reads == bench.rules.writes == 0
        sending.cancel()
        getattr(dut, f"{name}__valid").value = 0
        dut.rst.value = 1
        for _ in range(4):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
