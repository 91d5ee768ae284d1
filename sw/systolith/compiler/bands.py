"""Operators in bands, from and to system memory, where their maps do not fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from ..layout import aligned
from .lives import NO_PADS
from .maps import Border, FeatureMap, NoRoom, View
from .places import Places

__all__ = ["Banded", "Spread", "Window", "append_in_bands"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which rows of a source a row of results needs, or columns a column: ``size`` of them,
    ``dilation`` apart, from ``stride`` times its number, less ``before``, on."""
    size: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0

    def rows(self, band: range, height: int) -> tuple[range, int, int]:
        """Rows of a source for a band of results; rows that are missing above and below."""
        first = band.start * self.stride - self.before
        end = (band.stop - 1) * self.stride - self.before + (self.size - 1) * self.dilation + 1
        inside = range(max(0, first), min(height, end))
        return inside, inside.start - first, end - inside.stop


@dataclass(frozen=True, kw_only=True)
class Spread(Window):
    """That of a transposed convolution, whose ``stride`` results at a time need ``size`` rows of a
    source from ``before`` above the first one's own."""
    def rows(self, band: range, height: int) -> tuple[range, int, int]:
        """As a ``Window`` says; at least one row."""
        first = band.start // self.stride - self.before
        end = (band.stop - 1) // self.stride - self.before + self.size
        start = min(max(0, first), height - 1)
        inside = range(start, max(min(height, end), start + 1))
        return inside, inside.start - first, end - inside.stop


@dataclass(frozen=True, kw_only=True)
class Banded:
    """An operator that can be done in bands.

    Parameters
    ----------
    emit : callable
        Appends it for a band, given maps of its sources, that of its result, and the rows and
        columns that are missing above and to the left.
    down, across : Window
    fill : int or None
        What missing rows and columns hold; None: they are not read.
    steps : tuple of int
        Rows and columns of bands are multiples of these.
    """
    emit: Callable[[list[FeatureMap], FeatureMap, tuple[int, int]], None]
    down: Window = Window()
    across: Window = Window()
    fill: int | None = None
    steps: tuple[int, int] = (1, 1)


def append_in_bands(places: Places, sources: Sequence[View], made: str, banded: Banded) -> None:
    """Append an operator as bands of its result's rows, the largest that fit twice, so that one is
    loaded while the other is computed, or once; and where no row fits, of columns.

    Raises
    ------
    NoRoom
        Not even the smallest fits.
    """
    target = places.reserve(made)
    height, width = (aligned(size, step) for size, step in zip(
        target.shape[1:3], banded.steps, strict=True))
    sizes = [(height, width)]
    while sizes[-1][0] > banded.steps[0]:
        sizes.append((aligned(-(-sizes[-1][0] // 2), banded.steps[0]), width))
    while sizes[-1][1] > banded.steps[1]:
        sizes.append((sizes[-1][0], aligned(-(-sizes[-1][1] // 2), banded.steps[1])))
    for size, copies in [(sizes[0], 1), *((size, 2) for size in sizes[1:])]:
        state = places.state()
        try:
            _append(places, sources, target, banded, size, copies)
            return
        except NoRoom:
            places.restore(state)
    _append(places, sources, target, banded, sizes[-1], 1)


@dataclass(frozen=True)
class _Band:
    """Rows and columns of a source; what is missing around them."""
    down: range
    across: range
    missing: Border

    @classmethod
    def of(cls, banded: Banded, band: tuple[range, range], view: View) -> "_Band":
        down, *above = banded.down.rows(band[0], view.shape[1])
        across, *beside = banded.across.rows(band[1], view.shape[2])
        return cls(down, across, ((above[0], above[1]), (beside[0], beside[1])))

    def map(self, places: Places, banded: Banded, view: View, base: int = 0) -> FeatureMap:
        """Where it lies."""
        (above, below), (left, right) = self.missing
        border = NO_PADS if banded.fill is None else (
            (max(0, above), max(0, below)), (max(0, left), max(0, right)))
        return FeatureMap(shape=(1, len(self.down), len(self.across), view.shape[3]),
                          channels=places.channels, border=border, base=base)


def _append(places: Places, sources: Sequence[View], made: View, banded: Banded,
            size: tuple[int, int], copies: int) -> None:
    images, height, width, depth = made.shape
    bands = [(range(y, min(height, y + size[0])), range(x, min(width, x + size[1])))
             for y in range(0, height, size[0]) for x in range(0, width, size[1])]
    owners, bases = [], []
    for copy in range(copies):
        bases.append([])
        for number, view in enumerate((*sources, made)):
            rows = max(_Band.of(banded, band, view).map(places, banded, view).rows if (
                number < len(sources)) else FeatureMap(
                    shape=(1, len(band[0]), len(band[1]), depth), channels=places.channels).rows
                for band in bands)
            owners.append(f"band {copy} of {number}")
            bases[-1].append(places.take(owners[-1], rows))
    for number, (image, band) in enumerate(product(range(images), bands)):
        _append_band(places, sources, made, banded, image, band, bases[number % copies])
    for owner in owners:
        places.space.give(owner)


def _append_band(places: Places, sources: Sequence[View], made: View, banded: Banded, image: int,
                 band: tuple[range, range], bases: Sequence[int]) -> None:
    maps, missing = [], (0, 0)
    for view, base in zip(sources, bases, strict=False):
        found = _Band.of(banded, band, view)
        missing = found.missing[0][0], found.missing[1][0]
        values = found.map(places, banded, view, base)
        places.transfer("load", view.part(
            (image, found.down.start, found.across.start, 0), values.shape), values)
        if banded.fill is not None and values.border != NO_PADS:
            places.emitter.fill_border(values, banded.fill)
        maps.append(values)
    down, across = band
    part = made.part((image, down.start, across.start, 0),
                     (1, len(down), len(across), made.shape[3]))
    target = FeatureMap(shape=part.shape, channels=places.channels, base=bases[-1])
    banded.emit(maps, target, missing)
    places.transfer("store", part, target)
