"""Trees of registered adders."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value, signed

from .latency import tree_levels

__all__ = ["add_tree"]


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
    terms = list(terms)
    for level in range(1, tree_levels(len(terms)) + 1):
        pairs = [sorted(terms[i:i + 2], key=lambda term: term[1])
                 for i in range(0, len(terms) - 1, 2)]
        sums = [(Cat(low[:high_shift - shift], (low >> high_shift - shift) + high).as_signed(),
                 shift)
                for (low, shift), (high, high_shift) in pairs]
        sums += terms[2 * len(pairs):]
        terms = []
        for i, (total, shift) in enumerate(sums):
            width = min(len(total), bits - shift)
            register = Signal(signed(width) if total.shape().signed else width,
                              name=f"{name}_{level}_{i}", reset_less=True)
            m.d.sync += register.eq(total)
            terms.append((register, shift))
    return terms[0]
