"""Feature maps in the activation scratchpad, and the rows that they take there."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from systolith_hw.config import CoreConfig

from ..layout import Packing

__all__ = ["Border", "Channels", "FeatureMap", "Fold", "Folded", "NoRoom", "Shape", "Space", "View"]

Border = tuple[tuple[int, int], tuple[int, int]]
Shape = tuple[int, int, int, int]


class NoRoom(ValueError):
    """A memory of the core is too small."""


@dataclass(frozen=True, kw_only=True)
class Channels:
    """How channels lie in rows of the activation scratchpad.

    The vector unit writes lane group by lane group, so that ``unit`` channels of a column tile take
    ``pitch`` bytes; a row holds ``width`` bytes of them.
    """
    unit: int
    pitch: int
    width: int

    @classmethod
    def of(cls, config: CoreConfig, weights: str = "int8") -> "Channels":
        """Those of maps that convolutions with weights of this format make.

        Raises
        ------
        ValueError
            Rows of the array that are fewer than lanes.
        """
        lanes, rows = config.vector.lanes, config.array.rows
        if rows < lanes:
            raise ValueError(f"array.rows must be at least vector.lanes={lanes} for feature maps, "
                             f"not {rows!r}")
        cols = Packing(config, weights).cols
        unit = cols // lanes * lanes or cols
        return cls(unit=unit, pitch=-(-unit // lanes) * lanes, width=rows // lanes * lanes)

    def slot(self, channel: int) -> int:
        """Byte of a channel, counted over all rows of a pixel."""
        return channel // self.unit * self.pitch + channel % self.unit

    def slots(self, channels: np.ndarray) -> np.ndarray:
        """``slot`` of each."""
        return channels // self.unit * self.pitch + channels % self.unit

    def rows(self, channels: int) -> int:
        """Rows of a pixel."""
        return self.slot(channels - 1) // self.width + 1

    @property
    def dense(self) -> bool:
        """Whether channels follow each other without a gap."""
        return self.unit == self.pitch

    def aligned(self, channel: int) -> bool:
        """Whether a plane begins with a channel, so that it may be the first of a part."""
        return channel % self.unit == 0 == self.slot(channel) % self.width


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """Pixels of an image, or rows of a matrix, as planes of scratchpad rows.

    A plane holds ``channels.width`` channels of each pixel: a row for each, bordered by pixels
    that hold the zero point. Planes of one image follow each other, images too.

    Parameters
    ----------
    shape : tuple of int
        Images, height, width, channels.
    channels : Channels
    border : pairs of int
        Rows above and below, columns left and right.
    base : int
        First row.
    within : FeatureMap or None
        The map of which it is a part.
    step : tuple of int
        Pixels of that one, down and across, from one of this to the next.
    """
    shape: Shape
    channels: Channels
    border: Border = ((0, 0), (0, 0))
    base: int = 0
    within: "FeatureMap | None" = None
    step: tuple[int, int] = (1, 1)

    @property
    def across(self) -> int:
        """Rows from a pixel to the one below."""
        if self.within is not None:
            return self.within.across * self.step[0]
        return sum(self.border[1]) + self.shape[2]

    @property
    def beside(self) -> int:
        """Rows from a pixel to the next."""
        return self.step[1] if self.within is None else self.within.beside * self.step[1]

    @property
    def plane(self) -> int:
        """Rows of a plane."""
        if self.within is not None:
            return self.within.plane
        return (sum(self.border[0]) + self.shape[1]) * self.across

    @property
    def image(self) -> int:
        """Rows of an image."""
        return self.planes * self.plane if self.within is None else self.within.image

    @property
    def planes(self) -> int:
        """Planes of an image."""
        return self.channels.rows(self.shape[3])

    @property
    def rows(self) -> int:
        """All rows."""
        return self.shape[0] * self.planes * self.plane

    def row(self, image: int = 0, plane: int = 0, y: int = 0, x: int = 0) -> int:
        """The row of a pixel; pixels of the border have negative places or lie beyond."""
        return (self.base + image * self.image + plane * self.plane
                + (y + self.border[0][0]) * self.across + (x + self.border[1][0]) * self.beside)

    def part(self, first: Shape, shape: Shape, step: tuple[int, int] = (1, 1)) -> "FeatureMap":
        """Images, rows, columns and channels from ``first`` on, a border only where they have the
        map's.

        Raises
        ------
        ValueError
            No plane begins with the first channel.
        """
        if not self.channels.aligned(first[3]):
            raise ValueError(f"channels must begin with a plane, not with {first[3]!r}")
        plane = self.channels.slot(first[3]) // self.channels.width
        whole = step == (1, 1) and shape[1:3] == self.shape[1:3]
        border = self.border if whole else ((0, 0), (0, 0))
        return replace(self, shape=shape, border=border, within=self, step=step, base=self.row(
            first[0], plane, first[1] - border[0][0], first[2] - border[1][0]))


@dataclass(frozen=True, kw_only=True)
class View:
    """Elements of a tensor in system memory.

    Parameters
    ----------
    address : int
        First byte.
    shape, strides : tuple of int
        Images, height, width, channels; bytes from one of each to the next.
    """
    address: int
    shape: Shape
    strides: Shape

    @classmethod
    def dense(cls, address: int, shape: Shape) -> "View":
        """Elements that follow each other."""
        _, height, width, depth = shape
        return cls(address=address, shape=shape,
                   strides=(height * width * depth, width * depth, depth, 1))

    @property
    def is_dense(self) -> bool:
        """Whether elements follow each other."""
        plain = View.dense(self.address, self.shape)
        return all(size == 1 or one == other for size, one, other in zip(
            self.shape, self.strides, plain.strides, strict=True))

    def part(self, first: Shape, shape: Shape) -> "View":
        """Images, rows, columns and channels from ``first`` on."""
        start = sum(one * step for one, step in zip(first, self.strides, strict=True))
        return replace(self, address=self.address + start, shape=shape)

    def rows(self, image: int, rows: range) -> "View":
        """Some rows of an image."""
        return self.part((image, rows.start, 0, 0), (1, len(rows), *self.shape[2:]))

    def spread(self, shape: Shape) -> "View":
        """The same elements for every index along dimensions that are 1 here and not there."""
        return replace(self, shape=shape, strides=tuple(
            step if one == other else 0 for step, one, other in zip(
                self.strides, self.shape, shape, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Cells of a map: ``down`` by ``across`` pixels of ``depth`` channels in a scratchpad row."""
    down: int
    across: int
    depth: int

    def phases(self, rows: range, cols: range) -> Iterator[tuple[int, range, range]]:
        """Of the pixels at each place in their cells: the place, their rows and columns."""
        for y, x in product(range(self.down), range(self.across)):
            here = (range(rows.start + (y - rows.start) % self.down, rows.stop, self.down),
                    range(cols.start + (x - cols.start) % self.across, cols.stop, self.across))
            if all(here):
                yield y * self.across + x, *here


@dataclass(frozen=True, kw_only=True)
class Folded:
    """Pixels of an image as planes of cells, for a convolution of each channel by itself.

    Parameters
    ----------
    shape : tuple of int
        Images, height, width, channels.
    fold : Fold
    channels : Channels
        Of the maps beside it.
    cells : FeatureMap
        Of cells for pixels, those that are full; others are in its border, which holds the zero
        point wherever there is no pixel.
    """
    shape: tuple[int, int, int, int]
    fold: Fold
    channels: Channels
    cells: FeatureMap

    @classmethod
    def of(cls, shape: tuple[int, int, int, int], fold: Fold, channels: Channels,
           border: Border) -> "Folded":
        """A map with ``border`` cells around those with pixels."""
        images, height, width, depth = shape
        (top, bottom), (left, right) = border
        own = Channels(unit=channels.width, pitch=channels.width, width=channels.width)
        cells = FeatureMap(
            shape=(images, height // fold.down, width // fold.across,
                   -(-depth // fold.depth) * own.width), channels=own,
            border=((top, bottom + (height % fold.down > 0)),
                    (left, right + (width % fold.across > 0))))
        return cls(shape=shape, fold=fold, channels=channels, cells=cells)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.cells.rows

    def at(self, base: int) -> "Folded":
        """The map from row ``base`` on."""
        return replace(self, cells=replace(self.cells, base=base))

    def row(self, image: int, plane: int, y: int, x: int) -> int:
        """The row of a pixel's cell."""
        return self.cells.row(image, plane, y // self.fold.down, x // self.fold.across)


class Space:
    """Rows of a memory, handed out for as long as they are needed.

    Parameters
    ----------
    name : str
        The parameter of the configuration that says how many there are.
    rows : int
    bank_rows : int
        Rows of a bank.
    spread : int
        Up to how many rows are taken wherever they share banks with the fewest others, so that
        engines seldom meet; more are taken as low or as high as they fit.

    Members
    -------
    used, marks : dict
        First and last + 1 of the rows of each owner, and of those that still hold what was marked.
    """
    def __init__(self, name: str, rows: int, *, bank_rows: int, spread: int = 0):
        self.name, self.rows, self.bank_rows, self.spread = name, rows, bank_rows, spread
        self.used: dict[str, tuple[int, int]] = {}
        self.marks: dict[Hashable, tuple[int, int]] = {}

    def take(self, owner: str, count: int) -> int:
        """First of ``count`` rows that are free.

        Raises
        ------
        NoRoom
        """
        gaps, start = [], 0
        for first, end in (*sorted(self.used.values()), (self.rows, self.rows)):
            if start + count <= first:
                gaps.append((start, first))
            start = max(start, end)
        if not gaps:
            last = max((end for _, end in self.used.values()), default=0)
            raise NoRoom(f"{self.name} must be at least {last + count} for what is needed at "
                         f"once, not {self.rows!r}")
        places = [gaps[0][0], gaps[-1][1] - count]
        if count <= self.spread:
            places += [place for first, end in gaps for place in (
                first, *range(-(-first // self.bank_rows) * self.bank_rows, end - count + 1,
                              self.bank_rows), end - count)]
        start = min(places, key=lambda place: (self._met(place, count), place))
        self.used[owner] = (start, start + count)
        self.marks = {mark: (first, end) for mark, (first, end) in self.marks.items()
                      if end <= start or start + count <= first}
        return start

    def _met(self, start: int, count: int) -> int:
        """In how far ``count`` rows share banks with those that are taken."""
        met = 0
        for bank in range(0, self.rows, self.bank_rows):
            own, *others = (max(0, min(end, bank + self.bank_rows) - max(first, bank))
                            for first, end in ((start, start + count), *self.used.values()))
            met += own * sum(others)
        return met

    def mark(self, owner: str, mark: Hashable) -> None:
        """Have ``mark`` among ``marks`` until rows of ``owner`` are taken again."""
        self.marks[mark] = self.used[owner]

    def hand_over(self, owner: str, heir: str) -> int:
        """Rows of ``owner`` are those of ``heir``; the first one."""
        self.used[heir] = self.used.pop(owner)
        return self.used[heir][0]

    def give(self, owner: str) -> None:
        """Rows are free again."""
        del self.used[owner]
