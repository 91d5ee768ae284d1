"""The vector engine against the bit-exact model: bias, requantisation, both result types."""

import random
from collections import Counter, deque
from math import prod

import numpy as np
import pytest
from systolith.errors import CoreError
from systolith.model.engines import RUN
from systolith.model.state import CoreState
from systolith_hw.accumulator import Accumulator
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ONCE, ElementType, ErrorCode, Memory, Opcode, VectorOp
from systolith_hw.scratchpad import Scratchpad
from systolith_hw.vector import VectorEngine

from .simulate import simulate
from .streams import plain

MEMORY = {"act_rows": 64, "act_banks": 1, "wgt_rows": 16, "acc_rows": 16, "par_rows": 16}
VECTOR = COMMANDS[Opcode.VECTOR]
RAW = {"operation": VectorOp.ADD_BIAS, "result_type": ElementType.INT32}


def config_of(rows, cols, lanes, loops=4):
    return CoreConfig.from_dict({
        "array": {"rows": rows, "cols": cols}, "memory": MEMORY, "vector": {"lanes": lanes},
        "control": {"vector_loops": loops}})


class TB:
    """Commands, accumulator, memories and semaphores around a vector engine."""
    def __init__(self, config, *, seed, pause=0.0):
        self.config, self.pause = config, pause
        self.rng = random.Random(seed)
        self.dut = VectorEngine(config=config)
        self.state = CoreState(config, np.zeros(64, np.uint8))
        generator = np.random.default_rng(seed)
        acc = self.state.acc
        acc[:, :config.array.cols] = generator.integers(-40000, 40000, (16, config.array.cols))
        acc[3, :config.array.cols] = generator.choice([-2**31, 2**31 - 1], config.array.cols)
        records = np.zeros((16, config.vector.lanes, 3), np.int64)
        records[:, :, 0] = generator.integers(-5000, 5000, records.shape[:2])
        records[:, :, 1] = generator.integers(1 << 30, 1 << 31, records.shape[:2])
        records[:, :, 2] = generator.integers(-12, 3, records.shape[:2]) & 0xff
        self.state.pads[Memory.PAR].data[:] = (
            records.astype("<u4").view(np.uint8).reshape(16, config.par_row_bytes))
        self.act = self.state.pads[Memory.ACT].data
        self.act[:] = generator.integers(0, 256, self.act.shape, np.uint8)
        self.found = self.act.copy()
        self.waits, self.raises = Counter(), Counter()
        self.expected_waits, self.expected_raises = Counter(), Counter()
        self.reads = []      # cycles in which a group was read
        self.results = 0     # lane groups' worth of bytes written, when raises came
        self.raised_at = []
        self.error = None

    def command(self, **values):
        """A command, done by the model at once; None where it goes outside."""
        record = VECTOR.encode(values)
        fields = VECTOR.decode(record)
        kept = self.act.copy()
        self.state.semaphores = [15] * len(self.state.semaphores)
        silent = {**fields, **{f"{what}{slot}_valid": 0 for what in ("wait", "raise")
                               for slot in (0, 1)}}
        try:
            for _ in RUN[Opcode.VECTOR](self.state, 0, silent):
                pass
        except CoreError:
            self.act[:] = kept
            return None
        for what, counter in (("wait", self.expected_waits), ("raise", self.expected_raises)):
            for slot in (0, 1):
                if fields[f"{what}{slot}_valid"]:
                    level = fields[f"level{slot}"]
                    counter[fields[f"{what}{slot}"]] += (
                        1 if level == ONCE else prod(fields["counts"][level:]))
        return record

    def random_command(self, raw):
        rng, config = self.rng, self.config
        loops = config.control.vector_loops
        while True:
            counts = [rng.randint(1, config.groups_per_row), rng.choice([1, 3, 5]),
                      *[rng.choice([1, 1, 2]) for _ in range(loops - 2)]]
            values = {
                "counts": counts, "source_base": rng.randrange(config.acc_groups),
                "source_jumps": [rng.randrange(-8, 9) for _ in range(3)],
                "result_base": rng.randrange(config.act_groups) & (~3 if raw else ~0),
                "result_jumps": [rng.randrange(-3, 4) * (4 if raw else 1) for _ in range(3)],
                "param_base": rng.randrange(12), "zero_point": rng.randrange(-128, 128),
                "clamp_low": rng.randrange(-128, 0), "clamp_high": rng.randrange(0, 128),
                "ring": [rng.choice([0, 3, 4]), 0, rng.choice([0, 5])],
                **(RAW if raw else {}),
            }
            for slot in (0, 1):
                values[f"level{slot}"] = rng.choice([ONCE, *range(loops)])
                for what in ("wait", "raise"):
                    values[f"{what}{slot}_valid"] = rng.randrange(2)
                    values[f"{what}{slot}"] = rng.randrange(32)
            record = self.command(**values)
            if record is not None:
                return record

    def run(self, records, cycles=8000):
        """Until all is done, or an error."""
        waiting = deque(int.from_bytes(record, "little") for record in records)
        assert Accumulator.READ_LATENCY == Scratchpad.READ_LATENCY == 2
        self.pipeline = deque([None] * 2)
        self.cycle = 0

        async def bench(ctx):
            while self.error is None and (waiting or not ctx.get(self.dut.idle)):
                await self._cycle(ctx, waiting)

        simulate(self.dut, bench, cycles=cycles)

    async def _cycle(self, ctx, waiting):
        dut, rng, config = self.dut, self.rng, self.config
        read = self.pipeline.popleft()
        # What was not read may be anything.
        acc = rng.getrandbits(32 * config.array.cols)
        par = rng.getrandbits(8 * config.par_row_bytes)
        if read is not None:
            acc = int.from_bytes(self.state.acc[read[0], :config.array.cols].tobytes(), "little")
            par = int.from_bytes(self.state.par[read[1]].tobytes(), "little")
        ctx.set(dut.acc_data, acc)
        ctx.set(dut.par.data, par)
        ctx.set(dut.par.ready, 1)
        ctx.set(dut.act.ready, 1)
        grants = {name: rng.random() >= self.pause for name in ("wait", "raise_")}
        for name, ready in grants.items():
            ctx.set(getattr(dut, name).ready, ready)
        acc_ready = rng.random() >= self.pause
        ctx.set(dut.acc_ready, acc_ready)
        ctx.set(dut.command.valid, bool(waiting))
        if waiting:
            ctx.set(dut.command.payload, waiting[0])
        if ctx.get(dut.acc_valid) and acc_ready:
            assert ctx.get(dut.par.valid)
            self.pipeline.append((ctx.get(dut.acc_row), ctx.get(dut.par.addr)))
            self.reads.append(self.cycle)
        else:
            self.pipeline.append(None)
        for name, seen in (("wait", self.waits), ("raise_", self.raises)):
            port = getattr(dut, name)
            if ctx.get(port.valid) and grants[name]:
                seen[ctx.get(port.payload)] += 1
                if name == "raise_":
                    self.raised_at.append(self.results)
        if ctx.get(dut.act.valid):
            row, mask = ctx.get(dut.act.addr), ctx.get(dut.act.mask)
            data = ctx.get(dut.act.data).to_bytes(config.act_row_bytes, "little")
            for byte in range(config.act_row_bytes):
                if mask >> byte & 1:
                    self.found[row, byte] = data[byte]
            self.results += mask.bit_count()
        if waiting and ctx.get(dut.command.ready):
            waiting.popleft()
        error = plain(ctx.get(dut.error))
        if error["valid"]:
            self.error = (error["code"], error["index"])
        self.cycle += 1
        await ctx.tick()

    def check(self):
        """Results and semaphores are the model's, and no other byte has changed."""
        assert self.error is None
        assert np.array_equal(self.found, self.act)
        assert (self.waits, self.raises) == (self.expected_waits, self.expected_raises)


@pytest.mark.parametrize("rows, cols, lanes, loops",
                         [(4, 4, 1, 3), (8, 5, 2, 4), (4, 8, 4, 4), (3, 3, 4, 3)])
@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_random_commands_equal_the_model(rows, cols, lanes, loops, pause):
    tb = TB(config_of(rows, cols, lanes, loops), seed=10 * rows + cols, pause=pause)
    tb.run([tb.random_command(raw) for raw in (0, 1, 0, 0, 1, 1, 0, 1)])
    tb.check()


def test_requantises_a_group_every_cycle():
    tb = TB(config_of(8, 8, 4), seed=0)
    # Two groups of a row, eight rows: results side by side in activation rows.
    tb.run([tb.command(counts=[2, 8], source_jumps=[1], result_jumps=[1])])
    tb.check()
    assert np.diff(tb.reads).tolist() == [1] * 15
    assert tb.results == 16 * 4


@pytest.mark.parametrize("wait", [0, 1])
def test_commands_follow_each_other_without_a_gap(wait):
    tb = TB(config_of(8, 8, 4), seed=0)
    rows = (12, 9, 7, 20)
    tb.run([tb.command(counts=[2, m], source_jumps=[1], result_base=8 * i, result_jumps=[1],
                       ring=[5, 0, 7], zero_point=20 * i, clamp_low=-10 * i, param_base=i,
                       wait0_valid=wait, wait0=5, level0=ONCE, raise0_valid=1, raise0=i)
            for i, m in enumerate(rows)])
    tb.check()
    assert np.diff(tb.reads).tolist() == [1] * (2 * sum(rows) - 1)


def test_a_third_short_command_waits_until_the_first_has_its_zero_point():
    tb = TB(config_of(8, 8, 4), seed=0)
    tb.run([tb.command(counts=[1, 1], result_base=i, zero_point=5 * i, clamp_high=100 - i)
            for i in range(12)])
    tb.check()
    # Two commands in PLACE cycles, one behind them, and one that waits for its turn.
    assert tb.reads[-1] - tb.reads[0] <= 6 * VectorEngine.PLACE


def test_results_of_another_type_wait_until_the_pipeline_is_empty():
    tb = TB(config_of(4, 8, 4), seed=0)
    tb.run([tb.command(counts=[2, 3], source_jumps=[1], result_base=12 * i,
                       result_jumps=[4 if i & 1 else 1], ring=[0, 0, 6], zero_point=3 * i,
                       **(RAW if i & 1 else {})) for i in range(4)])
    tb.check()
    gaps = np.diff(tb.reads)[5::6]
    assert gaps.tolist() == [VectorEngine.LATENCY + 1, VectorEngine.LATENCY_RAW + 4,
                             VectorEngine.LATENCY + 1]


def test_int32_groups_wider_than_a_row_take_several_cycles():
    tb = TB(config_of(4, 8, 4), seed=0)
    assert tb.config.act_row_bytes == 4
    tb.run([tb.command(counts=[2, 3], source_jumps=[1], result_jumps=[4], **RAW)])
    tb.check()
    assert np.diff(tb.reads).tolist() == [4] * 5


def test_parameter_rows_follow_the_column_tiles():
    tb = TB(config_of(8, 8, 4), seed=0)
    # Groups of a row, rows, column tiles: i0 + 2 * i2.
    tb.run([tb.command(counts=[2, 3, 4], source_jumps=[1, 1], result_jumps=[1, 1], param_base=5)])
    tb.check()


def test_raises_when_the_iterations_results_stand_in_the_scratchpad():
    tb = TB(config_of(8, 8, 4), seed=0)
    tb.run([tb.command(counts=[2, 5], source_jumps=[1], result_jumps=[1], raise0_valid=1,
                       raise0=3, level0=1, raise1_valid=1, raise1=4)])
    tb.check()
    assert all(at >= 8 * (i + 1) for i, at in enumerate(tb.raised_at[:5]))
    assert tb.raised_at[5] == 40


@pytest.mark.parametrize("values", [
    {"source_base": 16 * 2}, {"source_base": 1 << 16}, {"result_base": 64 * 2},
    {"result_base": 64 * 2 - 2, **RAW}, {"result_base": 1, **RAW}, {"param_base": 16},
    {"counts": [2], "param_base": 15},
])
def test_reports_addresses_outside(values):
    tb = TB(config_of(8, 8, 4), seed=0)
    tb.run([VECTOR.encode({"index": 9, **values})], cycles=200)
    assert tb.error == (ErrorCode.SCRATCHPAD_ADDRESS, 9)
