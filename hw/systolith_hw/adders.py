"""Trees of registered adders, and an adder of ECP5's carry cells."""

from collections.abc import Callable, Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .cells import has_vendor_cells, place
from .checks import check_bool, check_int
from .latency import tree_levels

__all__ = ["LANES", "CarryAdders", "add_tree", "adders_of"]

LANES = 4  # adders that share a chain of carry cells

Adders = Callable[[str, Sequence[tuple[Value, Value]]], Sequence[Value]]


class CarryAdders(wiring.Component):
    """``sums[i] = left[i] + right[i]`` in CCU2Cs; the same in plain Amaranth without vendor cells.

    With ``signs``, ``sums[i] = left[i] + ((right[i] ^ negative[i]) & nonzero[i])``, at no cost: the
    LUT in front of the carry has two inputs left.

    A chain of its own costs an inferred adder four half cells, which feed in a constant carry and
    feed out one that nobody wants. Here half a cell between the adders of a chain makes the carry.

    Timing: combinational.

    Source: Lattice FPGA-TN-02200 (ECP5 family), "Ripple Mode"; Yosys' model of the cell.

    Parameters
    ----------
    bits : int
        Bits of a sum, of which none are lost.
    lanes : int
        Adders. 1 to 4.
    signs : bool
        Whether ``right`` has signs beside it.

    Members
    -------
    left, right : ``In(ArrayLayout(signed(bits), lanes))``
        What to add.
    negative, nonzero : ``In(lanes)``
        Only with ``signs``: never ``negative`` without ``nonzero``.
    sums : ``Out(ArrayLayout(signed(bits), lanes))``
        The sums.
    """
    def __init__(self, *, bits: int, lanes: int, signs: bool):
        check_int("bits", bits, 1, 64)
        check_int("lanes", lanes, 1, LANES)
        check_bool("signs", signs)
        self.bits = bits
        self.lanes = lanes
        self.signs = signs
        values = ArrayLayout(signed(bits), lanes)
        super().__init__({
            "left": In(values),
            "right": In(values),
            **({"negative": In(lanes), "nonzero": In(lanes)} if signs else {}),
            "sums": Out(values),
        })

    def elaborate(self, platform):
        m = Module()
        if has_vendor_cells(platform):
            self._chain(m)
            return m
        for i in range(self.lanes):
            right = self.right[i]
            if self.signs:
                right = (right ^ self.negative[i].replicate(self.bits)) & (
                    self.nonzero[i].replicate(self.bits))
            m.d.comb += self.sums[i].eq(self.left[i] + right.as_signed())
        return m

    def _chain(self, m):
        # Half cells: for each adder one that carries 0 whatever comes in, and one for each bit.
        # Digits of INIT are functions of A and B, with D, C = 11, 10, 01 and 00: A ^ ~B and A ^ B
        # are sums, A with nothing. 00 is also what is carried where the sum does not propagate.
        halves: list[dict[str, Any]] = []
        one = Const(1)
        for i in range(self.lanes):
            halves.append({"INIT": 0x0000, "A": one, "B": one, "C": one, "D": one})
            for bit in range(self.bits):
                selection = {"INIT": 0x96AA, "C": self.negative[i], "D": self.nonzero[i]} if (
                    self.signs) else {"INIT": 0x666A, "C": one, "D": one}
                halves.append({"A": self.left[i][bit], "B": self.right[i][bit], **selection,
                               "S": self.sums[i][bit]})
        if len(halves) % 2:
            halves.append(halves[0])
        carry = None
        for number in range(0, len(halves), 2):
            ports: dict[str, Any] = {}
            for half in range(2):
                cell = halves[number + half]
                ports |= {f"p_INIT{half}": Const(cell["INIT"], 16), f"p_INJECT1_{half}": "NO",
                          **{f"i_{name}{half}": cell[name] for name in "ABCD"}}
                if "S" in cell:
                    ports[f"o_S{half}"] = cell["S"]
            if carry is not None:
                ports["i_CIN"] = carry
            if number + 2 < len(halves):
                carry = Signal(name=f"carry_{number + 2}")
                ports["o_COUT"] = carry
            m.submodules[f"cell_{number // 2}"] = Instance("CCU2C", **ports)


def adders_of(m: Module, platform: Any, family: str) -> Adders:
    """A function that adds pairs of values with the cells of ``family``: ``generic`` or ``ecp5``.

    It takes a name and the pairs, and gives the sums.
    """
    def infer(name: str, pairs: Sequence[tuple[Value, Value]]) -> list[Value]:
        return [left + right for left, right in pairs]

    def chain(name: str, pairs: Sequence[tuple[Value, Value]]) -> list[Value]:
        sums = []
        for first in range(0, len(pairs), LANES):
            lanes = pairs[first:first + LANES]
            bits = max(len(left + right) for left, right in lanes)
            adders = CarryAdders(bits=bits, lanes=len(lanes), signs=False)
            place(m, platform, f"{name}_{first}", adders)
            for i, (left, right) in enumerate(lanes):
                m.d.comb += [adders.left[i].eq(left), adders.right[i].eq(right)]
                sums.append(adders.sums[i][:len(left + right)].as_signed())
        return sums

    return chain if family == "ecp5" else infer


def add_tree(m: Module, name: str, terms: Sequence[tuple[Value, int]], *, bits: int,
             add: Adders) -> tuple[Value, int]:
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
        Adds pairs of values, under a name: see :func:`adders_of`.

    Returns
    -------
    sum, shift : Value, int
        The sum of ``tree_levels(len(terms))`` cycles before; a single term as it is.
    """
    terms = list(terms)
    for level in range(1, tree_levels(len(terms)) + 1):
        pairs = [sorted(terms[i:i + 2], key=lambda term: term[1])
                 for i in range(0, len(terms) - 1, 2)]
        uppers = add(f"{name}_{level}_add", [
            (low >> high_shift - shift, high) for (low, shift), (high, high_shift) in pairs])
        sums = [(Cat(low[:high_shift - shift], upper).as_signed(), shift)
                for upper, ((low, shift), (_, high_shift)) in zip(uppers, pairs, strict=True)]
        sums += terms[2 * len(pairs):]
        terms = []
        for i, (total, shift) in enumerate(sums):
            width = min(len(total), bits - shift)
            register = Signal(signed(width) if total.shape().signed else width,
                              name=f"{name}_{level}_{i}", reset_less=True)
            m.d.sync += register.eq(total)
            terms.append((register, shift))
    return terms[0]
