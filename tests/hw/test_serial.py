"""The serial requantiser against TFLite's two steps, written with Python's integers."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.serial import SerialRequantiser, SerialSteps

from .simulate import simulate
from .test_requantise import (
    BITS,
    INT32,
    cases_at_ties,
    cases_beyond_types,
    cases_of_all_kinds,
    limits,
    near,
    range_of,
    reference,
    scaled,
)

UNIT = (1 << 30, 1)
INPUTS = ("value", "multiplier", "shift", "zero_point", "clamp_low", "clamp_high", "result_type")


class Lane(wiring.Component):
    """A requantiser and its counter."""
    def __init__(self):
        self.requantiser = SerialRequantiser()
        super().__init__({"start": In(1), "unit": In(1), "result": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.requantiser = self.requantiser
        m.submodules.steps = steps = SerialSteps()
        m.d.comb += [steps.start.eq(self.start), self.requantiser.start.eq(self.start),
                     self.requantiser.unit.eq(self.unit), self.requantiser.step.eq(steps.step)]
        return m


def check_all(cases, *, rng, units=(), pause=0):
    """Starts a case as soon as another may come, or up to ``pause`` cycles later; every input is
    what it must be only while it must be."""
    dut = Lane()
    inner = dut.requantiser
    held = {"value": (0, 0), "shift": (0, 0), "multiplier": (0, inner.STEADY),
            **dict.fromkeys(INPUTS[3:], (inner.PLACE, inner.LATENCY))}
    starts, time = [], 0
    for _ in cases:
        time += rng.randrange(pause + 1)
        starts.append(time)
        time += inner.INTERVAL
    total = starts[-1] + inner.LATENCY + 1
    plan = [{} for _ in range(total)]
    for number, (case, start) in enumerate(zip(cases, starts, strict=True)):
        plan[start]["case"] = number
        for name, number_ in zip(INPUTS, case, strict=True):
            begin, end = held[name]
            for cycle in range(begin, end + 1):
                plan[start + cycle][name] = number_
    results = []

    async def bench(ctx):
        for entry in plan:
            ctx.set(dut.start, "case" in entry)
            ctx.set(dut.unit, entry["case"] in units if "case" in entry else rng.randrange(2))
            for name in INPUTS:
                signal = getattr(inner, name)
                low = -(1 << len(signal) - 1) if signal.shape().signed else 0
                ctx.set(signal, entry.get(name, low + rng.randrange(1 << len(signal))))
            results.append(ctx.get(inner.result))
            await ctx.tick()

    simulate(dut, bench, cycles=total + 2)
    for number, (case, start) in enumerate(zip(cases, starts, strict=True)):
        wanted = (case[0], *UNIT, *case[3:]) if number in units else case
        assert results[start + inner.LATENCY] == reference(*wanted), (number, case)


@pytest.mark.parametrize("shift", range(-31, 8))
def test_equals_tflites_two_steps(shift):
    rng = random.Random(shift)
    check_all(cases_at_ties(rng, shift, 30), rng=rng)


@pytest.mark.parametrize("pause", [0, 1, 5, 40])
def test_takes_another_shift_zero_point_clamp_and_type_with_every_value(pause):
    rng = random.Random(pause)
    cases = cases_of_all_kinds(rng, 300)
    check_all(cases, rng=rng, pause=pause, units=frozenset(rng.sample(range(300), 100)))


@pytest.mark.parametrize("result_type", BITS)
def test_without_a_scale_the_value_stays(result_type):
    rng = random.Random(result_type)
    values = [near(rng, value) for value in (*INT32, 0, *range_of(result_type)) for _ in range(12)]
    cases = [(value, rng.randrange(2**31), rng.randrange(-31, 8), zero_point, *limits(rng),
              result_type) for value in values for zero_point in (-128, -1, 0, 127)]
    check_all(cases, rng=rng, units=range(len(cases)))


def test_left_shifts_saturate_at_what_is_exactly_beyond_the_type():
    rng = random.Random(0)
    cases = cases_beyond_types(rng)
    assert min(scaled(*case[:3]) + case[3] for case in cases) == -2**38  # the least there is
    check_all(cases, rng=rng)
