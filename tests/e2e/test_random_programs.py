"""Random programs on the model, in several orders of its engines, and on the Verilog."""

import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from cores import CHECKED, CORES
from systolith import ModelDevice
from systolith_hw.isa import COMMANDS, ONCE, ControlOp, Opcode
from systolith_sim.random_programs import Case, Failure, check, draw_case, random_config, shrink
from systolith_sim.random_programs.__main__ import main
from systolith_sim.random_programs.coverage import Coverage
from systolith_sim.random_programs.order import Control, Ordered, encode, order
from systolith_sim.random_programs.run import expected
from systolith_sim.random_programs.steps import units_of

PROGRAMS = 300
# Cores that other tests of the default suite build too, and one of their own.
SHARED = ("demo", "3x5", "1x1", "1x16", "16x1", "64x1", "1x64")
CONFIGS = {**{name: CORES[name] for name in SHARED}, "random_0": random_config(0)}
SEEDS = {name: range(i, PROGRAMS, len(CONFIGS)) for i, name in enumerate(CONFIGS)}


def is_checked(name):
    return name not in CORES or name in CHECKED


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


@pytest.mark.parametrize("name", CONFIGS)
def test_model_and_verilog_agree(name):
    agree(CONFIGS[name], SEEDS[name], assertions=is_checked(name))


@pytest.mark.parametrize("name", ["4x4 shared", "16x4 shared"])
def test_model_and_verilog_of_a_shared_sequencer_agree(name):
    agree(CORES[name], range(60), assertions=True)


@pytest.mark.full
@pytest.mark.parametrize("first", range(1000, 1200, 50))
@pytest.mark.parametrize("name", [*CONFIGS, "4x4 shared", "16x4 shared"])
def test_model_and_verilog_agree_longer(name, first):
    config = CORES[name] if name in CORES else CONFIGS[name]
    agree(config, range(first, first + 50), assertions=is_checked(name))


@pytest.mark.full
@pytest.mark.parametrize("number", range(1, 9))
def test_model_and_verilog_agree_on_random_cores(number):
    agree(random_config(number), range(2000 + 40 * number, 2040 + 40 * number), assertions=True)


def test_the_programs_above_have_everything_in_them():
    coverage = Coverage()
    for name, config in CONFIGS.items():
        coverage.add(draw_case(config, seed) for seed in SEEDS[name])
    assert coverage.missing() == []


def test_every_field_that_commands_use_is_counted():
    wanted = {(command, what.partition("[")[0]) for command, what, _ in Coverage.wanted()}
    for opcode, command in COMMANDS.items():
        for field in command.fields:
            slot = field.name.removesuffix("_valid")
            if (field.name in ("opcode", "index", "count_level")
                    or "Reserved, 0" in field.text or "reserved, 0" in field.text
                    or opcode == Opcode.CONTROL and (slot[:-1] in ("level", "wait", "raise")
                                                     or field.name == "ring")):
                continue
            names = {"count_param": ["count_param for slot"],
                     "level0": ["wait0 at", "raise0 at"], "level1": ["wait1 at", "raise1 at"],
                     **{f"{kind}{i}{end}": [f"{kind}{i} at"] for kind in ("wait", "raise")
                        for i in (0, 1) for end in ("", "_valid")}}.get(field.name, [field.name])
            for name in names:
                assert (opcode.name.lower(), name) in wanted, field.name


@pytest.mark.parametrize("name", CONFIGS)
def test_the_model_leaves_the_same_bytes_in_every_order(name):
    for seed in range(400, 405):
        case = draw_case(CONFIGS[name], seed)
        program = expected(case)
        for number in range(4):
            device = ModelDevice(case.config, memory_bytes=len(program.before), order=number)
            device.write(0, program.before)
            device.run(program.run.address, program.run.commands, params=program.run.params)
            assert np.array_equal(device.memory, program.after), (seed, number)
            assert device.counters() == program.counters


class LateWriter:
    """Runs the semaphores of a program on engines of which vector's writes land as late as they
    can: when all others wait.

    Members
    -------
    early : list of (Ordered, Ordered)
        Commands that touched what was still to land, and the vector command that writes it.
    """
    def __init__(self, case):
        self.items = order(case.steps, case.config, case.seed, shuffled=False)
        self.semaphores = [0] * case.config.control.semaphores
        self.queues = {opcode: [] for opcode in Opcode if opcode != Opcode.CONTROL}
        self.flying = []    # vector commands and iterations whose writes are to land
        self.early = []
        while self.items or any(self.queues.values()) or self.flying:
            moved = self.dispatch() or any([self.advance(queue) for queue in self.queues.values()])
            if not moved:
                assert self.flying, "deadlock"
                self.finish(*self.flying.pop(0))

    def dispatch(self):
        if not self.items:
            return False
        item = self.items[0]
        if not isinstance(item, Control):
            units = max(units_of(item.step, level) for level in item.levels + [ONCE]
                        if level is not None)
            self.queues[item.engine] += [(item, i, units) for i in range(units)]
        elif item.operation == ControlOp.FENCE and (any(self.queues.values()) or self.flying):
            return False
        elif item.operation == ControlOp.CREDIT:
            self.semaphores[item.register] += item.value
        self.items.pop(0)
        return True

    @staticmethod
    def slots(item, numbers, i, units):
        """Semaphores of iteration ``i`` of ``units``."""
        for level, number in zip(item.levels, numbers, strict=True):
            if number is not None and i % (units // units_of(item.step, level)) == 0:
                yield number

    def advance(self, queue):
        """Begin the next iteration of an engine, unless it waits."""
        if not queue:
            return False
        item, i, units = queue[0]
        numbers = list(self.slots(item, item.waits, i, units))
        if any(self.semaphores[number] < numbers.count(number) for number in numbers):
            return False
        for number in numbers:
            self.semaphores[number] -= 1
        self.early += [(item, writer) for writer, j, all_ in self.flying if writer is not item
                       and self.touch(item, i, units, writer, j, all_)]
        queue.pop(0)
        if item.engine == Opcode.VECTOR:
            self.flying.append((item, i, units))
        else:
            self.finish(item, i, units)
        return True

    @staticmethod
    def touch(item, i, units, writer, j, all_):
        for write in writer.touched:
            for access in item.touched:
                if (write.write and write.resource == access.resource
                        and not (access.write and "act bytes" != access.resource)
                        and not (access.write and item.engine == writer.engine)):
                    written = write.places.reshape(-1)[write.iterations(all_) == j]
                    touched = access.places.reshape(-1)[access.iterations(units) == i]
                    if np.isin(written, touched).any():
                        return True
        return False

    def finish(self, item, i, units):
        for number in self.slots(item, item.raises, i + 1, units):
            self.semaphores[number] += 1
            assert self.semaphores[number] <= 15


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_is_touched_before_the_vector_engines_writes_to_it_have_landed(name):
    for seed in range(500, 530):
        assert LateWriter(draw_case(CONFIGS[name], seed)).early == [], seed


@pytest.mark.parametrize("own", [True, False])
def test_a_command_that_does_not_wait_for_writes_to_land_is_found(monkeypatch, own):
    conflicts = Ordered.conflicts
    monkeypatch.setattr(Ordered, "conflicts", lambda self, other: iter(
        () if self.engine == Opcode.VECTOR and (self.engine == other.engine) == own
        else conflicts(self, other)))
    early = [pair for seed in range(20)
             for pair in LateWriter(draw_case(CORES["3x5"], seed)).early]
    assert early
    assert all((item.engine == Opcode.VECTOR) == own for item, _ in early)


def test_what_does_not_occur_is_missing():
    coverage = Coverage()
    coverage.add(Case(CORES["demo"], seed, tuple(
        step for step in draw_case(CORES["demo"], seed).steps if step.opcode != Opcode.STORE))
        for seed in range(10))
    missing = coverage.missing()
    assert coverage.commands["store"] == 0
    assert {item for item in coverage.wanted() if item[0] == "store"} <= set(missing)
    assert ("memories", "memory, touched by", "store, load") in missing
    assert ("load", "mode", "fill") not in missing


@pytest.mark.parametrize("change", [
    lambda program: {"after": np.append(program.after[:-1], program.after[-1] ^ 1)},
    lambda program: {"counters": {**program.counters, "rows": program.counters["rows"] + 1}},
    lambda program: {"registers": [0, program.registers[1] ^ 1, *program.registers[2:]]},
], ids=["a_byte", "a_counter", "a_register"])
def test_whatever_differs_is_found(monkeypatch, change):
    def changed(case):
        program = expected(case)
        return replace(program, **change(program))

    monkeypatch.setattr("systolith_sim.random_programs.run.expected", changed)
    with pytest.raises(Failure):
        check(draw_case(CORES["3x5"], 3))


def test_a_lost_interrupt_is_found(monkeypatch):
    monkeypatch.setattr("systolith_sim.random_programs.run.expected",
                        lambda case: replace(expected(case), interrupt=False))
    with pytest.raises(Failure, match="interrupted"):
        for seed in range(60):
            check(draw_case(CORES["3x5"], seed))


def programs(name, count):
    for seed in range(count):
        case = draw_case(CORES[name], seed)
        yield case, order(case.steps, case.config, seed, shuffled=True)


def test_the_command_line_says_that_all_are_equal():
    result = CliRunner().invoke(main, ["--count", "3", "--config", "0", "--json"])
    assert result.exit_code == 0, result.output
    assert '"equal": true, "programs": 3' in result.stdout


def test_the_command_line_shows_the_small_program_of_a_failure(monkeypatch):
    def lost(case):
        program = expected(case)
        return replace(program, counters={**program.counters, "rows": 0})

    monkeypatch.setattr("systolith_sim.random_programs.run.expected", lost)
    result = CliRunner().invoke(main, ["--count", "1", "--config", "0"])
    assert result.exit_code == 1
    assert result.stdout.startswith("FAIL: configuration 0, seed 0\nVerilog, run ")
    assert result.stdout.endswith("commands are left\n\n")


def test_the_command_line_counts_what_programs_have():
    result = CliRunner().invoke(main, ["--count", "4", "--configs", "2", "--coverage"])
    assert result.exit_code == 0, result.output
    (found, wanted), = re.findall(r"^(\d+) of (\d+) items occur in 4 programs$", result.stdout,
                                  re.M)
    assert int(wanted) == len(Coverage.wanted())
    assert result.stdout.count("\nmissing: ") == int(wanted) - int(found) > 0


def test_the_same_seed_draws_the_same_program():
    for seed in range(5):
        first, second = (draw_case(CORES["3x5"], seed) for _ in range(2))
        assert first.steps == second.steps
        texts = [encode(order(case.steps, case.config, seed, shuffled=True), case.config, seed)
                 for case in (first, second)]
        assert texts[0] == texts[1]


@pytest.mark.parametrize("opcode", [Opcode.STORE, Opcode.VECTOR])
def test_a_failure_shrinks_to_the_command_that_matters(opcode):
    case = draw_case(CORES["demo"], 3)
    culprit = next(step for step in reversed(case.steps) if step.opcode == opcode)

    def fails(candidate: Case):
        return any(step.seed == culprit.seed for step in candidate.steps)

    small = shrink(case, fails)
    assert [step.seed for step in small.steps if not step.fixed] == [culprit.seed]
    assert [set(step.counts) for step in small.steps if not step.fixed] == [{1}]


def test_a_missing_semaphore_is_found_as_a_race(monkeypatch):
    def lost(items, config, seed):
        items = list(items)
        for item in items:
            if not isinstance(item, Control):
                item.waits[:] = item.raises[:] = item.levels[:] = [None, None]
        return encode([item for item in items if not isinstance(item, Control)], config, seed)

    monkeypatch.setattr("systolith_sim.random_programs.run.encode", lost)
    found = []
    for seed in range(10):
        try:
            check(draw_case(CORES["demo"], seed), assertions=False)
        except Failure as failure:
            found.append(str(failure))
    assert any(re.match("model in order [12]: the program has a race: ", text) for text in found)
