"""What a chip will take, from its design before synthesis and from builds of others.

Block RAMs and multipliers follow from the design, by the rules of Yosys' memory_libmap and mul2dsp.
Logic cells and flip-flops are sums over the design's operators, with weights that
``systolith_boards.fit`` has fitted on builds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from amaranth.lib import wiring
from systolith_hw.config import CoreConfig

from .boards import RESOURCES, Board, Chip
from .count import KINDS, Design, count

__all__ = ["FEATURES", "WEIGHTS", "Plan", "block_rams", "blocks_of", "check_fit",
           "features", "foresee", "kind_of", "multipliers", "plan", "weights"]

FEATURES = {"luts": (*KINDS, "products", "lut_rams", "rows", "carries", "controllers"),
            "ffs": ("registers", "controllers")}
WEIGHTS = Path(__file__).with_name("weights.json")

LEAST_DOUBT = 0.1  # relatively; for designs that no build is like

# Rows of a block RAM by the bits of a row, and what it costs in Yosys' own measure.
_SHAPES = {"ice40": {2: 2048, 4: 1024, 8: 512, 16: 256},
           "ecp5": {1: 16384, 2: 8192, 4: 4096, 9: 2048, 18: 1024, 36: 512}}
_COSTS = {"ice40": 64, "ecp5": 128}
_LUT_RAM = (16, 4)  # rows and bits of a TRELLIS_DPR16X4, which costs 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a design takes of a board's chip, foreseen.

    Parameters
    ----------
    board : Board
    luts, ffs : int
        Logic cells, by nextpnr's count, and flip-flops: estimates.
    dsps, brams : int
        Multipliers and block RAMs.
    errors : mapping of str to float
        The largest relative error of each estimate, over builds that the weights were not fitted
        to.
    """
    board: Board
    luts: int
    ffs: int
    dsps: int
    brams: int
    errors: Mapping[str, float]

    @property
    def available(self) -> dict[str, int]:
        """What the chip has, by the names of ``RESOURCES``."""
        return self.board.chip.available

    @property
    def lacking(self) -> tuple[str, ...]:
        """What the chip has too little of, by the names of ``RESOURCES``."""
        return tuple(name for name, available in self.available.items()
                     if getattr(self, name) > available)

    @property
    def certain(self) -> tuple[str, ...]:
        """What of it is lacking even if an estimate is a tenth too high, or its error if more."""
        doubts = {name: max(error, LEAST_DOUBT) for name, error in self.errors.items()}
        return tuple(name for name in self.lacking
                     if getattr(self, name) > self.available[name] * (1 + doubts.get(name, 0)))


@cache
def weights() -> dict[str, Any]:
    """By kind of core: weights of ``FEATURES`` for ``luts`` and ``ffs``, and ``errors`` of both."""
    return json.loads(WEIGHTS.read_text())


def kind_of(chip: Chip, shared: bool) -> str:
    """The name of the weights of cores on ``chip``; those of a shared sequencer have their own."""
    return f"{chip.family} shared" if shared else chip.family


def plan(top: wiring.Component, config: CoreConfig, board: Board) -> Plan:
    """What ``top``, with a core of ``config`` in it, will take on ``board``."""
    fitted = weights()[kind_of(board.chip, config.control.shared)]
    return Plan(board=board, errors=fitted["errors"], **foresee(count(top), board.chip, fitted))


def foresee(design: Design, chip: Chip, fitted: Mapping[str, Mapping[str, float]]
            ) -> dict[str, int]:
    """What a counted design will take on ``chip``, by the names of ``RESOURCES``.

    Parameters
    ----------
    fitted : mapping
        ``weights`` of the kind of core.
    """
    values = features(design, chip)
    return {**{name: round(sum(fitted[name][kind] * values[kind] for kind in kinds))
               for name, kinds in FEATURES.items()},
            "dsps": multipliers(design, chip), "brams": block_rams(design, chip)}


def check_fit(planned: Plan) -> None:
    """Refuse what is certain not to fit.

    Raises
    ------
    ValueError
        The chip lacks something, however far off the estimates may be.
    """
    if planned.certain:
        needs = ", ".join(f"{'about ' if name in planned.errors else ''}"
                          f"{getattr(planned, name):,} of its {planned.available[name]:,} "
                          f"{RESOURCES[name]}" for name in planned.certain)
        raise ValueError(f"design must fit {planned.board.name}, not need {needs}")


def block_rams(design: Design, chip: Chip) -> int:
    """Block RAMs of ``chip`` that ``design`` takes."""
    return sum(blocks_of(shape, chip.family) * times for shape, times in design.rams.items())


def blocks_of(shape: tuple[int, int, int], family: str) -> int:
    """Block RAMs of a memory of (rows, bits, bits that share a write enable); 0 if none pays."""
    return _mapping(shape, family)[1]


def _mapping(shape: tuple[int, int, int], family: str) -> tuple[float, int, int, int]:
    """The cheapest mapping: cost, block RAMs, LUT RAMs, and choices between rows of them."""
    rows, bits, enabled = shape

    def way(depth: int, width: int, cost: int) -> tuple[float, int, int]:
        """Cost, number and choices of memories of ``depth`` rows of ``width`` bits."""
        high, wide = -(-rows // depth), -(-bits // width)
        halves = (1 << (high - 1).bit_length()) - 1
        return (cost * high * wide + (halves * (bits + bits // enabled)) / 2, high * wide,
                halves * bits)

    ways = []
    for width, depth in _SHAPES[family].items():
        usable = width // 9 * 8 if enabled < bits and width % 9 == 0 else width
        cost, number, choices = way(depth, usable, _COSTS[family])
        ways.append((cost, number, 0, choices))
    if family == "ecp5":
        cost, number, choices = way(*_LUT_RAM, 4)
        ways.append((cost, 0, number, choices))
    else:  # flip-flops
        ways.append((rows * bits, 0, 0, (rows - 1) * bits))
    return min(ways)


def _inferred(design: Design, chip: Chip) -> int:
    """Multipliers that Yosys makes of products; none where the chip has not enough for all."""
    placed = design.cells["MULT18X18D"]
    needed = sum(max(-(-(a - 1) // 17), 1) * max(-(-(b - 1) // 17), 1) * times
                 for (a, b), times in design.products.items())
    return needed if chip.family == "ecp5" and placed + needed <= chip.dsps else 0


def multipliers(design: Design, chip: Chip) -> int:
    """Multipliers of ``chip`` that ``design`` takes."""
    return design.cells["MULT18X18D"] + design.cells["SB_MAC16"] + _inferred(design, chip)


def features(design: Design, chip: Chip) -> Mapping[str, int]:
    """What logic cells and flip-flops are reckoned from, by the names of ``FEATURES``."""
    maps = [(_mapping(shape, chip.family), shape, times) for shape, times in design.rams.items()]
    products = 0 if _inferred(design, chip) else sum(
        a * b * times for (a, b), times in design.products.items())
    registers = design.bits["registers"] + sum(
        times * (shape[0] * shape[1] if cost == shape[0] * shape[1] and not blocks else 0)
        for (cost, blocks, _, _), shape, times in maps if chip.family == "ice40")
    return {**{kind: design.bits[kind] for kind in KINDS}, "registers": registers,
            "products": products,
            "lut_rams": sum(times * mapping[2] for mapping, _, times in maps),
            "rows": sum(times * mapping[3] for mapping, _, times in maps),
            "carries": design.cells["CCU2C"], "controllers": design.cells["litedram"]}
