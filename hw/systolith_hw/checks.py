"""Checks of what users give, each with one sentence for what is wrong."""

from typing import Any

__all__ = ["check_bool", "check_choice", "check_int", "check_power_of_two"]


def check_int(name: str, value: Any, low: int, high: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``value`` is an integer in the range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value!r}")


def check_power_of_two(name: str, value: Any, low: int, high: int) -> None:
    """As ``check_int``, and a power of two."""
    check_int(name, value, low, high)
    if value & (value - 1):
        raise ValueError(f"{name} must be a power of two, not {value!r}")


def check_bool(name: str, value: Any) -> None:
    """Raise ``TypeError`` unless ``value`` is a boolean."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a boolean, not {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``value`` is one of ``choices``."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
