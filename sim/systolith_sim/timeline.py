"""What the engines did in each cycle, as a file for Perfetto (ui.perfetto.dev) or Chrome.

The format is JSON, as "Trace Event Format" describes it:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
A cycle is one microsecond there, so that times read as cycles.
"""

import json
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from systolith.assembly import disassemble
from systolith.groups import group_rows
from systolith.model.address import loop_offsets, strides_of
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMAND_BYTES, COMMANDS, LoadMode, Opcode
from systolith_hw.observe import PULSES, STATES, TRACKS

from .harness import Observation

__all__ = ["INTERVAL", "LIMIT", "PHASES", "Timeline", "work_of"]

LIMIT = 1_000_000   # changes of state in one file, of up to about 100 bytes each
INTERVAL = 100      # cycles over which bus words and rows are counted: a count is a percentage
PHASES = {"busy": "busy", "wait": "waiting", "stall": "stalled"}   # states as slices
BUS = {"load_words": "loads", "fetch_words": "commands", "store_words": "stores"}
FETCH = TRACKS.index("fetch")

Event = dict[str, Any]
Slice = tuple[int, int, int]    # command, first cycle, cycle after the last


class Timeline:
    """Writes a timeline: program after program, then ``close``.

    There is one track for the programs and one for each of ``TRACKS``. On these a slice is a
    command, ``execute #12``, with its text; slices inside it say what the engine did meanwhile:

    * ``busy``: it made progress, as the core's counter ``execute_busy`` counts;
    * ``waiting``: for a semaphore; ``fetch`` for room in a queue or at a fence;
    * ``stalled``: for the bus, a scratchpad port or an engine behind.

    A command begins when it has come to its engine and the one before has done its work, and ends
    when the next begins or the engine is idle. Work is what ``work_of`` says: a load's is done
    when its last bus word has come, a store's when its last one has gone. A fill moves none; it is
    over when the engine was last busy before the words of the next command came, or when another
    fill comes.

    Parameters
    ----------
    path : path
        File to write.
    config : CoreConfig
        Of the core.

    Raises
    ------
    OSError
        The file cannot be written.

    Attributes
    ----------
    truncated : int or None
        The cycle of the file from which on nothing was recorded, because there were too many
        changes. None: it holds everything.
    """
    def __init__(self, path: str | Path, *, config: CoreConfig):
        self.config = config
        self.truncated: int | None = None
        self._programs = 0
        self._origin: int | None = None
        self._file = open(path, "w")  # closed by `close`
        self._file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
        self._file.write(json.dumps(_metadata("process_name", 0, name=f"core {config.name}")))
        for tid, name in enumerate(("program", *TRACKS)):
            self._write(_metadata("thread_name", tid, name=name))
            self._write(_metadata("thread_sort_index", tid, sort_index=tid))

    def add(self, seen: Observation, records: bytes) -> None:
        """Append what was seen of one program.

        Parameters
        ----------
        seen : Observation
        records : bytes
            The program's commands in memory.
        """
        texts = disassemble(records).splitlines()
        for start, end in zip(seen.starts.tolist(), seen.ends.tolist(), strict=True):
            if self._origin is None:
                self._origin = start
            number, self._programs = self._programs, self._programs + 1
            last = seen.full and end == seen.ends[-1]
            if last:
                self.truncated = end - self._origin
            self._slice(0, f"program {number}", start, end, "program",
                        commands=len(texts), cycles=end - start, complete=not last)
            changes = _between(seen.changes, start, end)
            arrivals = _between(seen.arrivals, start, end)
            for track, name in enumerate(TRACKS):
                own = changes[changes["track"] == track]
                cycles, values = own["cycle"].astype(np.int64), own["value"]
                if track == FETCH:
                    slices = _fetched(cycles, values, end)
                else:
                    here = arrivals[arrivals["track"] == track]
                    slices = _commands(cycles, values, end, here, self.config)
                self._track(name, track + 1, slices, cycles, values, end, texts)
            self._counts(seen.samples, start, end)

    def close(self) -> None:
        """Finish the file."""
        if self._file.closed:
            return
        other = {"core": self.config.name, "fingerprint": f"{self.config.fingerprint:016x}",
                 "cycle": "1 us", "programs": self._programs, "truncated": self.truncated}
        self._file.write(f'\n], "otherData": {json.dumps(other)}}}\n')
        self._file.close()

    def _track(self, name: str, tid: int, slices: Sequence[Slice], cycles: np.ndarray,
               values: np.ndarray, end: int, texts: Sequence[str]) -> None:
        phases = _phases(cycles, values, end)
        phase = next(phases, None)
        for index, first, after in slices:
            text = {"text": texts[index]} if index < len(texts) else {}
            self._slice(tid, f"{name} #{index}", first, after, "command", command=index, **text)
            while phase is not None and phase[1] < after:
                state, begin, stop = phase
                if stop > first:
                    self._slice(tid, PHASES[STATES[state]], max(begin, first), min(stop, after),
                                "state")
                if stop > after:
                    break
                phase = next(phases, None)

    def _counts(self, samples: np.ndarray, start: int, end: int) -> None:
        chosen = samples[(samples[:, 0] >= start) & (samples[:, 0] < end)]
        for first, *counts in [*chosen.tolist(), [end, *([0] * len(PULSES))]]:
            found = dict(zip(PULSES, counts, strict=True))
            self._count(f"bus words in {INTERVAL} cycles", first,
                        {text: found[name] for name, text in BUS.items()})
            self._count(f"array rows in {INTERVAL} cycles", first, {"rows": found["rows"]})

    def _count(self, name: str, cycle: int, values: dict[str, int]) -> None:
        self._write({"ph": "C", "pid": 0, "tid": 0, "name": name, "ts": self._time(cycle),
                     "args": values})

    def _slice(self, tid: int, name: str, first: int, after: int, kind: str, **args: Any) -> None:
        self._write({"ph": "X", "pid": 0, "tid": tid, "name": name, "cat": kind,
                     "ts": self._time(first), "dur": after - first, **({"args": args} if args
                                                                       else {})})

    def _time(self, cycle: int) -> int:
        return cycle - (self._origin or 0)

    def _write(self, event: Event) -> None:
        self._file.write(",\n" + json.dumps(event))


def _metadata(what: str, tid: int, **args: Any) -> Event:
    return {"ph": "M", "pid": 0, "tid": tid, "name": what, "args": args}


def _between(items: np.ndarray, start: int, end: int) -> np.ndarray:
    return items[(items["cycle"] >= start) & (items["cycle"] < end)]


def _phases(cycles: np.ndarray, values: np.ndarray, end: int) -> Iterator[tuple[int, int, int]]:
    """State, first cycle and cycle after the last of everything that is not idle."""
    states = (values & 3).astype(np.int64)
    keep = np.ones(len(states), bool)
    keep[1:] = states[1:] != states[:-1]
    firsts, states = cycles[keep].tolist(), states[keep].tolist()
    for state, first, after in zip(states, firsts, [*firsts[1:], end], strict=True):
        if state:
            yield state, first, after


def _fetched(cycles: np.ndarray, values: np.ndarray, end: int) -> list[Slice]:
    """Slices of the commands that ``fetch`` handed on."""
    slices: list[Slice] = []
    for value, first, after in zip(values.tolist(), cycles.tolist(),
                                   [*cycles[1:].tolist(), end], strict=True):
        if value & 3:
            index = value >> 3
            if slices and slices[-1][0] == index and slices[-1][2] == first:
                first = slices.pop()[1]
            slices.append((index, first, after))
    return slices


def _commands(cycles: np.ndarray, values: np.ndarray, end: int, arrivals: np.ndarray,
              config: CoreConfig) -> list[Slice]:
    """Slices of the commands of an engine."""
    index_field = COMMANDS[Opcode.LOAD].field("index")
    records = [record.tobytes() for record in arrivals["record"]]
    indices = [int.from_bytes(record, "little") >> index_field.bit & (1 << index_field.bits) - 1
               for record in records]
    works = [work_of(record, config) for record in records]
    spans = np.diff(cycles, append=end)
    done = np.cumsum((values >> 2 & 1) * spans)      # work at the end of each span
    idle = cycles[(values & 3) == STATES.index("idle")]
    rests = (cycles + spans)[(values & 3) == STATES.index("busy")]     # the cycles after busy ones

    def done_at(work: int) -> int:
        """The cycle after the one of piece number ``work``, from 1."""
        at = int(np.searchsorted(done, work))
        return end if at == len(done) else int(cycles[at] + spans[at] - (done[at] - work))

    def idle_from(cycle: int) -> int:
        at = int(np.searchsorted(idle, cycle))
        return end if at == len(idle) else int(idle[at])

    begins, total, free = [], 0, 0
    for arrival, work, behind in zip(arrivals["cycle"].tolist(), works, [*works, 1][1:],
                                     strict=True):
        begin = max(arrival, free)
        begins.append(begin)
        if work:
            total += work
            free = done_at(total)
        elif behind:
            latest = min(done_at(total + 1) - 1, idle_from(begin))
            at = int(np.searchsorted(rests, latest, side="right"))
            free = max(begin + 1, int(rests[at - 1]) if at else 0)
        else:
            free = begin + 1
    return [(index, first, min(after, idle_from(first)))
            for index, first, after in zip(indices, begins, [*begins, end][1:], strict=True)
            if first < min(after, idle_from(first))]


def work_of(record: bytes, config: CoreConfig) -> int:
    """Pieces of work of a command, as ``observe.WORK`` counts them.

    Bus words of loads and stores, 0 for fills; rows of execute, rows of lane groups of vector
    commands.

    Parameters
    ----------
    record : bytes
        The command as it comes to its engine.
    config : CoreConfig
    """
    opcode = Opcode(record[0])
    fields: dict[str, Any] = dict(COMMANDS[opcode].decode(record[:COMMAND_BYTES]))
    counts = fields["counts"]
    if opcode == Opcode.EXECUTE:
        return prod(counts[:config.control.execute_loops])
    if opcode == Opcode.VECTOR:
        return prod(counts) * group_rows(fields, config=config)
    if opcode == Opcode.LOAD and fields["mode"] == LoadMode.FILL:
        return 0
    size = config.bus.data_bytes
    first = fields["memory_base"] + loop_offsets(counts, strides_of(counts, fields["memory_jumps"]))
    return int(((first + fields["run_bytes"] - 1) // size - first // size + 1).sum())
