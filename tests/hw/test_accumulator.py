"""The accumulator against NumPy: back-to-back rows, forwarding, and reads beside the array's."""

import numpy as np
import pytest
from systolith_hw.accumulator import Accumulator

from .simulate import simulate

ROWS, COLS = 16, 3


def words(row, bits):
    """Numbers of one row, side by side in one integer."""
    return sum((int(value) % (1 << bits)) << (bits * i) for i, value in enumerate(row))


class TB:
    """Sends random rows to the array side and random reads to the vector side of ``dut``.

    ``same_bank`` is how often a read goes to the bank the array works in, ``first`` how often the
    array overwrites, ``gap`` how often it pauses.
    """
    def __init__(self, dut, seed, *, cycles=400, same_bank=0.5, first=0.2, gap=0.2):
        self.dut, self.cycles = dut, cycles
        self.same_bank, self.first, self.gap = same_bank, first, gap
        self.rng = np.random.default_rng(seed)
        self.memory = np.zeros((dut.rows, dut.cols), np.int64)
        self.sums = {}      # cycle: what the array delivers in it
        self.writes = []    # cycle in which each row is expected to be written
        self.reads = {}     # cycle: the row expected in it
        self.visited = {}   # row: cycle of its last addr
        self.refused = []   # cycles in which a read was not granted

    def run(self):
        simulate(self.dut, self._bench, cycles=self.cycles + 100)

    def _next_row(self, cycle):
        """A row for the array that keeps to ``revisit``; often the earliest it allows."""
        free = [row for row in range(self.dut.rows)
                if cycle - self.visited.get(row, -100) >= self.dut.revisit]
        recent = [row for row in free if cycle - self.visited.get(row, -100) < 7]
        return int(self.rng.choice(recent if recent and self.rng.random() < 0.6 else free))

    def _array(self, ctx, cycle):
        """Present an addr or none; its row and what it will hold, the bank it reads or None."""
        dut, rng = self.dut, self.rng
        start = cycle < dut.rows  # every row is overwritten once
        valid = start or (cycle < self.cycles - 10 and rng.random() >= self.gap)
        row = cycle if start else self._next_row(cycle) if valid else int(rng.integers(dut.rows))
        first = start or bool(rng.random() < self.first)
        ctx.set(dut.valid, valid)
        ctx.set(dut.addr, row)
        ctx.set(dut.first, first)
        if not valid:
            return None, None
        self.visited[row] = cycle
        half = 1 << (dut.sum_bits - 1)
        sums = rng.choice([-half, half - 1, *rng.integers(-half, half, 4)], dut.cols)
        self.sums[cycle + dut.AHEAD] = words(sums, dut.sum_bits)
        self.writes.append(cycle + dut.AHEAD + 1)
        new = sums + (0 if first else self.memory[row])
        return (row, (new + 2**31) % 2**32 - 2**31), None if first else self._bank(row)

    def _bank(self, row):
        return row * self.dut.banks // self.dut.rows

    def _vector(self, ctx, busy):
        """Ask for a row whose sums are all written, or for none."""
        dut, rng = self.dut, self.rng
        settled = [row for row in range(dut.rows) if row not in self._pending]
        wanted = [row for row in settled if (self._bank(row) == busy)
                  == (busy is not None and rng.random() < self.same_bank)]
        row = int(rng.choice(wanted or settled))
        valid = bool(rng.random() < 0.8)
        ctx.set(dut.read_valid, valid)
        ctx.set(dut.read_addr, row)
        return row, valid

    async def _bench(self, ctx):
        dut, rng = self.dut, self.rng
        held = busy = None
        for cycle in range(self.cycles):
            before = busy   # where a late array reads
            self._pending = {row for row, last in self.visited.items()
                             if cycle - last < dut.WRITE}
            update, busy = self._array(ctx, cycle)
            reads = before if dut.late else busy
            row, valid = self._vector(ctx, reads) if cycle >= dut.rows + dut.WRITE else (0, False)
            ctx.set(dut.sums.as_value(), self.sums.get(cycle, int(rng.integers(1 << 30))))
            *_, ready, written, data = await ctx.tick().sample(
                dut.read_ready, dut.written, dut.read_data)
            if valid and ready:
                self.reads[cycle + dut.READ_LATENCY] = list(self.memory[row])
            if valid and not ready:
                self.refused.append(cycle)
                assert reads == self._bank(row), "reads wait for the array only"
            if update is not None:
                self.memory[update[0]] = update[1]
            assert written == (cycle in self.writes)
            held = self.reads.get(cycle, held)
            if held is not None:
                assert list(data) == held
        assert not self._pending


@pytest.mark.parametrize("revisit", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("banks", [1, 2])
@pytest.mark.parametrize("late", [False, True])
def test_adds_rows_and_serves_reads_beside(late, banks, revisit):
    dut = Accumulator(rows=ROWS, cols=COLS, banks=banks, sum_bits=18, revisit=revisit, late=late)
    tb = TB(dut, [banks, revisit])
    tb.run()
    assert len(tb.reads) > 100
    assert tb.refused


@pytest.mark.parametrize("revisit", [1, 3, 5])
def test_wraps_modulo_2_to_the_32(revisit):
    dut = Accumulator(rows=ROWS, cols=COLS, banks=2, sum_bits=32, revisit=revisit)
    TB(dut, revisit, first=0.02).run()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("revisit", [1, 2, 3, 4])
def test_takes_a_row_in_every_cycle(revisit, late):
    dut = Accumulator(rows=ROWS, cols=COLS, banks=1, sum_bits=18, revisit=revisit, late=late)
    TB(dut, revisit, gap=0, first=0.1, cycles=250).run()


def test_reads_of_the_other_bank_never_wait():
    dut = Accumulator(rows=ROWS, cols=COLS, banks=2, sum_bits=18, revisit=8)
    tb = TB(dut, 0, gap=0, first=0, same_bank=0)
    tb.run()
    assert tb.refused == []


def test_reads_of_the_only_bank_find_the_cycles_in_which_the_array_overwrites():
    dut = Accumulator(rows=ROWS, cols=COLS, banks=1, sum_bits=18, revisit=8)
    tb = TB(dut, 0, gap=0, first=1)
    tb.run()
    assert tb.refused == [] and tb.reads


@pytest.mark.parametrize("revisit", [2, 3, 4, 8])
def test_a_row_that_comes_again_too_early_is_caught(revisit):
    dut = Accumulator(rows=ROWS, cols=COLS, banks=1, sum_bits=18, revisit=revisit)

    async def bench(ctx):
        ctx.set(dut.valid, 1)
        for addr in [1, 2, 1, 9] if revisit > 2 else [1, 1, 9]:
            ctx.set(dut.addr, addr)
            await ctx.tick()

    with pytest.raises(AssertionError, match="a row may not come again before revisit cycles"):
        simulate(dut, bench)


@pytest.mark.parametrize("error, message, parameters", [
    (ValueError, "rows must be a power of two, not 24", {"rows": 24}),
    (ValueError, "cols must be from 1 to 128, not 0", {"cols": 0}),
    (ValueError, "banks must be from 1 to 2, not 4", {"banks": 4}),
    (ValueError, "sum_bits must be from 1 to 32, not 33", {"sum_bits": 33}),
    (TypeError, "revisit must be an integer, not None", {"revisit": None}),
])
def test_explains_what_a_parameter_must_be(error, message, parameters):
    with pytest.raises(error) as info:
        Accumulator(**{"rows": 16, "cols": 4, "banks": 2, "sum_bits": 18, "revisit": 4}
                    | parameters)
    assert str(info.value) == message
