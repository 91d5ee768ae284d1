"""Multipliers side by side on the chip."""

import json

import pytest
from systolith_boards.arrays import CHIPS, synthesise
from systolith_boards.placement import SITES_85F, fix, side_by_side
from systolith_boards.synthesis import run_tool
from systolith_hw.array_ecp5 import Ecp5Array


@pytest.mark.parametrize("rows, cols", [(12, 12), (16, 8), (16, 9), (3, 5), (1, 1)])
def test_each_multiplier_has_a_site_of_its_own_beside_its_neighbours(rows, cols):
    rows_of_sites = SITES_85F
    order = {site: (y, x) for y, row in enumerate(rows_of_sites) for x, site in enumerate(row)}
    placed = side_by_side(rows, cols, rows_of_sites)
    assert len(set(placed.values())) == len(placed) == rows * cols
    for c in range(cols):
        places = [order[placed[f"column_{c}.multiplier_{r}.cell"]] for r in range(rows)]
        assert [y for y, _ in places] == sorted(y for y, _ in places)
        for (y0, x0), (y1, x1) in zip(places[0::2], places[1::2], strict=False):
            assert (y1, x1) == (y0, x0 + 1)  # the two whose products meet first


def test_an_array_with_too_many_multipliers_has_no_sites():
    with pytest.raises(ValueError) as info:
        side_by_side(16, 10, SITES_85F)
    assert str(info.value) == "sites must be at least 54 in each row, not 52"


def test_a_fixed_multiplier_is_where_it_should_be(tmp_path):
    synthesise(Ecp5Array(rows=2, cols=2), chip="lfe5u-85f", directory=tmp_path)
    placed = side_by_side(2, 2, SITES_85F)
    fix(tmp_path / "top.json", placed)
    tool, *options = CHIPS["lfe5u-85f"].nextpnr
    run_tool(tool, [*options, "--json", "top.json", "--no-route", "--write", "placed.json"],
             tmp_path)
    cells = json.loads((tmp_path / "placed.json").read_text())["modules"]["top"]["cells"]
    assert {name: cell["attributes"]["NEXTPNR_BEL"] for name, cell in cells.items()
            if cell["type"] == "MULT18X18D"} == placed
