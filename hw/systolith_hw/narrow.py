"""How wide engines walk: as commands say, or in a compact core as wide as memories are.

There, addresses have one bit more than the memory they walk: from inside, no jump that fits comes
back to it around the end.
"""

from amaranth.hdl import Cat, Value
from amaranth.utils import exact_log2

from .config import CoreConfig
from .isa import COMMAND_BYTES
from .record import INDEX_BITS

__all__ = ["index_bits", "length_bits", "memory_bits", "narrowed", "pad_bits",
           "walked_bits"]

ADDRESS_BITS = 32   # of bytes in commands
ROW_BITS = 16       # of a row's number in commands


def memory_bits(config: CoreConfig) -> int:
    """Bits of a walked address in system memory."""
    return min(config.bus.addr_bits + 1, ADDRESS_BITS) if config.control.compact else ADDRESS_BITS


def index_bits(config: CoreConfig) -> int:
    """Bits of a command's position in a program."""
    return min(memory_bits(config) - exact_log2(COMMAND_BYTES), INDEX_BITS)


def length_bits(config: CoreConfig) -> int:
    """Bits of a program's length, which may be more than memory holds."""
    return min(index_bits(config) + 1, INDEX_BITS)


def pad_bits(config: CoreConfig, largest: int) -> int:
    """Bits of a walked byte address in scratchpads of which the ``largest`` has so many."""
    return exact_log2(largest) + 1 if config.control.compact else ADDRESS_BITS


def walked_bits(config: CoreConfig, rows: int) -> int:
    """Bits of a walked row's number in a memory of ``rows``."""
    return exact_log2(rows) + 1 if config.control.compact else ROW_BITS


def narrowed(number: Value, bits: int, exact) -> Value:
    """``number`` in so many bits, the highest of them alone where it does not fit, unless its low
    bits are what is wanted, ``exact``."""
    high = number[bits - 1:]
    out  = high.any() & ~high.all() & ~exact
    return Cat(number[:bits - 1] & ~out.replicate(bits - 1), number[bits - 1] | out)
