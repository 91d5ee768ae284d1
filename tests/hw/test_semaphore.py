"""Semaphores, gates and raisers: no token lost or invented, waits and raises where they belong."""

import itertools
import random
from math import prod

import pytest
from systolith_hw.isa import ONCE
from systolith_hw.semaphore import Gate, Raiser, Semaphores, SerialSemaphores

from .simulate import simulate

LIMIT = 15


@pytest.mark.parametrize("count, waiters, raisers", [(4, 1, 1), (8, 4, 5), (32, 4, 5)])
def test_tokens_are_neither_lost_nor_invented(count, waiters, raisers):
    rng = random.Random(count)
    dut = Semaphores(count=count, waiters=waiters, raisers=raisers)
    values = [0] * count
    taken, both, several, overflows, blocked = [], 0, 0, 0, 0

    def ask(requested, ports, ctx, busy):
        """Requests hold until they are granted."""
        for i, request in enumerate(requested):
            if request is None and rng.random() < busy:
                requested[i] = rng.randrange(count)
            ctx.set(ports[i].valid, requested[i] is not None)
            ctx.set(ports[i].payload, requested[i] or 0)

    async def bench(ctx):
        nonlocal both, several, overflows, blocked
        waits, raises = [None] * waiters, [None] * raisers
        rested = [True] * count     # not taken in the cycle before, or raised, too
        flagged = 0
        for cycle in range(1500):
            ask(waits, dut.wait, ctx, 0.2 if cycle < 500 else 0.9)
            ask(raises, dut.raise_, ctx, 0.9 if cycle < 500 else 0.3)
            # The lowest index that raises is served, and the lowest that waits for each semaphore.
            takers = [i for i, s in enumerate(waits) if s is not None and values[s] and rested[s]
                      and s not in waits[:i]]
            raiser = next((i for i, s in enumerate(raises) if s is not None), None)
            takes = [waits[i] for i in takers]
            post = None if raiser is None else raises[raiser]
            overflow = post is not None and values[post] == LIMIT and post not in takes
            assert [ctx.get(port.ready) for port in dut.wait] == [
                i in takers for i in range(waiters)]
            granted = [i for i in range(raisers)
                       if raises[i] is not None and ctx.get(dut.raise_[i].ready)]
            assert granted == ([] if raiser is None else [raiser])
            assert ctx.get(dut.overflow) == flagged
            flagged = 1 << raiser if overflow else 0
            both += post in takes
            several += len(takes) > 1
            overflows += overflow
            blocked += any(s is not None and not values[s] for s in waits)
            await ctx.tick()
            if post is not None:
                values[post] += not overflow
                raises[raiser] = None
            rested = [s not in takes or s == post for s in range(count)]
            for i in takers:
                values[waits[i]] -= 1
                taken.append(waits[i])
                waits[i] = None

    simulate(dut, bench)
    assert len(taken) > 100 and both and blocked
    assert waiters == 1 or several
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
        ctx.set(dut.wait[1].valid, 0)
        ctx.set(dut.wait[2].valid, 0)
        await ctx.tick()
        ctx.set(dut.raise_[0].payload, 1)
        await ctx.tick()
        ctx.set(dut.wait[1].valid, 1)
        ctx.set(dut.wait[2].valid, 1)
        assert [ctx.get(port.ready) for port in dut.wait] == [1, 1, 0]

    simulate(dut, bench)


def test_a_raise_beyond_15_is_flagged_and_changes_nothing():
    dut = Semaphores(count=4, waiters=1, raisers=1)

    async def bench(ctx):
        ctx.set(dut.raise_[0].valid, 1)
        ctx.set(dut.raise_[0].payload, 3)
        for _ in range(LIMIT + 1):
            assert ctx.get(dut.overflow) == 0
            await ctx.tick()
        assert ctx.get(dut.overflow) == 1
        ctx.set(dut.wait[0].valid, 1)
        ctx.set(dut.wait[0].payload, 3)
        await ctx.tick()
        assert ctx.get(dut.overflow) == 0, "one is taken in the same cycle"
        ctx.set(dut.raise_[0].valid, 0)
        taken = 0
        for _ in range(2 * LIMIT):
            taken += ctx.get(dut.wait[0].ready)
            await ctx.tick()
        assert taken == LIMIT
        assert ctx.get(dut.wait[0].ready) == 0

    simulate(dut, bench)


@pytest.mark.parametrize("count", [4, 8, 32])
def test_one_by_one_no_token_is_lost_or_invented_and_the_lowest_that_can_is_served(count):
    rng = random.Random(count)
    dut = SerialSemaphores(count=count, waiters=4, raisers=5)
    values = [0] * count
    taken, overflows = [0] * 4, 0

    async def bench(ctx):
        nonlocal overflows
        waits, raises = [None] * 4, [None] * 5
        flagged = 0
        for cycle in range(3000):
            for requested, ports, busy in ((waits, dut.wait, 0.2 if cycle < 500 else 0.9),
                                           (raises, dut.raise_, 0.9 if cycle < 500 else 0.1)):
                for i, port in enumerate(ports):
                    if requested[i] is None and rng.random() < busy:
                        requested[i] = rng.randrange(count)
                    ctx.set(port.valid, requested[i] is not None)
                    ctx.set(port.payload, requested[i] or 0)
            raiser = next((i for i, s in enumerate(raises) if s is not None), None)
            granted = [i for i in range(4) if ctx.get(dut.wait[i].ready)]
            assert [i for i in range(5) if raises[i] is not None
                    and ctx.get(dut.raise_[i].ready)] == ([] if raiser is None else [raiser])
            able = [i for i, s in enumerate(waits) if s is not None and values[s]]
            assert granted == (able[:1] if raiser is None else [])
            assert ctx.get(dut.overflow) == flagged
            flagged = 0
            if raiser is not None:
                overflow = values[raises[raiser]] == LIMIT
                flagged = overflow << raiser
                overflows += overflow
                values[raises[raiser]] += not overflow
                raises[raiser] = None
            for i in granted:
                values[waits[i]] -= 1
                taken[i] += 1
                waits[i] = None
            await ctx.tick()

    simulate(dut, bench, cycles=4000)
    assert all(taken)
    assert count > 8 or overflows


def elements_of(counts):
    """Index tuples, innermost first."""
    for outer_first in itertools.product(*(range(count) for count in reversed(counts))):
        yield outer_first[::-1]


def begins(index, level):
    return not any(index[:min(level, len(index))])


def is_final(index, counts, level):
    return all(i == count - 1 for i, count in zip(index[level:], counts[level:], strict=True))


GATE_CASES = [
    ([3, 2, 2], (0, 1), (1, 1)), ([3, 2, 2], (0, 0), (1, 1)), ([3, 2, 2], (1, 2), (1, 1)),
    ([3, 2, 2], (ONCE, 0), (1, 1)), ([3, 2, 2], (2, ONCE), (0, 1)), ([1, 1, 1], (0, 2), (1, 1)),
    ([4], (0, ONCE), (1, 0)), ([2, 1, 3], (1, 1), (1, 1)), ([2, 3], (0, 0), (0, 0)),
    ([1, 5, 1], (0, 1), (1, 1)), ([1], (ONCE, 0), (1, 1)), ([1], (0, 0), (0, 0)),
    ([3], (0, 0), (0, 1)),
]


@pytest.mark.parametrize("loops", [1, 3])
@pytest.mark.parametrize("speed", [0.15, 0.6, 1.0])
def test_a_gate_takes_one_token_for_each_iteration_before_it_begins(loops, speed):
    rng = random.Random(f"{loops} {speed}")
    dut = Gate()
    # Every slot of every command has a semaphore of its own: (counts, levels, used, numbers).
    commands = [(counts, levels, used, (2 * i, 2 * i + 1)) for i, (counts, levels, used) in
                enumerate(rng.choices([case for case in GATE_CASES if len(case[0]) == loops],
                                      k=16))]
    elements = [(number, index) for number, (counts, *_) in enumerate(commands)
                for index in elements_of(counts)]
    total = [prod(counts[min(level, loops):]) * use for counts, levels, used, _ in commands
             for level, use in zip(levels, used, strict=True)]
    grants, begun = [0] * len(total), [0] * len(total)

    async def bench(ctx):
        offered = position = idle = 0
        while idle < 6:  # after the last element, no more tokens may be taken
            _, levels, used, numbers = commands[min(offered, len(commands) - 1)]
            # A command comes at the latest when its first element is there.
            offers = offered < len(commands) and (rng.random() < 0.5 or position == len(elements)
                                                  or elements[position][0] == offered)
            ctx.set(dut.waits.valid, offers)
            ctx.set(dut.waits.payload, {"valid": used[0] | used[1] << 1, "number": numbers})
            wants = position < len(elements) and rng.random() < 0.9
            if position < len(elements):
                command, index = elements[position]
                counts, at, *_ = commands[command]
                ctx.set(dut.begins, sum(begins(index, at[i]) << i for i in range(2)))
                ctx.set(dut.final, sum(is_final(index, counts, at[i]) << i for i in range(2)))
                ctx.set(dut.opens, not any(index))
            else:
                idle += 1
            passes = wants and ctx.get(dut.open)
            ctx.set(dut.pass_, passes)
            ctx.set(dut.wait.ready, rng.random() < speed)
            *_, valid, ready, number, accepted = await ctx.tick().sample(
                dut.wait.valid, dut.wait.ready, dut.wait.payload, dut.waits.ready)
            offered += offers and accepted
            if passes:
                for slot in range(2):
                    place = 2 * command + slot
                    begun[place] += commands[command][2][slot] and begins(
                        index, commands[command][1][slot])
                    assert grants[place] >= begun[place], "no iteration without its token"
                position += 1
            if valid and ready:
                own = 2 * (number // 2)
                assert grants[:own] == total[:own], "tokens come in the order of the commands"
                grants[number] += 1
            assert all(a <= b + 1 for a, b in zip(grants, begun, strict=True)), (
                "at most one token ahead")

    simulate(dut, bench)
    assert grants == begun == total


@pytest.mark.parametrize("tokens", [0, 1])
def test_an_open_gate_costs_no_cycle_from_one_command_to_the_next(tokens):
    dut = Gate()
    passed = []

    async def bench(ctx):
        ctx.set(dut.waits.valid, 1)
        ctx.set(dut.waits.payload, {"valid": tokens, "number": [3, 4]})
        ctx.set(dut.wait.ready, 1)
        ctx.set(dut.final, 0b11)    # slot 0 waits once per command
        for cycle in range(30):
            ctx.set(dut.opens, len(passed) % 5 == 0)  # commands of five elements
            ctx.set(dut.begins, len(passed) % 5 == 0)
            is_open = ctx.get(dut.open)
            ctx.set(dut.pass_, is_open)
            if is_open:
                passed.append(cycle)
            await ctx.tick()

    simulate(dut, bench)
    assert passed == list(range(passed[0], 30)) and passed[0] == 1 + tokens


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("pause", [0.0, 0.6])
def test_a_raiser_passes_on_every_event_in_order_once_it_is_due(depth, pause):
    rng = random.Random(f"{depth} {pause}")
    dut = Raiser(depth=depth)
    events = [(rng.randrange(1, 4), rng.randrange(32), rng.randrange(32), rng.randrange(1 << 20))
              for _ in range(80)]
    wanted = [[(number, index) for slot, number in enumerate(numbers) if event >> slot & 1]
              for event, *numbers, index in events]
    found = []
    announced_at = []

    async def bench(ctx):
        cycle = announced = due = 0
        while len(found) < sum(map(len, wanted)):
            announces = announced < len(events) and rng.random() < 0.5 and ctx.get(dut.ready)
            event, first, second, index = events[min(announced, len(events) - 1)]
            ctx.set(dut.event, event if announces else 0)
            ctx.set(dut.number, [first, second])
            ctx.set(dut.index, index)
            # Perhaps in the cycle in which it is announced.
            happens = due < announced + announces and rng.random() < 0.4
            ctx.set(dut.due, happens)
            ready = rng.random() >= pause
            ctx.set(dut.raise_.ready, ready)
            *_, valid, number, index, pending = await ctx.tick().sample(
                dut.raise_.valid, dut.raise_.payload, dut.raise_index, dut.pending)
            there = sum(at + 3 <= cycle for at in announced_at)
            assert valid == (len(found) < sum(map(len, wanted[:min(due, there)])))
            assert pending == (len(found) < sum(map(len, wanted[:announced])))
            if valid and ready:
                found.append((number, index))
            announced_at.extend([cycle] * announces)
            announced += announces
            due += happens
            cycle += 1
        assert not ctx.get(dut.pending)

    simulate(dut, bench)
    assert found == [raise_ for raises in wanted for raise_ in raises]
