"""Output registers of an ECP5's block RAM, which Yosys leaves in the fabric beside it.

A DP16KD answers 5.8 ns after the clock, and 1.0 ns after it with its output register.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

__all__ = ["absorb_registers"]


def absorb_registers(netlist: dict[str, Any]) -> dict[str, int]:
    """Take registers right behind block RAM into it; how many flip-flops of each module are gone.

    A block RAM's register takes every bit of a port, with one clock enable and no reset: where a
    bit goes elsewhere too, or the flip-flops behind differ, they stay. What they held before the
    first clock is lost.

    Registers as in Lattice FPGA-TN-02204, "ECP5 and ECP5-5G Memory Usage Guide": ``OCEA`` and
    ``OCEB`` enable them, whether the RAM is enabled or not; a port of 36 bits has those of both
    sides, on the clock and enable of B. Here both sides have them alike.

    Parameters
    ----------
    netlist : dict
        As Yosys writes it for nextpnr, after ``synth_ecp5``; changed in place.
    """
    return {name: _absorb(module) for name, module in netlist["modules"].items()}


def _absorb(module: dict[str, Any]) -> int:
    cells = module["cells"]
    users = defaultdict(list)   # of a bit: names of cells and their ports
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    users[bit].append((name, port))
    for port in module["ports"].values():
        for bit in port["bits"]:
            users[bit].append(("", ""))
    gone = 0
    for ram in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        for sides, clocked in _ports(ram):
            behind = {}     # flip-flop behind each output
            for side in sides:
                for i in range(18):
                    (bit,) = ram["connections"].get(f"DO{side}{i}", [None])
                    for name, port in users[bit] if bit is not None else ():
                        behind.setdefault(f"DO{side}{i}", []).append((name, port))
            enable = _enable(ram, sides, clocked, behind, cells)
            if enable is None:
                continue
            for output, ((name, _),) in behind.items():
                ram["connections"][output] = cells.pop(name)["connections"]["Q"]
                gone += 1
            ram["connections"] |= {f"OCE{side}": enable for side in sides}
            ram["parameters"] |= {f"REGMODE_{side}": "OUTREG" for side in sides}
    return gone


def _ports(ram: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The sides whose outputs are one port, and the side whose clock and enable they have."""
    if int(ram["parameters"]["DATA_WIDTH_B"], 2) == 36:
        yield "AB", "B"
    else:
        yield from (("A", "A"), ("B", "B"))


def _enable(ram: dict[str, Any], sides: str, clocked: str,
            behind: dict[str, list[tuple[str, str]]], cells: dict[str, Any]) -> list[Any] | None:
    """What enables all the flip-flops behind a port; None where the RAM has no such register."""
    pins, modes = ram["connections"], ram["parameters"]
    found = []
    for users in behind.values():
        name, port = users[0]
        if len(users) > 1 or port != "DI" or cells[name]["type"] != "TRELLIS_FF":
            return None
        pin, mode = cells[name]["connections"], cells[name]["parameters"]
        if (pin["CLK"] != pins[f"CLK{clocked}"] or mode["CLKMUX"] != "CLK"
                or pin.get("LSR", ["0"]) != ["0"] or mode["LSRMUX"] != "LSR"):
            return None
        found.append(pin["CE"] if mode["CEMUX"].strip() == "CE" else
                     ["1"] if mode["CEMUX"].strip() == "1" else None)
    alike = all(
        pins[f"CLK{side}"] == pins[f"CLK{clocked}"] and pins[f"RST{side}"] == ["0"]
        and modes[f"CLK{side}MUX"] == f"CLK{side}" and modes[f"REGMODE_{side}"] == "NOREG"
        for side in sides)
    return found[0] if found and alike and all(one == found[0] for one in found) else None
