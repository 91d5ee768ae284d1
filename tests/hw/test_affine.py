"""The address generator against its formula: all depths, stalls, and restarts without a gap."""

import itertools
import random

import pytest
from systolith_hw.affine import AffineWalker
from systolith_hw.isa import jumps_of

from .simulate import simulate
from .streams import plain

WIDTHS = (16, 32)


def random_walk(rng, loops, most=60):
    """Counts, many of them 1, levels, and base and strides, also negative, of each stream."""
    counts = [1] * loops
    for loop in rng.sample(range(loops), loops):
        product = 1
        for count in counts:
            product *= count
        counts[loop] = rng.choice([1, 1, 2, 3, rng.randrange(1, 8)])
        if product * counts[loop] > most:
            counts[loop] = 1
    return {"counts": counts, "levels": [rng.choice([*range(loops + 1), 15]) for _ in range(2)],
            "bases": [rng.randrange(1 << bits) for bits in WIDTHS],
            "strides": [[rng.randrange(-3000, 3000) for _ in range(loops)] for _ in WIDTHS]}


def expected(walk):
    """Every element by the formula ``base + sum(index[l] * stride[l])``."""
    counts = walk["counts"]
    elements = []
    for outer_first in itertools.product(*(range(count) for count in reversed(counts))):
        index = outer_first[::-1]
        elements.append({
            "address": {f"s{i}": (base + sum(a * b for a, b in zip(index, strides, strict=True)))
                        % (1 << bits)
                        for i, (bits, base, strides) in enumerate(
                            zip(WIDTHS, walk["bases"], walk["strides"], strict=True))},
            **flags(index, counts, walk["levels"]),
        })
    return elements


def flags(index, counts, levels):
    """What an element says of where it stands in its loops."""
    first = [i == 0 for i in index]
    last  = [i == count - 1 for i, count in zip(index, counts, strict=True)]

    def number(bits):
        return sum(bit << i for i, bit in enumerate(bits))

    return {"first": number(first), "last": number(last),
            "begins": number(all(first[:level]) for level in levels),
            "ends": number(all(last[:level]) for level in levels),
            "final": number(all(last[level:]) for level in levels),
            "opens": all(first), "closes": all(last)}


def offered(walk):
    """The walk as the component takes it."""
    fields = {"count": walk["counts"], "level": walk["levels"]}
    for i, bits in enumerate(WIDTHS):
        fields[f"base{i}"] = walk["bases"][i]
        fields[f"jump{i}"] = [jump % (1 << bits)
                              for jump in jumps_of(walk["counts"], walk["strides"][i])]
    return fields


def run(dut, walks, rng, stall, pause=0.0):
    """Walk them one after the other; elements and the cycle each was taken in, and the cycles in
    which walks were taken."""
    taken = []
    starts = []

    async def bench(ctx):
        pending = list(walks)
        total = sum(len(expected(walk)) for walk in walks)
        cycle = 0
        begun = False
        while len(taken) < total:
            offer = bool(pending) and rng.random() >= pause
            ctx.set(dut.walk.valid, offer)
            if offer:
                ctx.set(dut.walk.payload, offered(pending[0]))
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            *_, accepted, valid, element, begin, idle = await ctx.tick().sample(
                dut.walk.ready, dut.o.valid, dut.o.payload, dut.begin, dut.idle)
            if offer and accepted:
                starts.append(cycle)
                pending.pop(0)
            if valid and ready:
                taken.append((cycle, plain(element)))
            if begun:
                assert plain(element)["opens"]
            begun = begin
            assert not (idle and valid)
            cycle += 1
        ctx.set(dut.walk.valid, 0)
        for _ in range(4):
            *_, valid, idle = await ctx.tick().sample(dut.o.valid, dut.idle)
            assert idle and not valid

    simulate(dut, bench, cycles=40 * sum(len(expected(walk)) + 5 for walk in walks))
    return taken, starts


@pytest.mark.parametrize("pause", [0.0, 0.5])
@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("loops", [1, 2, 3, 4, 5, 6])
def test_walks_the_formula_through_restarts_and_stalls(loops, stall, pause):
    rng = random.Random(f"{loops} {stall} {pause}")
    dut = AffineWalker(loops=loops, streams=WIDTHS, levels=2)
    walks = [random_walk(rng, loops) for _ in range(8)]
    walks += [{**random_walk(rng, loops), "counts": [1] * loops} for _ in range(3)]
    taken, _ = run(dut, walks, rng, stall, pause)
    assert [element for _, element in taken] == [e for walk in walks for e in expected(walk)]


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("loops", [1, 2, 4])
def test_a_walk_that_is_held_is_kept_nowhere_else(loops, stall):
    rng = random.Random(f"held {loops} {stall}")
    dut = AffineWalker(loops=loops, streams=WIDTHS, count_bits=12, held=True, levels=2)
    walks = [random_walk(rng, loops) for _ in range(12)]
    walks[3] = {**walks[3], "counts": [1] * loops}
    walks.append({**walks[4], "counts": [1] * (loops - 1) + [300]})

    async def bench(ctx):
        for walk in walks:
            found = []
            ctx.set(dut.walk.payload, offered(walk))
            ctx.set(dut.walk.valid, 1)
            while len(found) < len(expected(walk)):
                ready = rng.random() >= stall
                ctx.set(dut.o.ready, ready)
                *_, taken, valid, element, idle = await ctx.tick().sample(
                    dut.walk.ready, dut.o.valid, dut.o.payload, dut.idle)
                if taken:
                    ctx.set(dut.walk.valid, 0)
                if valid and ready:
                    found.append(plain(element))
            assert found == expected(walk)
            for _ in range(rng.randrange(3)):
                await ctx.tick()
            assert ctx.get(dut.idle)

    simulate(dut, bench, cycles=20_000)


def test_gives_an_element_every_cycle_from_one_walk_to_the_next():
    rng = random.Random(0)
    dut = AffineWalker(loops=3, streams=WIDTHS, levels=2)
    walks = [{**random_walk(rng, 3), "counts": counts}
             for counts in ([3, 1, 4], [1, 2, 2], [1, 1, 1], [1, 1, 1], [2, 1, 1])]
    taken, starts = run(dut, walks, rng, 0)
    assert [cycle for cycle, _ in taken] == list(range(starts[0] + 2, starts[0] + 22))
    assert starts == [0, 12, 16, 17, 18], "a walk is taken as the one before leaves the counters"


def test_a_count_of_65535_does_not_end_early():
    dut = AffineWalker(loops=2, streams=WIDTHS, levels=2)
    walk = {"counts": [1, 65535], "levels": [0, 15], "bases": [5, 7], "strides": [[0, 1], [0, 3]]}
    elements = []

    async def bench(ctx):
        ctx.set(dut.walk.payload, offered(walk))
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.walk.valid, 1)
        await ctx.tick()
        ctx.set(dut.walk.valid, 0)
        for _ in range(300):
            *_, valid, element = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                elements.append(plain(element))

    simulate(dut, bench)
    assert len(elements) == 299
    assert {element["last"] for element in elements} == {0b01}
    assert [e["address"]["s1"] for e in elements] == [7 + 3 * i for i in range(299)]


def test_walks_without_address_streams():
    dut = AffineWalker(loops=2, streams=())
    flags = []

    async def bench(ctx):
        ctx.set(dut.walk.payload, {"count": [2, 3]})
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.walk.valid, 1)
        await ctx.tick()
        ctx.set(dut.walk.valid, 0)
        for _ in range(10):
            *_, valid, first, last = await ctx.tick().sample(
                dut.o.valid, dut.o.payload.first, dut.o.payload.last)
            if valid:
                flags.append((first, last))

    simulate(dut, bench)
    assert flags == [(0b11, 0b00), (0b10, 0b01), (0b01, 0b00), (0b00, 0b01), (0b01, 0b10),
                     (0b00, 0b11)]
