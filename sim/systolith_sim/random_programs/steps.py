"""A random command without semaphores, what it touches, and how parts of it are drawn."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ONCE, ElementType, Memory, Opcode, jumps_of
from systolith_hw.legal import loops_of

__all__ = [
    "ELEMENT_BYTES", "Access", "Step", "draw_base", "draw_counts", "draw_ring", "draw_strides",
    "levels_of", "padded", "smaller", "units_of",
]

# Lane groups of the scratchpad that a group of such elements takes; results are numbered alike.
ELEMENT_BYTES = {int(ElementType.INT8): 1, int(ElementType.INT16): 2, int(ElementType.INT32): 4}


@dataclass(frozen=True)
class Step:
    """A command before anything orders it among the others.

    Parameters
    ----------
    opcode : Opcode
    counts : tuple of int
        Of as many loops as the core walks.
    strides : mapping of str to tuple of int
        By the name of the field that takes the jumps; of vector commands from loop 1 on.
    fields : mapping of str to value
        All others but slots, parameter registers and counts.
    seed : int
        Of what is decided about the command later.
    fixed : bool
        Part of every program, also of a shrunk one.
    """
    opcode: Opcode
    counts: tuple[int, ...]
    strides: Mapping[str, tuple[int, ...]]
    fields: Mapping[str, Any]
    seed: int = 0
    fixed: bool = False

    def values(self) -> dict[str, Any]:
        """Fields as ``Command.encode`` takes them."""
        values = {**self.fields, "counts": list(self.counts)}
        for name, strides in self.strides.items():
            if self.opcode == Opcode.VECTOR:
                first = self.group_step(name.removesuffix("_jumps"))
                jumps = jumps_of(self.counts, [first, *strides])[1:]
            else:
                jumps = jumps_of(self.counts, strides)
            if self.opcode in (Opcode.VECTOR, Opcode.EXECUTE):  # addresses of 16 bits wrap
                jumps = [(jump + 0x8000 & 0xffff) - 0x8000 for jump in jumps]
            values[name] = jumps
        return values

    def group_step(self, name: str) -> int:
        """What loop 0 of a vector command adds to the address of ``name``: source, stream or
        result."""
        step = self.fields[f"{name}_step"]
        return step if name == "source" else step * ELEMENT_BYTES.get(
            self.fields[f"{name}_type"], 1)


@dataclass
class Access:
    """Places of one memory that a command touches.

    Parameters
    ----------
    resource : str
        ``memory`` and ``act bytes``: bytes; ``act``, ``wgt``, ``par``, ``fun``, ``acc``: rows;
        ``row value``, ``row sum``, ``row scale``: records, the value with its position.
    write : bool
    places : int array, (times, places of each)
        What is touched at the end of each of so many equal parts of the command's iterations.
    """
    resource: str
    write: bool
    places: np.ndarray
    _set: np.ndarray = field(init=False)

    def __post_init__(self):
        self._set = np.unique(self.places)

    def meets(self, other: "Access") -> bool:
        """Whether the two must be ordered.

        Engines may write different bytes of a row at once, but not read a row that is written.
        """
        if self.resource != other.resource or not (self.write or other.write):
            return False
        if self.resource == "act" and self.write and other.write:
            return False
        return bool(np.isin(self._set, other._set, assume_unique=True).any())

    def iterations(self, units: int) -> np.ndarray:
        """Of the command's ``units`` iterations of a loop, the one in which each of the places,
        flattened, is touched."""
        times, places = self.places.shape
        return np.repeat(((np.arange(times) + 1) * units - 1) // times, places)


def levels_of(step: Step) -> list[int]:
    """Loop levels at which the command's semaphores can act."""
    first = 2 if step.opcode == Opcode.EXECUTE else 0
    return [ONCE, *range(first, len(step.counts))]


def units_of(step: Step, level: int) -> int:
    """Iterations of loop ``level`` in the whole command."""
    return 1 if level == ONCE else prod(step.counts[level:])


def padded(values: Sequence[int], config: CoreConfig, opcode: Opcode,
           filler: int = 1) -> tuple[int, ...]:
    """``values`` for all loops of such a command, ``filler`` where none is given."""
    return (*values, *[filler] * (loops_of(opcode, config) - len(values)))


def draw_counts(choice: random.Random, loops: int, most: int) -> tuple[int, ...]:
    """Counts whose product is at most ``most``; often a one, sometimes all or as few as can be."""
    counts = [1] * loops
    repeating, largest = choice.choice([(0.6, 16), (0.6, 16), (0.85, 2), (1.0, 2), (0.0, 1)])
    for i in choice.sample(range(loops), loops):
        high = most // prod(counts)
        if high > 1 and choice.random() < repeating:
            counts[i] = choice.randint(2, min(high, choice.choice([2, 3, 4, 16]), largest))
    return tuple(counts)


def draw_base(choice: random.Random, offsets: np.ndarray, low: int, high: int) -> int | None:
    """A base that keeps it and ``offsets`` within ``low`` to ``high - 1``."""
    least, largest = min(0, int(offsets.min())), max(0, int(offsets.max()))
    if high - largest <= low - least:
        return None
    return choice.randrange(low - least, high - largest)


def draw_ring(choice: random.Random, rows: int) -> int:
    """Mostly none; otherwise one of at most ``rows``."""
    return choice.randint(1, rows.bit_length() - 1) if choice.random() < 0.3 else 0


def draw_strides(choice: random.Random, loops: int, values: Sequence[int]) -> tuple[int, ...]:
    """One of ``values`` for each loop."""
    return tuple(choice.choice(values) for _ in range(loops))


def smaller(step: Step) -> Iterator[Step]:
    """The step with one count or length reduced, the largest reductions first."""
    for i, count in enumerate(step.counts):
        for value in sorted({1, count // 2, count - 1}):
            if 0 < value < count:
                counts = (*step.counts[:i], value, *step.counts[i + 1:])
                yield Step(step.opcode, counts, step.strides, step.fields, step.seed)
    if "run_bytes" in step.fields and step.fields["memory"] != Memory.PAR:
        for value in sorted({1, step.fields["run_bytes"] // 2}):
            if 0 < value < step.fields["run_bytes"]:
                yield Step(step.opcode, step.counts, step.strides,
                           {**step.fields, "run_bytes": value}, step.seed)
