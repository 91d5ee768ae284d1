"""The load engine against the bit-exact model, between a slow bus and busy scratchpads."""

import random
from collections import Counter, deque

import numpy as np
import pytest
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ErrorCode, Memory, Opcode
from systolith_hw.load import LoadEngine
from systolith_hw.transfer import pad_shapes
from systolith_sim.benches.transfers import PAGE, Transfers

from .simulate import simulate
from .streams import plain

MEMORY = {"act_rows": 32, "act_banks": 1, "wgt_rows": 32, "acc_rows": 16, "par_rows": 16}
CONFIGS = {
    "narrow_bus": CoreConfig.from_dict({
        "array": {"rows": 8, "cols": 3}, "memory": MEMORY,
        "vector": {"lanes": 1, "functions": 256}, "bus": {"data_bits": 32}}),
    "no_functions": CoreConfig.from_dict({
        "array": {"rows": 4, "cols": 4}, "memory": MEMORY,
        "vector": {"lanes": 4, "functions": 0}, "bus": {"data_bits": 64}}),
    "wide_bus": CoreConfig.from_dict({
        "array": {"rows": 3, "cols": 5}, "memory": MEMORY,
        "vector": {"lanes": 2, "multiply": False, "functions": 256}, "bus": {"data_bits": 128}}),
}


class TB:
    """Commands, bus, scratchpads and semaphores around a load engine, all with pauses."""
    def __init__(self, config, *, seed, pause):
        self.config, self.pause = config, pause
        self.rng = random.Random(seed)
        self.memory = np.random.default_rng(seed).integers(0, 256, 2 * PAGE, np.uint8)
        self.transfers = Transfers(config, self.memory.copy(), self.rng)
        self.dut = LoadEngine(config=config)
        self.pads = {memory: np.zeros((rows, row_bytes), np.uint8)
                     for memory, (rows, row_bytes, _) in pad_shapes(config).items()}
        self.semaphores = {"load_wait": Counter(), "load_raise": Counter()}
        self.bad_words = set()   # words of memory that the bus answers with an error
        self.words = deque()
        self.word_count = 0
        self.busy = []           # whether bytes moved, by cycle
        self.error = None
        self.offered = set()

    def run(self, records, cycles=20_000):
        """Until all is done, or an error."""
        waiting = deque(int.from_bytes(record, "little") for record in records)

        async def bench(ctx):
            ctx.set(self.dut.window_bytes, len(self.memory))
            while self.error is None and (waiting or not ctx.get(self.dut.idle)):
                await self._cycle(ctx, waiting)

        simulate(self.dut, bench, cycles=cycles)

    async def _cycle(self, ctx, waiting):
        dut, rng = self.dut, self.rng
        grants = {name: rng.random() >= self.pause
                  for name in ("bursts", "wait", "raise_",
                               *(memory.name.lower() for memory in self.pads))}
        for name, ready in grants.items():
            ctx.set(getattr(dut, name).ready, ready)
        for port, items in ((dut.command, waiting), (dut.words, self.words)):
            # What was offered stays until it is taken.
            offer = bool(items) and (id(port) in self.offered or rng.random() >= self.pause)
            ctx.set(port.valid, offer)
            if offer:
                ctx.set(port.payload, items[0])
                self.offered.add(id(port))
        for memory, pad in self.pads.items():
            port = getattr(dut, memory.name.lower())
            if ctx.get(port.valid) and grants[memory.name.lower()]:
                row, mask = ctx.get(port.addr), ctx.get(port.mask)
                data = ctx.get(port.data).to_bytes(pad.shape[1], "little")
                for byte in range(pad.shape[1]):
                    if mask >> byte & 1:
                        pad[row, byte] = data[byte]
        for name, seen in (("wait", "load_wait"), ("raise_", "load_raise")):
            if ctx.get(getattr(dut, name).valid) and grants[name]:
                self.semaphores[seen][ctx.get(getattr(dut, name).payload)] += 1
        for port, items in ((dut.command, waiting), (dut.words, self.words)):
            if ctx.get(port.valid) and ctx.get(port.ready):
                items.popleft()
                self.offered.discard(id(port))
        if ctx.get(dut.bursts.valid) and grants["bursts"]:
            burst, size = plain(ctx.get(dut.bursts.payload)), self.config.bus.data_bytes
            for word in range(burst["word"], burst["word"] + burst["words"] + 1):
                self.words.append({
                    "data": int.from_bytes(self.memory[word * size:(word + 1) * size], "little"),
                    "error": word in self.bad_words})
                self.word_count += 1
        error = plain(ctx.get(dut.error))
        if error["valid"]:
            self.error = (error["code"], error["index"])
        self.busy.append(ctx.get(dut.busy))
        await ctx.tick()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_random_loads_equal_the_model(name, pause):
    tb = TB(CONFIGS[name], seed=1, pause=pause)
    records = [tb.transfers.random_command(Opcode.LOAD, most=300) for _ in range(12)]
    tb.run(records)
    assert tb.error is None
    for memory, pad in tb.pads.items():
        expected = tb.transfers.state.pads[memory].data
        if memory == Memory.FUN:    # the vector engine writes the upper half to all lanes
            pad, expected = pad[len(pad) // 2:], expected[len(pad) // 2:]
        assert np.array_equal(pad, expected), memory.name
    assert tb.semaphores["load_wait"] == tb.transfers.semaphores["load_wait"]
    assert tb.semaphores["load_raise"] == tb.transfers.semaphores["load_raise"]
    assert tb.word_count == tb.transfers.state.counters["load_words"]


def test_rows_as_wide_as_words_move_a_word_every_cycle():
    config = CoreConfig.from_dict({"array": {"rows": 4, "cols": 4}, "memory": MEMORY,
                                   "bus": {"data_bits": 32}, "vector": {"lanes": 1}})
    tb = TB(config, seed=0, pause=0)
    tb.run([COMMANDS[Opcode.LOAD].encode({
        "run_bytes": 64, "row_bytes": 4, "counts": [2], "memory_jumps": [64],
        "pad_jumps": [64]})] * 3)
    first = tb.busy.index(1)
    assert tb.busy[first:first + 96] == [1] * 96, "no gap between runs, nor between commands"


@pytest.mark.parametrize("values, code", [
    ({"memory_base": 2 * PAGE - 3, "run_bytes": 4, "row_bytes": 4}, ErrorCode.MEMORY_ADDRESS),
    ({"memory_base": 0xfffffffe, "run_bytes": 4, "row_bytes": 4}, ErrorCode.MEMORY_ADDRESS),
    ({"pad_base": 32 * 8, "run_bytes": 1}, ErrorCode.SCRATCHPAD_ADDRESS),
    ({"pad_base": 31 * 8, "run_bytes": 16, "row_bytes": 8}, ErrorCode.SCRATCHPAD_ADDRESS),
    ({"pad_base": 4, "run_bytes": 5, "row_bytes": 5}, ErrorCode.SCRATCHPAD_ADDRESS),
    ({"pad_base": 1 << 31, "run_bytes": 1}, ErrorCode.SCRATCHPAD_ADDRESS),
    ({"memory_base": 40, "run_bytes": 8, "row_bytes": 8}, ErrorCode.READ_RESPONSE),
])
def test_reports_what_is_wrong_with_an_address(values, code):
    tb = TB(CONFIGS["narrow_bus"], seed=0, pause=0)
    tb.bad_words = {11}
    tb.run([COMMANDS[Opcode.LOAD].encode({**values, "index": 5})], cycles=200)
    assert tb.error == (code, 5)


def test_halt_stops_it():
    tb = TB(CONFIGS["narrow_bus"], seed=0, pause=0)

    async def bench(ctx):
        ctx.set(tb.dut.window_bytes, len(tb.memory))
        ctx.set(tb.dut.halt, 1)
        ctx.set(tb.dut.command.payload, int.from_bytes(COMMANDS[Opcode.LOAD].encode({}), "little"))
        ctx.set(tb.dut.command.valid, 1)
        ctx.set(tb.dut.bursts.ready, 1)
        for _ in range(20):
            assert not ctx.get(tb.dut.bursts.valid)
            await ctx.tick()

    simulate(tb.dut, bench)
