"""Semaphores for a program whose commands were written one after the other.

Engines run side by side. A command must wait for those of other engines before it in the program
that write what it reads or writes, or read what it writes; that is known from their addresses, row
by row. Each engine runs its commands in order, so that a semaphore for each pair of engines, raised
when a command ends and waited for when another begins, says all of it: the third raise the third
wait was placed for.

What a command knows to have ended is a vector clock (Fidge 1988, Mattern 1989): a wait that follows
from others is left out.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ElementType, Memory, Opcode

from ..program import Program, Slot
from ..vector.commands import NOTHING
from .hazards import sizes, touched

__all__ = ["ordered"]

LIMIT = 15      # of a semaphore
SLOTS = 2
ENGINES = (Opcode.LOAD, Opcode.EXECUTE, Opcode.VECTOR, Opcode.STORE)
GROUP = 8       # waits that become one where a semaphore could pass the limit
ROUNDS = 100    # in which semaphores that could pass the limit are mended


def ordered(draft: Program, *, memory_bytes: int, spare_row: int) -> tuple[Program, list[int]]:
    """The program whose engines do side by side what ``draft`` says one after the other, and of
    each of its commands which of ``draft`` it is, or stands in front of only to wait.

    Parameters
    ----------
    draft : Program
        Of commands without semaphores, none of them for the dispatcher.
    memory_bytes : int
        System memory that they address.
    spare_row : int
        A row of the activation scratchpad that holds nothing.

    Raises
    ------
    ValueError
        The core has fewer semaphores than pairs of engines that meet.
    """
    try:
        return _Order(draft, memory_bytes, interleaved=True).program(spare_row)
    except ValueError:      # too few slots for what is moved
        return _Order(draft, memory_bytes, interleaved=False).program(spare_row)


@dataclass(eq=False)
class _Command:
    """A command, its number in the draft, its engine and number among that engine's commands, for
    each engine the last command that it must follow and those that it is known to follow when it
    begins, what it waits for, and which engines wait for it."""
    opcode: Opcode
    values: dict
    origin: int
    engine: int
    number: int
    needs: np.ndarray
    clock: np.ndarray = field(default_factory=lambda: np.full(len(ENGINES), -1))
    waits: dict[int, int] = field(default_factory=dict)
    posts: list[int] = field(default_factory=list)

    @property
    def ended(self) -> np.ndarray:
        """What is known to have ended when it has."""
        found = self.clock.copy()
        found[self.engine] = self.number
        return found


class _Order:
    def __init__(self, draft: Program, memory_bytes: int, *, interleaved: bool):
        self.config: CoreConfig = draft.config
        self.commands: list[_Command] = []
        self.of: list[list[_Command]] = [[] for _ in ENGINES]
        self.place: dict[tuple[int, int], int] = {}
        rows = sizes(self.config, memory_bytes)
        self.written = {name: np.full((len(ENGINES), count), -1) for name, count in rows.items()}
        self.read = {name: np.full((len(ENGINES), count), -1) for name, count in rows.items()}
        for opcode, values in draft.commands:
            self._add(opcode, values)
        if interleaved:
            self._interleave()
        for position, command in enumerate(self.commands):
            self.place[command.engine, command.number] = position

    def _add(self, opcode: Opcode, values: dict) -> None:
        engine = ENGINES.index(opcode)
        fields = COMMANDS[opcode].decode(COMMANDS[opcode].encode(values))
        reads, writes = touched(opcode, fields, self.config)
        needs = np.full(len(ENGINES), -1)
        for name, rows in reads:
            needs = np.maximum(needs, self.written[name][:, rows].max(axis=1))
        # An engine reads before it writes, and writes in order.
        own = needs[engine] if opcode == Opcode.VECTOR else -1
        for name, rows in writes:
            for seen in (self.written, self.read):
                needs = np.maximum(needs, seen[name][:, rows].max(axis=1))
        needs[engine] = own
        number = len(self.of[engine])
        for seen, places in ((self.read, reads), (self.written, writes)):
            for name, rows in places:
                seen[name][engine, rows] = number
        command = _Command(opcode, values, len(self.commands), engine, number, needs)
        self.commands.append(command)
        self.of[engine].append(command)

    def _interleave(self) -> None:
        """Have what the array does next, with its loads, before what the vector unit does, as far
        as that needs none of it.

        Commands reach their engines in the program's order. A vector command that waits for sums
        must not keep the next weights waiting once the vector unit's queue is full.
        """
        ranks, turn, before = [], 0, None
        for position, command in enumerate(self.commands):
            vector = command.opcode == Opcode.VECTOR
            turn += before == Opcode.VECTOR and not vector
            ranks.append((turn + vector, vector, position))
            before = command.opcode
        queues = [deque((rank, command) for rank, command in zip(
            ranks, self.commands, strict=True) if command.engine == e) for e in range(len(ENGINES))]
        done = np.full(len(ENGINES), -1)
        merged: list[_Command] = []
        while len(merged) < len(ranks):
            queue = min((queue for queue in queues if queue and (queue[0][1].needs <= done).all()),
                        key=lambda queue: queue[0][0])
            _, command = queue.popleft()
            done[command.engine] = command.number
            merged.append(command)
        self.commands = merged

    # Who waits for whom.

    def _plan(self) -> None:
        for command in self.commands:
            command.posts = []
        for position, command in enumerate(self.commands):
            before = self.of[command.engine][command.number - 1] if command.number else None
            clock = before.clock.copy() if before else np.full(len(ENGINES), -1)
            wanted = {int(e): int(command.needs[e]) for e in np.flatnonzero(command.needs > clock)}
            ends = {e: self.of[e][number].ended for e, number in wanted.items()}
            command.waits = {}
            for e, number in wanted.items():
                if any(ends[other][e] >= number for other in wanted if other != e):
                    continue
                number = self._poster(e, number, command.engine, position)
                command.waits[e] = number
                self.of[e][number].posts.append(command.engine)
            for e, number in command.waits.items():
                clock = np.maximum(clock, self.of[e][number].ended)
            command.clock = clock

    def _poster(self, engine: int, number: int, waiter: int, position: int) -> int:
        """The first command of ``engine`` from ``number`` on with a slot free to raise for
        ``waiter``."""
        while len(self.of[engine][number].posts) == SLOTS:
            number += 1
            if self.place.get((engine, number), position) >= position:
                raise ValueError(f"commands of the {ENGINES[engine].name.lower()} engine must be "
                                 f"waited for by at most {SLOTS} engines, not one more at "
                                 f"command {position}")
        return number

    def position(self, command: _Command) -> int:
        """Place of a command in the program."""
        return self.place[command.engine, command.number]

    def _mend(self) -> bool:
        """Whether no semaphore can pass its limit; otherwise more must be waited for."""
        good = True
        for raiser in range(len(ENGINES)):
            for waiter in range(len(ENGINES)):
                tokens = [(command.waits[raiser], command) for command in self.of[waiter]
                          if raiser in command.waits]
                for place, (_, taker) in enumerate(tokens[:-LIMIT]):
                    raising = self.of[raiser][tokens[place + LIMIT][0]]
                    if raising.clock[waiter] >= taker.number:
                        continue
                    good = False
                    if self.position(taker) < self.position(raising):
                        raising.needs[waiter] = max(raising.needs[waiter], taker.number)
                    else:   # several wait for the last of what they wait for together
                        last = tokens[place // GROUP * GROUP + GROUP - 1][0]
                        taker.needs[raiser] = max(taker.needs[raiser], last)
        return good

    # Commands.

    def program(self, spare_row: int) -> tuple[Program, list[int]]:
        for _ in range(ROUNDS):
            self._plan()
            if self._mend():
                break
        else:
            raise ValueError(f"semaphores must stay within {LIMIT} for this program, not pass it")
        program = Program(config=self.config)
        origins: list[int] = []
        for command in self.commands:
            me = command.engine
            waits = [_name(e, me) for e in sorted(command.waits, key=_first)]
            while len(waits) > SLOTS:
                self._wait(program, command, waits[:SLOTS], spare_row)
                waits = waits[SLOTS:]
            posts = [_name(me, e) for e in command.posts]
            slots = [Slot(wait=waits[i] if i < len(waits) else None,
                          post=posts[i] if i < len(posts) else None)
                     for i in range(max(len(waits), len(posts)))]
            program.append(command.opcode, slots, dict(command.values))
            origins += [command.origin] * (len(program) - len(origins))
        return program, origins

    def _wait(self, program: Program, command: _Command, waits: Iterable[str],
              spare_row: int) -> None:
        """Append a command that only waits, in front of ``command``."""
        slots = [Slot(wait=name) for name in waits]
        if command.opcode == Opcode.LOAD:
            program.fill(memory=Memory.ACT, value=0, run_bytes=1, row=spare_row, slots=slots)
            return
        if self.config.vector.rows:
            what = {"source_type": ElementType.ROW_VALUE}
        else:
            what = {name: command.values[name] for name in ("source_type", "source_base")
                    if name in command.values}
        program.append(Opcode.VECTOR, slots, {"counts": [1], **NOTHING, **what})


def _first(engine: int) -> bool:
    """What is waited for first: those who write what a vector command reads."""
    return ENGINES[engine] == Opcode.STORE


def _name(raiser: int, waiter: int) -> str:
    return f"{ENGINES[raiser].name.lower()} to {ENGINES[waiter].name.lower()}"
