"""Reductions of a lane and of all lanes against Python's integers."""

import random
from itertools import product

import pytest
from systolith_hw.reduce import Folder, LaneTree

from .pipelined import through

LOW, HIGH = -2**31, 2**31 - 1


def limited(value):
    return min(max(value, LOW), HIGH)


def draw(rng):
    return rng.choice([LOW, HIGH, rng.randint(LOW, HIGH), rng.randrange(-2, 3), 1 << 30])


@pytest.mark.parametrize("largest", [True, False])
def test_a_lane_is_reduced_from_the_first_of_its_row_on(largest):
    rng = random.Random(largest)
    cases, expected = [], []
    number, group, taken = 0, 0, False
    while len(cases) < 3000:
        maximum = rng.randrange(2) if largest else 0
        for place in range(rng.randint(1, 6)):
            case = {"valid": rng.randrange(2), "first": int(place == 0), "maximum": maximum,
                    "take": int(rng.random() < 0.7), "number": draw(rng),
                    "group": rng.randrange(1 << 16)}
            if place == 0:
                case["valid"] = 1
            cases.append(case)
            if case["valid"]:
                if case["first"]:
                    number, taken = LOW if maximum else 0, False
                if case["take"] and not maximum:
                    number = limited(number + case["number"])
                elif case["take"] and (not taken or case["number"] > number):
                    number, group = case["number"], case["group"]
                taken = taken or bool(case["take"])
            expected.append((taken, number, group if maximum and taken else None))
    found = through(Folder(largest=largest), cases, latency=Folder.LATENCY,
                    outputs=["folded"])
    for (folded,), (taken, number, group) in zip(found, expected, strict=True):
        assert (folded["taken"], folded["number"]) == (taken, number)
        assert group is None or folded["group"] == group


def check_tree(lanes, largest, cases):
    inputs = [{"maximum": maximum, **{f"lane{i}": lane for i, lane in enumerate(row)}}
              for maximum, row in cases]
    tree = LaneTree(lanes=lanes, largest=largest)
    found = through(tree, inputs, latency=tree.latency(lanes=lanes, largest=largest),
                    outputs=["number", "position"])
    for (maximum, row), (number, position) in zip(cases, found, strict=True):
        if maximum:
            best = max((lane["number"] for lane in row if lane["taken"]), default=LOW)
            assert number == best
            if any(lane["taken"] for lane in row):
                assert position == min(lane["group"] * lanes + i for i, lane in enumerate(row)
                                       if lane["taken"] and lane["number"] == best)
        else:
            assert number == limited(sum(lane["number"] for lane in row))
            assert not largest or position == 0


def lane(taken, number, group):
    return {"taken": taken, "number": number, "group": group}


@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
@pytest.mark.parametrize("largest", [True, False])
def test_all_lanes_become_one_number(lanes, largest):
    rng = random.Random(lanes)
    cases = []
    for _ in range(600):
        maximum = rng.randrange(2) if largest else 0
        some = rng.choice([(LOW, 0), (HIGH, HIGH - 1), (LOW, LOW), tuple(range(-3, 4)), None])
        row = []
        for _ in range(lanes):
            taken = int(rng.random() < 0.8)
            number = rng.choice(some) if some else draw(rng)
            # What took nothing is neutral.
            row.append(lane(taken, number if taken else LOW if maximum else 0,
                            rng.choice([rng.randrange(1 << 16), rng.randrange(3)])))
        cases.append((maximum, row))
    check_tree(lanes, largest, cases)


def test_the_first_of_equals_wins_whatever_lanes_and_groups():
    cases = [(1, [lane(1, 5, a), lane(taken, 5 + more, b)])
             for taken, more, a, b in product((0, 1), (-1, 0, 1), range(3), range(3))]
    check_tree(2, True, cases)
    check_tree(2, True, [(maximum, row[::-1]) for maximum, row in cases])
