"""Configurations by name."""

from collections.abc import Mapping
from importlib import import_module, util
from typing import Any

from systolith_hw.config import PRESETS, CoreConfig

from .cycles import Bus

__all__ = ["known_boards", "named_bus", "named_config"]


def known_boards() -> Mapping[str, Any]:
    """Boards by name, where their packages are installed."""
    if util.find_spec("amaranth_boards") is None or util.find_spec("systolith_boards") is None:
        return {}
    return import_module("systolith_boards.boards").BOARDS


def named_config(name: str) -> CoreConfig:
    """The preset called ``name``, or what the board of that name runs.

    Raises
    ------
    ValueError
        There is neither.
    """
    if name not in PRESETS and name in (boards := known_boards()):
        return boards[name].config
    return CoreConfig.preset(name)


def named_bus(name: str | None) -> Bus | None:
    """The memory of the board called ``name``; None where there is none of that name."""
    if name is None or name in PRESETS or name not in (boards := known_boards()):
        return None
    board = boards[name]
    return import_module("systolith_boards.propose").board_bus(board, board.config)
