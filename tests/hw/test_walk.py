"""The walk through commands: what is kept stays with its elements, and no cycle is lost."""

import random

import pytest
from amaranth.lib import data
from systolith_hw.walk import CommandWalker

from .simulate import simulate

LOOPS = 2


@pytest.mark.parametrize("pauses", [0.0, 0.4])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("queued", [False, True])
def test_every_element_stands_beside_what_its_command_says(queued, waits, pauses):
    rng = random.Random(f"{waits} {pauses}")
    dut = CommandWalker(loops=LOOPS, streams=(8,), kept=data.StructLayout({"number": 16}),
                        waits=waits, queued=queued)
    commands = [(rng.randint(1, 4), rng.randint(1, 4), rng.randrange(4)) for _ in range(30)]
    expected = [(number, address % 256) for number, (a, b, _) in enumerate(commands)
                for address in range(10 * number, 10 * number + a * b)]
    tokens = sum(bool(valid & 1) + bool(valid & 2) * b for _, b, valid in commands) * waits
    found, taken, begun = [], [], []

    async def bench(ctx):
        offered, offers = 0, False
        while len(found) < len(expected):
            offers = offered < len(commands) and (offers or rng.random() >= pauses)
            ctx.set(dut.command.valid, offers)
            if offers:
                a, b, valid = commands[offered]
                ctx.set(dut.command.payload, {
                    "walk": {"count": [a, b], "level": [15, 1],
                             "base0": 10 * offered % 256, "jump0": [1, 1]},
                    "waits": {"valid": valid, "number": [1, 2]},
                    "kept": {"number": offered}})
            ctx.set(dut.wait.ready, rng.random() >= pauses)
            passes = ctx.get(dut.o.valid) and ctx.get(dut.open) and rng.random() >= pauses
            ctx.set(dut.o.ready, passes)
            ctx.set(dut.pass_, passes)
            *_, ready, begin, asked, granted, address, number = await ctx.tick().sample(
                dut.command.ready, dut.begin, dut.wait.valid, dut.wait.ready,
                dut.o.payload.address.s0, dut.kept.number)
            if begin:
                begun.append(offered)
            if passes:
                found.append((number, address))
            if asked and granted:
                taken.append(number)
            if offers and ready:
                offered, offers = offered + 1, False
        ctx.set(dut.o.ready, 0)
        ctx.set(dut.pass_, 0)
        assert ctx.get(dut.idle)

    simulate(dut, bench)
    assert found == expected
    assert begun == list(range(len(commands))), "a command is there when its first element comes"
    assert len(taken) == tokens


@pytest.mark.parametrize("waits", [0, 1])
@pytest.mark.parametrize("queued", [False, True])
def test_an_element_leaves_every_cycle_but_one_before_what_stays_beside_queued_ones(queued, waits):
    dut = CommandWalker(loops=LOOPS, streams=(), kept=data.StructLayout({"number": 8}),
                        queued=queued)
    passed = []

    async def bench(ctx):
        ctx.set(dut.command.valid, 1)
        ctx.set(dut.command.payload, {
            "walk": {"count": [3, 2], "level": [15, 15]}, "kept": {"number": 0},
            "waits": {"valid": waits, "number": [1, 2]}})
        ctx.set(dut.wait.ready, 1)
        for cycle in range(40):
            passes = ctx.get(dut.o.valid) and ctx.get(dut.open)
            ctx.set(dut.o.ready, passes)
            ctx.set(dut.pass_, passes)
            if passes:
                passed.append(cycle)
            await ctx.tick()

    simulate(dut, bench)
    assert passed == ([cycle for cycle in range(3, 40) if (cycle - 3) % 7 < 6] if queued
                      else list(range(2, 40)))
