"""The combiner against Python's integers."""

import random
from itertools import product

import pytest
from systolith_hw.combine import Combiner
from systolith_hw.isa import VectorOp

from .pipelined import through

LOW, HIGH = -2**31, 2**31 - 1


def reference(case, *, operations, selects):
    a, b, kept = case["first"], case["second"], case["kept"]
    result = {
        VectorOp.ADD: a + b, VectorOp.SUBTRACT: a - b, VectorOp.REVERSE: b - a,
        VectorOp.MINIMUM: min(a, b), VectorOp.MAXIMUM: max(a, b),
        VectorOp.BELOW: a if a < b else LOW, VectorOp.SELECT: a if kept else b,
        VectorOp.DISTANCE: abs(a - b),
    }[case["operation"] if operations else VectorOp.ADD]
    return LOW if selects and case["masked"] and not kept else min(max(result, LOW), HIGH)


@pytest.mark.parametrize("operations, selects", [(True, True), (True, False), (False, False)])
def test_every_operation_saturates(operations, selects):
    rng = random.Random(f"{operations} {selects}")
    edges = [LOW, LOW + 1, -1, 0, 1, HIGH - 1, HIGH]
    pairs = [*product(edges, edges), *((rng.randint(LOW, HIGH), rng.randint(LOW, HIGH))
                                       for _ in range(60)), *((x, x) for x in (5, -5))]
    taken = [op for op in VectorOp if selects or op != VectorOp.SELECT]
    cases = [{"first": a, "second": b, "operation": op, "kept": rng.randrange(2),
              "masked": int(rng.random() < 0.3)} for a, b in pairs for op in taken]
    rng.shuffle(cases)
    found = through(Combiner(operations=operations, selects=selects), cases,
                    latency=Combiner.LATENCY, outputs=["result"], later={"kept": 1, "masked": 1})
    for case, (result,) in zip(cases, found, strict=True):
        assert result == reference(case, operations=operations, selects=selects), case
