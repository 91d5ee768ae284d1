"""What the runs of loads and stores take of the bus and of the scratchpad."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig

from .model.address import loop_offsets, strides_of
from .pieces import run_pieces

__all__ = ["Bus", "RunCosts"]


@dataclass(frozen=True, kw_only=True)
class Bus:
    """The memory that a program meets.

    Parameters
    ----------
    latency : int
        Cycles from an address to the first answer.
    words : float
        Words per cycle of each channel.
    """
    latency: int = 32
    words: float = 1.0


class RunCosts:
    """Words and pieces of rows of runs, each kind counted once.

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, config: CoreConfig):
        self.config = config
        self.costs: dict[tuple[int, int, int], tuple[int, int]] = {}

    def of(self, values: Mapping[str, Any]) -> tuple[float, float]:
        """Words and pieces of a command's runs, in the mean."""
        size, base = self.config.bus.data_bytes, values["memory_base"]
        loops = self.config.control.load_loops
        counts, jumps = values["counts"][:loops], values["memory_jumps"][:loops]
        if not any(jump % size for jump in jumps):
            return self._cost(values["run_bytes"], values["row_bytes"], base % size)
        return self.at(base + loop_offsets(counts, strides_of(counts, jumps)),
                       values["run_bytes"], values["row_bytes"])

    def at(self, addresses: np.ndarray, run_bytes: int, row_bytes: int) -> tuple[float, float]:
        """Words and pieces of runs at these addresses, in the mean."""
        places, runs = np.unique(addresses % self.config.bus.data_bytes, return_counts=True)
        costs = [self._cost(run_bytes, row_bytes, int(place)) for place in places]
        words, pieces = np.average(costs, axis=0, weights=runs)
        return float(words), float(pieces)

    def bursts(self, words: float) -> list[int]:
        """Words of the bursts of a run of ``words``, about."""
        words, burst = round(words), self.config.bus.max_burst
        return [burst] * (words // burst) + [words % burst] * (words % burst != 0)

    def _cost(self, run_bytes: int, row_bytes: int, offset: int) -> tuple[int, int]:
        key = run_bytes, row_bytes, offset
        if key not in self.costs:
            self.costs[key] = run_pieces(*key, self.config.bus.data_bytes)
        return self.costs[key]
