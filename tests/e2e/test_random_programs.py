"""Random programs on the model, in several orders of its engines, and on the Verilog."""

import pytest
from cores import CHECKED, CORES
from systolith_hw.isa import Opcode
from systolith_sim.random_programs import Case, Failure, check, draw_case, random_config, shrink
from systolith_sim.random_programs.order import Control, encode, order

SHARED = ("demo", "3x5", "16x1")
BATCH = 10


def agree(config, seeds, *, assertions):
    for seed in seeds:
        case = draw_case(config, seed)
        try:
            check(case, assertions=assertions)
        except Failure:
            small = smallest(case, assertions)
            check(small, assertions=assertions)     # says which commands
            raise


def smallest(case, assertions):
    def fails(candidate):
        try:
            check(candidate, assertions=assertions)
        except Failure:
            return True
        return False

    return shrink(case, fails, attempts=200)


@pytest.mark.parametrize("first", range(0, 30, BATCH))
@pytest.mark.parametrize("name", SHARED)
def test_model_and_verilog_agree(name, first):
    agree(CORES[name], range(first, first + BATCH), assertions=name in CHECKED)


@pytest.mark.full
@pytest.mark.parametrize("first", range(1000, 1200, 50))
@pytest.mark.parametrize("name", [*SHARED, "1x1", "1x16"])
def test_model_and_verilog_agree_longer(name, first):
    agree(CORES[name], range(first, first + 50), assertions=name in CHECKED)


@pytest.mark.full
@pytest.mark.parametrize("number", range(8))
def test_model_and_verilog_agree_on_random_cores(number):
    agree(random_config(number), range(2000 + 40 * number, 2040 + 40 * number), assertions=True)


def programs(name, count):
    for seed in range(count):
        case = draw_case(CORES[name], seed)
        yield case, order(case.steps, case.config, seed, shuffled=True)


def test_programs_use_everything():
    seen = set()
    for _, items in programs("demo", 60):
        for item in items:
            if isinstance(item, Control):
                seen.add(item.operation.name)
                continue
            values = item.step.values()
            seen.add(item.engine.name)
            seen |= {f"{item.engine.name} level {level}" for level in item.levels}
            seen |= {f"{item.engine.name} ring {i}" for i, ring in enumerate(values["ring"])
                     if ring}
            for slot in (0, 1):
                if item.waits[slot] is not None and item.raises[slot] is not None:
                    seen.add("both in one slot")
            seen |= {f"{item.engine.name} {name} {values[name]}"
                     for name in ("mode", "operation", "memory", "accumulate") if name in values}
    assert seen >= {
        "FENCE", "CREDIT", "INTERRUPT", "both in one slot",
        *(opcode.name for opcode in Opcode if opcode != Opcode.CONTROL),
        *(f"{name} level {level}" for name in ("LOAD", "STORE") for level in (15, 0, 1, 2)),
        *(f"EXECUTE level {level}" for level in (15, 2, 3, 4, 5)),
        *(f"VECTOR level {level}" for level in (15, 0, 1, 2, 3)),
        *(f"EXECUTE ring {i}" for i in (0, 1, 2)), "VECTOR ring 0", "VECTOR ring 2",
        "LOAD ring 0", "STORE ring 0", "LOAD mode 0", "LOAD mode 1", "VECTOR operation 0",
        "VECTOR operation 1", "EXECUTE accumulate 0", "EXECUTE accumulate 1",
        *(f"LOAD memory {memory}" for memory in (0, 1, 2))}


def test_records_use_parameter_registers():
    used = set()
    for case, items in programs("demo", 20):
        for record in encode(items, case.config, case.seed)[0]:
            used |= {"address"} if record[3] & 15 else set()
            used |= {f"count {record[10] & 15}"} if record[3] >> 4 else set()
    assert used == {"address", *(f"count {i}" for i in range(6))}


def test_the_same_seed_draws_the_same_program():
    for seed in range(5):
        first, second = (draw_case(CORES["3x5"], seed) for _ in range(2))
        assert first.steps == second.steps
        texts = [encode(order(case.steps, case.config, seed, shuffled=True), case.config, seed)
                 for case in (first, second)]
        assert texts[0] == texts[1]


def test_a_failure_shrinks_to_the_command_that_matters():
    case = draw_case(CORES["demo"], 2)
    culprit = next(step for step in reversed(case.steps) if step.opcode == Opcode.STORE)

    def fails(candidate: Case):
        return any(step.seed == culprit.seed for step in candidate.steps)

    small = shrink(case, fails)
    assert [step.seed for step in small.steps if not step.fixed] == [culprit.seed]
    assert max(step.counts for step in small.steps if not step.fixed) == (1, 1, 1)


def test_a_missing_semaphore_is_found_as_a_race(monkeypatch):
    def lost(items, config, seed):
        items = list(items)
        for item in items:
            if not isinstance(item, Control):
                item.waits[:] = item.raises[:] = item.levels[:] = [None, None]
        return encode([item for item in items if not isinstance(item, Control)], config, seed)

    monkeypatch.setattr("systolith_sim.random_programs.run.encode", lost)
    with pytest.raises(Failure, match="^model in order 1: the program has a race: "):
        for seed in range(10):
            check(draw_case(CORES["demo"], seed), assertions=False)
