"""Latencies of arrays, in cycles; apart from the hardware, for the compiler to read."""

from .parts import ArrayConfig

__all__ = [
    "CARRY_ELEMENT", "ECP5_MULTIPLIER", "MULTIPLIER", "array_latency", "column_groups", "ecp5",
    "ecp5_column", "ice40", "soft", "soft_column", "systolic", "tree_levels",
]

MULTIPLIER = 2          # of an inferred one, from an activation to its product
CARRY_ELEMENT = 2       # of one in carry cells, from an activation to its sum
ECP5_MULTIPLIER = 3     # of a MULT18X18D with all its registers
ICE40_PAIR = 3          # of two SB_MAC16, the second of which adds

# Places of the digits that an array in LUTs makes a weight of, by the weight's bits.
PLACES = {2: 1, 4: 2, 5: 3}


def tree_levels(terms: int) -> int:
    """Levels of a tree that adds so many terms, a register behind each."""
    return (terms - 1).bit_length()


def column_groups(cols: int, fanout: int) -> int:
    """Groups of columns; the last may be smaller."""
    return -(-cols // fanout)


def systolic(rows: int, groups: int, *, carry: bool = False) -> int:
    """From a row to its sums: down the rows, along the groups, a product and its addition."""
    return (rows - 1) + (groups - 1) + (CARRY_ELEMENT if carry else MULTIPLIER + 1)


def ecp5_column(rows: int, *, pairs: bool) -> int:
    """From activations to the sums of a column."""
    return ECP5_MULTIPLIER + tree_levels(rows) + (2 if pairs else 0)


def ecp5(rows: int, groups: int, *, pairs: bool) -> int:
    """From a row to its sums: an input register, a register for each group, the column."""
    return 1 + groups + ecp5_column(rows, pairs=pairs)


def ice40(rows: int) -> int:
    """From a row to its sums: a pair of rows, and the tree over the pairs."""
    return ICE40_PAIR + tree_levels((rows + 1) // 2)


def soft_column(rows: int, places: int) -> tuple[int, int]:
    """From activations to the sums of digits, and to the sum of a column."""
    digits = 1 + tree_levels(rows)
    return digits, digits + tree_levels(places + 1)


def soft(rows: int, groups: int, places: int) -> int:
    """From a row to its sums: a register for each group, the column."""
    return groups + soft_column(rows, places)[1]


def array_latency(array: ArrayConfig) -> int:
    """Cycles from a row of activations to its sums in the array of a configuration."""
    groups = column_groups(array.cols, array.fanout)
    if array.strategy == "ecp5":
        return ecp5(array.rows, groups, pairs=array.pairs)
    if array.strategy == "ice40":
        return ice40(array.rows)
    latency = systolic(array.rows, groups, carry=array.strategy == "soft_ecp5")
    if array.strategy == "soft":
        latency = soft(array.rows, groups, PLACES[5 if array.pairs else array.weight_bits])
    return latency + array.pairs
