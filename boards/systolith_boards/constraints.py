"""What place and route must know of a board: which pin each port is, and how fast clocks are."""

from collections.abc import Mapping

from .boards import Board, Pin

__all__ = ["constraints", "lpf", "pcf"]


def constraints(board: Board, ports: Mapping[str, int]) -> str:
    """PCF (iCE40) or LPF (ECP5) of a chip's top.

    Parameters
    ----------
    board : Board
    ports : mapping of str to int
        Widths of the top's ports by name.

    Raises
    ------
    ValueError
        The board has no such pins, or so many.
    """
    pins = _bits(board, ports)
    clock_hz = board.clock_hz if "clk" in ports else None
    return pcf(pins, clock_hz) if board.chip.family == "ice40" else lpf(pins, clock_hz)


def pcf(pins: Mapping[str, Pin], clock_hz: float | None) -> str:
    """Physical constraints of an iCE40 for nextpnr; ``clk`` has ``clock_hz``.

    An iCE40 gets its single-ended IO standard from the voltage of the bank, so that only pull-ups
    are left to say.

    Raises
    ------
    ValueError
        A pin's standard is another one.
    """
    lines = []
    for name, pin in pins.items():
        standard = pin.attributes.get("IO_STANDARD", "SB_LVCMOS")
        if standard not in ("SB_LVCMOS", "SB_LVTTL"):
            raise ValueError(f"IO_STANDARD of {name} must be SB_LVCMOS or SB_LVTTL, not "
                             f"{standard!r}")
        pull = "-pullup yes " if pin.attributes.get("PULLUP") else ""
        lines.append(f"set_io {pull}{name} {pin.site}")
    if clock_hz is not None:
        lines.append(f"set_frequency clk {clock_hz / 1e6}")
    return "\n".join([*lines, ""])


def lpf(pins: Mapping[str, Pin], clock_hz: float | None) -> str:
    """Logical preferences of an ECP5 for nextpnr; ``clk`` has ``clock_hz``."""
    lines = ["BLOCK ASYNCPATHS;", "BLOCK RESETPATHS;"]
    for name, pin in pins.items():
        attributes = " ".join(f"{key}={value}" for key, value in pin.attributes.items())
        lines += [f'LOCATE COMP "{name}" SITE "{pin.site}";', f'IOBUF PORT "{name}" {attributes};']
    if clock_hz is not None:
        lines.append(f'FREQUENCY PORT "clk" {clock_hz} HZ;')
    return "\n".join([*lines, ""])


def _bits(board: Board, ports: Mapping[str, int]) -> dict[str, Pin]:
    """Pins by the names that bits of ports have in a netlist."""
    found = {}
    for port, width in ports.items():
        if port not in board.pins:
            raise ValueError(f"port must be one of {', '.join(board.pins)} on {board.name}, not "
                             f"{port!r}")
        pins = board.pins[port]
        if width != len(pins):
            raise ValueError(f"{port} must have {len(pins)} bits on {board.name}, not {width!r}")
        found |= {port if width == 1 else f"{port}[{i}]": pin for i, pin in enumerate(pins)}
    return found
