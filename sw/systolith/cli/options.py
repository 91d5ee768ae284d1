"""Options that several commands share."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import click
from click.shell_completion import CompletionItem
from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.formats import BITS

from ..board import DEFAULT_BAUD
from ..presets import known_boards, named_config

__all__ = ["baud_option", "check_count", "complete", "config_options", "config_options_for",
           "configuration", "device_settings", "json_option", "memory_options", "weights_option"]

json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print one JSON object instead of text.")


def _complete_preset(ctx: click.Context, param: click.Parameter,
                     incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in (*PRESETS, *known_boards())
            if name.startswith(incomplete)]


def _complete_field(ctx: click.Context, param: click.Parameter,
                    incomplete: str) -> list[CompletionItem]:
    tables = CoreConfig().to_dict()
    names = [f"{section}.{field}=" for section, table in tables.items() if isinstance(table, dict)
             for field in table]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def config_options_for(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds ``--preset``, ``--config`` and ``--set``, for ``configuration``."""
    options = (
        click.option("--preset", metavar="NAME", shell_complete=_complete_preset,
                     help=f"Configuration to start from (default {default}); "
                          "`systolith presets` lists them. A board's name stands for its own."),
        click.option("--config", "path", metavar="FILE", type=click.Path(),
                     help="TOML file with the configuration, instead of a preset."),
        click.option("--set", "assignments", multiple=True, metavar="SECTION.FIELD=VALUE",
                     shell_complete=_complete_field,
                     help="Override one field, such as array.rows=4; may be repeated."))

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command
    return add


config_options = config_options_for("demo")


def complete(*words: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What ``shell_complete`` of an option with these values is."""
    return lambda ctx, param, text: [word for word in words if word.startswith(text)]


weights_option = click.option(
    "--weights", "weight_format", metavar="FORMAT", default="int8", show_default=True,
    shell_complete=complete(*BITS),
    help="Format of the weights, int8, int4 or ternary, which the core must have: "
         "--set array.weights=int8,int4,ternary.")


baud_option = click.option(
    "--baud", type=int, metavar="BITS",
    help=f"Bits a second on the line to a board (default {DEFAULT_BAUD}).")


def device_settings(spec: str, kinds: tuple[str, ...], *, baud: int | None,
                    memory_timing: Mapping[str, Any], trace: str | None) -> dict[str, Any]:
    """What ``open_device`` gets besides the device's name, one of ``kinds``.

    Raises
    ------
    ValueError
        There is no such device, or an option is for another one.
    """
    on_board = spec.startswith("board:")
    if not (spec in kinds or on_board):
        raise ValueError(f"device must be one of {', '.join(kinds)}, board:PORT, not {spec!r}")
    if baud is not None and not on_board:
        raise ValueError(f"baud must be given with device board:PORT, not with {spec!r}")
    simulation = {**memory_timing, **({} if trace is None else {"trace": trace})}
    if simulation and spec != "rtl":
        raise ValueError(f"{next(iter(simulation))} must be given with device rtl, "
                         f"not with {spec!r}")
    return simulation if baud is None else {"baud": baud}


def memory_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how fast the simulated memory is.

    The command gets those that were given as ``memory_timing``, a dictionary of ``RtlDevice``'s
    keywords.
    """
    names = ("memory", "latency", "jitter", "bandwidth", "shared")

    @wraps(command)
    def collected(*arguments: Any, **values: Any) -> Any:
        given = {name: values.pop(name) for name in names}
        values["memory_timing"] = {name: value for name, value in given.items()
                                   if value is not None}
        return command(*arguments, **values)

    result: Callable[..., Any] = collected
    for option in (
            click.option("--shared", is_flag=True, default=None,
                         help="Reads and writes share that bandwidth."),
            click.option("--bandwidth", metavar="FRACTION",
                         help="Words a cycle that memory reads, and that it writes, such as 1/3 "
                              "(default 1)."),
            click.option("--jitter", type=int, metavar="CYCLES",
                         help="Up to so many cycles more, at random (default 0)."),
            click.option("--latency", type=int, metavar="CYCLES",
                         help="Cycles until memory answers (default 32; dram 64)."),
            click.option("--memory", metavar="ideal|dram",
                         help="ideal: nothing but latency; dram: besides, rows that must be opened "
                              "and pauses for refresh (default ideal).",
                         shell_complete=complete("ideal", "dram"))):
        result = option(result)
    return result


def configuration(preset: str | None, path: str | None,
                  assignments: tuple[str, ...], *, default: str = "demo") -> CoreConfig:
    """The configuration that the options of ``config_options`` describe.

    Raises
    ------
    TypeError, ValueError, OSError
        An unknown preset or field, a value out of range, a file that cannot be read.
    """
    if preset is not None and path is not None:
        raise ValueError(f"config must be given without a preset, not with {preset!r}")
    config = named_config(preset or default) if path is None else CoreConfig.from_toml(path)
    return config.overridden(list(assignments))


def check_count(name: str, value: int, low: int = 1) -> int:
    """``value``, where it is at least ``low``."""
    if value < low:
        raise ValueError(f"{name} must be at least {low}, not {value!r}")
    return value
