"""Loops and rings the way the hardware walks them, independent of the model."""

from math import prod


class Walk:
    """Addresses the way the hardware makes them: by jumps."""
    def __init__(self, base, jumps, bits):
        self.base, self.jumps, self.mask = base, jumps, (1 << bits) - 1

    def __call__(self, counts):
        address, index = self.base, [0] * len(counts)
        for _ in range(prod(counts)):
            yield address & self.mask, tuple(index)
            for level, count in enumerate(counts):
                index[level] += 1
                if index[level] < count:
                    address += self.jumps[level]
                    break
                index[level] = 0


def wrapped(row, base, ring):
    """The row within its ring."""
    mask = (1 << ring) - 1
    return row if ring == 0 else (base & ~mask) | (row & mask)
