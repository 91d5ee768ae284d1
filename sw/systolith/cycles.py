"""How many cycles a program takes, predicted from its commands.

Every engine is followed on its own, iteration of semaphores by iteration, and meets the others
only in the semaphores, the command queues and the bus: what happens inside an iteration is a
formula. Losses of arbitration are left out (turns of the semaphores, ports of memories but those of
``conflicts.py``). The constants below are latencies of the hardware, in cycles; tests compare
predictions with the Verilog.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMAND_BYTES, COMMANDS, ONCE, ControlOp, LoadMode, Opcode, ResultType
from systolith_hw.latency import array_latency

from .conflicts import Conflicts
from .groups import beats, group_cycles, group_rows
from .pieces import sequencer_cycles
from .transfers import Bus, RunCosts

__all__ = ["Bus", "predict_cycles", "predict_ends"]

FETCH = 6           # from a command's last word on the bus to the dispatcher's end with it
DISPATCH = 1        # besides a command's words: from there to its end with the next one
ROOM = 2            # the same, from room in a full queue
FENCE = 4           # from the last raise to the end of a fence
CONTROL = 3         # besides doing a control command: until the dispatcher goes on
QUEUE = 4           # besides a command's words: from there (or the one before) to the engine
WALK = 2            # from a command that comes to an idle engine to its first element
ACCEPT = 2          # from there to the next command's turn, at the earliest
TOKEN = 3           # from a raise to the element that waits for it
LOAD = 2            # besides memory's latency: from a run to its first word at the load engine
LOAD_ROOM = 3       # from a burst's last word at the load engine to the next burst in its place
LOAD_RUN = 2        # in a compact core, from a run's last word but one to the next run but one
LOAD_RAISE = 5      # from a word there to the raise
EXECUTE_READ = 1    # from a tile's element to its first row of weights
EXECUTE_RAISE = 5   # besides the array's latency: from the last activation row to the raise
EXECUTE_SUM = 6     # from the read of a row that sums are added to, to the same
VECTOR_READ = 1     # from a group's element to its read
VECTOR_NEXT = 1     # between commands
VECTOR_COMBINE = 9  # from a group's read to its combined number
VECTOR_FOLD = 3     # where the unit folds and reduces
VECTOR_SCALE = {"pipelined": 11, "serial": 26}
VECTOR_FUNCTION = {True: 18, False: 8}  # with a multiplier, and without; and choosing the order
VECTOR_WRITE = 1
VECTOR_SUM = 4      # from a result to its row's sum, and one for each level of the tree of lanes
VECTOR_RAISE = -1   # besides the pipeline: from the last group's read to the raise
STORE_RAISE = 11    # besides memory's latency: from the last row's read to the raise
STORE_ROOM = 1      # the same to the next burst, where no more may be without an answer
STORE_WORD = 4      # in a compact core, from a word's last read to the next word's
FINISH = 5          # from the last raise to done
# What a core that is not compact takes longer, for queues between its parts.
QUEUED_WALK = 1     # besides the walk of all but execute
QUEUED_READ = 1     # besides VECTOR_READ
QUEUED_RAISE = 3    # besides STORE_RAISE

# What a vector command says of all its groups; of these, two are under way at a time.
VECTOR_SETTINGS = tuple(field.name for field in COMMANDS[Opcode.VECTOR].body if not (
    field.name == "counts" or field.name.endswith(("_jumps", "_step"))
    or field.name in ("source_base", "stream_base", "result_base", "param_base", "row_base")))

SLOT_FIELDS = tuple((f"wait{i}_valid", f"wait{i}", f"raise{i}_valid", f"raise{i}", f"level{i}")
                    for i in range(2))


class _Semaphore:
    """When each raise came, and how many of them have been taken."""
    __slots__ = ("raised", "taken")

    def __init__(self):
        self.raised: list[float] = []
        self.taken = 0


@dataclass
class _Slot:
    """One of a command's two slots: iterations of its level, counted in the finest ones."""
    every: int
    wait: _Semaphore | None
    post: _Semaphore | None


class _Stuck(Exception):
    pass


class _Prediction:
    """One run."""

    def __init__(self, config: CoreConfig, bus: Bus):
        self.config = config
        self.bus = bus
        self.semaphores = [_Semaphore() for _ in range(32)]
        self.ready: list[list[float]] = [[], [], [], []]    # command at the engine's queue
        self.accepted: list[list[float]] = [[], [], [], []]
        self.done: list[list[float]] = [[], [], [], []]     # with all that a command raises
        self.fetches: list[float] = []
        self.reads: list[tuple[float, float, float]] = []   # first and last address, last word
        self.asked_before = 0
        self.loaded = 0         # loads done
        self.channel = 0.0      # until when words come
        self.gaps: deque[tuple[float, float]] = deque()     # when none came for loads
        self.counted = 0    # fetches that the loads' words have made way for
        self.costs = RunCosts(config)
        self.sums_after = (array_latency(config.array) + config.array.unpack_latency
                           + (config.array.most_digits > 1) + EXECUTE_RAISE - EXECUTE_SUM)
        self.conflicts = Conflicts(config, self.sums_after)
        self.works: list[list[float]] = [[], [], [], []]    # with all that it reads
        self.end = 0.0
        queued = not config.control.compact
        self.walk = WALK + queued * QUEUED_WALK
        self.group_read = VECTOR_READ + queued * QUEUED_READ
        self.store_raise = STORE_RAISE + queued * QUEUED_RAISE

    # Shared by the engines.

    def slots(self, values: dict, units: Sequence[int], base: int) -> tuple[list[_Slot], int, int]:
        """The slots that act, iterations of the finest level, inner iterations of each.

        ``units`` are the counts of the loops from level ``base`` on.
        """
        total, used = prod(units), []
        for number in range(2):
            wait_valid, wait, post_valid, post, level = SLOT_FIELDS[number]
            wait = values[wait] if values.get(wait_valid) else None
            post = values[post] if values.get(post_valid) else None
            if wait is None and post is None:
                continue
            level = values[level]
            inner = total if level == ONCE else prod(units[:max(0, level - base)])
            used.append((inner, wait, post))
        finest = min((inner for inner, _, _ in used), default=total)
        return [_Slot(inner // finest, None if wait is None else self.semaphores[wait],
                      None if post is None else self.semaphores[post])
                for inner, wait, post in used], total // finest, finest

    def dispatch(self, commands: Sequence[tuple[Opcode, dict]]) -> Iterator[None]:
        """Fetch, and hand every command to its engine's queue."""
        config = self.config
        words = COMMAND_BYTES // config.bus.data_bytes
        depth = config.control.queue_depth
        beats = words / self.bus.words
        asked, arrived, time = 0.0, 0.0, 0.0
        done: list[float] = []
        for number, (opcode, values) in enumerate(commands):
            if number >= config.control.prefetch:
                asked = max(asked + 1, done[number - config.control.prefetch] + 1)
            ready = self.ready[Opcode.LOAD - 1]
            if self.loaded < len(ready) and ready[self.loaded] + words + self.bus.latency < asked:
                yield   # the loads first that ask before
            arrived = max(arrived, asked + self.bus.latency, self.read_until(asked)) + beats
            self.fetches.append(arrived)
            time = max(time + words + DISPATCH, arrived + FETCH)
            if opcode == Opcode.CONTROL:
                time = yield from self.control(values, time)
            else:
                engine = opcode - 1
                accepted, position = self.accepted[engine], len(self.ready[engine])
                if position >= depth:
                    while len(accepted) <= position - depth:
                        yield
                    time = max(time, accepted[position - depth] + words + ROOM)
                self.ready[engine].append(time)
            done.append(time)
        self.end = max(self.end, time)

    def read_until(self, time: float) -> float:
        """When the words of loads that were asked for before ``time`` have come."""
        while self.asked_before + 1 < len(self.reads) and (
                self.reads[self.asked_before + 1][0] <= time):
            self.asked_before += 1
        if not self.reads or self.reads[self.asked_before][0] > time:
            return 0.0
        _, front, end = self.reads[self.asked_before]
        return end if front <= time else min(
            end, time + self.config.bus.read_words / self.bus.words)

    def control(self, values: dict, time: float) -> Generator[None, None, float]:
        """Do a control command; when the dispatcher is done with it."""
        operation = values["operation"]
        if operation == ControlOp.CREDIT:
            raised = self.semaphores[values["register"]].raised
            for i in range(values["value"]):
                raised.append(time + 1 + i)
            return time + values["value"] + CONTROL
        if operation == ControlOp.FENCE:
            for engine in range(4):
                while len(self.accepted[engine]) < len(self.ready[engine]):
                    yield
            return max(time, self.end) + FENCE + CONTROL
        return time + 1 + CONTROL

    def arrival(self, engine: int, number: int) -> Generator[None, None, float]:
        """When an engine sees its command ``number``."""
        ready = self.ready[engine]
        free = (self.done if self.config.control.compact else self.accepted)[engine]
        while len(ready) <= number:
            yield
        time = max(ready[number], free[number - 1]) if number else ready[number]
        return time + COMMAND_BYTES // self.config.bus.data_bytes + QUEUE

    @staticmethod
    def take(slots: Sequence[_Slot], number: int) -> Generator[None, None, float]:
        """Take what iteration ``number`` waits for; when it may begin."""
        time = 0.0
        for slot in slots:
            if slot.wait is not None and number % slot.every == 0:
                semaphore = slot.wait
                while len(semaphore.raised) <= semaphore.taken:
                    yield
                time = max(time, semaphore.raised[semaphore.taken] + TOKEN)
                semaphore.taken += 1
        return time

    @staticmethod
    def post(slots: Sequence[_Slot], number: int, time: float) -> None:
        """Raise, at ``time``, what iteration ``number`` raises at its end."""
        for slot in slots:
            if slot.post is not None and (number + 1) % slot.every == 0:
                slot.post.raised.append(time)

    def finish(self, engine: int, work: float, time: float) -> None:
        """An engine's command has done its work, and later is done."""
        self.works[engine].append(work)
        self.done[engine].append(time)
        self.end = max(self.end, time)

    # Engines.

    def load(self, commands: list[dict]) -> Iterator[None]:
        """Addresses leave at ``front``, words come until ``channel``, rows stand at ``back``."""
        config, bus = self.config, self.bus
        loops = config.control.load_loops
        latency = bus.latency + LOAD
        front = back = 0.0
        accepted = self.accepted[0]
        # With little room a burst is asked for only when words of those before have been taken.
        room, under_way = config.bus.read_words, deque()
        tight = (latency + LOAD_ROOM + config.bus.max_burst) * bus.words > room
        # A compact core has two runs under way, or three of a single piece.
        compact = config.control.compact
        before: deque[float] = deque()
        for position, values in enumerate(commands):
            time = yield from self.arrival(0, position)
            slots, count, inner = self.slots(values, values["counts"][:loops], 0)
            filling = values.get("mode") == LoadMode.FILL
            words, pieces = self.costs.of(values)
            if filling:
                words, pieces = 0, -(-values["run_bytes"] // values["row_bytes"])
            sizes = self.costs.bursts(words)
            accepted.append(max(time + ACCEPT, front))
            front = max(front, time + self.walk)
            before.clear()
            yield   # the dispatcher sees first what that makes room for
            for number in range(count):
                front = max(front, (yield from self.take(slots, number)))
                if filling:
                    back = max(back, front) + inner * pieces
                    front += inner
                elif tight:
                    for i, size in enumerate(sizes * inner):
                        if compact and i % len(sizes) == 0 and len(before) == 2 + (pieces == 1):
                            front = max(front, before.popleft() + LOAD_RUN)
                        while room < size:
                            left, freed = under_way.popleft()
                            front, room = max(front, left + LOAD_ROOM), room + freed
                        start, end = self.read(front + latency, size)
                        back = max(max(back, start) + size * pieces / words, end)
                        room -= size
                        under_way.append((back, size))
                        front += 1 / len(sizes)
                        if compact and (i + 1) % len(sizes) == 0:
                            before.append(back - 1 / bus.words)
                else:
                    left = inner
                    while left:     # a few runs at a time: commands are fetched between them
                        runs = min(left, max(int(2 * config.bus.max_burst // words), 1))
                        if compact:
                            runs = 1
                            if len(before) == 2 + (pieces == 1):
                                front = max(front, before.popleft() + LOAD_RUN)
                        left -= runs
                        first = front
                        start, end = self.read(front + latency, runs * words)
                        back = max(max(back, start) + runs * pieces, end)
                        # Addresses run ahead of rows as far as there is room for words.
                        front = max(front + runs, back - room / bus.words)
                        before.append(back - 1 / bus.words)
                        self.reads.append((first, front, end))
                        if left:
                            yield
                self.post(slots, number, back + LOAD_RAISE)
            self.loaded += 1
            self.finish(0, back, back + LOAD_RAISE)

    def read(self, begin: float, words: float) -> tuple[float, float]:
        """When the first and the last of words that may come from ``begin`` on have come."""
        if begin > self.channel:
            self.gaps.append((self.channel, begin))
            self.channel = begin
        start = self.channel
        self.channel += words / self.bus.words
        # Words of commands that came meanwhile took the channel, where it was not idle.
        needs = COMMAND_BYTES // self.config.bus.data_bytes / self.bus.words
        while self.counted < len(self.fetches) and self.fetches[self.counted] < self.channel:
            until = self.fetches[self.counted]
            while self.gaps and self.gaps[0][1] < until - needs:
                self.gaps.popleft()
            idle = 0.0
            if self.gaps:
                idle = min(until, self.gaps[0][1]) - max(until - needs, self.gaps[0][0])
            self.channel += needs - max(0.0, idle)
            self.counted += 1
        return start, self.channel

    def execute(self, commands: list[dict]) -> Iterator[None]:
        config = self.config
        height, depth = config.array.rows, config.control.execute_loops
        to_sum = self.sums_after + EXECUTE_SUM
        accepted = self.accepted[1]
        weights = rows_end = rows_begin = swap = 0.0
        for position, values in enumerate(commands):
            time = yield from self.arrival(1, position)
            counts = values["counts"][:depth]
            rows = counts[0] * counts[1]
            slots, count, tiles = self.slots(values, counts[2:], 2)
            period = max(rows, height)
            reads = self.conflicts.of_execute(values, count)
            accepted.append(max(time + ACCEPT, weights, rows_begin))
            weights = max(weights, time + WALK + EXECUTE_READ)
            for number in range(count):
                token = yield from self.take(slots, number)
                begin = max(weights, swap, token + EXECUTE_READ)
                weights = begin + height
                swap = max(rows_end, weights)
                if number == 0:
                    rows_begin = swap
                begin = swap
                if tiles > 1:
                    weights = swap + (tiles - 2) * period + height
                    swap += (tiles - 1) * period
                rows_end = swap + rows
                self.conflicts.array_reads(reads, number, begin, rows_end, tiles * rows)
                self.post(slots, number, rows_end + to_sum)
            self.finish(1, rows_end, rows_end + to_sum)

    def vector_latency(self) -> int:
        """Cycles from a group's last read until everything it changes is changed."""
        unit = self.config.vector
        latency = VECTOR_COMBINE + VECTOR_SCALE[unit.requantiser]
        if unit.combines:
            latency += VECTOR_FOLD
        if unit.multiply or unit.functions:
            latency += VECTOR_FUNCTION[unit.multiply]
        of_rows = VECTOR_SUM + unit.lanes.bit_length() - 1 if unit.rows else 0
        return latency + max(of_rows, VECTOR_WRITE + beats(self.config, 4) - 1)

    def vector(self, commands: list[dict]) -> Iterator[None]:
        depth = self.config.control.vector_loops
        to_result = self.vector_latency() + VECTOR_RAISE
        accepted = self.accepted[2]
        kind = self.config.vector.requantiser
        end = free = written = 0.0  # a last group's read, the next one's earliest, its result
        settings = order = None
        leaves = [0.0, 0.0]     # when the pipeline is free of the last two settings
        for position, values in enumerate(commands):
            time = yield from self.arrival(2, position)
            slots, count, groups = self.slots(values, values["counts"][:depth], 0)
            rows, cycles = (of(values, config=self.config) for of in (group_rows, group_cycles))
            accepted.append(max(time + ACCEPT, end - self.group_read + VECTOR_NEXT))
            time = max(time + self.walk + self.group_read, free)
            before, settings = settings, tuple(values.get(name) for name in VECTOR_SETTINGS)
            if settings != before:
                time = max(time, leaves[0] if kind == "pipelined" else written)
                leaves = [leaves[1], 0.0]
            now = (values.get("function_first", 0), values["result_type"] == ResultType.ROW_VALUE)
            if order not in (None, now):
                time = max(time, written)
            order = now
            shares = self.conflicts.of_vector(values, count)
            if shares:  # what the array reads at that time comes first
                seen = None
                while self.conflicts.until <= time and seen != (seen := self._progress()):
                    yield
            for number in range(count):
                token = yield from self.take(slots, number)
                time = max(time, token + self.group_read)
                time = self.conflicts.vector_end(shares, number, time, groups * cycles)
                end = time - cycles + rows
                self.post(slots, number, end + to_result)
            free, written = time + VECTOR_NEXT, end + to_result
            leaves[1] = written
            self.finish(2, end, written)

    def store(self, commands: list[dict]) -> Iterator[None]:
        config, bus = self.config, self.bus
        loops = config.control.load_loops
        accepted, end = self.accepted[3], 0.0
        to_reply = bus.latency + self.store_raise
        # Few bursts may be without an answer; runs have one at least.
        under_way: deque[float] = deque()
        tight = to_reply > config.bus.write_bursts
        for position, values in enumerate(commands):
            time = yield from self.arrival(3, position)
            slots, count, runs = self.slots(values, values["counts"][:loops], 0)
            words, pieces = self.costs.of(values)
            cost = max(words / bus.words, pieces)
            if config.control.compact:
                cost = max(cost, STORE_WORD * words)
            sizes = self.costs.bursts(words)
            accepted.append(max(time + ACCEPT, end))
            time = max(time + self.walk, end)
            for number in range(count):
                time = max(time, (yield from self.take(slots, number)))
                if tight:
                    for size in sizes * runs:
                        if len(under_way) == config.bus.write_bursts:
                            time = max(time, under_way.popleft())
                        time += size * cost / words
                        under_way.append(time + bus.latency + STORE_ROOM)
                else:
                    time += runs * cost
                self.post(slots, number, time + to_reply)
            end = time
            self.finish(3, time, time + to_reply)

    def run(self, program: Sequence[tuple[Opcode, dict]]) -> int:
        own = {opcode: [values for kind, values in program if kind == opcode]
               for opcode in Opcode}
        active = [self.dispatch(program), self.load(own[Opcode.LOAD]),
                  self.execute(own[Opcode.EXECUTE]), self.vector(own[Opcode.VECTOR]),
                  self.store(own[Opcode.STORE])]
        idle = 0
        while active:
            before = self._progress()
            for engine in list(active):
                try:
                    next(engine)
                except StopIteration:
                    active.remove(engine)
            idle = idle + 1 if self._progress() == before else 0
            if idle > 2:
                raise _Stuck
        return round(self.end + FINISH)

    def _progress(self) -> tuple[float, ...]:
        return (*(semaphore.taken for semaphore in self.semaphores),
                *(len(accepted) for accepted in self.accepted), len(self.fetches), self.channel)


def predict_ends(commands: Sequence[tuple[Opcode, dict]], *, config: CoreConfig,
                 bus: Bus | None = None) -> list[int] | None:
    """Cycles from the start bit until each command has done its work, and until done.

    Parameters
    ----------
    commands : sequence of (Opcode, dict)
        As in ``Program.commands``, or ``program.decode_program``.
    config : CoreConfig
    bus : Bus or None
        None: 32 cycles of latency, one word per cycle and channel.

    Returns
    -------
    list of int, or None
        One more than commands; of those of the dispatcher 0. None: the program would never end.
    """
    prediction = _Prediction(config, bus or Bus())
    try:
        cycles = prediction.run(commands)
    except _Stuck:
        return None
    works = [iter(times) for times in prediction.works]
    ends = [0 if opcode == Opcode.CONTROL else round(next(works[opcode - 1]))
            for opcode, _ in commands] + [cycles]
    if config.control.shared:   # one thing at a time
        busy = 0
        for number, command in enumerate(commands):
            busy += sequencer_cycles([command], config)
            ends[number] = max(ends[number], busy)
        ends[-1] = max(ends[-1], busy)
    return ends


def predict_cycles(commands: Sequence[tuple[Opcode, dict]], *, config: CoreConfig,
                   bus: Bus | None = None) -> int | None:
    """Cycles from the start bit to done; as ``predict_ends``."""
    ends = predict_ends(commands, config=config, bus=bus)
    return None if ends is None else ends[-1]
