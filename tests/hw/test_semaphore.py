"""Semaphores, gates and raisers: no token lost or invented, waits and raises where they belong."""

import itertools
import random
from math import prod

import pytest
from systolith_hw.isa import ONCE
from systolith_hw.semaphore import Gate, Raiser, Semaphores

from .simulate import simulate

LIMIT = 15


@pytest.mark.parametrize("count, waiters, raisers", [(4, 1, 1), (8, 4, 5), (32, 4, 5)])
def test_tokens_are_neither_lost_nor_invented(count, waiters, raisers):
    rng = random.Random(count)
    dut = Semaphores(count=count, waiters=waiters, raisers=raisers)
    values = [0] * count
    taken, both, overflows, blocked = [], 0, 0, 0

    def ask(requested, ports, ctx, busy):
        """Requests hold until they are granted."""
        for i, request in enumerate(requested):
            if request is None and rng.random() < busy:
                requested[i] = rng.randrange(count)
            ctx.set(ports[i].valid, requested[i] is not None)
            ctx.set(ports[i].payload, requested[i] or 0)

    async def bench(ctx):
        nonlocal both, overflows, blocked
        waits, raises = [None] * waiters, [None] * raisers
        for cycle in range(1500):
            ask(waits, dut.wait, ctx, 0.2 if cycle < 500 else 0.9)
            ask(raises, dut.raise_, ctx, 0.9 if cycle < 500 else 0.3)
            # The lowest index that can be served is.
            taker = next((i for i, s in enumerate(waits) if s is not None and values[s]), None)
            raiser = next((i for i, s in enumerate(raises) if s is not None), None)
            take = None if taker is None else waits[taker]
            post = None if raiser is None else raises[raiser]
            overflow = post is not None and values[post] == LIMIT and take != post
            assert [ctx.get(port.ready) for port in dut.wait] == [
                i == taker for i in range(waiters)]
            granted = [i for i in range(raisers)
                       if raises[i] is not None and ctx.get(dut.raise_[i].ready)]
            assert granted == ([] if raiser is None else [raiser])
            assert ctx.get(dut.overflow) == (1 << raiser if overflow else 0)
            both += take is not None and take == post
            overflows += overflow
            blocked += any(s is not None and not values[s] for s in waits)
            await ctx.tick()
            if post is not None:
                values[post] += not overflow
                raises[raiser] = None
            if take is not None:
                values[take] -= 1
                taken.append(take)
                waits[taker] = None

    simulate(dut, bench)
    assert len(taken) > 100 and both and blocked
    assert count > 8 or overflows


def test_grants_go_to_the_lowest_index_that_can_be_served():
    dut = Semaphores(count=4, waiters=3, raisers=2)

    async def bench(ctx):
        for i, number in enumerate((1, 2, 2)):
            ctx.set(dut.wait[i].valid, 1)
            ctx.set(dut.wait[i].payload, number)
        for i in range(2):
            ctx.set(dut.raise_[i].valid, 1)
            ctx.set(dut.raise_[i].payload, 2)
        assert [ctx.get(port.ready) for port in dut.wait] == [0, 0, 0]
        assert [ctx.get(port.ready) for port in dut.raise_] == [1, 0]
        await ctx.tick()
        assert [ctx.get(port.ready) for port in dut.wait] == [0, 1, 0]

    simulate(dut, bench)


def test_a_raise_beyond_15_is_flagged_and_changes_nothing():
    dut = Semaphores(count=4, waiters=1, raisers=1)

    async def bench(ctx):
        ctx.set(dut.raise_[0].valid, 1)
        ctx.set(dut.raise_[0].payload, 3)
        for _ in range(LIMIT):
            assert ctx.get(dut.overflow) == 0
            await ctx.tick()
        assert ctx.get(dut.overflow) == 1
        await ctx.tick()
        ctx.set(dut.wait[0].valid, 1)
        ctx.set(dut.wait[0].payload, 3)
        assert ctx.get(dut.overflow) == 0, "one is taken in the same cycle"
        await ctx.tick()
        ctx.set(dut.raise_[0].valid, 0)
        for _ in range(LIMIT):
            assert ctx.get(dut.wait[0].ready) == 1
            await ctx.tick()
        assert ctx.get(dut.wait[0].ready) == 0

    simulate(dut, bench)


def elements_of(counts):
    """Index tuples, innermost first, with the flags of the loops."""
    for outer_first in itertools.product(*(range(count) for count in reversed(counts))):
        index = outer_first[::-1]
        yield (index, sum((i == 0) << loop for loop, i in enumerate(index)),
               sum((i == counts[loop] - 1) << loop for loop, i in enumerate(index)))


def begins(index, level):
    return not any(index[:min(level, len(index))])


GATE_CASES = [
    ([3, 2, 2], (0, 1), (1, 1)), ([3, 2, 2], (0, 0), (1, 1)), ([3, 2, 2], (1, 2), (1, 1)),
    ([3, 2, 2], (ONCE, 0), (1, 1)), ([3, 2, 2], (2, ONCE), (0, 1)), ([1, 1, 1], (0, 2), (1, 1)),
    ([4], (0, ONCE), (1, 0)), ([2, 1, 3], (1, 1), (1, 1)), ([2, 3], (0, 0), (0, 0)),
    ([1, 5, 1], (0, 1), (1, 1)),
]


@pytest.mark.parametrize("counts, levels, used", GATE_CASES)
@pytest.mark.parametrize("speed", [0.15, 0.6, 1.0])
def test_a_gate_takes_one_token_for_each_iteration_before_it_begins(counts, levels, used, speed):
    rng = random.Random(f"{counts} {levels} {used} {speed}")
    dut = Gate(loops=len(counts))
    numbers = (3, 9)
    total = [prod(counts[min(level, len(counts)):]) * use
             for level, use in zip(levels, used, strict=True)]
    commands = 3
    elements = list(elements_of(counts))

    async def bench(ctx):
        for slot in range(2):
            ctx.set(dut.number[slot], numbers[slot])
            ctx.set(dut.level[slot], levels[slot])
        ctx.set(dut.valid, used[0] | used[1] << 1)
        for _ in range(commands):
            ctx.set(dut.start, 1)
            ctx.set(dut.pass_, 0)
            ctx.set(dut.wait.ready, 0)
            await ctx.tick()
            ctx.set(dut.start, 0)
            grants, begun = [0, 0], [0, 0]
            position = 0
            idle = 0
            while idle < 6:  # after the last element, no more tokens may be taken
                if position < len(elements):
                    index, first, last = elements[position]
                    ctx.set(dut.first, first)
                    ctx.set(dut.last, last)
                else:
                    idle += 1
                wants = position < len(elements) and rng.random() < 0.9
                passes = wants and ctx.get(dut.open)
                ctx.set(dut.pass_, passes)
                ctx.set(dut.wait.ready, rng.random() < speed)
                *_, valid, ready, number = await ctx.tick().sample(
                    dut.wait.valid, dut.wait.ready, dut.wait.payload)
                if passes:
                    for slot in range(2):
                        begun[slot] += used[slot] and begins(index, levels[slot])
                        assert grants[slot] >= begun[slot], "no iteration without its token"
                    position += 1
                if valid and ready:
                    grants[numbers.index(number)] += 1
                for slot in range(2):
                    assert grants[slot] <= begun[slot] + 1, "at most one token ahead"
            assert grants == begun == total

    simulate(dut, bench)


def test_an_open_gate_costs_no_cycle():
    dut = Gate(loops=1)
    passed = []

    async def bench(ctx):
        ctx.set(dut.valid, 1)
        ctx.set(dut.level[0], ONCE)
        ctx.set(dut.wait.ready, 1)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for cycle in range(12):
            ctx.set(dut.first, not passed)
            ctx.set(dut.last, 0)
            is_open = ctx.get(dut.open)
            ctx.set(dut.pass_, is_open)
            if is_open:
                passed.append(cycle)
            await ctx.tick()

    simulate(dut, bench)
    assert passed == list(range(passed[0], 12)) and passed[0] <= 2


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("pause", [0.0, 0.6])
def test_a_raiser_passes_on_every_event_in_order(depth, pause):
    rng = random.Random(f"{depth} {pause}")
    dut = Raiser(depth=depth)
    events = [(rng.randrange(1, 4), rng.randrange(32), rng.randrange(32), rng.randrange(1 << 20))
              for _ in range(80)]
    wanted = [(number, index) for event, *numbers, index in events
              for slot, number in enumerate(numbers) if event >> slot & 1]
    found = []

    async def driver(ctx):
        for event, first, second, index in events:
            while rng.random() < 0.5 or not ctx.get(dut.ready):
                await ctx.tick()
            ctx.set(dut.event, event)
            ctx.set(dut.number[0], first)
            ctx.set(dut.number[1], second)
            ctx.set(dut.index, index)
            await ctx.tick()
            ctx.set(dut.event, 0)

    async def monitor(ctx):
        leaves = 0
        while leaves < len(events):
            ready = rng.random() >= pause
            ctx.set(dut.raise_.ready, ready)
            *_, valid, number, index, leave, pending = await ctx.tick().sample(
                dut.raise_.valid, dut.raise_.payload, dut.raise_index, dut.leave, dut.pending)
            assert valid == pending
            if valid and ready:
                found.append((number, index))
            leaves += leave
        assert not ctx.get(dut.pending)

    simulate(dut, driver, monitor)
    assert found == wanted
