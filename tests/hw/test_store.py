"""The store engine against the bit-exact model, between a busy scratchpad and a slow bus."""

import random
from collections import Counter, deque

import numpy as np
import pytest
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ErrorCode, Memory, Opcode
from systolith_hw.scratchpad import Scratchpad
from systolith_hw.store import StoreEngine
from systolith_sim.benches.transfers import PAGE, Transfers

from .simulate import simulate
from .streams import plain

MEMORY = {"act_rows": 32, "act_banks": 1, "wgt_rows": 32, "acc_rows": 16, "par_rows": 16}
CONFIGS = {
    "narrow_bus": CoreConfig.from_dict({
        "array": {"rows": 8, "cols": 3}, "memory": MEMORY, "vector": {"lanes": 1},
        "bus": {"data_bits": 32, "max_burst": 2}}),
    "row_is_word": CoreConfig.from_dict({"memory": MEMORY, "bus": {"data_bits": 64}}),
    "wide_bus": CoreConfig.from_dict({
        "array": {"rows": 3, "cols": 5}, "memory": MEMORY, "vector": {"lanes": 2},
        "bus": {"data_bits": 128, "max_burst": 4, "write_bursts": 2}}),
}


class TB:
    """Commands, scratchpad, bus and semaphores around a store engine, all with pauses."""
    def __init__(self, config, *, seed, pause):
        self.config, self.pause = config, pause
        self.rng = random.Random(seed)
        generator = np.random.default_rng(seed)
        self.memory = generator.integers(0, 256, 2 * PAGE, np.uint8)
        self.transfers = Transfers(config, self.memory.copy(), self.rng)
        self.rows = self.transfers.state.pads[Memory.ACT].data
        self.rows[:] = generator.integers(0, 256, self.rows.shape, np.uint8)
        self.dut = StoreEngine(config=config)
        self.semaphores = {"store_wait": Counter(), "store_raise": Counter()}
        self.bursts, self.ready_words = deque(), deque()
        self.answers = deque()   # tags of bursts whose words have come
        self.word_count = 0
        self.done = 0            # bursts answered
        self.raised = []         # bursts answered at each raise
        self.busy = []           # whether bytes moved, by cycle
        self.fails = False       # the bus answers with an error
        self.error = None
        self.offered = set()

    def run(self, records, cycles=20_000):
        """Until all is done, or an error."""
        waiting = deque(int.from_bytes(record, "little") for record in records)
        self.pipeline = deque([None] * Scratchpad.READ_LATENCY)

        async def bench(ctx):
            ctx.set(self.dut.window_bytes, len(self.memory))
            while self.error is None and (waiting or not ctx.get(self.dut.idle)):
                await self._cycle(ctx, waiting)

        simulate(self.dut, bench, cycles=cycles)

    async def _cycle(self, ctx, waiting):
        dut, rng = self.dut, self.rng
        grants = {name: rng.random() >= self.pause
                  for name in ("bursts", "words", "act", "wait", "raise_")}
        for name, ready in grants.items():
            ctx.set(getattr(dut, name).ready, ready)
        self.pipeline.append(None)
        row = self.pipeline.popleft()
        # What was not read may be anything.
        ctx.set(dut.act.data, rng.getrandbits(8 * self.rows.shape[1]) if row is None
                else int.from_bytes(self.rows[row], "little"))
        # What was offered stays until it is taken.
        answers = bool(self.answers) and ("done" in self.offered or rng.random() >= self.pause)
        ctx.set(dut.done.valid, answers)
        if answers:
            ctx.set(dut.done.payload, {"tag": self.answers[0], "error": self.fails})
            self.offered.add("done")
        offer = bool(waiting) and ("command" in self.offered or rng.random() >= self.pause)
        ctx.set(dut.command.valid, offer)
        if offer:
            ctx.set(dut.command.payload, waiting[0])
            self.offered.add("command")
        if ctx.get(dut.act.valid) and grants["act"]:
            self.pipeline[-1] = ctx.get(dut.act.addr)
        if offer and ctx.get(dut.command.ready):
            waiting.popleft()
            self.offered.discard("command")
        if ctx.get(dut.raise_.valid) and grants["raise_"]:
            self.semaphores["store_raise"][ctx.get(dut.raise_.payload)] += 1
            self.raised.append(self.done)
        if ctx.get(dut.wait.valid) and grants["wait"]:
            self.semaphores["store_wait"][ctx.get(dut.wait.payload)] += 1
        if answers and ctx.get(dut.done.ready):
            self.answers.popleft()
            self.offered.discard("done")
            self.done += 1
        if ctx.get(dut.bursts.valid) and grants["bursts"]:
            self.bursts.append([plain(ctx.get(dut.bursts.payload)), 0])
        if ctx.get(dut.words.valid) and grants["words"]:
            self.ready_words.append(plain(ctx.get(dut.words.payload)))
            self.word_count += 1
        self._write()
        error = plain(ctx.get(dut.error))
        if error["valid"]:
            self.error = (error["code"], error["index"])
        self.busy.append(ctx.get(dut.busy))
        await ctx.tick()

    def _write(self):
        """Words into memory, once their burst is known."""
        size = self.config.bus.data_bytes
        while self.bursts and self.ready_words:
            (item, count), word = self.bursts[0], self.ready_words.popleft()
            first = (item["burst"]["word"] + count) * size
            for lane in range(size):
                if word["strobe"] >> lane & 1:
                    self.memory[first + lane] = word["data"] >> 8 * lane & 0xff
            self.bursts[0][1] += 1
            if count == item["burst"]["words"]:
                self.answers.append(item["tag"])
                self.bursts.popleft()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_random_stores_equal_the_model_and_touch_no_other_byte(name, pause):
    tb = TB(CONFIGS[name], seed=1, pause=pause)
    records = [tb.transfers.random_command(Opcode.STORE, most=250) for _ in range(10)]
    tb.run(records)
    assert tb.error is None and not tb.ready_words and not tb.bursts
    assert np.array_equal(tb.memory, tb.transfers.state.memory)
    assert tb.semaphores["store_wait"] == tb.transfers.semaphores["store_wait"]
    assert tb.semaphores["store_raise"] == tb.transfers.semaphores["store_raise"]
    assert tb.word_count == tb.transfers.state.counters["store_words"]


@pytest.mark.parametrize("runs", [1, 32])
def test_rows_as_wide_as_words_move_a_word_every_cycle(runs):
    tb = TB(CONFIGS["row_is_word"], seed=0, pause=0)
    size = 8 * 32 // runs
    tb.run([COMMANDS[Opcode.STORE].encode({
        "memory_base": 8 * i, "run_bytes": size, "row_bytes": 8, "counts": [runs],
        "memory_jumps": [size], "pad_jumps": [size]}) for i in range(3)])
    first = tb.busy.index(1)
    gaps = tb.busy[first:first + 96].count(0)
    assert gaps <= (2 if runs > 1 else 0), "no gap between runs, a cycle between commands of many"


def test_raises_when_memory_has_answered_the_last_burst_of_the_iteration():
    tb = TB(CONFIGS["narrow_bus"], seed=2, pause=0.3)
    # Runs of 32 bytes from a boundary are four bursts of two words.
    record = COMMANDS[Opcode.STORE].encode({
        "run_bytes": 32, "row_bytes": 8, "counts": [5], "memory_jumps": [32],
        "raise0_valid": 1, "raise0": 3, "level0": 0, "raise1_valid": 1, "raise1": 4})
    tb.run([record])
    assert tb.semaphores["store_raise"] == {3: 5, 4: 1}
    assert all(done >= 4 * (i + 1) for i, done in enumerate(tb.raised[:5]))
    assert tb.raised[5] == 20


@pytest.mark.parametrize("values, code", [
    ({"memory_base": 2 * PAGE - 3, "run_bytes": 4, "row_bytes": 4}, ErrorCode.MEMORY_ADDRESS),
    ({"pad_base": 32 * 8, "run_bytes": 1}, ErrorCode.SCRATCHPAD_ADDRESS),
    ({"pad_base": 31 * 8, "run_bytes": 16, "row_bytes": 8}, ErrorCode.SCRATCHPAD_ADDRESS),
    ({"pad_base": 4, "run_bytes": 5, "row_bytes": 5}, ErrorCode.SCRATCHPAD_ADDRESS),
    ({"run_bytes": 8, "row_bytes": 8}, ErrorCode.WRITE_RESPONSE),
])
def test_reports_what_is_wrong(values, code):
    tb = TB(CONFIGS["narrow_bus"], seed=0, pause=0)
    tb.fails = True
    tb.run([COMMANDS[Opcode.STORE].encode({**values, "index": 5})], cycles=200)
    assert tb.error == (code, 5)
