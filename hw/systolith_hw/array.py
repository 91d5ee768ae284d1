"""The systolic array, for synthesisers that find their multipliers themselves."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .cells import place
from .checks import check_bool, check_int
from .element import ProcessingElement, sum_bits
from .element_ecp5 import CarryElement
from .latency import column_groups, systolic
from .seam import array_ports, check_turns
from .skew import Skew

__all__ = ["Array", "Column"]


class Column(wiring.Component):
    """Elements below each other: one dot product per cycle, row r of it r cycles later.

    Timing: ``sum`` is that of the activation which row 0 took ``rows - 1`` cycles and the latency
    of an element before.

    Parameters
    ----------
    rows : int
        R, the elements.
    weight_bits : int
        Bits of a weight; 2 are a ternary one.
    gated : bool
        As of ``Multiplier``.
    carry : bool
        Whether elements are ``CarryElement``.

    Members
    -------
    activations : ``In(ArrayLayout(signed(8), rows))``
        Operand of each row, already slanted.
    swaps : ``In(rows)``
        Which rows make the shadow weight the active one.
    weight : ``In(signed(weight_bits))``
        Weight for the top shadow register.
    shifts : ``In(rows)``
        Which rows take the shadow weight from above.
    sum : ``Out(signed(sum_bits(rows, weight_bits)))``
        The dot product.

    Where gated also ``valids : In(rows)`` and ``lives : In(rows)``, as of ``Multiplier``.
    """
    def __init__(self, *, rows: int, weight_bits: int = 8, gated: bool = False,
                 carry: bool = False):
        check_int("rows", rows, 1, 64)
        check_bool("gated", gated)
        check_bool("carry", carry)
        self.rows = rows
        self.weight_bits = weight_bits
        self.gated = gated
        self.carry = carry
        self.latency = systolic(rows, 1, carry=carry)
        super().__init__({
            "activations": In(ArrayLayout(signed(8), rows)),
            "swaps": In(rows),
            "weight": In(signed(weight_bits)),
            "shifts": In(rows),
            "sum": Out(signed(sum_bits(rows, weight_bits))),
            **({"valids": In(rows), "lives": In(rows)} if gated else {}),
        })

    def elaborate(self, platform):
        m = Module()
        weight, total = self.weight, Const(0, signed(sum_bits(0, self.weight_bits)))
        alike = {}  # the first row with sums as wide, so that all such rows are one module
        for r in range(self.rows):
            widths = sum_bits(r, self.weight_bits), sum_bits(r + 1, self.weight_bits)
            row = alike.setdefault(widths, r)
            element = CarryElement(row=row) if self.carry else ProcessingElement(
                row=row, weight_bits=self.weight_bits, gated=self.gated)
            place(m, platform, f"element_{r}", element)
            m.d.comb += [
                element.activation.eq(self.activations[r]),
                element.swap.eq(self.swaps[r]),
                element.shift.eq(self.shifts[r]),
                element.weight.eq(weight),
                element.sum_above.eq(total),
            ]
            if self.gated:
                m.d.comb += [element.valid.eq(self.valids[r]), element.live.eq(self.lives[r])]
            weight, total = element.weight_below, element.sum
        m.d.comb += self.sum.eq(total)
        return m


class Array(wiring.Component):
    """Weight-stationary systolic array: ``sums = row @ weights`` for each row, a row per cycle.

    The weights of the next tile come in while this one computes, one row of C per cycle, the last
    (r = R - 1) first, down a chain of shadow registers in each column. On weight row k of a tile
    (k = 0 .. R - 1) only array rows 0 to k shift: the rows below still hold weights that the
    swap, moving down one row per cycle, has not reached. So a tile of m rows costs exactly
    ``max(m, R)`` cycles. Nothing waits: the sequencer in front keeps to these rules:

    * weight rows of a tile may begin in the cycle in which the swap before them enters, and may
      come with gaps;
    * a swap may enter in the cycle after the last weight row of its tile.

    ``fanout`` columns form a group that shares its activations; column group g works g cycles
    later than group 0, array row r works r cycles later than row 0. Elements keep their own copy
    of the activation; a synthesiser makes the copies in a group one register.

    A gated array keeps multipliers still where they have nothing to add: it finds out once for each
    row, behind the skew, whether its activation is zero or not valid, and the registers of all
    groups do not take those. Results and cycles are the same.

    Timing: ``sums`` belong to the ``row`` of ``latency`` cycles before.

    Parameters
    ----------
    rows : int
        R, the K direction: activations in a row. 1 to 64.
    cols : int
        C, the N direction: sums in a row. 1 to 128.
    weight_bits : int
        Bits of a weight; 2 are a ternary one.
    fanout : int
        Columns in a group. 1 to 128.
    gated : bool
        Whether activations that are zero or not valid leave the multipliers' operands as they are.
    carry : bool
        Whether elements are ``CarryElement``, which ternary weights need and gates exclude.

    Members
    -------
    row : ``In(ArrayLayout(signed(8), rows))``
        Activations.
    row_valid : ``In(1)``
        ``row`` is one.
    swap : ``In(1)``
        ``row`` is the first of a tile: it and those after it meet the weights that came last.
        Ignored without ``row_valid``.
    weights : ``In(ArrayLayout(signed(weight_bits), cols))``
        Weights of one array row, row ``rows - 1`` of a tile first.
    weights_valid : ``In(1)``
        ``weights`` are some.
    sums : ``Out(ArrayLayout(signed(sum_bits), cols))``
        Dot products of a row with the columns of weights, in exactly the width they need.
    sums_valid : ``Out(1)``
        ``row_valid`` of ``latency`` cycles before.
    """
    def __init__(self, *, rows: int, cols: int, weight_bits: int = 8, fanout: int = 4,
                 gated: bool = False, carry: bool = False):
        check_int("rows", rows, 1, 64)
        check_int("cols", cols, 1, 128)
        check_int("fanout", fanout, 1, 128)
        check_bool("gated", gated)
        check_bool("carry", carry)
        if carry and weight_bits != 2:
            raise ValueError(f"weight_bits must be 2 where carry is true, not {weight_bits}")
        if carry and gated:
            raise ValueError("gated must be False where carry is true, not True")
        self.rows = rows
        self.cols = cols
        self.weight_bits = weight_bits
        self.fanout = fanout
        self.gated = gated
        self.carry = carry
        self.latency = systolic(rows, self.groups, carry=carry)
        super().__init__(array_ports(rows=rows, cols=cols, weight_bits=weight_bits,
                                     sum_bits=self.sum_bits))

    @property
    def groups(self) -> int:
        """Groups of columns; the last may be smaller."""
        return column_groups(self.cols, self.fanout)

    @property
    def sum_bits(self) -> int:
        """Bits of a sum."""
        return sum_bits(self.rows, self.weight_bits)

    def elaborate(self, platform):
        m = Module()
        groups = [c // self.fanout for c in range(self.cols)]
        m.submodules.skew = skew = Skew(shape=signed(8), delays=range(self.rows))
        m.submodules.weight_skew = weight_skew = Skew(
            shape=signed(self.weight_bits), delays=groups)
        m.submodules.deskew = deskew = Skew(shape=signed(self.sum_bits),
                                            delays=[self.groups - 1 - g for g in groups])
        m.d.comb += [
            skew.lanes.eq(self.row),
            weight_skew.lanes.eq(self.weights),
            self.sums.eq(deskew.delayed),
        ]

        swap  = self.swap & self.row_valid
        valid = Signal(self.latency)
        m.d.comb += self.sums_valid.eq(valid[-1])
        m.d.sync += valid.eq(Cat(self.row_valid, valid))

        # Rows 0 to k shift on weight row k: ones enter from the right, one more on each.
        reach = Signal(self.rows, init=1)
        with m.If(self.weights_valid):
            m.d.sync += reach.eq(Mux(reach[-1], 1, Cat(1, reach)))

        # What a group works with: its activations and swaps by row, its shift enables by row.
        acts   = skew.delayed
        swaps  = self._slant(m, swap)
        shifts = reach & self.weights_valid.replicate(self.rows)
        valids = Cat(self.row_valid, valid)     # of group g and row r in place g + r
        lives  = Signal(self.rows)
        if self.gated:
            m.d.comb += lives.eq(Cat(act.any() for act in acts) & valids[:self.rows])
        for g in range(self.groups):
            for c in range(g * self.fanout, min((g + 1) * self.fanout, self.cols)):
                column = Column(rows=self.rows, weight_bits=self.weight_bits, gated=self.gated,
                                carry=self.carry)
                place(m, platform, f"column_{c}", column)
                m.d.comb += [
                    column.activations.eq(acts),
                    column.swaps.eq(swaps),
                    column.shifts.eq(shifts),
                    column.weight.eq(weight_skew.delayed[c]),
                    deskew.lanes[c].eq(column.sum),
                ]
                if self.gated:
                    m.d.comb += [column.valids.eq(valids[g:g + self.rows]), column.lives.eq(lives)]
            if g + 1 < self.groups:
                next_acts   = Signal(self.row.shape(), name=f"acts_{g + 1}", reset_less=True)
                next_swaps  = Signal(self.rows, name=f"swaps_{g + 1}")
                next_shifts = Signal(self.rows, name=f"shifts_{g + 1}")
                if self.gated:
                    next_lives = Signal(self.rows, name=f"lives_{g + 1}")
                    m.d.sync += next_lives.eq(lives)
                    for r in range(self.rows):
                        with m.If(lives[r]):
                            m.d.sync += next_acts[r].eq(acts[r])
                    lives = next_lives
                else:
                    m.d.sync += next_acts.eq(acts)
                m.d.sync += [next_swaps.eq(swaps), next_shifts.eq(shifts)]
                acts, swaps, shifts = next_acts, next_swaps, next_shifts

        check_turns(m, platform, rows=self.rows, weights_valid=self.weights_valid, swap=swap)
        return m

    def _slant(self, m, swap):
        """``swap`` for each row, later by a cycle from row to row."""
        line = Signal(max(self.rows - 1, 1), name="swap_line")
        m.d.sync += line.eq(Cat(swap, line))
        return Cat(swap, line)[:self.rows]
