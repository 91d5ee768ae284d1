"""Bursts: every byte once, within 4 KB and within multiples of the longest burst."""

import random

import pytest
from systolith_hw.bursts import BurstSplitter

from .simulate import simulate
from .streams import receive, send

BOUNDARY = 4096


def bursts_of(address, count, data_bytes, max_burst):
    """Bursts of a run as (word, words less one, last), cut word by word."""
    size = min(max_burst, BOUNDARY // data_bytes)
    words = list(range(address // data_bytes, (address + count - 1) // data_bytes + 1))
    bursts = []
    for word in words:
        if bursts and word % size:
            bursts[-1][1] += 1
        else:
            bursts.append([word, 0, 0])
    bursts[-1][2] = 1
    return [tuple(burst) for burst in bursts]


def random_run(rng, data_bytes):
    """Short and long runs, at any offset, many of them beside a 4 KB boundary."""
    count = rng.choice([1, 2, data_bytes - 1, data_bytes, data_bytes + 1, rng.randrange(1, 300),
                        rng.randrange(1, 9000), 65535 if rng.random() < 0.1 else 4096])
    edge = rng.randrange(1, 1 << 20) * BOUNDARY
    address = rng.choice([edge - rng.randrange(1, 40), edge, edge + rng.randrange(40),
                          rng.randrange((1 << 32) - 70000), 0])
    return {"address": address, "bytes": max(count, 1)}


@pytest.mark.parametrize("data_bytes, max_burst",
                         [(4, 1), (4, 2), (4, 256), (8, 16), (8, 256), (16, 64), (64, 1),
                          (64, 256)])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_bursts_cover_every_byte_once_and_cross_no_boundary(data_bytes, max_burst, pause):
    rng = random.Random(f"{data_bytes} {max_burst} {pause}")
    dut = BurstSplitter(data_bytes=data_bytes, max_burst=max_burst)
    runs, total = [], 0
    while total < 300:
        runs.append(random_run(rng, data_bytes))
        total += len(bursts_of(*runs[-1].values(), data_bytes, max_burst))
        if total > 1500:
            total -= len(bursts_of(*runs.pop().values(), data_bytes, max_burst))
    found = []

    async def driver(ctx):
        await send(ctx, dut.run, runs, rng=rng, pause=pause)

    async def monitor(ctx):
        found.extend(await receive(ctx, dut.burst, total, rng=rng, pause=pause))
        assert ctx.get(dut.idle)

    simulate(dut, driver, monitor, cycles=10 * total)
    found = [tuple(burst.values()) for burst in found]
    assert found == [burst for run in runs
                     for burst in bursts_of(run["address"], run["bytes"], data_bytes, max_burst)]
    for word, words, _ in found:
        assert word * data_bytes // BOUNDARY == (word + words) * data_bytes // BOUNDARY
        assert words < max_burst


def test_gives_a_burst_every_cycle_also_from_run_to_run():
    dut = BurstSplitter(data_bytes=8, max_burst=16)
    rng = random.Random(0)
    cycles = []

    async def driver(ctx):
        await send(ctx, dut.run, [{"address": 64, "bytes": 300}] * 10, rng=rng)

    async def monitor(ctx):
        ctx.set(dut.burst.ready, 1)
        for cycle in range(40):
            *_, valid = await ctx.tick().sample(dut.burst.valid)
            if valid:
                cycles.append(cycle)

    simulate(dut, driver, monitor)
    assert cycles == list(range(1, 31))  # 64 up to 364 are words 8 to 45: three bursts
