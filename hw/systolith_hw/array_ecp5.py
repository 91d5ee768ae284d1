"""The multiply array of the ECP5: one MULT18X18D per element, sums in a tree.

A MULT18X18D multiplies 18 by 18 bits, which is room for two products of an activation. Its factor
is ``high * 2**13 + low``: two int4 weights, each of a column of its own, or the two digits of one
int8 weight, ``weight = 16 * high + low`` with ``low`` from 0 to 15. A product of ``low`` is at most
128 * 15 in magnitude, so the sum of two of them still fits the lower 13 bits, signed.
"""

import operator
from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .cells import place
from .cells_ecp5 import HeldMultiplier
from .checks import check_bool, check_int
from .element import sum_bits
from .latency import column_groups, ecp5, ecp5_column
from .multiplier_ecp5 import CarryMultiplier
from .seam import array_ports, check_turns
from .skew import Skew

__all__ = ["Ecp5Array", "Ecp5Column"]

LOW_BITS = 13  # of a product of two weights: the part that belongs to the lower one


def marked(weight: Value, pairs: Value) -> Value:
    """``weight`` with a bit above it: whether its lower half is negative, which int8 has not."""
    return Cat(weight, weight[3] & pairs)


def packed(weight: Value) -> Value:
    """The two parts of a weight from :func:`marked`: lower 4 bits, their sign, upper part in 5.

    The upper part is one less where the lower one is negative, at least -9.
    """
    high, borrow = [], weight[8]  # a subtractor of five bits would take a carry chain
    for bit in weight[4:8]:
        high.append(bit ^ borrow)
        borrow = borrow & ~bit
    return Cat(weight[:4], weight[8], high, weight[7] ^ borrow)


def factor(parts: Value) -> Value:
    """``high * 2**13 + low`` of parts from :func:`packed`, signed in 18 bits."""
    return Cat(parts[:4], parts[4].replicate(LOW_BITS - 4), parts[5:]).as_signed()


class Ecp5Column(wiring.Component):
    """The elements of one column, all in the same cycle, and the tree that adds their products.

    With pairs the first level of the tree adds whole words of two products. From there on the two
    halves are apart: where the lower half of a word is negative, the upper one is too small by one.
    An adder has room for one such correction in its carry input, so that every node of the tree
    has one correction pending, also the last one. Int8 mode then joins the halves,
    ``low + 16 * high``.

    Timing: ``sums`` are those of the ``activations`` ``latency`` cycles before. ``shift`` may come
    with ``swap``: the swap still takes the weights from before the shift.

    Parameters
    ----------
    rows : int
        R, the elements.
    pairs : bool
        Whether an element can hold two int4 weights.
    soft : bool
        Whether carry cells multiply; not with ``pairs``.

    Members
    -------
    activations : ``In(ArrayLayout(signed(8), rows))``
        Operand of each row.
    row_pairs : ``In(1)``
        Their weights are pairs; only with ``pairs``.
    swap : ``In(1)``
        Make the shadow weights the active ones, from these activations on.
    weight : ``In(8)``, or ``In(9)`` with ``pairs``
        Weight for the top shadow register, then with the bit from :func:`marked`.
    shift : ``In(1)``
        Take ``weight`` into the top shadow register, and each shadow weight one row down.
    sums : ``Out(ArrayLayout(signed(sum_bits(rows)), 2))``, of one sum without ``pairs``
        The dot product with int8 weights or with the lower halves, and that with the upper halves.
    """
    def __init__(self, *, rows: int, pairs: bool = False, soft: bool = False):
        check_int("rows", rows, 1, 64)
        check_bool("pairs", pairs)
        check_bool("soft", soft)
        self.rows = rows
        self.pairs = pairs
        self.soft = soft
        self.latency = ecp5_column(rows, pairs=pairs)
        super().__init__({
            "activations": In(ArrayLayout(signed(8), rows)),
            **({"row_pairs": In(1)} if pairs else {}),
            "swap": In(1),
            "weight": In(9 if pairs else 8),
            "shift": In(1),
            "sums": Out(ArrayLayout(signed(sum_bits(rows)), 2 if pairs else 1)),
        })

    def elaborate(self, platform):
        m = Module()
        products = []
        weight = packed(self.weight) if self.pairs else self.weight
        for r in range(self.rows):
            multiplier = (CarryMultiplier() if self.soft
                          else HeldMultiplier(factor_bits=18 if self.pairs else 8))
            place(m, platform, f"multiplier_{r}", multiplier)
            shadow = Signal(weight.shape(), name=f"shadow_{r}", reset_less=True)
            with m.If(self.shift):
                m.d.sync += shadow.eq(weight)
            m.d.comb += [
                multiplier.activation.eq(self.activations[r]),
                multiplier.factor.eq(factor(shadow) if self.pairs else shadow),
                multiplier.load.eq(self.swap),
            ]
            weight = shadow
            products.append(multiplier.product)
        self._add(m, products)
        return m

    def _add(self, m, products):
        """The sums of the products."""
        if not self.pairs:
            m.d.comb += self.sums[0].eq(_tree(m, "sum", products, operator.add))
            return
        words = _level(m, "word", products, _word) if self.rows > 1 else products
        low  = _tree(m, "low", [word[:LOW_BITS].as_signed() for word in words], operator.add)
        high = _tree(m, "high", [word[LOW_BITS - 1:].as_signed() for word in words], _corrected)
        high = (high[1:].as_signed() + high[0])[:len(high) - 1].as_signed()

        pairs = self.row_pairs
        for i in range(self.latency - 2):
            pairs = _register(m, f"pairs_{i}", pairs)
        low_1    = Signal.like(low, name="low", reset_less=True)
        high_1   = Signal.like(high, name="high", reset_less=True)
        joined_1 = Signal.like(high, name="joined", reset_less=True)  # what int8 adds
        low_2    = Signal.like(self.sums[0], name="low_sum", reset_less=True)
        high_2   = Signal.like(high, name="high_sum", reset_less=True)
        m.d.sync += [
            low_1.eq(low),
            high_1.eq(high),
            joined_1.eq(Mux(pairs, 0, high)),
            low_2.eq(Cat(low_1[:4], low_1[4:].as_signed() + joined_1)),
            high_2.eq(Mux(_register(m, "pairs_joined", pairs), high_1, 0)),
        ]
        m.d.comb += [self.sums[0].eq(low_2), self.sums[1].eq(high_2)]


Adder = Callable[[Value, Value], Value]


def _word(a: Value, b: Value) -> Value:
    """Sum of two words of two products, which is as wide as they are."""
    return (a + b)[:len(a)].as_signed()


def _corrected(a: Value, b: Value) -> Value:
    """Sum of two upper halves, with the correction that each of them needs in its lowest bit.

    That of ``a`` becomes a carry, that of ``b`` stays.
    """
    total = a + Cat(a[0], b[1:]).as_signed()
    return Cat(b[0], total[1:]).as_signed()


def _level(m: Module, name: str, nodes: Sequence[Value], add: Adder) -> list[Value]:
    """Neighbours added, a cycle later; a last one alone only waits."""
    sums = []
    for i in range(0, len(nodes), 2):
        total = add(*nodes[i:i + 2]) if i + 1 < len(nodes) else nodes[i]
        sums.append(Signal(total.shape(), name=f"{name}_{i // 2}", reset_less=True))
        m.d.sync += sums[-1].eq(total)
    return sums


def _tree(m: Module, name: str, nodes: Sequence[Value], add: Adder) -> Value:
    """Sum of all ``nodes``, ``ceil_log2(len(nodes))`` cycles later."""
    while len(nodes) > 1:
        nodes = _level(m, f"{name}_{len(nodes)}", nodes, add)
    return nodes[0]


class Ecp5Array(wiring.Component):
    """Weight-stationary array: ``sums = row @ weights`` for each row, a row per cycle.

    All rows of the array work in the same cycle, so that a swap exchanges all weights of a column
    at once. Each column has a chain of shadow registers, which shifts with each weight row.
    ``fanout`` columns form a group; group g works g cycles later than group 0, and a register for
    each group passes on activations, swaps and shifts. A tile of m rows costs exactly
    ``max(m, R)`` cycles. Nothing waits: the sequencer in front keeps to these rules:

    * weight rows of a tile may begin in the cycle in which the swap before them enters, and may
      come with gaps;
    * a swap may enter in the cycle after the last weight row of its tile.

    With ``pairs`` each tile is either of int8 weights or of pairs of int4 weights.

    Timing: ``sums`` belong to the ``row`` of ``latency`` cycles before: one for the input
    register, one for each group, three in the multipliers, ``ceil_log2(rows)`` in the tree, and
    with ``pairs`` two more.

    Parameters
    ----------
    rows : int
        R, the K direction: activations in a row. 1 to 64.
    cols : int
        C, the N direction: multipliers in a row. 1 to 64.
    pairs : bool
        Whether tiles may be of int4 pairs.
    fanout : int
        Columns in a group. 1 to 64.
    soft_cols : int
        Columns, the last ones, in which carry cells multiply; 0 with ``pairs``.

    Members
    -------
    row : ``In(ArrayLayout(signed(8), rows))``
        Activations.
    row_valid : ``In(1)``
        ``row`` is one.
    swap : ``In(1)``
        ``row`` is the first of a tile: it and those after it meet the weights that came last.
        Ignored without ``row_valid``.
    row_pairs : ``In(1)``
        Beside each ``row``: the weights of its tile are pairs. Changes only with a swap. Only with
        ``pairs``.
    weights : ``In(ArrayLayout(signed(8), cols))``
        Weights of one array row, row ``rows - 1`` of a tile first.
    weights_valid : ``In(1)``
        ``weights`` are some.
    weights_pairs : ``In(1)``
        Beside ``weights``: each is a pair of int4, the lower half for sum c, the upper half for sum
        ``cols + c``. Only with ``pairs``.
    sums : ``Out(ArrayLayout(signed(sum_bits), sum_cols))``
        Dot products of a row with the columns of weights. With int8 weights those from ``cols`` on
        are 0.
    sums_valid : ``Out(1)``
        ``row_valid`` of ``latency`` cycles before.
    """
    def __init__(self, *, rows: int, cols: int, pairs: bool = False, fanout: int = 1,
                 soft_cols: int = 0):
        check_int("rows", rows, 1, 64)
        check_int("cols", cols, 1, 64)
        check_bool("pairs", pairs)
        check_int("fanout", fanout, 1, 64)
        check_int("soft_cols", soft_cols, 0, 0 if pairs else cols)
        self.soft_cols = soft_cols
        self.rows = rows
        self.cols = cols
        self.pairs = pairs
        self.fanout = fanout
        self.latency = ecp5(rows, self.groups, pairs=pairs)
        super().__init__(array_ports(rows=rows, cols=cols, weight_bits=8, sum_bits=self.sum_bits,
                                     pairs=pairs))

    @property
    def groups(self) -> int:
        """Groups of columns; the last may be smaller."""
        return column_groups(self.cols, self.fanout)

    @property
    def sum_bits(self) -> int:
        """Bits of a sum."""
        return sum_bits(self.rows)

    @property
    def sum_cols(self) -> int:
        """Sums in a row."""
        return 2 * self.cols if self.pairs else self.cols

    def elaborate(self, platform):
        m = Module()
        swap = self.swap & self.row_valid
        # Inputs may come straight from a memory: a register before anything else.
        row     = _register(m, "row_in", self.row)
        weights = _register(m, "weights_in", self.weights)
        control = {"swap": swap, "shift": self.weights_valid}
        if self.pairs:
            control["row_pairs"] = self.row_pairs
            weights_pairs = _register(m, "weights_pairs_in", self.weights_pairs)
            weights = [marked(weight, weights_pairs) for weight in weights]
        control = {name: _register(m, f"{name}_in", value, reset_less=False)
                   for name, value in control.items()}

        group_of = [c // self.fanout for c in range(self.cols)]
        early, late = [1 + g for g in group_of], [self.groups - 1 - g for g in group_of]
        m.submodules.weight_skew = weight_skew = Skew(shape=9 if self.pairs else 8, delays=early)
        m.submodules.deskew = deskew = Skew(shape=signed(self.sum_bits),
                                            delays=late * (self.sum_cols // self.cols))
        valid = Signal(self.latency)
        m.d.comb += [
            *(lane.eq(weight) for lane, weight in zip(weight_skew.lanes, weights, strict=True)),
            self.sums.eq(deskew.delayed),
            self.sums_valid.eq(valid[-1]),
        ]
        m.d.sync += valid.eq(Cat(self.row_valid, valid))

        for c, group in enumerate(group_of):
            if c % self.fanout == 0:  # what the group before worked with, a cycle later
                row     = _register(m, f"row_{group}", row)
                control = {name: _register(m, f"{name}_{group}", value, reset_less=False)
                           for name, value in control.items()}
            column = Ecp5Column(rows=self.rows, pairs=self.pairs,
                                soft=c >= self.cols - self.soft_cols)
            place(m, platform, f"column_{c}", column)
            m.d.comb += [
                column.activations.eq(row),
                *(getattr(column, name).eq(value) for name, value in control.items()),
                column.weight.eq(weight_skew.delayed[c]),
                *(lane.eq(total)
                  for lane, total in zip(list(deskew.lanes)[c::self.cols], column.sums,
                                         strict=True)),
            ]
        check_turns(m, platform, rows=self.rows, swap=swap, weights_valid=self.weights_valid)
        return m


def _register(m: Module, name: str, value: Value, *, reset_less: bool = True) -> Signal:
    """``value`` of a cycle before."""
    register = Signal(value.shape(), name=name, reset_less=reset_less)
    m.d.sync += register.eq(value)
    return register
