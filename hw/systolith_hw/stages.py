"""When what happens in the vector unit: cycles after a group's last read was granted."""

from dataclasses import dataclass

from .accumulator import Accumulator
from .combine import Combiner
from .config import CoreConfig
from .function import FunctionUnit
from .reduce import Folder, LaneTree
from .requantise import Requantiser
from .rowfile import RowFile
from .scratchpad import Scratchpad
from .serial import SerialRequantiser

__all__ = ["ARRIVED", "COMBINED", "FOLDED", "HELD", "OPERANDS", "Stages", "beats_of"]

ARRIVED  = Scratchpad.READ_LATENCY  # what was read is there
HELD     = ARRIVED + 1
OPERANDS = HELD + 2                 # elements are picked, then operands chosen
COMBINED = OPERANDS + Combiner.LATENCY
FOLDED   = COMBINED + Folder.LATENCY
assert Accumulator.READ_LATENCY == ARRIVED >= RowFile.READ_LATENCY


def beats_of(size: int, config: CoreConfig) -> int:
    """Scratchpad rows of a group whose elements have ``size`` bytes."""
    return max(1, size * config.vector.lanes // config.act_row_bytes)


@dataclass(frozen=True)
class Stages:
    """The stages that depend on the configuration.

    Parameters
    ----------
    config : CoreConfig
    """
    config: CoreConfig

    @property
    def requantiser(self) -> type[Requantiser] | type[SerialRequantiser]:
        """What scales a lane's numbers."""
        return SerialRequantiser if self.config.vector.requantiser == "serial" else Requantiser

    @property
    def interval(self) -> int:
        """Cycles from one group to the next, at least."""
        return self.requantiser.INTERVAL

    @property
    def number(self) -> int:
        """A group is combined, and folded where the unit can."""
        return FOLDED if self.config.vector.combines else COMBINED

    @property
    def function(self) -> int:
        """Cycles of the function unit, with that in which its input is chosen; 0 without one."""
        unit = self.config.vector
        if not (unit.multiply or unit.functions):
            return 0
        return 1 + FunctionUnit.latency(multiply=unit.multiply)

    @property
    def choice(self) -> int:
        """Cycles in which the requantiser's input is chosen, and the last of both units."""
        return 1 if self.function else 0

    @property
    def result(self) -> int:
        """A result is there."""
        return (self.number + self.function + 2 * self.choice
                + self.requantiser.LATENCY)

    @property
    def end(self) -> int:
        """A result, in its place in a row, is written."""
        return self.result + 1

    @property
    def tree(self) -> int:
        """Cycles from folded lanes to the row's reduction."""
        return LaneTree.latency(lanes=self.config.vector.lanes, largest=True)

    @property
    def sum(self) -> int:
        """Cycles from results to their row's sum."""
        return Folder.LATENCY + LaneTree.latency(lanes=self.config.vector.lanes, largest=False)

    @property
    def done(self) -> int:
        """Everything that a group changes is changed."""
        written = self.end + beats_of(4, self.config) - 1
        return max(written, self.result + self.sum) if self.config.vector.rows else written
