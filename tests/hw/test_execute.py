"""The execute engine: numbers of the bit-exact model, and exactly max(m, R) cycles per tile."""

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
from systolith_hw.execute import ExecuteEngine
from systolith_hw.isa import COMMANDS, ONCE, ErrorCode, Opcode, WeightFormat, jumps_of
from systolith_hw.scratchpad import Scratchpad

from .simulate import simulate
from .streams import plain

MEMORY = {"act_rows": 64, "act_banks": 1, "wgt_rows": 64, "acc_rows": 32, "par_rows": 16}
EXECUTE = COMMANDS[Opcode.EXECUTE]


FORMATS = {
    "int8_int4": {"weights": ("int8", "int4")},
    "all": {"weights": ("ternary", "int8", "int4")},
    "pairs": {"weights": ("int8", "int4", "ternary"), "pairs": True},
    "int4_cells": {"weights": ("int8", "int4", "ternary"), "cell": "int4"},
    "int4_alone": {"weights": ("int4",), "cell": "int4"},
    "ternary_cells": {"weights": ("int8", "int4", "ternary"), "cell": "ternary"},
    "ternary_alone": {"weights": ("ternary",), "cell": "ternary"},
}


def config_of(rows, cols, loops=4, **array):
    return CoreConfig.from_dict({
        "array": {"rows": rows, "cols": cols, "fanout": 2, **array}, "memory": MEMORY,
        "vector": {"lanes": 1}, "control": {"execute_loops": loops}})


class TB:
    """Commands, scratchpads, accumulator and semaphores around an execute engine."""
    def __init__(self, config, *, seed, pause=0.0):
        self.config, self.pause = config, pause
        self.rng = random.Random(seed)
        self.dut = ExecuteEngine(config=config)
        self.state = CoreState(config, np.zeros(64, np.uint8))
        generator = np.random.default_rng(seed)
        for pad in self.state.pads.values():
            pad.data[:] = generator.integers(0, 256, pad.data.shape, np.uint8)
        self.acc = np.zeros((config.memory.acc_rows, config.array.sum_cols), np.int64)
        self.waits, self.raises = Counter(), Counter()
        self.expected_waits, self.expected_raises = Counter(), Counter()
        self.issued = []    # cycles in which a row was read
        self.written = 0    # rows that stand in the accumulator
        self.raised_at = [] # rows that stood there at each raise
        self.error = None

    def command(self, **values):
        """A command, done by the model at once."""
        record = EXECUTE.encode(values)
        fields = EXECUTE.decode(record)
        kept = self.state.acc.copy()
        self.state.semaphores = [15] * len(self.state.semaphores)
        silent = {**fields, **{f"{what}{slot}_valid": 0 for what in ("wait", "raise")
                               for slot in (0, 1)}}
        try:
            for _ in RUN[Opcode.EXECUTE](self.state, 0, silent):
                pass
        except CoreError:
            self.state.acc[:] = kept
            return None
        for what, counter in (("wait", self.expected_waits), ("raise", self.expected_raises)):
            for slot in (0, 1):
                if fields[f"{what}{slot}_valid"]:
                    level = fields[f"level{slot}"]
                    counts = fields["counts"][:self.config.control.execute_loops]
                    counter[fields[f"{what}{slot}"]] += 1 if level == ONCE else prod(counts[level:])
        return record

    def tiles(self, m, k_tiles=1, cols=1, **values):
        """A command of ``cols`` times ``k_tiles`` tiles of m rows, all within the scratchpads."""
        loops = self.config.control.execute_loops
        rows = self.config.array.rows
        counts = [m, 1, k_tiles, *[1] * (loops - 4), cols]
        record = self.command(**{
            "counts": counts, "act_jumps": jumps_of(counts, [1, 0, m, *[0] * (loops - 3)]),
            "acc_jumps": jumps_of(counts, [1, 0, 0, *[0] * (loops - 4), m]), "k_last": rows,
            "ring": [6, 6, 5], **values})
        assert record is not None
        return record

    def random_command(self):
        """Any loops, rings, part tiles, waits and raises that stay inside."""
        rng, config = self.rng, self.config
        loops = config.control.execute_loops
        while True:
            counts = [rng.choice([1, 2, 3, 5]), rng.choice([1, 1, 2]),
                      *[rng.choice([1, 1, 2, 3]) for _ in range(loops - 2)]]
            m = counts[0] * counts[1]
            if m * prod(counts[2:]) > 60 or m > 16:
                continue
            values = {
                "counts": counts, "act_base": rng.randrange(64),
                "act_jumps": jumps_of(counts, [rng.randrange(-3, 4) for _ in counts]),
                # Rows of one tile differ; K tiles meet in one place, column tiles need not.
                "acc_base": rng.randrange(32),
                "acc_jumps": jumps_of(counts, [1, counts[0], *[0] * (loops - 3),
                                               rng.choice([0, m])]),
                "wgt_base": rng.randrange(64), "wgt_rewind": rng.randrange(-9, 3),
                "k_last": rng.randint(1, config.array.rows), "accumulate": rng.randrange(2),
                "format": WeightFormat[rng.choice(config.array.weights).upper()],
                "ring": [rng.choice([0, rng.randint(1, 6)]), rng.choice([0, rng.randint(2, 6)]),
                         rng.choice([0, 5])],
            }
            for slot in (0, 1):
                values[f"level{slot}"] = rng.choice([ONCE, *range(2, loops)])
                for what in ("wait", "raise"):
                    values[f"{what}{slot}_valid"] = rng.randrange(2)
                    values[f"{what}{slot}"] = rng.randrange(32)
            record = self.command(**values)
            if record is not None:
                return record

    def run(self, records, cycles=6000):
        """Until all is done, or an error."""
        waiting = deque(int.from_bytes(record, "little") for record in records)
        self.reads = {name: deque([None] * Scratchpad.READ_LATENCY) for name in ("act", "wgt")}
        self.places = deque([None] * Accumulator.AHEAD)
        self.writes = deque([0] * Accumulator.WRITE)
        self.cycle = 0

        async def bench(ctx):
            while self.error is None and (waiting or not ctx.get(self.dut.idle)):
                await self._cycle(ctx, waiting)

        simulate(self.dut, bench, cycles=cycles)

    async def _cycle(self, ctx, waiting):
        dut, rng = self.dut, self.rng
        for name, row_bytes in (("act", self.config.act_row_bytes),
                                ("wgt", self.config.wgt_row_bytes)):
            port, rows = getattr(dut, name), getattr(self.state, name)
            ctx.set(port.ready, 1)
            row = self.reads[name].popleft()
            ctx.set(port.data, rng.getrandbits(8 * row_bytes) if row is None
                    else int.from_bytes(rows[row].tobytes(), "little"))
        ctx.set(dut.command.valid, bool(waiting))
        if waiting:
            ctx.set(dut.command.payload, waiting[0])
        grants = {name: rng.random() >= self.pause for name in ("wait", "raise_")}
        for name, ready in grants.items():
            ctx.set(getattr(dut, name).ready, ready)
        self.written += self.writes[0]
        ctx.set(dut.acc_written, self.writes.popleft())
        for name in ("act", "wgt"):
            port = getattr(dut, name)
            self.reads[name].append(ctx.get(port.addr) if ctx.get(port.valid) else None)
        place = self.places.popleft()
        if place is not None:
            row, first = place
            self.acc[row] = (np.array(plain(ctx.get(dut.acc_sums)))
                             + (0 if first else self.acc[row]))
        valid = ctx.get(dut.acc_valid)
        self.places.append((ctx.get(dut.acc_row), ctx.get(dut.acc_first)) if valid else None)
        self.writes.append(valid)
        if ctx.get(dut.busy):
            self.issued.append(self.cycle)
        if waiting and ctx.get(dut.command.ready):
            waiting.popleft()
        if ctx.get(dut.wait.valid) and grants["wait"]:
            self.waits[ctx.get(dut.wait.payload)] += 1
        if ctx.get(dut.raise_.valid) and grants["raise_"]:
            self.raises[ctx.get(dut.raise_.payload)] += 1
            self.raised_at.append(self.written)
        error = plain(ctx.get(dut.error))
        if error["valid"]:
            self.error = (error["code"], error["index"])
        self.cycle += 1
        await ctx.tick()

    def check(self):
        """Sums and semaphores are the model's."""
        assert self.error is None
        wrapped = (self.acc + 2**31) % 2**32 - 2**31
        assert np.array_equal(wrapped, self.state.acc[:, :self.config.array.sum_cols])
        assert (self.waits, self.raises) == (self.expected_waits, self.expected_raises)


@pytest.mark.parametrize("rows, cols, loops", [(3, 2, 4), (4, 4, 6), (1, 1, 5)])
@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_random_commands_equal_the_model(rows, cols, loops, pause):
    tb = TB(config_of(rows, cols, loops), seed=rows, pause=pause)
    tb.run([tb.random_command() for _ in range(10)])
    tb.check()


@pytest.mark.parametrize("formats", FORMATS)
@pytest.mark.parametrize("rows, cols", [(4, 4), (3, 5), (1, 1)])
def test_random_commands_with_any_weights_equal_the_model(formats, rows, cols):
    tb = TB(config_of(rows, cols, 5, **FORMATS[formats]), seed=rows)
    tb.run([tb.random_command() for _ in range(12)])
    tb.check()


@pytest.mark.parametrize("name", ["int8", "int4", "ternary"])
@pytest.mark.parametrize("formats", ["all", "pairs", "ternary_cells"])
def test_a_tile_of_any_weights_costs_the_same(formats, name):
    tb = TB(config_of(4, 3, 5, **FORMATS[formats]), seed=0)
    tb.run([tb.tiles(m, k_tiles=4, format=WeightFormat[name.upper()]) for m in (1, 4, 6)])
    tb.check()
    firsts = [*tb.issued[:4], *tb.issued[4:20:4], *tb.issued[20::6]]
    assert np.diff(firsts).tolist() == [4] * 8 + [6] * 3


@pytest.mark.parametrize("rows, cols", [(1, 1), (3, 5), (4, 4)])
@pytest.mark.parametrize("m", ["1", "rows", "rows + 1", "2 * rows + 3"])
def test_a_tile_costs_exactly_the_larger_of_its_rows_and_the_arrays(rows, cols, m):
    m = {"1": 1, "rows": rows, "rows + 1": rows + 1, "2 * rows + 3": 2 * rows + 3}[m]
    tb = TB(config_of(rows, cols), seed=0)
    tb.run([tb.tiles(m, k_tiles=6, cols=2)])
    tb.check()
    firsts = tb.issued[::m]
    assert np.diff(firsts).tolist() == [max(m, rows)] * 11
    for i, first in enumerate(firsts):
        assert tb.issued[i * m:(i + 1) * m] == list(range(first, first + m))


def test_the_next_commands_first_row_follows_the_last_row():
    tb = TB(config_of(4, 4), seed=0)
    tb.run([tb.tiles(m, k_tiles=2) for m in (12, 12, 9, 14)])
    tb.check()
    assert np.diff(tb.issued).tolist() == [1] * (len(tb.issued) - 1)


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_commands_of_one_tile_follow_each_other_as_tiles_do(waits):
    tb = TB(config_of(4, 4), seed=0)
    sizes = (1, 1, 4, 6, 1, 1, 5, 2)
    tb.run([tb.tiles(m, wait0_valid=waits & 1, wait0=3, level0=ONCE, wait1_valid=waits >> 1,
                     wait1=4, level1=2) for m in sizes])
    tb.check()
    firsts = [tb.issued[sum(sizes[:i])] for i in range(len(sizes))]
    assert np.diff(firsts).tolist() == [max(m, 4) for m in sizes[:-1]]


def test_raises_when_the_iterations_sums_stand_in_the_accumulator():
    tb = TB(config_of(3, 2), seed=1)
    tb.run([tb.tiles(5, k_tiles=4, cols=2, raise0_valid=1, raise0=7, level0=2, raise1_valid=1,
                     raise1=8, level1=3)])
    tb.check()
    # A raise for each K tile, and one more for each column tile.
    rows = [5, 10, 15, 20, 20, 25, 30, 35, 40, 40]
    assert len(tb.raised_at) == 10
    assert all(at >= row for at, row in zip(tb.raised_at, rows, strict=True))


def test_waits_for_a_token_before_it_reads_the_iterations_weights():
    tb = TB(config_of(3, 2), seed=1, pause=0.9)
    tb.run([tb.tiles(2, k_tiles=5, wait0_valid=1, wait0=7, level0=2)])
    tb.check()
    assert np.diff(tb.issued).max() > 6


@pytest.mark.parametrize("values", [
    {"act_base": 64}, {"act_base": 1 << 16}, {"acc_base": 32}, {"wgt_base": 63},
    {"act_base": 62, "counts": [3]}, {"acc_base": 30, "counts": [3]},
])
def test_reports_rows_outside(values):
    tb = TB(config_of(3, 2), seed=0)
    counts = values.get("counts", [1]) + [1] * (6 - len(values.get("counts", [1])))
    jumps = jumps_of(counts, [1] * 6)
    tb.run([EXECUTE.encode({"k_last": 3, "index": 9, "act_jumps": jumps, "acc_jumps": jumps,
                            **values})], cycles=200)
    assert tb.error == (ErrorCode.SCRATCHPAD_ADDRESS, 9)
