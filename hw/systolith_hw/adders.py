"""Trees of registered adders."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.utils import ceil_log2

__all__ = ["add_tree", "tree_levels"]


def tree_levels(terms: int) -> int:
    """Registers between the terms and the root of :func:`add_tree`."""
    return ceil_log2(terms)


def add_tree(m: Module, name: str, terms: Sequence[tuple[Value, int]], *,
             bits: int) -> tuple[Value, int]:
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
                upper = (low >> places) + high
                total = Cat(low[:places], upper).as_signed() if places else upper
            width = min(len(total), bits - shift)
            register = Signal(signed(width) if total.shape().signed else width,
                              name=f"{name}_{level}_{i // 2}", reset_less=True)
            m.d.sync += register.eq(total)
            sums.append((register, shift))
        terms = sums
    return terms[0]
