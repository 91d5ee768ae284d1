"""Operators in bands of rows, from and to system memory, where their maps do not fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from ..layout import aligned
from .lives import NO_PADS
from .maps import FeatureMap, NoRoom, View
from .places import Places

__all__ = ["Banded", "Spread", "Window", "append_in_bands"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which rows of a source a row of results needs: ``size`` of them, ``dilation`` apart, from
    ``stride * row - top`` on; and how many columns beside it."""
    size: int = 1
    stride: int = 1
    dilation: int = 1
    top: int = 0
    beside: tuple[int, int] = (0, 0)

    def rows(self, band: range, height: int) -> tuple[range, int, int]:
        """Rows of a source for a band of results; rows that are missing above and below."""
        first = band.start * self.stride - self.top
        end = (band.stop - 1) * self.stride - self.top + (self.size - 1) * self.dilation + 1
        inside = range(max(0, first), min(height, end))
        return inside, inside.start - first, end - inside.stop


@dataclass(frozen=True, kw_only=True)
class Spread(Window):
    """That of a transposed convolution, whose ``stride`` results at a time need ``size`` rows of a
    source from ``top`` above the first one's own."""
    def rows(self, band: range, height: int) -> tuple[range, int, int]:
        first = band.start // self.stride - self.top
        end = (band.stop - 1) // self.stride - self.top + self.size
        start = min(max(0, first), height - 1)
        inside = range(start, max(min(height, end), start + 1))
        return inside, inside.start - first, end - inside.stop


@dataclass(frozen=True, kw_only=True)
class Banded:
    """An operator that can be done in bands.

    Parameters
    ----------
    window : Window
    emit : callable
        Appends it for a band, given maps of its sources, that of its result, and the rows that are
        missing above.
    fill : int or None
        What missing rows and columns hold; None: they are not read.
    step : int
        Rows of bands are multiples of it.
    """
    window: Window
    emit: Callable[[list[FeatureMap], FeatureMap, int], None]
    fill: int | None = None
    step: int = 1


def append_in_bands(places: Places, sources: Sequence[View], made: str, banded: Banded) -> None:
    """Append an operator as bands of its result's rows, the largest that fit twice, so that one is
    loaded while the other is computed; or once.

    Raises
    ------
    NoRoom
        A single row does not fit.
    """
    target = places.reserve(made)
    height = target.shape[1]
    tries = [(aligned(height, banded.step), 1)]
    while tries[-1][0] > banded.step:
        tries.append((aligned(-(-tries[-1][0] // 2), banded.step), 2))
    for rows, copies in tries:
        state = places.state()
        try:
            _append(places, sources, target, banded, rows, copies)
            return
        except NoRoom:
            places.restore(state)
    _append(places, sources, target, banded, banded.step, 1)


def _append(places: Places, sources: Sequence[View], made: View, banded: Banded, rows: int,
            copies: int) -> None:
    images, height, _, _ = made.shape
    bands = [range(y, min(height, y + rows)) for y in range(0, height, rows)]
    owners, bases = [], []
    for copy in range(copies):
        bases.append([])
        for number, view in enumerate((*sources, made)):
            shape = view.shape
            spans = [banded.window.rows(band, shape[1]) if number < len(sources) else (band, 0, 0)
                     for band in bands]
            inside, above, below = (max(parts) for parts in zip(*(
                (len(inside), above, below) for inside, above, below in spans), strict=True))
            largest = FeatureMap(
                shape=(1, inside, *shape[2:]), channels=places.channels,
                border=_border(banded, above, below) if number < len(sources) else NO_PADS)
            owners.append(f"band {copy} of {number}")
            bases[-1].append(places.take(owners[-1], largest.rows))
    for number, (image, band) in enumerate(product(range(images), bands)):
        _append_band(places, sources, made, banded, image, band, bases[number % copies])
    for owner in owners:
        places.space.give(owner)


def _border(banded: Banded, above: int, below: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return NO_PADS if banded.fill is None else (
        (max(0, above), max(0, below)), banded.window.beside)


def _append_band(places: Places, sources: Sequence[View], made: View, banded: Banded, image: int,
                 band: range, bases: Sequence[int]) -> None:
    maps, above = [], 0
    for view, base in zip(sources, bases, strict=False):
        inside, above, below = banded.window.rows(band, view.shape[1])
        part = view.rows(image, inside)
        values = FeatureMap(shape=part.shape, channels=places.channels,
                            border=_border(banded, above, below), base=base)
        places.transfer("load", part, values)
        if banded.fill is not None and values.border != NO_PADS:
            places.emitter.fill_border(values, banded.fill)
        maps.append(values)
    part = made.rows(image, band)
    target = FeatureMap(shape=part.shape, channels=places.channels, base=bases[-1])
    banded.emit(maps, target, above)
    places.transfer("store", part, target)
