"""The array in LUTs: ternary and int4 weights, without DSPs."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .cells import place
from .checks import check_bool, check_choice, check_int
from .latency import column_groups, soft, soft_column
from .seam import array_ports, check_turns
from .skew import Skew
from .tree import add_tree

__all__ = ["CELLS", "Cell", "Digit", "SoftArray", "SoftColumn", "cell_named"]


@dataclass(frozen=True, kw_only=True)
class Digit:
    """A part of a weight, so small that a LUT with four inputs makes a bit of its product.

    The product is ``term(weight, x, 3 * x) + negative(weight)``: terms below zero are inverted
    bits, and what they lack is counted elsewhere.

    Parameters
    ----------
    shift : int
        The digit's place: it counts ``1 << shift``.
    bits : int
        Bits of a term.
    term : callable
        Of the weight's bits, an activation and its triple.
    negative : callable
        Of the weight's bits: whether the term is inverted.
    """
    shift: int
    bits: int
    term: Callable[[Value, Value, Value], Value]
    negative: Callable[[Value], Value]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A kind of weight.

    Parameters
    ----------
    bits : int
        Bits of a weight, which is signed.
    least : int
        Least weight; none is farther from zero.
    digits : tuple of Digit
        What it is made of.
    triples : bool
        Whether a digit needs three times the activation.
    """
    bits: int
    least: int
    digits: tuple[Digit, ...]
    triples: bool

    def sum_bits(self, rows: int) -> int:
        """Bits of a dot product with so many rows."""
        return (rows * self.least * -128).bit_length() + 1


def _odd(negative: Value, triple: Value, x: Value, x3: Value) -> Value:
    """-3, -1, 1 or 3 times ``x``."""
    return Mux(triple, x3, x) ^ negative.replicate(10)


# w in -1..1.
_SIGN = Digit(
    shift=0, bits=8,
    term=lambda w, x, x3: (x ^ w[1].replicate(8)) & w[0].replicate(8),
    negative=lambda w: w[1])

# w = 4 * u + v = (v - 2) + 2 * (2 * u + 1) with v in 0..3 and u in -2..1: two digits, -2..1 and
# -3, -1, 1, 3, that need no recoding.
_LOW = Digit(
    shift=0, bits=9,
    term=lambda w, x, x3: Mux(w[1], Mux(w[0], x, 0), Mux(w[0], ~x, ~(x << 1))),
    negative=lambda w: ~w[1])
_HIGH = Digit(
    shift=1, bits=10,
    term=lambda w, x, x3: _odd(w[3], w[2] ^ w[3], x, x3),
    negative=lambda w: w[3])

# A fifth bit makes u -4..3, and 2 * u + 1 the sum of another such digit and -4 or 4.
_MIDDLE = Digit(
    shift=1, bits=10,
    term=lambda w, x, x3: _odd(~w[3], ~(w[2] ^ w[3]), x, x3),
    negative=lambda w: ~w[3])
_TOP = Digit(
    shift=3, bits=8,
    term=lambda w, x, x3: x ^ w[4].replicate(8),
    negative=lambda w: w[4])

CELLS = MappingProxyType({
    "ternary": Cell(bits=2, least=-1, digits=(_SIGN,), triples=False),
    "int4": Cell(bits=4, least=-8, digits=(_LOW, _HIGH), triples=True),
    "int5": Cell(bits=5, least=-16, digits=(_LOW, _MIDDLE, _TOP), triples=True),
})


def cell_named(cell: str, digits: bool) -> Cell:
    """The cell of ``cell="ternary"`` or ``"int4"``; with ``digits``, int4 has a fifth bit.

    Raises
    ------
    TypeError, ValueError
        There is no such cell.
    """
    check_choice("cell", cell, ("ternary", "int4"))
    check_bool("digits", digits)
    if digits and cell != "int4":
        raise ValueError(f"digits must be False for {cell} cells, not True")
    return CELLS["int5" if digits else cell]


class SoftColumn(wiring.Component):
    """One dot product per cycle, of all rows at the same time.

    Each weight digit selects a multiple of its activation; trees of adders sum the digits of one
    place, and join the places. What inverted terms lack to be negative is counted while weights
    come in and added at the end.

    Timing: ``sum`` is that of the ``activations`` of ``latency`` cycles before. Weights follow
    ``swap`` and ``shift`` by one cycle; the shadow weights may shift in the cycle of a ``swap``.

    Parameters
    ----------
    rows : int
        R. 1 to 64.
    cell : str
        ``ternary`` or ``int4``.
    digits : bool
        Whether int4 weights have a fifth bit.

    Members
    -------
    activations : ``In(ArrayLayout(signed(8), rows))``
        Operand of each row.
    triples : ``In(ArrayLayout(signed(10), rows))``
        Three times the activations; only where the cell needs them.
    weight : ``In(signed(weight_bits))``
        Weight for the shadow register of row 0.
    shift : ``In(1)``
        Shadow weights go down a row.
    swap : ``In(1)``
        Shadow weights become the active ones, for the next cycle's activations on.
    late_swap : ``In(1)``
        ``swap`` of ``lateness`` cycles before.
    sum : ``Out(signed(sum_bits))``
        The dot product.
    """
    def __init__(self, *, rows: int, cell: str, digits: bool = False):
        check_int("rows", rows, 1, 64)
        self.rows = rows
        self.cell = cell
        self.digits = digits
        kind = cell_named(cell, digits)
        self.lateness, self.latency = soft_column(rows, len(kind.digits))
        super().__init__({
            "activations": In(ArrayLayout(signed(8), rows)),
            **({"triples": In(ArrayLayout(signed(10), rows))} if kind.triples else {}),
            "weight": In(signed(kind.bits)),
            "shift": In(1),
            "swap": In(1),
            "late_swap": In(1),
            "sum": Out(signed(kind.sum_bits(rows))),
        })

    def elaborate(self, platform):
        m = Module()
        kind, bits = cell_named(self.cell, self.digits), len(self.sum)
        shadow = Signal(ArrayLayout(kind.bits, self.rows), reset_less=True)
        active = Signal(ArrayLayout(kind.bits, self.rows), reset_less=True)
        with m.If(self.shift):
            m.d.sync += shadow.eq(Cat(self.weight, shadow))
        with m.If(self.swap):
            m.d.sync += active.eq(shadow)

        places = []
        for number, digit in enumerate(kind.digits):
            terms = []
            for r in range(self.rows):
                term = Signal(signed(digit.bits), name=f"term_{number}_{r}", reset_less=True)
                triple = self.triples[r] if kind.triples else Const(0, signed(10))
                m.d.sync += term.eq(digit.term(active[r], self.activations[r], triple))
                terms.append(term)
            places.append(add_tree(m, f"place_{number}", [(term, digit.shift) for term in terms],
                                   bits=bits))

        total, _ = add_tree(m, "joined", [*places, (self._lack(m, kind), 0)], bits=bits)
        m.d.comb += self.sum.eq(total)
        return m

    def _lack(self, m, kind):
        """What the terms of the active weights lack, when the first of them leave their trees."""
        most  = self.rows * sum(1 << digit.shift for digit in kind.digits)
        count = Signal(range(most + 1))  # of the weights since the last swap
        lack  = Signal(range(most + 1), reset_less=True)
        digits = len(kind.digits)
        late  = Signal(digits * self.lateness)  # reset, like the count it goes into
        m.d.sync += late.eq(Cat(*(digit.negative(self.weight) & self.shift
                                  for digit in kind.digits), late))
        entering = sum((late[i - digits] << digit.shift for i, digit in enumerate(kind.digits)),
                       start=Const(0, 1))
        # No Mux: the bits above ``entering`` would get a reset of their own, which on iCE40 tears
        # the carry chain apart.
        swap = self.late_swap.replicate(len(count))
        m.d.sync += count.eq(((count + entering) & ~swap) | (entering & swap))
        with m.If(self.late_swap):
            m.d.sync += lack.eq(count)
        return lack


class SoftArray(wiring.Component):
    """Weight-stationary array without skew: ``sums = row @ weights``, a row per cycle.

    All rows of a column swap in the same cycle, and a tile of m rows costs exactly ``max(m, R)``
    cycles under the rules of :class:`.Array`. ``fanout`` columns form a group that shares a
    register for each activation; group g works g cycles later than group 0.

    Timing: ``sums`` belong to the ``row`` of ``latency`` cycles before: a cycle for each group,
    one for the terms, the levels of a tree over the rows, and the levels that join the digits:
    1 (ternary) or 2 (int4).

    Parameters
    ----------
    rows : int
        R, the K direction: activations in a row. 1 to 64.
    cols : int
        C, the N direction: sums in a row. 1 to 128.
    cell : str
        Weights: ``ternary`` (-1 to 1) or ``int4`` (-8 to 7).
    digits : bool
        Whether int4 weights have a fifth bit (-16 to 15).
    fanout : int
        Columns in a group. 1 to 128.

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
        Weights of one array row, row ``rows - 1`` of a tile first. Ternary weights are never -2.
    weights_valid : ``In(1)``
        ``weights`` are some.
    sums : ``Out(ArrayLayout(signed(sum_bits), cols))``
        Dot products of a row with the columns of weights, in exactly the width they need.
    sums_valid : ``Out(1)``
        ``row_valid`` of ``latency`` cycles before.
    """
    def __init__(self, *, rows: int, cols: int, cell: str = "ternary", digits: bool = False,
                 fanout: int = 4):
        check_int("rows", rows, 1, 64)
        check_int("cols", cols, 1, 128)
        check_int("fanout", fanout, 1, 128)
        kind = cell_named(cell, digits)
        self.rows = rows
        self.cols = cols
        self.cell = cell
        self.digits = digits
        self.fanout = fanout
        self.sum_bits = kind.sum_bits(rows)
        self.latency = soft(rows, self.groups, len(kind.digits))
        super().__init__(array_ports(rows=rows, cols=cols, weight_bits=kind.bits,
                                     sum_bits=self.sum_bits))

    @property
    def groups(self) -> int:
        """Groups of columns; the last may be smaller."""
        return column_groups(self.cols, self.fanout)

    def elaborate(self, platform):
        m = Module()
        kind = cell_named(self.cell, self.digits)
        groups = [c // self.fanout for c in range(self.cols)]
        m.submodules.weight_skew = weight_skew = Skew(shape=signed(kind.bits), delays=groups)
        m.submodules.deskew = deskew = Skew(shape=signed(self.sum_bits),
                                            delays=[self.groups - 1 - g for g in groups])
        m.d.comb += [
            weight_skew.lanes.eq(self.weights),
            self.sums.eq(deskew.delayed),
        ]
        swap  = self.swap & self.row_valid
        valid = Signal(self.latency)
        m.d.comb += self.sums_valid.eq(valid[-1])
        m.d.sync += valid.eq(Cat(self.row_valid, valid))

        lateness, _ = soft_column(self.rows, len(kind.digits))
        acts: Any = self.row
        swaps, shift = swap, self.weights_valid
        triples: Any = [act + (act << 1) for act in acts]
        for g in range(self.groups):
            # What the group's columns work with, and the next group a cycle later.
            group_acts = Signal(self.row.shape(), name=f"acts_{g}", reset_less=True)
            m.d.sync += group_acts.eq(acts)
            # A reset ends the count of a tile whose weights were on their way.
            late = Signal(lateness, name=f"late_{g}", init=(1 << lateness) - 1)
            m.d.sync += late.eq(Cat(swaps, late))
            if kind.triples:
                before, triples = triples, Signal(
                    ArrayLayout(signed(10), self.rows), name=f"triples_{g}", reset_less=True)
                m.d.sync += [triples[r].eq(before[r]) for r in range(self.rows)]
            for c in range(g * self.fanout, min((g + 1) * self.fanout, self.cols)):
                column = SoftColumn(rows=self.rows, cell=self.cell, digits=self.digits)
                place(m, platform, f"column_{c}", column)
                m.d.comb += [
                    column.activations.eq(group_acts),
                    column.weight.eq(weight_skew.delayed[c]),
                    column.shift.eq(shift),
                    column.swap.eq(swaps),
                    column.late_swap.eq(late[-1]),
                    deskew.lanes[c].eq(column.sum),
                ]
                if kind.triples:
                    m.d.comb += column.triples.eq(triples)
            if g + 1 < self.groups:
                next_shift = Signal(name=f"shift_{g + 1}")
                m.d.sync += next_shift.eq(shift)
                acts, swaps, shift = group_acts, late[0], next_shift

        check_turns(m, platform, rows=self.rows, weights_valid=self.weights_valid, swap=swap)
        return m
