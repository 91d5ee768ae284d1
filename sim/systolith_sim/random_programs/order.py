"""Semaphores between random commands, so that the result does not depend on who is faster."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, COUNTS_BYTE, PRIMARY_BYTE, ControlOp, Opcode
from systolith_hw.legal import COUNT_SLOTS

from .commands import footprint
from .steps import Access, Step, levels_of, units_of

__all__ = ["Control", "Ordered", "encode", "order"]

LIMIT = 15      # of a semaphore
ENGINES = (Opcode.LOAD, Opcode.EXECUTE, Opcode.VECTOR, Opcode.STORE)
DISPATCHER = Opcode.CONTROL
# Of a control command's value.
VALUE_SLOT = (COMMANDS[Opcode.CONTROL].field("value").byte - COUNTS_BYTE) // 2

Clock = dict[Opcode, int]   # commands of each engine that are known to be complete


@dataclass(frozen=True)
class Control:
    """A command for the dispatcher."""
    operation: ControlOp
    register: int = 0
    value: int = 0


@dataclass
class Ordered:
    """A command with its semaphores.

    Parameters
    ----------
    step : Step
    touched : list of Access
    position : int
        Among the commands of its engine.
    start, end : dict of Opcode to int
        Commands of each engine, its own among them, whose writes have landed when it starts, and
        when its last iteration does.
    levels, waits, raises : list
        Of the two slots; None where unused.
    """
    step: Step
    touched: list[Access]
    position: int
    start: Clock
    end: Clock
    levels: list[int | None] = field(default_factory=lambda: [None, None])
    waits: list[int | None] = field(default_factory=lambda: [None, None])
    raises: list[int | None] = field(default_factory=lambda: [None, None])

    @property
    def engine(self) -> Opcode:
        return self.step.opcode

    def conflicts(self, other: "Ordered") -> Iterator[tuple[Access, Access]]:
        """What of this command must come before what of ``other``, a later one.

        An engine works in order, but may read before what it wrote lately has landed.
        """
        for ours in self.touched:
            for theirs in other.touched:
                if self.engine == other.engine and not (ours.write and not theirs.write):
                    continue
                if ours.meets(theirs):
                    yield ours, theirs


@dataclass
class _Semaphore:
    """Who raises and waits: (position of the command, times)."""
    raiser: Opcode
    waiter: Opcode
    raised: list[tuple[int, int]] = field(default_factory=list)
    waited: list[tuple[int, int]] = field(default_factory=list)
    dead: bool = False      # holds more than is waited for


@dataclass(frozen=True)
class _Edge:
    """``times`` raises by ``producer`` for ``times`` waits of the command being placed."""
    producer: Ordered
    producer_slot: int
    producer_level: int
    slot: int
    level: int
    number: int
    times: int


class _Orderer:
    def __init__(self, config: CoreConfig, seed: int):
        self.config = config
        self.choice = random.Random(seed)
        self.placed: dict[Opcode, list[Ordered]] = {engine: [] for engine in ENGINES}
        self.items: list[Ordered | Control] = []
        self.fenced: Clock = dict.fromkeys(ENGINES, 0)
        self.semaphores: dict[int, _Semaphore] = {}

    def add(self, step: Step) -> None:
        """Place a command behind all that it depends on."""
        choice = random.Random(step.seed)
        if choice.random() < 0.04:
            self._fence()
        touched = footprint(step, self.config)
        assert touched is not None
        while True:
            behind = self.placed[step.opcode]
            start = dict(self.fenced)
            if behind:
                _join(start, behind[-1].end)
            command = Ordered(step, touched, len(behind), start, dict(start))
            edges = self._needed(command, choice)
            if edges is not None:
                break
            self._fence()
        self._extra(command, choice, edges)
        self.placed[step.opcode].append(command)
        before, after = self._credits(command, choice)
        self.items += [*before, command, *after]
        if choice.random() < 0.02:
            self.items.append(Control(ControlOp.INTERRUPT))

    def _fence(self) -> None:
        self.items.append(Control(ControlOp.FENCE))
        self.fenced = {engine: len(commands) for engine, commands in self.placed.items()}
        self.semaphores = {n: s for n, s in self.semaphores.items() if s.dead}

    def _needed(self, command: Ordered, choice: random.Random) -> list[_Edge] | None:
        """Edges to the last command of each engine that ``command`` must come after; None:
        impossible."""
        edges: list[_Edge] = []
        for engine in choice.sample(ENGINES, len(ENGINES)):
            known = command.start[engine]
            last = next((other for other in reversed(self.placed[engine][known:])
                         if any(other.conflicts(command))), None)
            if last is None:
                continue
            edge = self._edge(engine, last, command, edges, choice)
            if edge is None:
                return None
            edges.append(edge)
            self._learn(command, edge)
        for edge in edges:
            self._commit(command, edge)
        return edges

    def _extra(self, command: Ordered, choice: random.Random, edges: list[_Edge]) -> None:
        """Perhaps wait for what need not be waited for."""
        while None in command.waits and choice.random() < 0.3:
            engine = choice.choice(ENGINES)
            edge = self._edge(engine, None, command, edges, choice)
            if edge is None:
                return
            edges.append(edge)
            self._learn(command, edge)
            self._commit(command, edge)

    def _edge(self, engine: Opcode, last: Ordered | None, command: Ordered, edges: list[_Edge],
              choice: random.Random) -> _Edge | None:
        """A way for ``command`` to wait for ``last``, or for whatever ``engine`` did of late."""
        taken = {edge.slot for edge in edges}
        slots = [slot for slot in (0, 1) if command.waits[slot] is None and slot not in taken]
        if not slots:
            return None
        others = self.placed[engine]
        first = last.position if last is not None else len(others) - 3
        candidates = others[max(first, self.fenced[engine]):]  # numbers have changed at a fence
        for producer in choice.sample(candidates, len(candidates)):
            options = []
            for slot in (0, 1):
                if producer.raises[slot] is None:
                    level = producer.levels[slot]
                    for own in levels_of(producer.step) if level is None else [level]:
                        options += [(slot, own, theirs, units_of(producer.step, own))
                                    for theirs in levels_of(command.step)
                                    if units_of(producer.step, own) == units_of(command.step,
                                                                                theirs) <= LIMIT]
            choice.shuffle(options)
            if choice.random() < 0.8:
                options.sort(key=lambda option: option[3] == 1)  # iterations before commands
            for producer_slot, own, theirs, times in options:
                if (times > 1 and producer is last
                        and not _in_step(producer, own, command, theirs)):
                    continue
                number = self._number(producer, command, times, edges, choice)
                if number is not None:
                    return _Edge(producer, producer_slot, own, choice.choice(slots), theirs,
                                 number, times)
        return None

    def _number(self, producer: Ordered, command: Ordered, times: int, edges: list[_Edge],
                choice: random.Random) -> int | None:
        """A semaphore that cannot pass its limit when ``producer`` raises it ``times`` more."""
        taken = {edge.number for edge in edges}
        good = []
        for number, semaphore in self.semaphores.items():
            if (semaphore.dead or number in taken or semaphore.raiser != producer.engine
                    or semaphore.waiter != command.engine
                    or semaphore.raised and semaphore.raised[-1][0] >= producer.position):
                continue
            total = times + sum(n for _, n in semaphore.raised)
            complete = (producer.position if producer.engine == command.engine
                        else producer.start[command.engine])
            total -= sum(n for position, n in semaphore.waited if position < complete)
            if total <= LIMIT:
                good.append(number)
        free = [n for n in range(self.config.control.semaphores)
                if n not in self.semaphores and n not in taken]
        if free and (not good or choice.random() < 0.2):
            return choice.choice(free)
        return choice.choice(good) if good else None

    def _learn(self, command: Ordered, edge: _Edge) -> None:
        """What ``command`` knows to be complete because of ``edge``."""
        producer = edge.producer
        once = edge.times == 1
        for clock, source, whole in ((command.end, producer.end, True),
                                     (command.start, producer.end if once else producer.start,
                                      once)):
            _join(clock, source)
            clock[producer.engine] = max(clock[producer.engine], producer.position + whole)

    def _commit(self, command: Ordered, edge: _Edge) -> None:
        producer = edge.producer
        semaphore = self.semaphores.setdefault(
            edge.number, _Semaphore(producer.engine, command.engine))
        semaphore.raised.append((producer.position, edge.times))
        semaphore.waited.append((command.position, edge.times))
        producer.raises[edge.producer_slot] = edge.number
        producer.levels[edge.producer_slot] = edge.producer_level
        command.waits[edge.slot] = edge.number
        command.levels[edge.slot] = edge.level

    def _credits(self, command: Ordered, choice: random.Random) -> tuple[list[Control],
                                                                         list[Control]]:
        """Perhaps a semaphore that no other engine has to do with; what comes before and after."""
        slots = [slot for slot in (0, 1) if command.levels[slot] is None]
        free = [n for n in range(self.config.control.semaphores) if n not in self.semaphores]
        if not slots or len(free) < 3 or choice.random() > 0.4:
            return [], []
        slot, number = choice.choice(slots), choice.choice(free)
        kind = choice.choice(["never waited for", "own iteration before", "dispatcher"])
        levels = levels_of(command.step)    # once, then the innermost
        level = choice.choice([*levels, *levels[1:2] * 3] if kind == "own iteration before" else
                              [level for level in levels
                               if units_of(command.step, level) <= LIMIT])
        times = units_of(command.step, level)
        self.semaphores[number] = _Semaphore(DISPATCHER, command.engine, dead=True)
        command.levels[slot] = level
        if kind == "never waited for":
            command.raises[slot] = number
            return [], []
        command.waits[slot] = number
        if kind == "own iteration before":
            command.raises[slot] = number
            return [Control(ControlOp.CREDIT, number, choice.randint(1, 3))], []
        first = choice.randint(0, times)
        parts = [Control(ControlOp.CREDIT, number, part) for part in (first, times - first)
                 if part]
        cut = choice.randint(0, len(parts))
        return parts[:cut], parts[cut:]


def _join(clock: Clock, other: Clock) -> None:
    for engine, count in other.items():
        clock[engine] = max(clock.get(engine, 0), count)


def _in_step(producer: Ordered, producer_level: int, command: Ordered, level: int) -> bool:
    """Whether no iteration of ``command`` meets a later one of ``producer``."""
    for theirs, ours in producer.conflicts(command):
        last = np.full(max(int(theirs.places.max()), int(ours.places.max())) + 1, -1)
        last[theirs.places.reshape(-1)] = theirs.iterations(units_of(producer.step,
                                                                     producer_level))
        if (last[ours.places.reshape(-1)] > ours.iterations(units_of(command.step, level))).any():
            return False
    return True


def order(steps: Sequence[Step], config: CoreConfig, seed: int, *,
          shuffled: bool) -> list[Ordered | Control]:
    """The commands with semaphores, and those the dispatcher does.

    Parameters
    ----------
    shuffled : bool
        Commands of different engines change places, so that some come before what they wait for.
        Queues may then be too short.
    """
    orderer = _Orderer(config, seed)
    for step in steps:
        orderer.add(step)
    items = orderer.items
    if shuffled:
        choice = random.Random(seed)
        for _ in range(2 * len(items)):
            i = choice.randrange(max(1, len(items) - 1))
            pair = items[i:i + 2]
            if (len(pair) == 2 and not any(isinstance(item, Control) for item in pair)
                    and pair[0].engine != pair[1].engine):  # type: ignore[union-attr]
                items[i:i + 2] = pair[::-1]
    return items


# Bytes

def _record(item: Ordered) -> bytes:
    values = item.step.values()
    for slot in (0, 1):
        if item.levels[slot] is not None:
            values[f"level{slot}"] = item.levels[slot]
        for name, numbers in (("wait", item.waits), ("raise", item.raises)):
            number = numbers[slot]
            if number is not None:
                values[f"{name}{slot}"] = number
                values[f"{name}{slot}_valid"] = 1
    return COMMANDS[item.engine].encode(values)


def encode(items: Sequence[Ordered | Control], config: CoreConfig,
           seed: int) -> tuple[list[bytes], dict[int, int]]:
    """Records, with parameter registers in some of them, and what these hold at the start."""
    choice = random.Random(seed)
    count = config.control.params
    params = {i: choice.getrandbits(32) for i in range(1, count)}
    registers = [0, *params.values()]
    records: list[bytes] = []
    for item in items:
        record = (_control(item.operation, item.register, item.value)
                  if isinstance(item, Control) else _record(item))
        address = counting = slot = 0
        if choice.random() < 0.15:
            address = choice.randrange(1, count)
            if choice.random() < 0.5:
                records.append(_change(registers, address, choice))
        free = [i for i in range(1, count) if i != address]
        if free and choice.random() < 0.15:
            counting, slot = choice.choice(free), choice.randrange(COUNT_SLOTS)
            registers[counting] = _half(record, slot) | choice.getrandbits(16) << 16
            records.append(_control(ControlOp.PARAM_SET, counting, registers[counting]))
        records.append(_through_registers(record, registers, choice, address, counting, slot))
    return records, params


def _half(record: bytes, slot: int) -> int:
    """What the record has in a 16-bit slot that a register may replace."""
    start = COUNTS_BYTE + 2 * slot
    return int.from_bytes(record[start:start + 2], "little")


def _through_registers(record: bytes, registers: Sequence[int], choice: random.Random, address: int,
                       counting: int, slot: int) -> bytes:
    """The record that becomes ``record`` when registers ``address`` and ``counting`` (0: none,
    otherwise one that holds what ``record`` has in ``slot``) are applied."""
    changed = bytearray(record)
    changed[3] = address | counting << 4
    primary = int.from_bytes(record[PRIMARY_BYTE:PRIMARY_BYTE + 4], "little")
    changed[PRIMARY_BYTE:PRIMARY_BYTE + 4] = (
        primary - registers[address] & 0xffffffff).to_bytes(4, "little")
    if counting:
        start = COUNTS_BYTE + 2 * slot
        changed[10] = slot
        changed[start:start + 2] = choice.randbytes(2)
    return bytes(changed)


def _change(registers: list[int], register: int, choice: random.Random) -> bytes:
    """A command that sets ``register`` or adds to it, sometimes what another one holds."""
    operation = choice.choice([ControlOp.PARAM_SET, ControlOp.PARAM_ADD])
    value = choice.getrandbits(32)
    source = choice.choice([0, 0, 0, choice.randrange(len(registers))])
    if source:
        value = value & 0xffff0000 | registers[source] & 0xffff
    record = _through_registers(_control(operation, register, value), registers, choice, 0, source,
                                VALUE_SLOT)
    start = registers[register] if operation == ControlOp.PARAM_ADD else 0
    registers[register] = start + value & 0xffffffff
    return record


def _control(operation: ControlOp, register: int, value: int) -> bytes:
    signed = value - (1 << 32) if value >> 31 else value
    return COMMANDS[Opcode.CONTROL].encode(
        {"operation": operation, "register": register, "value": signed})
