"""The array of iCE40's DSPs: two products in each, pairs of rows added inside."""

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .cells import has_vendor_cells, place
from .checks import check_bool, check_int
from .element import sum_bits
from .latency import ice40
from .seam import array_ports, check_turns
from .tree import add_tree

__all__ = ["Ice40Array", "Mac16"]


class Mac16(wiring.Component):
    """SB_MAC16 as two int8 multipliers with one activation: ``sums[i] = activation * weights[i]``.

    With ``adds``, ``sums[i] = (above[i] + activation * weights[i]) mod 2 ** 16``. The active
    weights are in the cell's B register. Where no vendor cells are wanted, the same in plain
    Amaranth.

    Timing: ``sums`` are those of the ``activation`` of two cycles before. With ``adds``, of three
    cycles before, and of the ``above`` of one cycle before.

    Source: Lattice SBTICETechnologyLibrary201708, "SB_MAC16"; Yosys' model of it.

    Parameters
    ----------
    adds : bool
        Whether there is something to add to.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    weights : ``In(ArrayLayout(signed(8), 2))``
        What ``swap`` makes the active weights.
    swap : ``In(1)``
        Take ``weights``, for this cycle's activation and those after it.
    above : ``In(ArrayLayout(signed(16), 2))``
        Only with ``adds``: what to add to.
    sums : ``Out(ArrayLayout(signed(16), 2))``
        Products, or sums.
    """
    def __init__(self, *, adds: bool):
        check_bool("adds", adds)
        self.adds = adds
        self.latency = 3 if adds else 2
        sums = ArrayLayout(signed(16), 2)
        super().__init__({
            "activation": In(signed(8)),
            "weights": In(ArrayLayout(signed(8), 2)),
            "swap": In(1),
            **({"above": In(sums)} if adds else {}),
            "sums": Out(sums),
        })

    def elaborate(self, platform):
        return self._cell() if has_vendor_cells(platform) else self._behaviour()

    def _cell(self):
        m = Module()
        above: Any = self.above if self.adds else (Const(0, 16), Const(0, 16))
        # The output: the adder's register, or the product's.
        output, adds = (1, 1) if self.adds else (2, 0)
        parameters = {
            "MODE_8x8": Const(1), "A_SIGNED": Const(1), "B_SIGNED": Const(1),
            "A_REG": Const(1), "B_REG": Const(1),
            "TOP_8x8_MULT_REG": Const(1), "BOT_8x8_MULT_REG": Const(1),
        }
        for half in ("TOP", "BOT"):
            parameters[f"{half}OUTPUT_SELECT"] = Const(output, 2)
            parameters[f"{half}ADDSUB_LOWERINPUT"] = Const(adds, 2)
            parameters[f"{half}ADDSUB_UPPERINPUT"] = Const(adds)
        unused = ("AHOLD", "CHOLD", "DHOLD", "OHOLDTOP", "OHOLDBOT", "IRSTTOP", "IRSTBOT",
                  "ORSTTOP", "ORSTBOT", "OLOADTOP", "OLOADBOT", "ADDSUBTOP", "ADDSUBBOT", "CI",
                  "ACCUMCI", "SIGNEXTIN")
        m.submodules.mac = Instance(
            "SB_MAC16",
            **{f"p_{name}": value for name, value in parameters.items()},
            **{f"i_{name}": Const(0) for name in unused},
            i_CLK=ClockSignal(), i_CE=Const(1), i_BHOLD=~self.swap,
            i_A=Cat(self.activation, self.activation), i_B=self.weights,
            i_C=above[1], i_D=above[0],
            o_O=self.sums)
        return m

    def _behaviour(self):
        m = Module()
        activation = Signal(signed(8), reset_less=True)
        weights    = Signal(ArrayLayout(signed(8), 2), reset_less=True)
        products   = Signal(ArrayLayout(signed(16), 2), reset_less=True)
        m.d.sync += activation.eq(self.activation)
        with m.If(self.swap):
            m.d.sync += weights.eq(self.weights)
        for i in range(2):
            m.d.sync += products[i].eq(activation * weights[i])
        if self.adds:
            sums = Signal(ArrayLayout(signed(16), 2), reset_less=True)
            for i in range(2):
                m.d.sync += sums[i].eq(self.above[i] + products[i])
            m.d.comb += self.sums.eq(sums)
        else:
            m.d.comb += self.sums.eq(products)
        return m


class Ice40Array(wiring.Component):
    """Weight-stationary array without skew: ``sums = row @ weights``, a row per cycle.

    A DSP holds the weights of two columns. The products of an even row go to the DSP below, which
    adds its own; a tree in LUTs adds the pairs of rows. All rows and columns swap in the same
    cycle, from shadow registers in LUTs, and a tile of m rows costs exactly ``max(m, R)`` cycles
    under the rules of :class:`.Array`.

    The sum of a pair has 16 bits, which hold all but 2 * 16384: only -128 * -128 is 16384, the
    one product whose upper bits are 01, and a sum with it that looks negative is that one.

    Timing: ``sums`` belong to the ``row`` of ``latency`` cycles before, which is 3 and the levels
    of a tree over ``(rows + 1) // 2`` pairs.

    Parameters
    ----------
    rows : int
        R, the K direction: activations in a row. 1 to 64.
    cols : int
        C, the N direction: sums in a row. 1 to 64.

    Members
    -------
    row : ``In(ArrayLayout(signed(8), rows))``
        Activations.
    row_valid : ``In(1)``
        ``row`` is one.
    swap : ``In(1)``
        ``row`` is the first of a tile: it and those after it meet the weights that came last.
        Ignored without ``row_valid``.
    weights : ``In(ArrayLayout(signed(8), cols))``
        Weights of one array row, row ``rows - 1`` of a tile first.
    weights_valid : ``In(1)``
        ``weights`` are some.
    sums : ``Out(ArrayLayout(signed(sum_bits), cols))``
        Dot products of a row with the columns of weights, in exactly the width they need.
    sums_valid : ``Out(1)``
        ``row_valid`` of ``latency`` cycles before.
    """
    def __init__(self, *, rows: int, cols: int):
        check_int("rows", rows, 1, 64)
        check_int("cols", cols, 1, 64)
        self.rows = rows
        self.cols = cols
        self.sum_bits = sum_bits(rows)
        self.latency = ice40(rows)
        super().__init__(array_ports(rows=rows, cols=cols, weight_bits=8, sum_bits=self.sum_bits))

    def elaborate(self, platform):
        m = Module()
        swap  = self.swap & self.row_valid
        valid = Signal(self.latency)
        m.d.comb += self.sums_valid.eq(valid[-1])
        m.d.sync += valid.eq(Cat(self.row_valid, valid))

        shadows = [Signal(ArrayLayout(signed(8), self.rows), name=f"shadow_{c}", reset_less=True)
                   for c in range(self.cols)]
        with m.If(self.weights_valid):
            m.d.sync += [shadow.eq(Cat(self.weights[c], shadow))
                         for c, shadow in enumerate(shadows)]

        terms: list[list[tuple[Any, int]]] = [[] for _ in range(self.cols)]
        for first in range(0, self.cols, 2):
            columns = range(first, min(first + 2, self.cols))
            for r in range(0, self.rows, 2):
                pair = self._pair(m, platform, r, [shadows[c] for c in columns], first, swap)
                for c, total in zip(columns, pair, strict=True):
                    terms[c].append((total, 0))
        for c in range(self.cols):
            total, _ = add_tree(m, f"sum_{c}", terms[c], bits=self.sum_bits)
            m.d.comb += self.sums[c].eq(total)

        check_turns(m, platform, rows=self.rows, weights_valid=self.weights_valid, swap=swap)
        return m

    def _pair(self, m, platform, r, shadows, first, swap):
        """Sums of rows ``r`` and ``r + 1`` in the columns of ``shadows``, or of the last row."""
        lower = Mac16(adds=True)
        upper = Mac16(adds=False)
        alone = r + 1 == self.rows
        for row, mac in ((r, lower),) if alone else ((r, upper), (r + 1, lower)):
            place(m, platform, f"mac_{row}_{first}", mac)
            m.d.comb += [mac.activation.eq(self.row[row]), mac.swap.eq(swap)]
            m.d.comb += [mac.weights[i].eq(shadow[row]) for i, shadow in enumerate(shadows)]
        if alone:
            return [lower.sums[i] for i in range(len(shadows))]
        m.d.comb += lower.above.eq(upper.sums)
        pairs = []
        for i in range(len(shadows)):
            most = Signal(name=f"most_{r}_{first + i}", reset_less=True)  # the product is 16384
            m.d.sync += most.eq(upper.sums[i][14:16] == 0b01)
            total = lower.sums[i]
            pairs.append(Cat(total, total[15] & ~most).as_signed())
        return pairs
