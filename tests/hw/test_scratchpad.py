"""Scratchpads against a list of rows: priority, banks, byte enables, and rows of odd bytes."""

import random

import pytest
from systolith_hw.scratchpad import Scratchpad

from .simulate import simulate


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("rows, row_bytes, banks, readers, writers", [
    (16, 8, 1, 1, 1), (16, 8, 4, 2, 2), (32, 3, 2, 2, 2), (16, 5, 1, 1, 2), (16, 12, 8, 3, 1),
])
def test_serves_one_read_and_one_write_a_bank_by_priority(rows, row_bytes, banks, readers,
                                                          writers, late):
    rng = random.Random(f"{rows} {row_bytes} {banks}")
    dut = Scratchpad(rows=rows, row_bytes=row_bytes, banks=banks, readers=readers,
                     writers=writers, late=late)
    latency = dut.READ_LATENCY
    apart = latency if late else 1  # cycles from a read to a write of the same row
    read_at = [-latency] * rows     # cycle of each row's last read
    memory = [bytearray(row_bytes) for _ in range(rows)]
    waited = [0] * readers + [0] * writers
    expected = {}  # (reader, cycle): row

    def bank(row):
        return row * banks // rows

    def granted(requests):
        """Index of the request each bank serves."""
        served = {}
        for i, row in enumerate(requests):
            if row is not None:
                served.setdefault(bank(row), i)
        return set(served.values())

    async def bench(ctx):
        reads, writes = [None] * readers, [None] * writers
        for cycle in range(700):
            for i in range(readers):
                if reads[i] is None and cycle >= rows and rng.random() < 0.6:
                    reads[i] = rng.randrange(rows)
            for i in range(writers):
                if writes[i] is None:
                    if cycle < rows:
                        if i == 0:
                            writes[i] = (cycle, rng.randbytes(row_bytes), (1 << row_bytes) - 1)
                    elif rng.random() < 0.6:
                        free = [row for row in range(rows) if cycle - read_at[row] >= apart]
                        writes[i] = (rng.choice(free), rng.randbytes(row_bytes),
                                     rng.randrange(1 << row_bytes))
            # The program's semaphores keep readers and writers of one row apart.
            busy = {write[0] for write in writes if write is not None}
            offered = [None if row in busy else row for row in reads]
            for i, row in enumerate(offered):
                ctx.set(dut.read[i].valid, row is not None)
                ctx.set(dut.read[i].addr, rng.randrange(rows) if row is None else row)
            for i, write in enumerate(writes):
                row, value, mask = write or (rng.randrange(rows), rng.randbytes(row_bytes), 0)
                ctx.set(dut.write[i].valid, write is not None)
                ctx.set(dut.write[i].addr, row)
                ctx.set(dut.write[i].data, int.from_bytes(value, "little"))
                ctx.set(dut.write[i].mask, mask if write else (1 << row_bytes) - 1)
            read_grants = granted(offered)
            write_grants = granted([write and write[0] for write in writes])
            for i in range(readers):
                assert ctx.get(dut.read[i].ready) == (i in read_grants)
            for i in range(writers):
                assert ctx.get(dut.write[i].ready) == (i in write_grants)
            rows_now = await ctx.tick().sample(*(port.data for port in dut.read))
            for i in range(readers):
                if (i, cycle) in expected:
                    assert int(rows_now[2 + i]) == expected[i, cycle]
                waited[i] += offered[i] is not None and i not in read_grants
            for i in read_grants:
                read_at[reads[i]] = cycle
                expected[i, cycle + latency] = int.from_bytes(memory[reads[i]], "little")
                reads[i] = None
            for i in range(writers):
                waited[readers + i] += writes[i] is not None and i not in write_grants
            for i in write_grants:
                row, value, mask = writes[i]
                for byte in range(row_bytes):
                    if mask >> byte & 1:
                        memory[row][byte] = value[byte]
                writes[i] = None

    simulate(dut, bench)
    assert len(expected) > 200
    assert waited[0] == waited[readers] == 0, "the first port never waits"
    assert all(waited[1:readers]) and all(waited[readers + 1:])


@pytest.mark.parametrize("late", [False, True])
def test_reads_the_row_written_a_cycle_before(late):
    dut = Scratchpad(rows=16, row_bytes=2, banks=2, readers=1, writers=1, late=late)

    async def bench(ctx):
        ctx.set(dut.write[0].addr, 9)
        ctx.set(dut.write[0].data, 0x1234)
        ctx.set(dut.write[0].mask, 3)
        ctx.set(dut.write[0].valid, 1)
        await ctx.tick()
        ctx.set(dut.write[0].valid, 0)
        ctx.set(dut.read[0].addr, 9)
        ctx.set(dut.read[0].valid, 1)
        await ctx.tick().repeat(dut.READ_LATENCY)
        assert ctx.get(dut.read[0].data) == 0x1234

    simulate(dut, bench)


def test_reading_a_row_as_it_is_written_is_caught():
    dut = Scratchpad(rows=16, row_bytes=2, banks=1, readers=1, writers=1)

    async def bench(ctx):
        for port in (dut.read[0], dut.write[0]):
            ctx.set(port.addr, 5)
            ctx.set(port.valid, 1)
        for _ in range(2):
            await ctx.tick()

    with pytest.raises(AssertionError, match="reader 0 and writer 0 may not meet in one row"):
        simulate(dut, bench)
