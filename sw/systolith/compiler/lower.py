"""A graph of int8 operators as one program: operator after operator, each on feature maps."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMAND_BYTES

from ..cycles import Bus
from ..image import Image
from ..models.graph import PRODUCTS, Graph
from ..program import Program
from .moves import without_moves
from .operators import SUMS, Operators
from .ordered import ordered
from .pruned import without_zero_channels

__all__ = ["Lowered", "Part", "Refused", "TooLarge", "lower"]


SPREADS = (4, 0.75, 0)  # banks of maps that are spread over the scratchpad: all, most, none


class TooLarge(ValueError):
    """The program alone takes more system memory than there is; ``needed`` is more than that."""
    def __init__(self, needed: int, there: int):
        super().__init__(f"system memory must have more than {needed:,} bytes for the program, "
                         f"not {there:,}")
        self.needed = needed


class Refused(ValueError):
    """A node cannot be lowered; ``node`` is its name."""
    def __init__(self, node: str, reason: str):
        super().__init__(f"node {node!r}: {reason}")
        self.node, self.reason = node, reason


@dataclass(frozen=True)
class Part:
    """Commands of one node, from ``first`` to before ``end``, and how many multiplications its
    tiles of zeros leave out."""
    node: str
    first: int
    end: int
    left_out: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """An image, the commands it was made of before their semaphores, which of them belong to which
    node, of each command of the image's program which of those it is, and multiplications of nodes
    without channels of zero weights."""
    image: Image
    draft: Program
    parts: list[Part]
    origins: list[int]
    macs: dict[str, int]

    def layer_ends(self, ends: Sequence[int]) -> dict[str, int]:
        """When the last command of each node and of those before it has ended.

        Parameters
        ----------
        ends : sequence of int
            When each command of the image's program has ended, and the program.
        """
        last = [0] * len(self.draft)
        for origin, end in zip(self.origins, ends[:-1], strict=True):
            last[origin] = max(last[origin], end)
        parts = [part for part in self.parts if part.end > part.first]
        found, until = {}, 0
        for part in parts:
            until = max(until, *last[part.first:part.end])
            found[part.node] = until if part is not parts[-1] else ends[-1]
        return found


def lower(graph: Graph, config: CoreConfig, *, exact: bool = True, bus: Bus | None = None,
          stay: bool = False, memory_bytes: int | None = None) -> Lowered:
    """The image of a graph whose inputs, outputs and everything between are int8.

    Parameters
    ----------
    exact : bool
        As ``Operators`` has it.
    bus : Bus or None
        The memory that the core has; None: one that gives a word every cycle.
    stay : bool
        Whether weights may stay in the core from run to run, which they do where all fit.
    memory_bytes : int or None
        Of system memory, where more is of no use.

    Raises
    ------
    Refused
        A node that the core does not do, or for which a memory is too small.
    TooLarge
        The program does not fit ``memory_bytes``.
    """
    graph = _long_before_sums(without_moves(without_zero_channels(graph)))

    def appended(stay: bool) -> tuple[Operators, list[Part]]:
        # Maps that are spread leave gaps in which larger ones may not fit.
        tries = []
        for spread in SPREADS:
            work = Operators(graph, config, exact=exact, bus=bus or Bus(), stay=stay,
                             spread=spread)
            tries.append(_appended(graph, work, memory_bytes))
            if not tries[-1][0].spilled:
                break
        return min(tries, key=lambda done: done[0].spilled)

    found = None
    if stay and _least_rows(graph, config) <= config.memory.wgt_rows:
        with suppress(Refused, TooLarge):   # with their gaps, or more commands, they do not
            found = appended(True)
    work, parts = found or appended(False)
    outputs = [work.output_of(name) for name in graph.outputs]
    draft = work.emitter.program
    (program, origins), (setup, _) = (
        ordered(commands, memory_bytes=work.regions.end, spare_row=config.memory.act_rows - 1)
        for commands in (draft, work.emitter.setup))
    image = work.regions.image(program, [work.inputs[name] for name in graph.inputs], outputs,
                               setup=setup)
    return Lowered(image=image, draft=draft, parts=parts, origins=origins,
                   macs={node.name: graph.macs(node) for node in graph.nodes})


def _least_rows(graph: Graph, config: CoreConfig) -> int:
    """Rows of the weight scratchpad that weights take at least."""
    size = sum(graph.of(node, 1).bytes for node in graph.nodes if node.op in PRODUCTS)
    return -(-size // config.wgt_row_bytes)


def _appended(graph: Graph, work: Operators,
              memory_bytes: int | None) -> tuple[Operators, list[Part]]:
    parts = []
    for number, node in enumerate(graph.nodes):
        first, left_out = len(work.emitter.program), work.emitter.left_out
        try:
            work.append(node)
        except ValueError as error:
            raise Refused(node.name, str(error)) from None
        parts.append(Part(node.name, first, len(work.emitter.program),
                          work.emitter.left_out - left_out))
        needed = COMMAND_BYTES * len(work.emitter.program)
        if memory_bytes is not None and needed > memory_bytes:
            raise TooLarge(needed, memory_bytes)
        work.forget(number)
    return work, parts


def _long_before_sums(graph: Graph) -> Graph:
    """The graph with the longest of what is added done last, so that the sum overlaps with it."""
    nodes = list(graph.nodes)
    for node in graph.nodes:
        places = [place for place, other in enumerate(nodes)
                  if node.op in SUMS and other.output in node.inputs and other.op == "conv"]
        if len(places) == 2 and nodes[places[0]].output not in nodes[places[1]].inputs and (
                graph.macs(nodes[places[0]]) > graph.macs(nodes[places[1]])):
            first, last = places
            between = {name for other in nodes[first + 1:last + 1] for name in other.inputs}
            if nodes[first].output not in between:
                nodes.insert(last, nodes.pop(first))
    return replace(graph, nodes=nodes)
