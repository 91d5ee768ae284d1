"""The table of all boards, from builds that a test makes up."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from systolith_boards import report
from systolith_boards.boards import BOARDS
from systolith_boards.build import Built, Clock


@pytest.fixture
def builds(monkeypatch):
    """What was built, as (board, seed); boards in ``refused`` are not built."""
    made = []

    def build(top, board, *, seed, sites, allow_timing_fail):
        assert allow_timing_fail
        if board.name in build.refused:
            raise ValueError("design must fit the 30 ICESTORM_RAM of it, not need 36")
        made.append((board.name, seed))
        clock = Clock(name="clk", fmax_mhz=30.0 + 10 * seed, target_mhz=board.target_mhz,
                      path=("first", "last"))
        return Built(board=board, seed=seed, luts=board.chip.luts // 2, ffs=1000,
                     dsps=board.chip.dsps, brams=3, used={}, clocks=(clock,), tools={}, verilog="",
                     netlist=Path(), folder=Path(), bitstream=Path(), fresh=True)

    build.refused = ()
    build.made = made
    monkeypatch.setattr(report, "build", build)
    return build


def test_a_row_has_every_seeds_clock_and_counts_the_median(builds):
    board = BOARDS["ulx3s_25f"]
    row, = report.report(report.chosen(["ulx3s_25f"], ()), (1, 2, 3), 1)
    assert builds.made == [("ulx3s_25f", seed) for seed in (1, 2, 3)]
    array, mhz = board.config.array, min(50.0, board.target_mhz)
    assert row.cells == (
        "ulx3s_25f", "ecp5_25f", f"{array.rows} x {array.cols} int8", "12,144 (50 %)",
        "1,000 (4 %)", "28 (100 %)", "3 (5 %)", "40.0 / 50.0 / 60.0", f"{board.target_mhz:g}",
        f"{array.rows * array.cols}, {2 * array.rows * array.cols * mhz / 1000:.1f}",
        "first to last")


def test_what_does_not_fit_stands_in_the_table_with_its_reason(builds):
    builds.refused = ("icebreaker",)
    row, = report.report(report.chosen(["icebreaker"], ()), (1,), 1)
    assert row.cells[-1] == "design must fit the 30 ICESTORM_RAM of it, not need 36"


def test_the_table_takes_the_old_ones_place_in_the_document(builds, tmp_path):
    document = tmp_path / "boards.md"
    start, end = report.MARKS
    document.write_text(f"before\n{start}old\n{end}after\n")
    result = CliRunner().invoke(report.main, ["--board", "ulx3s_25f", "--board", "icebreaker",
                                              "--seed", "7", "--document", str(document)])
    assert result.exit_code == 0, result.output
    assert builds.made == [("ulx3s_25f", 7), ("icebreaker", 7)]
    text = document.read_text()
    assert text.startswith(f"before\n{start}| board | preset | array |")
    assert text.endswith(f"|\n{end}after\n") and "old" not in text
    assert text.count("\n| ") == 4


def test_a_board_has_a_row_for_each_of_its_presets(builds):
    builds.refused = ("ulx3s_45f",)
    rows = list(report.report(report.chosen(["ulx3s_45f", "ulx3s_85f"], ()), (1,), 1))
    assert [row.cells[:3] for row in rows] == [
        ("ulx3s_45f", "ecp5_25f", "8 x 8 int8"), ("ulx3s_85f", "models", "16 x 8 int8"),
        ("ulx3s_85f", "wide", "16 x 16 int8"),
        ("ulx3s_85f", "peak", "16 x 9 int8"), ("ulx3s_85f", "ternary", "32 x 32 ternary")]


def test_presets_can_be_chosen(builds, tmp_path):
    assert [(board.name, preset) for preset, board in report.chosen(
        ["icebreaker", "ulx3s_85f"], ["peak", "tiny"])] == [("icebreaker", "tiny"),
                                                            ("ulx3s_85f", "peak")]
    result = CliRunner().invoke(report.main, ["--board", "ulx3s_85f", "--preset", "tiny"])
    assert result.exit_code == 2 and not builds.made
    assert "preset must be one of models, wide, peak, ternary, not 'tiny'" in " ".join(
        result.output.replace("│", " ").split())


def test_rows_of_boards_that_are_not_chosen_stay(builds, tmp_path):
    document = tmp_path / "boards.md"
    document.write_text("".join(report.MARKS))

    def run(*options):
        result = CliRunner().invoke(report.main, [*options, "--document", str(document)])
        assert result.exit_code == 0, result.output
        return report.written(document)

    first = run("--board", "ulx3s_25f", "--seed", "1")
    both = run("--board", "icebreaker", "--seed", "1")
    again = run("--board", "ulx3s_25f", "--seed", "2")
    assert [board for board, _ in both] == ["icebreaker", "ulx3s_25f"]
    key, = first
    assert both[key] == first[key] != again[key]
    assert [*again] == [*both]


def test_a_document_without_marks_is_refused(builds, tmp_path):
    document = tmp_path / "boards.md"
    document.write_text("no marks\n")
    result = CliRunner().invoke(report.main, ["--board", "ulx3s_25f", "--document", str(document)])
    assert result.exit_code == 2
    assert "must have the lines" in result.output and not builds.made
