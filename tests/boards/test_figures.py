"""The table of trained models on boards."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from systolith_boards.boards import BOARDS

sys.path.append(str(Path(__file__).parent))

import figures

BOARD = "ulx3s_85f"


def test_a_row_says_what_a_model_takes_of_a_board():
    name, model, right, cycles, mhz, rate, needs, host = figures.row(BOARD, "opt-mnist int8", 100)
    target = BOARDS[BOARD].target_mhz
    assert (name, model, mhz, host) == (BOARD, "opt-mnist int8", f"{target:g}", "nothing")
    cycles, rate, needs = (int(cell.replace(",", "")) for cell in (cycles, rate, needs))
    assert rate == round(1e6 * target / cycles)
    assert 6_096 < needs < BOARDS[BOARD].memory_bytes
    assert right in ("98 of 100", "99 of 100", "100 of 100")


def test_a_model_that_does_not_fit_says_what_it_needs(monkeypatch):
    small = replace(BOARDS[BOARD], memory_bytes=4096)
    monkeypatch.setattr(figures, "BOARDS", {**BOARDS, BOARD: small})
    *_, cycles, mhz, rate, needs, host = figures.row(BOARD, "opt-mnist int8", 100)
    assert (cycles, mhz, rate, host) == ("-", "-", "-", "does not fit: the board has 4,096 bytes")
    assert int(needs.removeprefix("more than ").replace(",", "")) > 4096


def test_the_table_goes_between_its_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "MODELS", {"opt-mnist int8": figures.digits})
    document = tmp_path / "models.md"
    document.write_text("before\n" + "".join(figures.MARKS) + "behind\n")
    options = ["--board", BOARD, "--count", "100", "--document", str(document)]
    for _ in range(2):
        result = CliRunner().invoke(figures.main, options)
        assert result.exit_code == 0, result.output
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("behind\n")
    assert text.count(f"| {BOARD} | opt-mnist int8 | ") == 1


@pytest.mark.parametrize("lines", [0, 1])
def test_a_document_without_marks_is_refused(tmp_path, lines):
    document = tmp_path / "models.md"
    document.write_text("".join(figures.MARKS[:lines]))
    result = CliRunner().invoke(figures.main, ["--document", str(document)])
    assert isinstance(result.exception, ValueError)
    assert "must have the lines" in str(result.exception)
