"""Feature maps in the activation scratchpad, and the rows that they take there."""

from dataclasses import dataclass

import numpy as np
from systolith_hw.config import CoreConfig

from ..layout import Packing

__all__ = ["Border", "Channels", "FeatureMap", "NoRoom", "Space"]

Border = tuple[tuple[int, int], tuple[int, int]]


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
    """
    shape: tuple[int, int, int, int]
    channels: Channels
    border: Border = ((0, 0), (0, 0))
    base: int = 0

    @property
    def across(self) -> int:
        """Rows from a pixel to the one below."""
        return sum(self.border[1]) + self.shape[2]

    @property
    def plane(self) -> int:
        """Rows of a plane."""
        return (sum(self.border[0]) + self.shape[1]) * self.across

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
        return (self.base + (image * self.planes + plane) * self.plane
                + (y + self.border[0][0]) * self.across + x + self.border[1][0])


class Space:
    """Rows of a memory, handed out for as long as they are needed.

    Parameters
    ----------
    name : str
        The parameter of the configuration that says how many there are.
    rows : int
    """
    def __init__(self, name: str, rows: int):
        self.name, self.rows = name, rows
        self.used: dict[str, tuple[int, int]] = {}

    def take(self, owner: str, count: int) -> int:
        """First of ``count`` rows that are free, the lowest.

        Raises
        ------
        NoRoom
        """
        start = 0
        for first, end in sorted(self.used.values()):
            if start + count <= first:
                break
            start = max(start, end)
        if start + count > self.rows:
            raise NoRoom(f"{self.name} must be at least {start + count} for what is needed at "
                         f"once, not {self.rows!r}")
        self.used[owner] = (start, start + count)
        return start

    def hand_over(self, owner: str, heir: str) -> int:
        """Rows of ``owner`` are those of ``heir``; the first one."""
        self.used[heir] = self.used.pop(owner)
        return self.used[heir][0]

    def give(self, owner: str) -> None:
        """Rows are free again."""
        del self.used[owner]
