"""What a compact core does with a command's addresses on their way to its engine.

An address or a jump that does not fit becomes the highest bit alone, which leads out of the memory
from anywhere in it. In a ring, which is never larger than its memory, only a jump's low bits count.
"""

from amaranth.hdl import Cat, Value

from .config import CoreConfig
from .isa import COMMANDS, Opcode
from .narrow import walked_bits
from .transfer import walk_widths
from .weights import weight_row_bits

__all__ = ["fitted"]


def _widths(opcode: Opcode, config: CoreConfig) -> dict[str, tuple[int, int | None]]:
    """Bits of the fields with addresses, and of jumps the ring that makes them wrap."""
    if not config.control.compact:
        return {}
    if opcode in (Opcode.LOAD, Opcode.STORE):
        walked = walk_widths(config)
        return {"row_step": (walked["row"], 0), "memory_base": (walked["memory"], None),
                "memory_jumps": (walked["memory"], None), "pad_base": (walked["pad"], None),
                "pad_jumps": (walked["pad"], 0)}
    if opcode == Opcode.EXECUTE:
        act = walked_bits(config, config.memory.act_rows)
        acc = walked_bits(config, config.memory.acc_rows)
        wgt = weight_row_bits(config)
        return {"act_base": (act, None), "act_jumps": (act, 0), "acc_base": (acc, None),
                "acc_jumps": (acc, 2), "wgt_base": (wgt, None), "wgt_rewind": (wgt, 1)}
    return {}


def fitted(opcode: Opcode, index: int, word: Value, rings: Value, config: CoreConfig) -> Value:
    """Word ``index`` of a command with addresses as narrow as they are walked; ``rings`` are the
    command's."""
    widths = _widths(opcode, config)
    first = COMMANDS[opcode].field("ring").bit - index * len(word)
    # They may come with this very word.
    known = word[first:first + len(rings)] if first >= 0 else rings
    parts, at = [], 0
    for field in COMMANDS[opcode].fields:
        if field.name not in widths:
            continue
        bits, ring = widths[field.name]
        for entry in range(field.count):
            start = field.bit + entry * field.bits - index * len(word)
            if 0 <= start < len(word) and bits < field.bits:
                value = word[start:start + field.bits]
                high = value[bits - 1:]
                out = high.any() & ~high.all()
                if ring is not None:
                    out = out & (known[4 * ring:4 * ring + 4] == 0)
                parts += [word[at:start], value[:bits - 1] & ~out.replicate(bits - 1),
                          value[bits - 1] | out]
                at = start + bits
    return Cat(*parts, word[at:])
