"""The requantiser against TFLite's two steps, written with Python's integers."""

import random

import pytest
from systolith_hw.requantise import Requantiser

from .simulate import simulate

INT32 = (-2**31, 2**31 - 1)


def rounding_doubling_high_mul(a, b):
    """gemmlowp's SaturatingRoundingDoublingHighMul; a division in C rounds towards zero."""
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)


def rounding_divide_by_pot(x, exponent):
    """gemmlowp's RoundingDivideByPOT: half away from zero."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def reference(value, multiplier, shift, zero_point, low, high):
    """MultiplyByQuantizedMultiplier without its wrap at 32 bits, then zero point and clamp."""
    scaled = rounding_doubling_high_mul(value << max(shift, 0), multiplier)
    scaled = rounding_divide_by_pot(scaled, max(-shift, 0))
    return min(max(scaled + zero_point, low), high)


def check_all(cases):
    """Sends a case each cycle, other values all around, and compares each with the reference."""
    dut = Requantiser()
    members = {"value": 0, "multiplier": 0, "shift": 0, "zero_point": dut.PLACE,
               "clamp_low": dut.PLACE, "clamp_high": dut.PLACE}  # cycles after the value
    results = []

    async def bench(ctx):
        for cycle in range(len(cases) + dut.LATENCY):
            for position, (member, later) in enumerate(members.items()):
                number = min(max(cycle - later, 0), len(cases) - 1)
                ctx.set(getattr(dut, member), cases[number][position])
            *_, result = await ctx.tick().sample(dut.result)
            results.append(result)

    simulate(dut, bench, cycles=len(cases) + dut.LATENCY + 2)
    for case, result in zip(cases, results[dut.LATENCY:], strict=True):
        assert result == reference(*case), case


def limits(rng):
    low, high = sorted((rng.randrange(-128, 128), rng.randrange(-128, 128)))
    return rng.choice([(-128, 127), (-128, 127), (low, high), (rng.choice([-128, 0]), 127)])


def near(rng, value):
    """A number within 3 of ``value``, inside int32."""
    return min(max(int(value) + rng.randrange(-3, 4), INT32[0]), INT32[1])


def random_multiplier(rng):
    return rng.choice([rng.randrange(2**30, 2**31), rng.randrange(2**31), 2**31 - 1, 2**30,
                       2**30 + 1, 1 << rng.randrange(31), 0, 1])


@pytest.mark.parametrize("shift", range(-31, 8))
def test_equals_tflites_two_steps(shift):
    rng = random.Random(shift)
    cases = []
    for _ in range(250):
        multiplier = random_multiplier(rng)
        # A value whose result is on the scale of int8, at or beside a tie.
        half_results = rng.randrange(-600, 600)
        tie = half_results * 2**(30 - shift) // max(multiplier, 1)
        value = rng.choice([near(rng, tie), near(rng, tie), near(rng, rng.choice(INT32)),
                            near(rng, 0), rng.randrange(INT32[0], INT32[1] + 1),
                            rng.choice([-1, 1]) << rng.randrange(31)])
        zero_point = rng.choice([-128, 0, 127, rng.randrange(-128, 128)])
        cases.append((value, multiplier, shift, zero_point, *limits(rng)))
    check_all(cases)


def test_takes_another_shift_zero_point_and_clamp_with_every_value():
    rng = random.Random(0)
    cases = []
    for _ in range(4000):
        shift = rng.randrange(-31, 8)
        value = near(rng, rng.randrange(-300, 300) * 2**(30 - shift) // 2**30)
        cases.append((value, random_multiplier(rng), shift, rng.randrange(-128, 128),
                      *limits(rng)))
    check_all(cases)


def test_rounds_every_small_value():
    cases = [(value, 2**30, shift, 0, -128, 127) for shift in (-4, -1, 0, 1, 3)
             for value in range(-140, 140)]
    check_all(cases)


def test_saturates_only_what_is_beyond_int8():
    # Results around those at which the pipeline limits its own widths.
    cases = [(sign * (edge + step) * 2**min(places, 31 - 11), 2**30, 1 - min(places, 20), zero,
              -128, 127)
             for edge in (127, 128, 255, 256, 511, 512) for step in (-1, 0, 1)
             for sign in (-1, 1) for zero in (-128, 0, 127) for places in (0, 7, 8, 20)]
    check_all(cases)
