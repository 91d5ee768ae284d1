"""Large arrays: the size of their text, lint, and the command that tabulates them."""

import json
import re

import pytest
from click.testing import CliRunner
from systolith_hw.core import Core
from systolith_hw.element import sum_bits
from systolith_hw.emit import emit_verilog, module_names
from systolith_sim.build import lint
from systolith_sim.growth import main, scaled


@pytest.fixture(scope="module")
def largest():
    """Verilog of the largest core, whose emission takes seconds."""
    return emit_verilog(Core(config=scaled(64, 64)), name="core_64x64")


def test_64_by_64_elements_are_less_than_2_mb_of_verilog(largest):
    # 5 MB would do; docs/growth.md has the size as it is.
    assert len(largest.encode()) < 2_000_000


def test_elements_alike_and_columns_are_emitted_once(largest):
    names = module_names(largest)
    elements = [name for name in names if "_processing_element" in name]
    assert len(elements) == len({(sum_bits(row), sum_bits(row + 1)) for row in range(64)})
    assert names.count("core_64x64_column") == 1
    column = re.search(r"^module core_64x64_column\(.*?^endmodule", largest, re.M | re.S)[0]
    assert len(re.findall(r"^  core_64x64_processing_element\w* \S+ \(", column, re.M)) == 64
    assert len(re.findall(r"^  core_64x64_column \S+ \(", largest, re.M)) == 64


@pytest.mark.full
def test_lint_finds_nothing_in_64_by_64(largest):
    lint(largest, name="core_64x64")


@pytest.mark.parametrize("rows, cols, lanes, bus_bits", [
    (1, 1, 1, 32), (8, 8, 2, 32), (5, 3, 1, 32), (16, 16, 4, 64), (64, 64, 16, 256),
    (64, 1, 1, 256), (1, 64, 4, 256), (33, 64, 16, 256)])
def test_what_feeds_the_array_grows_with_it(rows, cols, lanes, bus_bits):
    config = scaled(rows, cols)
    assert (config.array.rows, config.array.cols) == (rows, cols)
    assert (config.vector.lanes, config.bus.data_bits) == (lanes, bus_bits)


@pytest.mark.parametrize("size, what", [
    ("8", "size must be rows x columns such as 8x8, not '8'"),
    ("0x8", "array.rows must be from 1 to 64, not 0"),
    ("8x65", "array.cols must be from 1 to 64, not 65")])
def test_a_wrong_size_is_refused(size, what):
    result = CliRunner().invoke(main, [size])
    assert result.exit_code == 2
    assert what in result.stderr


def test_sizes_beyond_the_limit_are_not_simulated():
    result = CliRunner().invoke(main, ["2x3", "--elements", "5", "--json"])
    assert result.exit_code == 0, result.output
    row, = json.loads(result.stdout)
    assert (row["rows"], row["cols"]) == (2, 3)
    assert row["verilog_bytes"] == len(emit_verilog(Core(config=scaled(2, 3)), name="core_2x3"))
    assert row["build_seconds"] is row["cycles"] is None


@pytest.mark.full
def test_a_product_on_a_small_core_is_tabulated():
    result = CliRunner().invoke(main, ["2x3", "--gemm", "20"])
    assert result.exit_code == 0, result.output
    cells = re.search(r"│ 2 x 3 │(.*)│$", result.stdout, re.M)[1].split("│")
    cycles = int(cells[8].replace(",", ""))
    assert cycles >= 20 ** 3 / 6
    assert float(cells[9]) == round(20 ** 3 / cycles, 1)
