"""When what happens in the vector unit: cycles after a group's last read was granted."""

from dataclasses import dataclass

from .accumulator import Accumulator
from .combine import Combiner
from .config import CoreConfig
from .function import FunctionUnit
from .reduce import LaneTree
from .requantise import Requantiser
from .rowfile import RowFile
from .scratchpad import Scratchpad

__all__ = ["ARRIVED", "COMBINED", "HELD", "OPERANDS", "Stages", "beats_of"]

ARRIVED  = Scratchpad.READ_LATENCY  # what was read is there
HELD     = ARRIVED + 1
OPERANDS = HELD + 2                 # elements are picked, then operands chosen
COMBINED = OPERANDS + Combiner.LATENCY
assert Accumulator.READ_LATENCY == RowFile.READ_LATENCY == ARRIVED


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
    def number(self) -> int:
        """A group is combined, and folded where the unit can."""
        return COMBINED + (1 if self.config.vector.combines else 0)

    @property
    def function(self) -> int:
        """Cycles of the function unit."""
        unit = self.config.vector
        if not (unit.multiply or unit.functions):
            return 0
        return FunctionUnit.latency(multiply=unit.multiply)

    @property
    def end(self) -> int:
        """A result is written."""
        return self.number + self.function + Requantiser.LATENCY

    @property
    def tree(self) -> int:
        """Cycles from folded lanes to the row's reduction."""
        return LaneTree.latency(lanes=self.config.vector.lanes, largest=True)

    @property
    def sum(self) -> int:
        """Cycles from results to their row's sum."""
        return 1 + LaneTree.latency(lanes=self.config.vector.lanes, largest=False)

    @property
    def done(self) -> int:
        """Everything that a group changes is changed."""
        return self.end + max(self.sum if self.config.vector.rows else 0,
                              beats_of(4, self.config) - 1)
