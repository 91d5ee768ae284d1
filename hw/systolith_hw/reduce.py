"""Reductions: each lane over time, then all lanes of a row."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .combine import saturated

__all__ = ["Folder", "LaneTree", "folded_layout"]

GROUP_BITS = 16

# What a lane knows of its row: whether any number was taken, the number, and its group.
folded_layout = data.StructLayout({"taken": 1, "number": signed(32), "group": GROUP_BITS})


class Folder(wiring.Component):
    """Reduces the numbers of one lane: to the largest and its group, or to their sum.

    Timing: one number per cycle; ``folded`` includes it ``LATENCY`` cycles later.

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
    LATENCY = 3     # cycles

    def __init__(self, *, largest: bool):
        self.largest = largest
        super().__init__({
            "valid": In(1), "first": In(1), "take": In(1), "maximum": In(1),
            "number": In(signed(32)), "group": In(GROUP_BITS), "folded": Out(folded_layout),
        })

    def elaborate(self, platform):
        m = Module()

        def reg(name, shape, value, *, reset_less=True):
            """Register that follows ``value``."""
            signal = Signal(shape, name=name, reset_less=reset_less)
            m.d.sync += signal.eq(value)
            return signal

        # A name's digit is the cycle in which its value is there.
        # 1: what does not count is 0, or the least number.
        takes    = self.valid & self.take
        first_1  = reg("first_1", 1, self.valid & self.first, reset_less=False)
        takes_1  = reg("takes_1", 1, takes, reset_less=False)
        number_1 = reg("number_1", 31, Mux(takes, self.number[:31], 0))
        minus_1  = reg("minus_1", 1, takes & self.number[31])

        # 2: the sum, which is limited on its way back. 3: what is found.
        total_2 = Signal(signed(33), reset_less=True)
        sign, over = total_2[-1], total_2[-1] ^ total_2[-2]
        limited = Cat(Mux(over, (~sign).replicate(31), total_2[:31]), sign).as_signed()
        taken_2 = Signal()
        m.d.sync += [
            total_2.eq(Mux(first_1, 0, limited) + Cat(number_1, minus_1).as_signed()),
            taken_2.eq(takes_1 | (taken_2 & ~first_1)),
        ]
        m.d.comb += self.folded.taken.eq(reg("taken_3", 1, taken_2, reset_less=False))
        if not self.largest:
            m.d.comb += self.folded.number.eq(reg("number_3", signed(32), limited))
            return m

        # The same of the largest number, which is chosen on its way back.
        # Of the first one the difference is negative whatever its other bits are.
        least_1   = reg("least_1", 1, ~takes | self.number[31])
        largest   = Signal(signed(32))
        group     = Signal(GROUP_BITS)
        fresh_1   = first_1 | ~taken_2
        below     = (Cat(largest[:31], largest[31] & ~fresh_1, largest[31] | fresh_1).as_signed()
                     - Cat(number_1, least_1 | fresh_1).as_signed())
        larger_2  = reg("larger_2", 1, below[-1])
        new_2     = reg("new_2", signed(32), Cat(number_1, least_1).as_signed())
        before_2  = reg("before_2", signed(32), largest, reset_less=False)  # so that all is defined
        group_2   = reg("group_2", GROUP_BITS, reg("group_1", GROUP_BITS, self.group))
        earlier_2 = reg("earlier_2", GROUP_BITS, group)
        maximum_2 = reg("maximum_2", 1, reg("maximum_1", 1, self.maximum))
        m.d.comb += [
            largest.eq(Mux(larger_2, new_2, before_2)),
            group.eq(Mux(larger_2, group_2, earlier_2)),
            self.folded.number.eq(reg("number_3", signed(32), Mux(maximum_2, largest, limited))),
            self.folded.group.eq(reg("group_3", GROUP_BITS, group)),
        ]
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
                # Of equal numbers the one of the earlier group is larger.
                below = (Cat(high.group, low.number[:32]).as_signed()
                         - Cat(low.group, high.number[:32]).as_signed())
                larger = registered(f"larger{at}", 1, below[-1])
                low_1  = registered(f"low{at}", node, low)
                high_1 = registered(f"high{at}", node, high)
                adds   = registered(f"adds{at}", 1, ~maximum)
                joined = Signal(node, name=f"joined{at}", reset_less=True)
                higher = high_1.taken & (larger | ~low_1.taken)
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
