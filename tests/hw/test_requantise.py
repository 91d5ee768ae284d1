"""The requantiser against TFLite's two steps, written with Python's integers."""

import random

import pytest
from systolith_hw.isa import ElementType
from systolith_hw.requantise import Requantiser

from .simulate import simulate

INT32 = (-2**31, 2**31 - 1)
BITS = {ElementType.INT8: 8, ElementType.INT16: 16, ElementType.INT32: 32}  # of a result


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


def scaled(value, multiplier, shift):
    """MultiplyByQuantizedMultiplier without its wrap at 32 bits."""
    high = rounding_doubling_high_mul(value << max(shift, 0), multiplier)
    return rounding_divide_by_pot(high, max(-shift, 0))


def reference(value, multiplier, shift, zero_point, low, high, result_type):
    """The scaled value, then zero point and limits."""
    if result_type != ElementType.INT8:
        low, high = range_of(result_type)
    return min(max(scaled(value, multiplier, shift) + zero_point, low), high)


def range_of(result_type):
    """Least and greatest number of a type."""
    half = 1 << (BITS[result_type] - 1)
    return -half, half - 1


def check_all(cases):
    """Sends a case each cycle, other values all around, and compares each with the reference."""
    dut = Requantiser()
    members = {"value": 0, "multiplier": 0, "shift": 0, "zero_point": dut.PLACE,
               "clamp_low": dut.PLACE, "clamp_high": dut.PLACE,
               "result_type": dut.PLACE}  # cycles after the value
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


def cases_at_ties(rng, shift, count):
    """For each type ``count`` cases, many with a result at or beside a tie, or a limit."""
    cases = []
    for _ in range(count):
        for result_type in BITS:
            multiplier = random_multiplier(rng)
            # A value whose result is on the scale of its type, at or beside a tie.
            half_results = rng.randrange(*(5 * limit // 2 for limit in range_of(result_type)))
            tie = half_results * 2**(30 - shift) // max(multiplier, 1)
            value = rng.choice([near(rng, tie), near(rng, tie), near(rng, rng.choice(INT32)),
                                near(rng, 0), rng.randrange(INT32[0], INT32[1] + 1),
                                rng.choice([-1, 1]) << rng.randrange(31)])
            zero_point = rng.choice([-128, 0, 127, rng.randrange(-128, 128)])
            cases.append((value, multiplier, shift, zero_point, *limits(rng), result_type))
    return cases


def cases_of_all_kinds(rng, count):
    """Cases of any shift and type, whose results fit their type or nearly do."""
    cases = []
    for _ in range(count):
        shift = rng.randrange(-31, 8)
        result_type = rng.choice(list(BITS))
        result = rng.randrange(*(5 * limit // 4 for limit in range_of(result_type)))
        value = near(rng, result * 2**(30 - shift) // 2**30)
        cases.append((value, random_multiplier(rng), shift, rng.randrange(-128, 128),
                      *limits(rng), result_type))
    return cases


def cases_beyond_types(rng):
    """Cases whose results are at the limits of types, and far beyond them."""
    return [(near(rng, sign << bit), 2**31 - 1 - low, shift, zero, -128, 127, result_type)
            for shift in range(8) for bit in (*range(23, 32), 15 - shift, 7)
            for sign in (-1, 1) for low in (0, 1) for zero in (-128, 127)
            for result_type in BITS]


@pytest.mark.parametrize("shift", range(-31, 8))
def test_equals_tflites_two_steps(shift):
    check_all(cases_at_ties(random.Random(shift), shift, 250))


def test_takes_another_shift_zero_point_clamp_and_type_with_every_value():
    check_all(cases_of_all_kinds(random.Random(0), 6000))


@pytest.mark.parametrize("result_type", BITS)
def test_rounds_every_small_value(result_type):
    cases = [(value, 2**30, shift, 0, -128, 127, result_type) for shift in (-4, -1, 0, 1, 3)
             for value in range(-140, 140)]
    check_all(cases)


@pytest.mark.parametrize("result_type", BITS)
def test_half_of_twice_a_value_is_the_value_saturated(result_type):
    rng = random.Random(result_type)
    low, high = range_of(result_type)
    values = [near(rng, value) for value in (*range_of(ElementType.INT32), -2**16, 2**16, 0)
              for _ in range(40)]
    values += [edge + step for edge in (low, high) for step in range(-260, 261)
               if INT32[0] <= edge + step <= INT32[1]]
    cases = [(value, 2**30, 1, zero_point, -128, 127, result_type) for value in values
             for zero_point in (-128, -1, 0, 1, 127)]
    assert all(reference(*case) == min(max(case[0] + case[3], low), high) for case in cases)
    check_all(cases)


@pytest.mark.parametrize("result_type", BITS)
def test_saturates_only_what_is_beyond_the_type(result_type):
    half = 1 << (BITS[result_type] - 1)
    cases = []
    for shift in (-19, -6, -2, -1, 0, 1, 2, 7):
        for edge in (half - 128, half, half + 127, 2 * half, 4 * half):
            # Values around those whose results are half a step beside the edge.
            for half_results in range(2 * edge - 3, 2 * edge + 4):
                tie = half_results << max(-shift, 0) >> max(shift, 0)
                cases += [(sign * tie + step, 2**30, shift, zero, -128, 127, result_type)
                          for sign in (-1, 1) for step in (-1, 0, 1) for zero in (-128, 0, 127)
                          if INT32[0] <= sign * tie + step <= INT32[1]]
    check_all(cases)


def test_left_shifts_saturate_at_what_is_exactly_beyond_the_type():
    cases = cases_beyond_types(random.Random(0))
    assert min(scaled(*case[:3]) + case[3] for case in cases) == -2**38  # the pipeline's least
    check_all(cases)
