"""What a series of random programs has had in it, and what it should have: from the ISA itself."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table
from systolith.model.validate import prepare
from systolith_hw.config import CoreConfig
from systolith_hw.formats import BITS
from systolith_hw.isa import COMMANDS, ONCE, ControlOp, Field, Memory, Opcode, WeightFormat
from systolith_hw.legal import COUNT_SLOTS, loops_of, supported

from .combinations import (
    SPECIAL_GROUPS,
    combined,
    idle_fields,
    special_groups,
    wanted_combinations,
)
from .commands import footprint, pads_of
from .episodes import RESETS, draw_episodes
from .run import BACKPRESSURES, JITTERS, LATENCIES, Case, expected
from .steps import Access
from .vectors import STREAMS

__all__ = ["Coverage"]

PAGE_BYTES = 4096   # that a burst may not leave
# Has every loop and value.
WIDEST = CoreConfig.from_dict({"array": {"weights": tuple(BITS)}})
ENGINES = (Opcode.LOAD, Opcode.EXECUTE, Opcode.VECTOR, Opcode.STORE)
SLOTS = ("wait0", "wait1", "raise0", "raise1")
# Fields that `_features` looks at by itself, or that are the same in every command.
_OTHERWISE = {"opcode", "index", "level0", "level1", "count_param", "count_level",
              *SLOTS, *(f"{slot}_valid" for slot in SLOTS)}

Item = tuple[str, str, str]     # command, field or what else, value or kind of value


# What no legal program has: the rows of a tile differ in their accumulator row, and the program
# itself lies where memory begins.
_NEVER = {(Opcode.EXECUTE, "acc_jumps[0]", "0"), (Opcode.EXECUTE, "acc_jumps[1]", "0"),
          (Opcode.STORE, "memory_base", "least")}


def _entries(field: Field) -> list[str]:
    return [field.name] if field.count == 1 else [f"{field.name}[{i}]" for i in range(field.count)]


def _kinds(opcode: Opcode, field: Field) -> list[str]:
    """Kinds of values that tests must have seen of a field."""
    values = supported(COMMANDS[opcode], field.name, WIDEST)
    if values is not None and field.values is not None:
        return [field.values(value).name.lower() for value in sorted(values)]
    if field.name == "ring":
        return ["wraps"]
    return ["0", "1"] if field.bits == 1 else ["-", "0", "+"] if field.signed else ["least", "more"]


def _kind(opcode: Opcode, field: Field, value: int) -> str:
    if supported(COMMANDS[opcode], field.name, WIDEST) is not None and field.values is not None:
        return field.values(value).name.lower()
    if field.name == "ring":
        return "wraps" if value else ""
    if field.bits == 1:
        return str(value)
    if field.signed:
        return "-" if value < 0 else "+" if value else "0"
    return "more" if value > field.default else "least"


def _fields(opcode: Opcode) -> list[Field]:
    """Fields of a command that it uses."""
    command = COMMANDS[opcode]
    return [field for field in command.fields
            if "reserved, 0" not in field.text.lower() and field.name not in _OTHERWISE]


def _rings(opcode: Opcode) -> Sequence[int]:
    return {Opcode.EXECUTE: (0, 1, 2), Opcode.VECTOR: (0, 1, 2), Opcode.CONTROL: ()}.get(
        opcode, (0,))


def _levels(opcode: Opcode) -> list[int]:
    first = 2 if opcode == Opcode.EXECUTE else 0
    return [*range(first, loops_of(opcode, WIDEST)), ONCE]


def _level_name(level: int) -> str:
    return "once" if level == ONCE else f"level {level}"


_SPECIAL = {
    Opcode.LOAD: ("unaligned in memory", "unaligned in row", "across 4 KB", "across rows",
                  "last row in part", "of what a store wrote", "into all lanes of tables"),
    Opcode.STORE: ("unaligned in memory", "unaligned in row", "across 4 KB", "across rows",
                   "last row in part"),
    Opcode.EXECUTE: ("tile shorter than the array", "tile longer than the array",
                     "last weight tile in part", "pairs", "digit by digit",
                     "several array rows in a weight row"),
    Opcode.VECTOR: ("all groups of a row", "narrow clamp", *SPECIAL_GROUPS),
}


def _special(opcode: Opcode, fields: Mapping[str, Any], config: CoreConfig,
             stored: set[int]) -> Iterator[str]:
    if opcode in (Opcode.LOAD, Opcode.STORE):
        first, size = fields["memory_base"], fields["run_bytes"]
        pitch = pads_of(config)[fields["memory"]][2]
        if fields.get("mode", 0) == 0:
            if first % config.bus.data_bytes:
                yield "unaligned in memory"
            if first // PAGE_BYTES != (first + size - 1) // PAGE_BYTES:
                yield "across 4 KB"
            if opcode == Opcode.STORE:
                stored.update(range(first, first + size))
            elif not stored.isdisjoint(range(first, first + size)):
                yield "of what a store wrote"
        if (fields["memory"] == Memory.FUN
                and fields["pad_base"] // pitch >= config.vector.functions):
            yield "into all lanes of tables"
        if fields["pad_base"] % pitch:
            yield "unaligned in row"
        if size > fields["row_bytes"]:
            yield "across rows"
            if size % fields["row_bytes"]:
                yield "last row in part"
    elif opcode == Opcode.EXECUTE:
        rows = fields["counts"][0] * fields["counts"][1]
        if rows < config.array.rows:
            yield "tile shorter than the array"
        if rows > config.array.rows:
            yield "tile longer than the array"
        if fields["k_last"] < config.array.rows:
            yield "last weight tile in part"
        weights = WeightFormat(fields["format"]).name.lower()
        if config.array.paired(weights):
            yield "pairs"
        if config.array.digits(weights) > 1 and fields["counts"][2] > 1:
            yield "digit by digit"
        if config.weight_parts(weights) > 1:
            yield "several array rows in a weight row"
    elif opcode == Opcode.VECTOR:
        if fields["counts"][0] == config.groups_per_row > 1:
            yield "all groups of a row"
        if (fields["clamp_low"], fields["clamp_high"]) != (-128, 127):
            yield "narrow clamp"
        yield from special_groups(fields, config)


def _features(opcode: Opcode, fields: Mapping[str, Any], config: CoreConfig,
              stored: set[int]) -> Iterator[tuple[str, str]]:
    """What one command has: (field or what else, value or kind of value)."""
    idle = idle_fields(fields) if opcode == Opcode.VECTOR else ()
    for field in _fields(opcode):
        values = fields[field.name] if field.count > 1 else [fields[field.name]]
        if field.name in idle:
            continue
        for i, (entry, value) in enumerate(zip(_entries(field), values, strict=True)):
            loop = i + (opcode == Opcode.VECTOR)
            if field.name.endswith("_jumps") and fields["counts"][loop] == 1:
                continue    # never taken
            if field.name == "ring" and i < 3 and f"{STREAMS[i]}_base" in idle:
                continue
            if kind := _kind(opcode, field, value):
                yield entry, kind
    if fields["count_param"]:
        yield "count_param for slot", str(fields["count_level"])
    if opcode == Opcode.CONTROL:
        return
    depth = sum(count > 1 for count in fields["counts"])
    yield "loops that repeat", str(depth)
    for i in (0, 1):
        used = [kind for kind in ("wait", "raise") if fields[f"{kind}{i}_valid"]]
        level = _level_name(fields[f"level{i}"])
        for kind in used:
            yield f"{kind}{i} at", level
            yield f"semaphore with {depth} loops at", level
        if len(used) == 2:
            yield "wait and raise in slot", str(i)
    for special in _special(opcode, fields, config, stored):
        yield "special", special
    if opcode == Opcode.VECTOR:
        yield from combined(fields, config)


def _wanted(opcode: Opcode) -> Iterator[tuple[str, str]]:
    """What commands of a kind must have had, among them all."""
    for field in _fields(opcode):
        for i, entry in enumerate(_entries(field)):
            if field.name != "ring" or i in _rings(opcode):
                yield from ((entry, kind) for kind in _kinds(opcode, field)
                            if (opcode, entry, kind) not in _NEVER)
    yield from (("count_param for slot", str(slot)) for slot in range(COUNT_SLOTS))
    if opcode == Opcode.CONTROL:
        return
    levels = [_level_name(level) for level in _levels(opcode)]
    depths = range(loops_of(opcode, WIDEST) + 1)
    yield from (("loops that repeat", str(depth)) for depth in depths)
    yield from ((f"{kind}{i} at", level) for kind in ("wait", "raise") for i in (0, 1)
                for level in levels)
    yield from ((f"semaphore with {depth} loops at", level) for depth in depths
                for level in levels)
    yield from (("wait and raise in slot", str(i)) for i in (0, 1))
    yield from (("special", special) for special in _SPECIAL[opcode])
    if opcode == Opcode.VECTOR:
        yield from wanted_combinations()


# Between commands

SEMAPHORES, MEMORIES = "semaphores", "memories"     # in place of a command's name
OWN = "raised by vector, waited for by vector at"
_USES = {   # of each memory: who writes it, who reads it
    "memory": ((Opcode.STORE,), (Opcode.LOAD,)),
    "act": ((Opcode.LOAD, Opcode.VECTOR), (Opcode.EXECUTE, Opcode.VECTOR, Opcode.STORE)),
    "wgt": ((Opcode.LOAD,), (Opcode.EXECUTE,)),
    "acc": ((Opcode.EXECUTE,), (Opcode.VECTOR,)),
    "par": ((Opcode.LOAD,), (Opcode.VECTOR,)),
    "fun": ((Opcode.LOAD,), (Opcode.VECTOR,)),
    "row value": ((Opcode.VECTOR,), (Opcode.VECTOR,)),
    "row sum": ((Opcode.VECTOR,), (Opcode.VECTOR,)),
    "row scale": ((Opcode.VECTOR,), (Opcode.VECTOR,)),
    "act bytes": ((Opcode.LOAD, Opcode.VECTOR), (Opcode.LOAD, Opcode.VECTOR)),
}


def _pair(first: Opcode, second: Opcode) -> str:
    return f"{first.name.lower()}, {second.name.lower()}"


def _wanted_pairs() -> Iterator[Item]:
    for raiser in (*ENGINES, Opcode.CONTROL):
        yield from ((SEMAPHORES, f"raised by {raiser.name.lower()}, waited for by",
                     waiter.name.lower()) for waiter in ENGINES)
    yield from ((SEMAPHORES, OWN, _level_name(level)) for level in _levels(Opcode.VECTOR))
    for resource, (writers, readers) in _USES.items():
        pairs = {(a, b) for writer in writers for reader in readers
                 if writer != reader or resource != "act bytes"
                 for a, b in ((writer, reader), (reader, writer))}
        yield from ((MEMORIES, f"{resource}, touched by", _pair(a, b)) for a, b in sorted(pairs))


def _met(case: Case) -> set[Item]:
    """Pairs of engines whose commands touch the same place, one of them to write; of one engine,
    the first to write and the second to read."""
    found: set[Item] = set()
    before: list[tuple[Opcode, Access]] = []
    for step in case.steps:
        if step.fixed:
            continue
        touched = [(step.opcode, access) for access in footprint(step, case.config) or ()]
        for opcode, access in touched:
            for earlier, other in before:
                item = (MEMORIES, f"{access.resource}, touched by", _pair(earlier, opcode))
                if (other.resource == access.resource and item not in found
                        and (earlier != opcode or other.write and not access.write)
                        and other.meets(access)):
                    found.add(item)
        before += touched
    return found


class _Tokens:
    """Who raises and who waits for which semaphore; its number means another one after a fence."""
    def __init__(self) -> None:
        self.raisers: dict[int, Counter[Opcode]] = {}
        self.waiters: dict[int, Counter[Opcode]] = {}
        self.levels: dict[int, Counter[str]] = {}   # of vector commands that wait

    def add(self, opcode: Opcode, fields: Mapping[str, Any]) -> None:
        if opcode == Opcode.CONTROL:
            if fields["operation"] == ControlOp.CREDIT:
                self.raisers.setdefault(fields["register"], Counter())[opcode] += 1
            return
        for slot in SLOTS:
            if fields[f"{slot}_valid"]:
                users = self.waiters if slot.startswith("wait") else self.raisers
                users.setdefault(fields[slot], Counter())[opcode] += 1
                if opcode == Opcode.VECTOR and slot.startswith("wait"):
                    level = _level_name(fields[f"level{slot[-1]}"])
                    self.levels.setdefault(fields[slot], Counter())[level] += 1

    def pairs(self) -> Iterator[Item]:
        for number, waiters in self.waiters.items():
            for raiser in self.raisers.get(number, ()):
                yield from ((SEMAPHORES, f"raised by {raiser.name.lower()}, waited for by",
                             waiter.name.lower()) for waiter in waiters.elements())
            if Opcode.VECTOR in waiters and Opcode.VECTOR in self.raisers.get(number, ()):
                yield from ((SEMAPHORES, OWN, level) for level in self.levels[number].elements())


# Runs

RUN = "runs"
TENTHS = tuple(f"{i / 10:.1f}" for i in range(10))


def _run_features(case: Case) -> Iterator[tuple[str, str]]:
    options = case.options()
    for name in ("latency", "jitter", "backpressure"):
        yield name, str(options[name])
    yield "window", "elsewhere" if options["window"] else "at 0"
    episodes = draw_episodes(case.seed)
    yield "runs of a program", str(len(episodes))
    for number, episode in enumerate(episodes):
        yield "start after", f"{'some' if episode.idle_cycles else 'no'} idle cycles"
        yield "reset before", "first run" if number == 0 and episode.reset != "none" else (
            "later run" if episode.reset != "none" else "none")
        if episode.reset != "none":
            yield f"reset by {episode.reset} at", TENTHS[int(10 * episode.moment)]
        yield "interrupts", "of commands" if episode.interrupts else "of the end"
        yield "registers", "written where different" if episode.sparing else "all written"


def _wanted_runs() -> Iterator[tuple[str, str]]:
    for name, values in (("latency", LATENCIES), ("jitter", JITTERS),
                         ("backpressure", BACKPRESSURES), ("window", ("at 0", "elsewhere")),
                         ("runs of a program", (1, 2, 3)),
                         ("start after", ("no idle cycles", "some idle cycles")),
                         ("reset before", ("none", "first run", "later run")),
                         *((f"reset by {reset} at", TENTHS) for reset in RESETS),
                         ("interrupts", ("of commands", "of the end")),
                         ("registers", ("all written", "written where different"))):
        yield from ((name, str(value)) for value in values)


class Coverage:
    """How often each thing occurred that random programs should have in them.

    What should occur is derived from the commands' fields: every value of those with few, every
    sign of the others, in every entry of an array; and every semaphore slot at every loop level
    in commands of every loop depth, places that programs tend to go wrong at, and what happens
    around programs: memories, starts, resets, interrupts.

    Members
    -------
    counts : Counter of (command, field or what else, value or kind of value)
        ``command`` is also ``semaphores``, ``memories`` or ``runs``.
    commands : Counter of str
        Commands of each kind.
    """
    def __init__(self) -> None:
        self.counts: Counter[Item] = Counter()
        self.commands: Counter[str] = Counter()

    def add(self, cases: Iterable[Case]) -> None:
        """Count what the programs of ``cases`` have; runs each on the model."""
        for case in cases:
            program = expected(case)
            registers = [0, *program.run.params.values()]
            stored: set[int] = set()
            tokens = _Tokens()
            for record in program.records:
                _, opcode, fields = prepare(record, case.config, registers)
                self.commands[opcode.name.lower()] += 1
                for what, kind in _features(opcode, fields, case.config, stored):
                    self.counts[opcode.name.lower(), what, kind] += 1
                if opcode == Opcode.CONTROL:
                    self._follow(registers, fields)
                    if fields["operation"] == ControlOp.FENCE:
                        self.counts.update(tokens.pairs())
                        tokens = _Tokens()
                tokens.add(opcode, fields)
            self.counts.update(tokens.pairs())
            self.counts.update(_met(case))
            self.counts.update((RUN, what, kind) for what, kind in _run_features(case))

    @staticmethod
    def _follow(registers: list[int], fields: Mapping[str, Any]) -> None:
        number, value = fields["register"], fields["value"]
        if fields["operation"] == ControlOp.PARAM_SET:
            registers[number] = value & 0xffffffff
        elif fields["operation"] == ControlOp.PARAM_ADD:
            registers[number] = registers[number] + value & 0xffffffff

    @staticmethod
    def wanted() -> list[Item]:
        """Everything that should occur."""
        return [*((opcode.name.lower(), what, kind) for opcode in COMMANDS
                  for what, kind in _wanted(opcode)),
                *_wanted_pairs(), *((RUN, what, kind) for what, kind in _wanted_runs())]

    def missing(self) -> list[Item]:
        """What should occur and did not."""
        return [item for item in self.wanted() if not self.counts[item]]

    def tables(self) -> list[Table]:
        """A table of each command, and one of the runs around them."""
        tables = []
        for name, items in groupby(self.wanted(), key=lambda item: item[0]):
            title = f"{name}: {self.commands[name]} commands" if name in self.commands else name
            table = Table("what", "how often", title=title, title_justify="left")
            for what, entries in groupby(items, key=lambda item: item[1]):
                table.add_row(what, "   ".join(f"{item[2]}: {self.counts[item]}"
                                                for item in entries))
            tables.append(table)
        return tables
