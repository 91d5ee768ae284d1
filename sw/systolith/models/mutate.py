"""Model files with random damage: each must be a graph, or be refused in one sentence.

``python -m systolith.models.mutate MODEL... --count 10000 --jobs 2`` reads mutations of the files
in a pool of processes, each case within a limit of time and of memory. A case is a file and a seed,
and the same each time; ``--seed N --count 1`` repeats one. Ends with 1 where a process died, did
not end, took more memory, or a reader raised anything but a ``ValueError`` of one line.
"""

import argparse
import multiprocessing
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .graph import Graph
from .read import READERS

__all__ = ["Outcome", "case", "main", "mutated", "mutations"]

SECONDS = 20
MEMORY_BYTES = 2 << 30
WORDS = (0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff)
NUMBERS = (-(1 << 63), -(1 << 31), -1, 0, 1, 2, 3, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 40,
           (1 << 63) - 1)
ENDS = 4096         # bytes at either end of a file that are damaged more often


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a case.

    Parameters
    ----------
    seed : int
    kind : str
        ``graph``, ``refused``, or what must not be: ``exception``, ``memory``, ``time``, ``died``.
    text : str
        The sentence, or what else there is to say.
    """
    seed: int
    kind: str
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether it is what a damaged file may come to."""
        return self.kind in ("graph", "refused")


# Damage.

def mutated(data: bytes, suffix: str, seed: int) -> bytes:
    """A damaged copy of a model file; the same arguments give the same bytes.

    Bytes, words and stretches of any file; of ONNX files also the values of fields, since what
    changes lengths is mostly no message any more.
    """
    choice = random.Random(seed)
    if suffix == ".onnx" and choice.random() < 0.6:
        return _fields_changed(data, choice)
    found = bytearray(data)
    for _ in range(choice.choice((1, 1, 2, 4, 12))):
        _damage(found, choice)
    return bytes(found)


def _place(data: bytearray, choice: random.Random) -> int:
    """A byte; at either end of the file more often, where lengths and names lie."""
    end = min(ENDS, len(data))
    return choice.choice((choice.randrange(len(data)), choice.randrange(end),
                          len(data) - 1 - choice.randrange(end)))


def _damage(data: bytearray, choice: random.Random) -> None:
    if not data:
        return
    place = _place(data, choice)
    kind = choice.choice(("bit", "bit", "byte", "byte", "word", "word", "cut", "copy", "end"))
    if kind == "bit":
        data[place] ^= 1 << choice.randrange(8)
    elif kind == "byte":
        data[place] = choice.choice((0, 1, 0x7f, 0x80, 0xff, choice.randrange(256)))
    elif kind == "word":
        place &= ~3
        data[place:place + 4] = struct.pack("<I", choice.choice(
            (*WORDS, len(data), choice.randrange(1 << 32))))
    elif kind == "cut":
        del data[place:place + choice.choice((1, 4, 64))]
    elif kind == "copy":
        other = _place(data, choice)
        size = choice.choice((1, 4, 16, 256))
        data[place:place + size] = data[other:other + size]
    else:
        del data[place:]


def _fields_changed(data: bytes, choice: random.Random) -> bytes:
    """An ONNX model some of whose fields have other values."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    for _ in range(choice.choice((1, 1, 2, 4))):
        places = list(_places(model))
        message, descriptor = choice.choice(places)
        _change(message, descriptor, choice, places)
    return model.SerializeToString()


def _places(message: Any) -> Iterator[tuple[Any, Any]]:
    """Fields that are set, in the order of the file; numbers of constants only as one."""
    for descriptor, value in message.ListFields():
        yield message, descriptor
        if descriptor.message_type is None:
            continue
        for inner in value if descriptor.is_repeated else (value,):
            yield from _places(inner)


def _change(message: Any, descriptor: Any, choice: random.Random,
            places: Sequence[tuple[Any, Any]]) -> None:
    name = descriptor.name
    if descriptor.message_type is not None or choice.random() < 0.1:
        if not descriptor.is_repeated:
            message.ClearField(name)
            return
        values = getattr(message, name)
        if not values:
            return
        index = choice.randrange(len(values))
        if descriptor.message_type is not None and choice.random() < 0.5:
            values.append(values[index])
        else:
            del values[index]
        return
    made = _value(descriptor, choice, places)
    if not descriptor.is_repeated:
        setattr(message, name, made)
        return
    values = getattr(message, name)
    if values and choice.random() < 0.7:
        values[choice.randrange(len(values))] = made
    else:
        values.append(made)


def _value(descriptor: Any, choice: random.Random, places: Sequence[tuple[Any, Any]]) -> Any:
    """Another value of a field, for texts also that of another field."""
    kinds = type(descriptor)
    if descriptor.cpp_type in (kinds.CPPTYPE_FLOAT, kinds.CPPTYPE_DOUBLE):
        return choice.choice((0.0, -1.0, 1e-30, 1e30, float("inf"), float("nan")))
    if descriptor.cpp_type == kinds.CPPTYPE_ENUM:
        return choice.choice([value.number for value in descriptor.enum_type.values])
    if descriptor.type == kinds.TYPE_BYTES:
        return choice.choice((b"", b"\xff", choice.randbytes(7), b"x" * 4096))
    if descriptor.cpp_type == kinds.CPPTYPE_STRING:
        others = [each for each in places if each[1].type == kinds.TYPE_STRING]
        message, other = choice.choice(others)      # this one at least
        found = getattr(message, other.name)
        return choice.choice(("", "?", found if isinstance(found, str) else choice.choice(
            list(found) or [""])))
    wide = descriptor.cpp_type == kinds.CPPTYPE_INT64
    return choice.choice([number for number in NUMBERS
                          if wide or -(1 << 31) <= number < 1 << 31])


# Cases.

def case(path: Path, data: bytes, seed: int, preset: str | None = None) -> Outcome:
    """Read a damaged copy of a file, and with ``preset`` compile what is read."""
    suffix = path.suffix.lower()
    try:
        graph = READERS[suffix](mutated(data, suffix, seed), path.name)
        if preset is not None and isinstance(graph, Graph):
            from ..compiler.compile import compile_model

            compile_model(graph, preset=preset)
        return Outcome(seed=seed, kind="graph")
    except ValueError as error:
        kind = "refused" if str(error) and "\n" not in str(error) else "exception"
        return Outcome(seed=seed, kind=kind, text=str(error))
    except MemoryError as error:
        return Outcome(seed=seed, kind="memory", text=str(error))
    except Exception as error:
        return Outcome(seed=seed, kind="exception", text=f"{type(error).__name__}: {error}")


def _work(pipe: Connection, paths: Sequence[Path], memory_bytes: int, preset: str | None) -> None:
    """Do the cases whose seeds come through a pipe."""
    files = [(path, path.read_bytes()) for path in paths]
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    while (seed := pipe.recv()) is not None:
        path, data = files[seed % len(files)]
        pipe.send(case(path, data, seed, preset))


@dataclass
class _Worker:
    """A process, the seed it works on and until when."""
    paths: Sequence[Path]
    memory_bytes: int
    preset: str | None
    seed: int = -1
    until: float = 0.0
    process: Any = field(init=False, default=None)
    pipe: Any = field(init=False, default=None)

    def start(self) -> None:
        """Begin a new process."""
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=_work, daemon=True, args=(
            far, self.paths, self.memory_bytes, self.preset))
        self.process.start()
        far.close()

    def give(self, seed: int, seconds: float) -> None:
        """Begin a case."""
        self.seed, self.until = seed, time.monotonic() + seconds
        self.pipe.send(seed)

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def mutations(paths: Sequence[Path], seeds: Sequence[int], *, jobs: int = 2,
              seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES,
              preset: str | None = None) -> Iterator[Outcome]:
    """What comes of each case, as they end.

    Parameters
    ----------
    paths : sequence of Path
        Case n damages the file at place n modulo their number.
    seeds : sequence of int
        Numbers of the cases.
    jobs : int
        Processes.
    seconds : float
        A case may take; the first of a process that much more, for imports.
    memory_bytes : int
        A process may address.
    preset : str or None
        Core to compile for what could be read.
    """
    waiting = iter(seeds)
    workers: list[_Worker] = []
    for seed in islice(waiting, jobs):
        worker = _Worker(paths, memory_bytes, preset)
        worker.start()
        worker.give(seed, 2 * seconds)
        workers.append(worker)
    while workers:
        left = min(worker.until for worker in workers) - time.monotonic()
        ready = wait([worker.pipe for worker in workers], timeout=max(0.0, left))
        for worker in list(workers):
            fresh = False
            if worker.pipe in ready:
                try:
                    yield worker.pipe.recv()
                except EOFError:
                    worker.process.join()
                    yield Outcome(seed=worker.seed, kind="died",
                                  text=f"exit code {worker.process.exitcode}")
                    fresh = True
            elif time.monotonic() > worker.until:
                yield Outcome(seed=worker.seed, kind="time", text=f"more than {seconds:g} s")
                fresh = True
            else:
                continue
            if fresh:
                worker.stop()
                worker.start()
            seed = next(waiting, None)
            if seed is None:
                worker.stop()
                workers.remove(worker)
            else:
                worker.give(seed, seconds * (1 + fresh))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m systolith.models.mutate", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL",
                        help=f"files that end in {', '.join(READERS)}")
    parser.add_argument("--count", type=int, default=10_000, help="cases (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first case (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--seconds", type=float, default=SECONDS,
                        help=f"that a case may take (default {SECONDS})")
    parser.add_argument("--preset", help="core to compile for what could be read")
    options = parser.parse_args(arguments)
    for path in options.models:
        if path.suffix.lower() not in READERS or not path.is_file():
            parser.error(f"MODEL must be a file that ends in {', '.join(READERS)}, "
                         f"not {str(path)!r}")
    if min(options.count, options.jobs) < 1 or options.seed < 0 or options.seconds <= 0:
        parser.error("--count, --jobs and --seconds must be above 0, --seed at least 0")
    found: Counter[str] = Counter()
    seeds = range(options.seed, options.seed + options.count)
    shown = time.monotonic()
    for outcome in mutations(options.models, seeds, jobs=options.jobs, seconds=options.seconds,
                             preset=options.preset):
        found[outcome.kind] += 1
        if not outcome.good:
            path = options.models[outcome.seed % len(options.models)]
            print(f"{path.name}, seed {outcome.seed}: {outcome.kind}: {outcome.text}", flush=True)
        if time.monotonic() > shown + 2:
            shown = time.monotonic()
            print(f"{found.total():,} of {options.count:,}", file=sys.stderr, flush=True)
    print(", ".join(f"{number:,} {kind}" for kind, number in sorted(found.items())))
    return int(found.total() != found["graph"] + found["refused"])


if __name__ == "__main__":
    sys.exit(main())
