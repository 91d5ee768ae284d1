"""Which core a board should get for a model: shapes, buffers and lanes by predicted cycles.

Shapes are ordered by a bound of their array cycles and the best of them compiled. Of the fastest,
buffers, lanes and bus are changed one after the other, and a change stays where it saves cycles, or
memory at the same cycles. The planner (``plan``) then says which of them fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod
from typing import Any

from systolith.compiler.compile import compile_model
from systolith.compiler.lower import TooLarge
from systolith.compiler.network import Network
from systolith.cycles import Bus, predict_cycles
from systolith.models.graph import Graph, Node
from systolith.program import decode_program
from systolith_hw.config import CoreConfig
from systolith_hw.formats import BITS

from .boards import Board
from .plan import Plan, plan
from .soc import top_of

__all__ = ["Proposal", "array_bound", "board_bus", "propose", "shapes"]

SIDES = (1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32)
SHAPES = 6          # that are compiled
TOO_LARGE = 2       # networks for the board's memory, after which there is no more to try
TUNED = 2           # of the fastest, whose buffers, lanes and bus are changed
LEAST_SHARE = 0.5   # of the multipliers that an array must use
DSPS = {"ecp5": 1, "ice40": 2}      # of a product, by array.strategy
SDRAM_BYTES = 1.92  # read a cycle, measured: docs/boards.md
STEPS = (("vector.lanes", 2), ("memory.act_rows", 2), ("memory.acc_rows", 2), ("bus.data_bits", 2),
         ("vector.lanes", 0.5), ("memory.act_rows", 0.5), ("memory.wgt_rows", 0.5),
         ("memory.acc_rows", 0.5))


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A configuration for a model.

    Parameters
    ----------
    changes : tuple of str
        ``section.field=value`` assignments on top of the configuration that it started from.
    values : mapping of str to value
        The same by ``section.field``, also where it is what that configuration has.
    config : CoreConfig
    network : Network
        The model, compiled for it.
    cycles : int
        Predicted with the board's memory.
    plan : Plan or None
        What it takes of the chip; None: not asked yet.
    """
    changes: tuple[str, ...]
    values: Mapping[str, Any]
    config: CoreConfig
    network: Network
    cycles: int
    plan: Plan | None = None

    @property
    def order(self) -> tuple[int, ...]:
        """Sorts proposals: most multiplications on the core, then fewest cycles, then memory,
        lanes and bus."""
        config = self.config
        return (sum(layer.macs for layer in self.network.layers if layer.host), self.cycles,
                _memory_bytes(config), config.vector.lanes, config.bus.data_bits)


def _memory_bytes(config: CoreConfig) -> int:
    """Of activations, weights and sums."""
    memory = config.memory
    return (memory.act_rows * config.act_row_bytes + memory.wgt_rows * config.wgt_row_bytes
            + 4 * memory.acc_rows * config.array.cols)


def board_bus(board: Board, config: CoreConfig) -> Bus:
    """The system memory of a board, as predictions have it."""
    if board.memory != "sdram":
        return Bus()
    return Bus(words=min(1, SDRAM_BYTES / config.bus.data_bytes))


def array_bound(graph: Graph, rows: int, cols: int) -> int:
    """Cycles that an array needs at least: every tile of R x C weights meets every pixel.

    Of depthwise convolutions, the multiplications by R x C.
    """
    def bound(node: Node) -> int:
        macs = graph.macs(node)
        if not macs:
            return 0
        weights = graph.of(node, 1).shape
        if node.op == "conv" and node.attributes["groups"] > 1:
            return ceil(macs / (rows * cols))
        k = prod(weights[1:])
        return macs // (k * weights[0]) * ceil(k / rows) * ceil(weights[0] / cols)
    return sum(map(bound, graph.nodes))


def shapes(board: Board, config: CoreConfig, spare: int) -> list[tuple[int, int]]:
    """Shapes of arrays that use at least half of what the chip has for them.

    Parameters
    ----------
    spare : int
        Multipliers that the rest of the core takes.
    """
    array = config.array
    cost = DSPS.get(array.strategy)
    most = (board.chip.dsps - spare) // cost if cost else 2 * array.rows * array.cols
    return [(rows, cols) for rows, cols in product(SIDES, SIDES)
            if LEAST_SHARE * most <= rows * cols <= most]


def _formats(graph: Graph) -> list[str]:
    """Weight formats of a model, the widest first."""
    found = {graph.of(node, 1).dtype for node in graph.nodes if node.op in ("conv", "linear")}
    return sorted(found & set(BITS), key=lambda name: -BITS[name]) or ["int8"]


class _Search:
    """Configurations that were compiled, on top of one, each once."""
    def __init__(self, graph: Graph, board: Board, config: CoreConfig,
                 spare: int, progress: Callable[[str], None]):
        self.graph, self.board, self.config = graph, board, config
        self.spare, self.progress = spare, progress
        self.found: dict[tuple[str, ...], Proposal | None] = {}
        self.too_large: list[int] = []      # bytes of system memory that networks take at least
        formats = _formats(graph)
        self.base = () if set(formats) <= set(config.array.weights) else (
            f"array.weights={','.join(formats)}",)

    def add(self, values: Mapping[str, Any]) -> Proposal | None:
        """Compile for a configuration, where it is one that could fit."""
        key = (*self.base, *(f"{path}={value}" for path, value in values.items()
                             if value != _value(self.config, path)))
        if key not in self.found:
            self.found[key] = self._compiled(key, values)
        return self.found[key]

    def _compiled(self, key: tuple[str, ...], values: Mapping[str, Any]) -> Proposal | None:
        try:
            config = self.config.overridden(list(key))
        except ValueError:
            return None
        chip, array = self.board.chip, config.array
        spare = self.spare * config.vector.lanes / self.config.vector.lanes
        if (_memory_bytes(config) > chip.brams * chip.bram_bytes
                or DSPS.get(array.strategy, 0) * array.multipliers + spare > chip.dsps):
            return None
        self.progress(f"compiling for {' '.join(key) or 'what the board runs'}")
        try:
            network = compile_model(self.graph, config=config, bus=board_bus(self.board, config),
                                    memory_bytes=self.board.memory_bytes)
        except TooLarge as error:
            self.too_large.append(error.needed)
            return None
        except ValueError:      # too few semaphores
            return None
        if not network.images:
            return None
        if network.memory_bytes > self.board.memory_bytes:
            self.too_large.append(network.memory_bytes)
            return None
        bus = board_bus(self.board, config)
        cycles = [predict_cycles(decode_program(image.program), config=config, bus=bus)
                  for image in network.images]
        if None in cycles:
            return None
        return Proposal(changes=key, values=values, config=config, network=network,
                        cycles=sum(count or 0 for count in cycles))

    def tune(self, proposal: Proposal) -> None:
        """Change buffers, lanes and bus one after the other; what is better stays."""
        for path, factor in STEPS:
            value = int(_value(proposal.config, path) * factor)
            changed = self.add({**proposal.values, path: value})
            if changed and changed.order < proposal.order:
                proposal = changed

    @property
    def best(self) -> list[Proposal]:
        """What was compiled, the best first."""
        return sorted((each for each in self.found.values() if each), key=lambda p: p.order)


def propose(graph: Graph, board: Board, config: CoreConfig, *, count: int = 3,
            progress: Callable[[str], None] = lambda text: None) -> list[Proposal]:
    """The fastest configurations for a model that fit a board, the fastest first.

    Parameters
    ----------
    graph : Graph
        Of int8 operators.
    board : Board
    config : CoreConfig
        What is changed: shape, scratchpads, lanes, width of the bus, weight formats.
    count : int
        How many, each of another shape.
    progress : callable
        Called with what is tried next.

    Returns
    -------
    list of Proposal
        With their ``plan``; fewer or none where no more fit.

    Raises
    ------
    ValueError
        No operator of the model can run on the core, or it is too large for the board's memory.
    """
    if all(graph.tensors[node.output].dtype.startswith("float") for node in graph.nodes):
        raise ValueError(f"model must have operators on int8 for the core, not real numbers alone "
                         f"as {graph.name} has: calibrate it")
    progress("what the board runs now takes of the chip")
    now = plan(top_of(board, config), config, board)
    array = config.array
    spare = max(0, now.dsps - DSPS.get(array.strategy, 0) * array.multipliers)
    search = _Search(graph, board, config, spare, progress)
    search.add({})
    ordered = sorted(shapes(board, config, spare), key=lambda each: array_bound(graph, *each))
    for rows, cols in ordered[:SHAPES]:
        search.add({"array.rows": rows, "array.cols": cols, "array.soft_cols": 0})
        # It is much the same on any array.
        if len(search.too_large) >= TOO_LARGE and not search.best:
            raise ValueError(f"model must fit the {board.memory_bytes:,} bytes of system memory of "
                             f"{board.name}, not need {min(search.too_large):,} or more")
    for proposal in search.best[:TUNED]:
        search.tune(proposal)
    fitting: dict[tuple[int, int], Proposal] = {}    # by shape
    for proposal in search.best:
        made = proposal.config.array
        if len(fitting) == count or (made.rows, made.cols) in fitting:
            continue
        progress(f"what {' '.join(proposal.changes) or 'that'} takes of the chip")
        planned = now if not proposal.changes else plan(
            top_of(board, proposal.config), proposal.config, board)
        if not planned.lacking:
            fitting[made.rows, made.cols] = replace(proposal, plan=planned)
    return list(fitting.values())


def _value(config: CoreConfig, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)
