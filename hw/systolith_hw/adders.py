"""Trees of registered adders, and an adder of ECP5's carry cells."""

from collections.abc import Callable, Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .cells import place
from .checks import check_bool, check_int

__all__ = ["CarryAdder", "add_tree", "adders_of", "tree_levels"]

Adder = Callable[[str, Value, Value], Value]


class CarryAdder(wiring.Component):
    """``sum = left + right`` in CCU2Cs; the same in plain Amaranth without vendor cells.

    With ``signs``, ``sum = left + ((right ^ negative) & nonzero)``, at no cost: the LUT in front of
    the carry has two inputs left.

    An inferred chain has a whole CCU2C before it that feeds in a constant carry, and another
    behind it that feeds out a carry which nobody wants. Here half a cell makes the carry, so that
    n bits take n + 1 half cells, not n + 4.

    Timing: combinational.

    Source: Lattice FPGA-TN-02200 (ECP5 family), "Ripple Mode"; Yosys' model of the cell.

    Parameters
    ----------
    bits : int
        Bits of the sum, of which none are lost.
    signs : bool
        Whether ``right`` has a sign beside it.

    Members
    -------
    left, right : ``In(signed(bits))``
        What to add.
    negative, nonzero : ``In(1)``
        Only with ``signs``: never ``negative`` without ``nonzero``.
    sum : ``Out(signed(bits))``
        The sum.
    """
    def __init__(self, *, bits: int, signs: bool = False):
        check_int("bits", bits, 1, 64)
        check_bool("signs", signs)
        self.bits = bits
        self.signs = signs
        super().__init__({
            "left": In(signed(bits)),
            "right": In(signed(bits)),
            **({"negative": In(1), "nonzero": In(1)} if signs else {}),
            "sum": Out(signed(bits)),
        })

    def elaborate(self, platform):
        m = Module()
        if not getattr(platform, "vendor_cells", False):
            right = self.right
            if self.signs:
                right = (right ^ self.negative.replicate(self.bits)) & (
                    self.nonzero.replicate(self.bits))
            m.d.comb += self.sum.eq(self.left + right.as_signed())
            return m
        # Half cells: one that carries 0 whatever comes in, one for each bit, one to fill up.
        # Digits of INIT are functions of A and B, with D, C = 11, 10, 01 and 00: A ^ ~B and A ^ B
        # are sums, A with nothing. 00 is also what is carried where the sum does not propagate.
        function, c, d = (0x96AA, self.negative, self.nonzero) if self.signs else (
            0x666A, Const(1), Const(1))
        halves = [(0x0000, Const(1), Const(1), Signal(name="unused_low"))]
        halves += [(function, self.left[i], self.right[i], self.sum[i]) for i in range(self.bits)]
        if len(halves) % 2:
            halves.append((0x0000, Const(1), Const(1), Signal(name="unused_high")))
        carry = None
        for i in range(0, len(halves), 2):
            carry_in, carry = carry, Signal(name=f"carry_{i + 2}")
            ports: dict[str, Any] = {}
            for half in range(2):
                function, left, right, out = halves[i + half]
                ports |= {
                    f"p_INIT{half}": Const(function, 16), f"p_INJECT1_{half}": "NO",
                    f"i_A{half}": left, f"i_B{half}": right,
                    f"i_C{half}": c if function else Const(1),
                    f"i_D{half}": d if function else Const(1), f"o_S{half}": out,
                }
            if carry_in is not None:
                ports["i_CIN"] = carry_in
            if i + 2 < len(halves):
                ports["o_COUT"] = carry
            m.submodules[f"pair_{i}"] = Instance("CCU2C", **ports)
        return m


def adders_of(m: Module, platform: Any, family: str) -> Adder:
    """A function that adds two values with the cells of ``family``: ``generic`` or ``ecp5``."""
    def infer(name: str, left: Value, right: Value) -> Value:
        return left + right

    def chain(name: str, left: Value, right: Value) -> Value:
        adder = CarryAdder(bits=len(left + right))
        place(m, platform, name, adder)
        m.d.comb += [adder.left.eq(left), adder.right.eq(right)]
        return adder.sum

    return chain if family == "ecp5" else infer


def tree_levels(terms: int) -> int:
    """Registers between the terms and the root of :func:`add_tree`."""
    return ceil_log2(terms)


def add_tree(m: Module, name: str, terms: Sequence[tuple[Value, int]], *, bits: int,
             add: Adder) -> tuple[Value, int]:
    """Add up ``value << shift`` of all ``terms``, neighbours first, with a register on each level.

    An adder begins at the lower bits that both of its terms have; those below pass by it.

    Parameters
    ----------
    name : str
        Beginning of the registers' names.
    terms : sequence of (Value, int)
        Values, signed or not, and the places by which they are shifted.
    bits : int
        Bits that the sum needs: none above them are added.
    add : callable
        Adds two values, under a name: see :func:`adders_of`.

    Returns
    -------
    sum, shift : Value, int
        The sum of ``tree_levels(len(terms))`` cycles before; a single term as it is.
    """
    terms, level = list(terms), 0
    while len(terms) > 1:
        level += 1
        sums = []
        for i in range(0, len(terms), 2):
            (low, shift), *above = sorted(terms[i:i + 2], key=lambda term: term[1])
            total = low
            if above:
                high, places = above[0][0], above[0][1] - shift
                upper = add(f"{name}_{level}_{i // 2}_add", low >> places, high)
                total = Cat(low[:places], upper).as_signed() if places else upper
            width = min(len(total), bits - shift)
            register = Signal(signed(width) if total.shape().signed else width,
                              name=f"{name}_{level}_{i // 2}", reset_less=True)
            m.d.sync += register.eq(total)
            sums.append((register, shift))
        terms = sums
    return terms[0]
