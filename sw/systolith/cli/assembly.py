"""``systolith asm`` and ``systolith disasm``."""

import sys
from pathlib import Path

import click

from ..assembly import assemble, disassemble
from ..image import Image
from .output import write_file

__all__ = ["asm", "disasm"]

MAGIC = b"SLITH"


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    return Path(file).read_bytes()


def _write(output: str | None, data: bytes) -> None:
    if output is None or output == "-":
        click.echo(data, nl=False)
    else:
        write_file(Path(output), data)


@click.command(epilog="""
\b
Example:
  systolith disasm build/demo/digits.slith -o digits.s
  systolith asm digits.s -o digits.bin
docs/commands.md has every command and field.
""")
@click.argument("file")
@click.option("-o", "--output", metavar="FILE", help="Where the records go (default stdout).")
def asm(file: str, output: str | None):
    """Turn text into commands of 64 bytes. FILE may be - for stdin."""
    try:
        text = _read(file).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{file} must be UTF-8 text, not bytes such as commands") from None
    try:
        records = assemble(text)
    except ValueError as error:
        raise ValueError(f"{file}, {error}") from None
    if output is None and sys.stdout.isatty():
        raise ValueError("output must be given where stdout is a terminal, not left out")
    _write(output, records)


@click.command(short_help="Turn commands, or the program of an image, into text.", epilog="""
\b
Example:
  systolith disasm build/demo/digits.slith
""")
@click.argument("file")
@click.option("-o", "--output", metavar="FILE", help="Where the text goes (default stdout).")
def disasm(file: str, output: str | None):
    """Turn commands into text: the program of a .slith image, or a file of bare records.

    FILE may be - for stdin. `systolith asm` turns the text back into the same bytes.
    """
    data = _read(file)
    if data.startswith(MAGIC):
        data = Image.from_bytes(data, name=file).program
    _write(output, disassemble(data).encode())
