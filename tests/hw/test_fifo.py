"""Queues against a deque: order, capacity, and an entry in every cycle."""

import random
from collections import deque

import pytest
from systolith_hw.fifo import Fifo, Fork, ShortQueue

from .simulate import simulate

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

QUEUES = [*((Fifo, depth) for depth in (2, 4, 16)),
          *((ShortQueue, depth) for depth in (1, 2, 3, 5))]


def run(dut, rng, cycles, offer, take):
    """Offer and take with the given probabilities; entries taken and the most that were inside.

    ``offer`` and ``take`` are functions of the cycle.
    """
    model, taken, level = deque(), [], []

    async def bench(ctx):
        waiting = None
        held = None
        for cycle in range(cycles):
            if waiting is None and rng.random() < offer(cycle):
                waiting = rng.randrange(1 << 9)
            ready = rng.random() < take(cycle)
            ctx.set(dut.i.valid, waiting is not None)
            ctx.set(dut.i.payload, waiting or 0)
            ctx.set(dut.o.ready, ready)
            *_, accepted, valid, payload = await ctx.tick().sample(
                dut.i.ready, dut.o.valid, dut.o.payload)
            if held is not None:
                assert valid and payload == held, "an entry must stay until taken"
            held = payload if valid and not ready else None
            if valid:
                assert model, "nothing may come out that did not go in"
                assert payload == model[0]
                if ready:
                    taken.append((cycle, model.popleft()))
            if waiting is not None and accepted:
                model.append(waiting)
                waiting = None
            level.append(len(model))

    simulate(dut, bench, cycles=cycles + 10)
    return taken, level


@pytest.mark.parametrize("kind, depth", QUEUES)
def test_passes_entries_in_order_under_any_pauses(kind, depth):
    rng = random.Random(f"{kind.__name__} {depth}")
    # Phases that fill it, drain it, and neither.
    speed = [rng.choice([0.1, 0.5, 0.9, 1.0]) for _ in range(100)]
    taken, level = run(kind(shape=9, depth=depth), rng, 1500,
                       lambda cycle: speed[cycle // 40], lambda cycle: speed[-1 - cycle // 40])
    assert len(taken) > 200
    assert max(level) >= depth, "it must have been full"


@pytest.mark.parametrize("kind, depth", [case for case in QUEUES if case[1] > 1])
def test_passes_an_entry_every_cycle(kind, depth):
    taken, _ = run(kind(shape=9, depth=depth), random.Random(0), 60, lambda _: 1, lambda _: 1)
    latency = 3 if kind is Fifo else 1
    if kind is Fifo and depth == 2:
        # The RAM's two entries do not cover its own latency; it must still pass two of three.
        assert len(taken) >= 36
    else:
        assert [cycle for cycle, _ in taken] == list(range(latency, 60))


@pytest.mark.parametrize("kind, depth", QUEUES)
def test_holds_depth_entries(kind, depth):
    _, level = run(kind(shape=9, depth=depth), random.Random(0), 40, lambda _: 1, lambda _: 0)
    assert level[-1] == (depth + 2 if kind is Fifo else depth)


def test_empty_says_that_nothing_is_inside():
    dut = Fifo(shape=8, depth=4)

    async def bench(ctx):
        assert ctx.get(dut.empty)
        ctx.set(dut.i.valid, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        for _ in range(6):
            assert not ctx.get(dut.empty)
            await ctx.tick()
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        assert ctx.get(dut.empty)

    simulate(dut, bench)


@pytest.mark.parametrize("kind, depth, rule", [
    (Fifo, 1, "a power of two of at least 2"), (Fifo, 6, "a power of two of at least 2"),
    (ShortQueue, 0, "at least 1"),
])
def test_explains_what_depth_must_be(kind, depth, rule):
    with pytest.raises(ValueError) as info:
        kind(shape=8, depth=depth)
    assert str(info.value) == f"depth must be {rule}, not {depth}"


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("ways", [1, 2, 3])
@pytest.mark.parametrize("speed", [0.3, 1.0])
def test_a_fork_gives_every_item_to_every_taker_once(ways, speed, prompt):
    rng = random.Random(f"{ways} {speed}")
    dut = Fork(shape=9, ways=ways, prompt=prompt)
    items = [rng.randrange(1 << 9) for _ in range(100)]
    found = [[] for _ in range(ways)]
    cycles = 0

    async def bench(ctx):
        nonlocal cycles
        position = 0
        while position < len(items):
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload, items[position])
            for i, port in enumerate(dut.o):
                ready = rng.random() < speed
                ctx.set(port.ready, ready)
                if ready and ctx.get(port.valid):
                    assert ctx.get(port.payload) == items[position]
                    found[i].append(ctx.get(port.payload))
            *_, accepted = await ctx.tick().sample(dut.i.ready)
            position += accepted
            assert all(len(one) >= position for one in found), "an item stays until all have it"
            cycles += 1

    simulate(dut, bench)
    assert found == [items] * ways
    each = 1 if prompt else 2   # one to take it, one to leave
    assert speed < 1 or cycles == each * len(items)
