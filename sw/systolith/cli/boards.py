"""``systolith boards``, and what all commands of boards share."""

from importlib import util
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..bound import gops
from .options import configuration, json_option
from .output import print_json, print_table

__all__ = ["board_option", "board_with", "boards", "require_packages"]

MEMORIES = {"bram": "block RAM", "spram": "single-port RAM", "sdram": "SDRAM"}


def _complete_board(ctx: click.Context, param: click.Parameter,
                    incomplete: str) -> list[CompletionItem]:
    from systolith_boards.boards import BOARDS

    return [CompletionItem(name) for name in BOARDS if name.startswith(incomplete)]


board_option = click.option(
    "--board", "board_name", metavar="NAME", required=True, shell_complete=_complete_board,
    help="One of `systolith boards`, or FILE.py with a board of your own.")


def require_packages() -> None:
    """Raise ``ImportError`` where the packages of boards are missing."""
    if util.find_spec("amaranth_boards") is None:
        raise ImportError("boards must have their packages installed: pip install "
                          "'systolith[boards]'")


def board_with(name: str, preset: str | None, path: str | None,
               assignments: tuple[str, ...]) -> tuple[Any, Any]:
    """The board, and its own configuration with ``--set``, or that of ``--preset``, which may be
    one of the board's, or of ``--config``.

    Raises
    ------
    TypeError, ValueError, OSError
        There is no such board, the configuration is none, or its multipliers are not the chip's.
    """
    from systolith_boards.boards import board_of
    from systolith_hw.formats import check_family

    board = board_of(name)
    if preset is not None and preset in board.presets and path is None:
        board, preset = board.running(preset), None
    config = board.config.overridden(list(assignments)) if preset is path is None else \
        configuration(preset, path, assignments)
    check_family(config.array.strategy, board.chip.family)
    return board, config


@click.command(epilog="""
\b
Example:
  systolith boards
  systolith boards --json
""")
@json_option
def boards(as_json: bool):
    """List the boards, and what runs on each.

    The array, its multipliers and the memory are those of the configuration, GOPS what it does at
    most at the clock that it is meant to reach. Of a board's several presets the first is its own;
    `--preset` of `systolith plan` and `systolith build` takes the others.
    """
    require_packages()
    from systolith_boards.boards import BOARDS

    if as_json:
        print_json({name: {
            "chip": board.device, "package": board.platform.package,
            "clock_mhz": board.clock_hz / 1e6, "preset": board.preset,
            "changes": list(board.changes), "macs_per_cycle": board.config.macs_per_cycle,
            "presets": {preset: {key: list(value) if isinstance(value, tuple) else value
                                 for key, value in fields.items()}
                        for preset, fields in board.presets.items()},
            "target_mhz": board.target_mhz, "memory": board.memory,
            "memory_bytes": board.memory_bytes, "luts": board.chip.luts, "dsps": board.chip.dsps,
            "brams": board.chip.brams, "loader": board.loader, "note": board.note,
            "pins": {pin: [bit.site for bit in bits] for pin, bits in board.pins.items()},
        } for name, board in BOARDS.items()})
        return
    rows = []
    for preset, board in (each for known in BOARDS.values() for each in known.each.items()):
        array = board.config.array
        size = f"{board.memory_bytes >> 20} MiB" if board.memory_bytes >> 20 else \
            f"{board.memory_bytes >> 10} KiB"
        rows.append([board.name, board.device, preset,
                     f"{array.rows} x {array.cols} {array.cell}", array.strategy,
                     f"{board.target_mhz:g}",
                     f"{gops(board.config.macs_per_cycle, board.target_mhz):.1f}",
                     f"{size} {MEMORIES[board.memory]}"])
    print_table(["board", "chip", "preset", "array", "multipliers", "MHz", "GOPS", "memory"], rows)
    for name, board in BOARDS.items():
        if board.note:
            click.echo(f"{name}: {board.note}.")
