"""Reductions: each lane over time, then all lanes of a row."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .combine import INT32_MIN, saturated

__all__ = ["Folder", "LaneTree", "folded_layout"]

GROUP_BITS = 16

# What a lane knows of its row: whether any number was taken, the number, and its group.
folded_layout = data.StructLayout({"taken": 1, "number": signed(32), "group": GROUP_BITS})


class Folder(wiring.Component):
    """Reduces the numbers of one lane: to the largest and its group, or to their sum.

    Timing: one number per cycle; ``folded`` includes it one cycle later.

    Parameters
    ----------
    largest : bool
        Whether there are maxima beside sums.

    Members
    -------
    valid : ``In(1)``
        There is a number.
    first : ``In(1)``
        It is the first of its row.
    take : ``In(1)``
        It counts.
    maximum : ``In(1)``
        Look for the largest; otherwise add, saturating at int32.
    number : ``In(signed(32))``
    group : ``In(16)``
    folded : ``Out(folded_layout)``
        The numbers of the row so far.
    """
    def __init__(self, *, largest: bool):
        self.largest = largest
        super().__init__({
            "valid": In(1), "first": In(1), "take": In(1), "maximum": In(1),
            "number": In(signed(32)), "group": In(GROUP_BITS), "folded": Out(folded_layout),
        })

    def elaborate(self, platform):
        m = Module()
        folded = Signal(folded_layout, reset_less=True)
        total = Signal(signed(33))
        neutral = Mux(self.maximum, INT32_MIN, 0) if self.largest else Const(0)
        m.d.comb += [
            self.folded.eq(folded),
            total.eq(Mux(self.first, 0, folded.number) + Mux(self.take, self.number, 0)),
        ]
        better = Const(1)
        if self.largest:
            better = self.take & (self.first | ~folded.taken | (self.number > folded.number))
        with m.If(self.valid):
            m.d.sync += folded.taken.eq(self.take | (folded.taken & ~self.first))
            with m.If(~self.maximum if self.largest else Const(1)):
                m.d.sync += folded.number.eq(saturated(total, 32))
            with m.Elif(better):
                m.d.sync += [folded.number.eq(self.number), folded.group.eq(self.group)]
            with m.Elif(self.first):
                m.d.sync += folded.number.eq(neutral)
        return m


class LaneTree(wiring.Component):
    """Reduces all lanes of a row, pairs of them at a time.

    Timing: one row per cycle, ``latency(lanes=..., largest=...)`` cycles later.

    Parameters
    ----------
    lanes : int
        A power of two.
    largest : bool
        Whether there are maxima beside sums.

    Members
    -------
    maximum : ``In(1)``
        Beside ``lane``: look for the largest.
    lane* : ``In(folded_layout)``
    number : ``Out(signed(32))``
        Largest number, or the sum, saturated.
    position : ``Out(16 + log2(lanes))``
        Of the first of the largest; 0 for sums.
    """
    def __init__(self, *, lanes: int, largest: bool):
        self.lanes = lanes
        self.largest = largest
        super().__init__({
            "maximum": In(1),
            **{f"lane{i}": In(folded_layout) for i in range(lanes)},
            "number": Out(signed(32)),
            "position": Out(GROUP_BITS + exact_log2(lanes)),
        })

    @staticmethod
    def latency(*, lanes: int, largest: bool) -> int:
        """Cycles from the lanes to their result."""
        return exact_log2(lanes) * (2 if largest else 1) + 1

    def elaborate(self, platform):
        m = Module()
        levels = exact_log2(self.lanes)
        node = data.StructLayout({"taken": 1, "number": signed(32 + levels),
                                  "group": GROUP_BITS, "lane": levels})

        def registered(name, shape, value):
            signal = Signal(shape, name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        nodes = []
        for i in range(self.lanes):
            lane = getattr(self, f"lane{i}")
            leaf = Signal(node, name=f"leaf{i}")
            m.d.comb += [leaf.taken.eq(lane.taken), leaf.number.eq(lane.number),
                         leaf.group.eq(lane.group), leaf.lane.eq(i)]
            nodes.append(leaf)
        maximum = self.maximum
        for level in range(levels):
            pairs = list(zip(nodes[::2], nodes[1::2], strict=True))
            nodes = []
            for i, (low, high) in enumerate(pairs):
                at = f"{level}_{i}"
                total = registered(f"total{at}", signed(32 + levels), low.number + high.number)
                if not self.largest:
                    joined = Signal(node, name=f"joined{at}")
                    m.d.comb += joined.number.eq(total)
                    nodes.append(joined)
                    continue
                higher = registered(f"higher{at}", 1, high.taken & (
                    ~low.taken | (high.number > low.number)
                    | ((high.number == low.number) & (high.group < low.group))))
                low_1  = registered(f"low{at}", node, low)
                high_1 = registered(f"high{at}", node, high)
                adds   = registered(f"adds{at}", 1, ~maximum)
                joined = Signal(node, name=f"joined{at}", reset_less=True)
                m.d.sync += joined.eq(Mux(higher, high_1, low_1))
                with m.If(adds):
                    m.d.sync += joined.number.eq(total)
                nodes.append(joined)
            if self.largest:
                maximum = registered(f"maximum{level}_1", 1, maximum)
                maximum = registered(f"maximum{level}_2", 1, maximum)
        root = nodes[0]
        m.d.comb += self.number.eq(registered("number_out", signed(32), saturated(root.number, 32)))
        if self.largest:
            m.d.comb += self.position.eq(registered(
                "position_out", self.position.shape(),
                Mux(maximum, Cat(root.lane, root.group), 0)))
        return m
