"""The manual of commands and registers, ``docs/commands.md``, from their declarations.

``python -m systolith.cli.manual docs/commands.md`` writes it; without an argument it is printed.
"""

import sys
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from systolith_hw.isa import (
    COMMAND_BYTES,
    COMMANDS,
    ERROR_TEXT,
    HEADER,
    ControlOp,
    ElementType,
    ErrorCode,
    Field,
    Function,
    LoadMode,
    Memory,
    Opcode,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
    WeightFormat,
)
from systolith_hw.registers import COUNTERS, REGISTERS, Register

from ..assembly import assemble
from .output import write_file

__all__ = ["EXAMPLES", "manual"]

ENUMS: tuple[type[IntEnum], ...] = (
    Opcode, Memory, LoadMode, WeightFormat, ElementType, VectorOp, Operand, Function, Scale,
    Reduction, ResultType, ControlOp)


@dataclass(frozen=True, kw_only=True)
class Example:
    """What some commands do, and their text for the assembler."""
    text: str
    program: str


# The first lines of load, execute, vector and store make up one product (a test runs it).
EXAMPLES = {
    Opcode.LOAD: Example(
        text="Sixteen activation rows of 8 bytes, 64 bytes apart in memory, to rows 0 to 15 of "
             "the activation scratchpad; 8 weight rows of 8 bytes that follow each other in "
             "memory, after which semaphore 0 is raised; zeros into 4 rows of the activation "
             "scratchpad.",
        program="load memory=act memory_base=0x1000 run_bytes=8 row_bytes=8 counts=16 "
                "memory_jumps=64 pad_jumps=8\n"
                "load memory=wgt memory_base=0x2000 run_bytes=64 row_bytes=8 raise0=0\n"
                "load mode=fill memory=act fill=0 run_bytes=32 row_bytes=8 pad_base=0x100"),
    Opcode.EXECUTE: Example(
        text="Waits for semaphore 0, multiplies 16 activation rows by one 8 x 8 tile of weights "
             "into accumulator rows 0 to 15, and raises semaphore 1.",
        program="execute counts=16 act_jumps=1 acc_jumps=1 k_last=8 wait0=0 raise0=1"),
    Opcode.VECTOR: Example(
        text="Waits for semaphore 1, adds the bias, requantises and clamps 16 rows of two lane "
             "groups (8 columns with 4 lanes) into the activation scratchpad from lane group 512 "
             "on, and raises semaphore 2; ReLU is the clamp from below. Then the largest of each "
             "of these rows, for which the same engine waits, to the first 16 records; and how far "
             "each element is below it, through a function of 64 segments of width 4, as int8 "
             "from lane group 1024 on and as a sum in each record: with a table of exponentials "
             "the first two passes of a softmax.",
        program="vector counts=2,16 source_jumps=1 result_base=512 result_jumps=1 clamp_low=0 "
                "wait0=1 raise0=2 raise1=4\n"
                "vector source_type=int8 source_base=512 source_jumps=1 counts=2,16 wait0=4 "
                "second=immediate scale=unit reduce=maximum result_type=none raise0=5\n"
                "vector operation=reverse source_type=int8 source_base=512 source_jumps=1 "
                "counts=2,16 wait0=5 second=row function=linear function_first=1 "
                "function_shift=2 scale=unit sum_results=1 result_base=1024 result_jumps=1"),
    Opcode.STORE: Example(
        text="Waits for semaphore 2 and copies 16 rows of 8 bytes to memory, 8 bytes apart.",
        program="store memory=act memory_base=0x3000 run_bytes=8 row_bytes=8 counts=16 "
                "memory_jumps=8 pad_base=0x800 pad_jumps=8 wait0=2"),
    Opcode.CONTROL: Example(
        text="Gives semaphore 3 two raises to start with, adds 64 to parameter register 1, waits "
             "until everything before has ended.",
        program="control operation=credit register=3 value=2\n"
                "control operation=param_add register=1 value=64\n"
                "control operation=fence"),
}

INTRODUCTION = f"""\
# Commands and registers

This file is generated from `hw/systolith_hw/isa.py` and `hw/systolith_hw/registers.py` by
`make docs`. `systolith asm` and `systolith disasm` translate between the bytes and the text used
in the examples.

A program is a sequence of records of {COMMAND_BYTES} bytes, little-endian, in system memory, from
an address that is a multiple of {COMMAND_BYTES}. Its length stands in register
`program_commands`; no command ends it. The core fetches the records itself, checks each, and hands
it to one of four engines (load, execute, vector, store), which run side by side, each its own
commands in order. Only semaphores order commands of different engines: a command waits for up to
two, and raises up to two, once or at each iteration of one of its loop levels. A vector command
that reads what another one wrote waits for it in the same way: an engine begins a command before
the results of the last have landed. It must not read what it writes itself, except each group of
elements its own place. All semaphores are 0 at the start. Tokens are taken ahead of their use, so
only one engine may wait for a given semaphore.

Memory addresses are 32-bit offsets from the window that registers `window_low`, `window_high` and
`window_bytes` describe; nothing outside is accessed. Scratchpad byte addresses of loads and stores
are `row * pitch + byte`, the pitch being the row's bytes rounded up to a power of two.

A core with `control.compact` begins a command of an engine when the one before is done. It refuses
counts from 4096 on, and rings of load, store and execute that are larger than their memory are an
address error; `program_address` and `window_bytes` are as wide as its bus, `program_commands` as
the commands that fit there, and what is more becomes the least that is too much.

Loops are nested, innermost first. The *jump* of loop i is added when loop i advances, after all
loops inside it have come to their end: with strides `s` and counts `c`,
`jump[i] = s[i] - sum((c[j] - 1) * s[j] for j < i)`.

Whatever breaks a rule stops the core with an [error code](#error-codes) and the position of the
command; after a soft reset it takes a new program.
"""


def _bits(field: Field) -> str:
    """Where a field lies: bytes, and bits within one where it is smaller."""
    total = field.bits * field.count
    if field.shift == 0 and total % 8 == 0:
        last = field.byte + total // 8 - 1
        return str(field.byte) if last == field.byte else f"{field.byte}-{last}"
    last_bit = field.shift + total - 1
    if last_bit >= 8:
        return f"{field.byte}-{field.byte + last_bit // 8}"
    return f"{field.byte}[{last_bit}:{field.shift}]" if last_bit > field.shift else \
        f"{field.byte}[{field.shift}]"


def _kind(field: Field) -> str:
    kind = f"{'int' if field.signed else 'uint'}{field.bits}"
    if field.values is not None:
        kind = field.values.__name__
    return f"{kind} x {field.count}" if field.count > 1 else kind


def _default(field: Field) -> str:
    if field.values is not None and field.default in set(field.values):
        return field.values(field.default).name.lower()
    return str(field.default)


def _fields(fields: tuple[Field, ...]) -> list[str]:
    lines = ["| byte | field | type | default | meaning |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {_bits(f)} | `{f.name}` | {_kind(f)} | {_default(f)} | {f.text} |"
              for f in fields]
    return [*lines, ""]


def _registers(registers: list[Register]) -> list[str]:
    lines = ["| offset | register | access | meaning |", "| --- | --- | --- | --- |"]
    for register in registers:
        bits = "; ".join(f"bit {i} `{bit}`" for i, bit in enumerate(register.bits))
        lines.append(f"| `0x{register.offset:03x}` | `{register.name}` | {register.access} | "
                     f"{register.text}{f' {bits}.' if bits else ''} |")
    return [*lines, ""]


def manual() -> str:
    """The whole manual as Markdown."""
    lines = [INTRODUCTION, "## Header of every command", "", *_fields(HEADER)]
    for opcode, command in COMMANDS.items():
        example = EXAMPLES[opcode]
        assemble(example.program)
        lines += [f"## {command.name} (opcode {int(opcode)})", "", command.text, "",
                  *_fields(command.body), f"Example. {example.text}", "",
                  "```", example.program, "```", ""]
    lines += ["## Named values", "", "| type | values |", "| --- | --- |"]
    for values in ENUMS:
        names = ", ".join(f"{int(v)} `{v.name.lower()}`" for v in values)
        lines.append(f"| {values.__name__} | {names} |")
    lines += ["", "## Error codes", "", "| code | name | what must hold |", "| --- | --- | --- |"]
    lines += [f"| {int(code)} | `{code.name.lower()}` | {ERROR_TEXT[code]} |"
              for code in ErrorCode]
    counters = set(COUNTERS.values())
    lines += ["", "## Registers", "", "All are 32 bits wide, in a page of 4 KiB (AXI4-Lite).", "",
              *_registers([r for r in REGISTERS.values() if r not in counters])]
    lines += ["## Counters", "",
              ("Set to 0 by a start. A core with `control.counters = false` has the first five, "
               "and with `control.traffic = false`, too, the first."),
              "", *_registers(list(COUNTERS.values()))]
    return "\n".join(lines)


def main() -> None:
    """Write the manual to the file given as argument, or print it."""
    if len(sys.argv) > 1:
        write_file(Path(sys.argv[1]), manual())
    else:
        sys.stdout.write(manual())


if __name__ == "__main__":
    main()
