"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem
from systolith_hw.config import PRESETS, CoreConfig

__all__ = ["check_count", "config_options", "configuration", "json_option"]

json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print one JSON object instead of text.")


def _complete_preset(ctx: click.Context, param: click.Parameter,
                     incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in PRESETS if name.startswith(incomplete)]


def _complete_field(ctx: click.Context, param: click.Parameter,
                    incomplete: str) -> list[CompletionItem]:
    tables = CoreConfig().to_dict()
    names = [f"{section}.{field}=" for section, table in tables.items() if isinstance(table, dict)
             for field in table]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--preset``, ``--config`` and ``--set``, to be given to ``configuration``."""
    for option in (
            click.option("--set", "assignments", multiple=True, metavar="SECTION.FIELD=VALUE",
                         shell_complete=_complete_field,
                         help="Override one field, such as array.rows=4; may be repeated."),
            click.option("--config", "path", metavar="FILE", type=click.Path(),
                         help="TOML file with the configuration, instead of a preset."),
            click.option("--preset", metavar="NAME", shell_complete=_complete_preset,
                         help="Configuration to start from (default demo); "
                              "`systolith presets` lists them.")):
        command = option(command)
    return command


def configuration(preset: str | None, path: str | None,
                  assignments: tuple[str, ...]) -> CoreConfig:
    """The configuration that the options of ``config_options`` describe.

    Raises
    ------
    TypeError, ValueError, OSError
        An unknown preset or field, a value out of range, a file that cannot be read.
    """
    if preset is not None and path is not None:
        raise ValueError(f"config must be given without a preset, not with {preset!r}")
    config = CoreConfig.from_toml(path) if path is not None else CoreConfig.preset(preset or "demo")
    return config.overridden(list(assignments))


def check_count(name: str, value: int, low: int = 1) -> int:
    """``value``, where it is at least ``low``."""
    if value < low:
        raise ValueError(f"{name} must be at least {low}, not {value!r}")
    return value
