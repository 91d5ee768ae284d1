"""Where the multipliers of an array lie on a chip."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

__all__ = ["SITES_85F", "fix", "side_by_side"]

# A block of nine columns has four multipliers; no block is at the two clock columns from 67 on.
_BLOCKS_85F = (*range(4, 67, 9), *range(69, 123, 9))
# Of the LFE5U-85F, from left to right, row by row.
SITES_85F = tuple(
    tuple(f"X{x + offset}/Y{y}/MULT18_{index}" for x in _BLOCKS_85F
          for offset, index in ((0, 0), (1, 1), (4, 4), (5, 5)))
    for y in (10, 34, 58))


def side_by_side(rows: int, cols: int, sites: Sequence[Sequence[str]]) -> dict[str, str]:
    """The site of each multiplier of an array, by the end of the multiplier's name.

    The columns are side by side across the chip. Each is spread over all rows of sites, the array's
    upper rows first, in steps of two neighbours, whose products meet first.

    Raises
    ------
    ValueError
        The array has more multipliers than there are sites in a row for it.
    """
    pairs, bands = -(-rows // 2), len(sites)
    lines: list[list[str]] = [[] for _ in sites]
    for c in range(cols):
        numbers = iter(range(rows))
        for band, line in enumerate(lines):
            wide = 2 * (pairs // bands + ((band + c) % bands < pairs % bands))
            line += [f"column_{c}.multiplier_{r}.cell" for r in islice(numbers, wide)]
    placed = {}
    for line, row in zip(lines, sites, strict=True):
        if len(line) > len(row):
            raise ValueError(f"sites must be at least {len(line)} in each row, not {len(row)!r}")
        start = (len(row) - len(line)) // 2
        placed |= dict(zip(line, row[start:], strict=False))
    return placed


def fix(netlist: Path, sites: Mapping[str, str]) -> None:
    """Tie cells of a netlist, named by the ends of their names, to sites of the chip."""
    design = json.loads(netlist.read_text())
    for name, cell in design["modules"]["top"]["cells"].items():
        for end, site in sites.items():
            if f".{name}".endswith(f".{end}"):
                cell["attributes"]["BEL"] = site
    netlist.write_text(json.dumps(design))
