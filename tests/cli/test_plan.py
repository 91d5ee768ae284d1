"""`systolith plan`, and how `systolith build` refuses what does not fit."""

import pytest
import references
from systolith_boards import plan, propose
from systolith_boards.boards import BOARDS
from systolith_boards.plan import Plan


@pytest.fixture
def foreseen(monkeypatch):
    """What the planner says in the place of counting, with LUTs and flip-flops within 2 %."""
    def say(**needed):
        monkeypatch.setattr(plan, "plan", lambda top, config, board: Plan(
            board=board, errors={"luts": 0.02, "ffs": 0.02}, **needed))
    return say


def test_plan_says_what_a_configuration_takes(run_json):
    report = run_json("plan", "--board", "orangecrab_r0_2_25f", "--set", "array.cols=2")
    board = BOARDS["orangecrab_r0_2_25f"]
    config = board.config.overridden(["array.cols=2"])
    rows = config.array.rows
    assert report["macs_per_cycle"] == 2 * rows
    assert report["gops"] == pytest.approx(2 * 2 * rows * board.target_mhz / 1000, abs=0.01)
    assert report["available"] == {"luts": 24288, "ffs": 24288, "dsps": 28, "brams": 56}
    assert report["fits"] is True
    whole = run_json("plan", "--board", "orangecrab_r0_2_25f")
    assert whole["dsps"] - report["dsps"] == (board.config.array.cols - 2) * rows
    assert 0 < report["luts"] < whole["luts"] and 0 < report["ffs"] < whole["ffs"]
    assert set(report["errors"]) == {"luts", "ffs"}


def test_plan_takes_a_preset_of_the_board_and_hands_it_on(run, run_json, foreseen):
    foreseen(luts=30000, ffs=30000, dsps=154, brams=85)
    options = ("plan", "--board", "ulx3s_85f", "--preset", "peak")
    board = BOARDS["ulx3s_85f"].running("peak")
    report = run_json(*options)
    assert report["macs_per_cycle"] == 144 and report["target_mhz"] == board.target_mhz
    assert run(*options).stdout.splitlines()[-1] == (
        "It fits. Next: systolith build --board ulx3s_85f --preset peak")


def test_plan_says_what_is_next_where_it_fits(run, foreseen):
    foreseen(luts=5000, ffs=1000, dsps=8, brams=30)
    result = run("plan", "--board", "icebreaker", "--set", "array.rows=2")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == (
        "It fits. Next: systolith build --board icebreaker --set array.rows=2")
    lines = {line.split("  ")[0].strip(): line.split() for line in result.stdout.splitlines()}
    assert lines["LUTs"] == ["LUTs", "5,000", "2", "%", "5,280", "95", "%"]
    assert lines["block RAMs"] == ["block", "RAMs", "30", "exact", "30", "100", "%"]


@pytest.mark.parametrize("needed, sentence", [
    (dict(luts=5281, ffs=1000, dsps=8, brams=30),
     "It may not fit: 1 LUTs too many, which may be the estimate's error."),
    (dict(luts=5281, ffs=1000, dsps=8, brams=31),
     "It does not fit: 1 LUTs, 1 block RAMs too many."),
    (dict(luts=9000, ffs=1000, dsps=9, brams=30),
     "It does not fit: 3,720 LUTs, 1 DSPs too many."),
])
def test_plan_says_what_is_lacking(run, foreseen, needed, sentence):
    foreseen(**needed)
    result = run("plan", "--board", "icebreaker")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, sentence)


@pytest.mark.parametrize("needed, said", [
    (dict(luts=5000, ffs=1000, dsps=9, brams=31), "9 of its 8 DSPs, 31 of its 30 block RAMs"),
    (dict(luts=5809, ffs=1000, dsps=8, brams=30), "about 5,809 of its 5,280 LUTs"),
])
def test_build_refuses_what_is_certain_not_to_fit(refuse, foreseen, monkeypatch, needed, said):
    monkeypatch.setattr("systolith_boards.build.build", None)
    foreseen(**needed)
    assert refuse("build", "--board", "icebreaker") == (
        f"design must fit icebreaker, not need {said}")


def test_build_goes_on_where_the_estimate_may_be_wrong(run, foreseen, monkeypatch):
    def build(*_, **__):
        raise ValueError("built")

    monkeypatch.setattr("systolith_boards.build.build", build)
    foreseen(luts=5800, ffs=1000, dsps=8, brams=30)
    assert run("build", "--board", "icebreaker").stderr.splitlines()[-1] == "systolith: built"


@pytest.mark.parametrize("options, sentence", [
    ("--board nexys", "board must be one of "),
    ("--board icebreaker --set array.strategy=ecp5",
     "array.strategy must be one of generic, ice40, soft for ice40, not 'ecp5'"),
    ("", "Missing option '--board' (see systolith plan -h)"),
])
def test_what_plan_cannot_do_is_said_in_one_sentence(refuse, options, sentence):
    assert refuse("plan", *options.split()).startswith(sentence)


@pytest.fixture
def quick(monkeypatch):
    """A planner that needs no counting, and few shapes."""
    monkeypatch.setattr(propose, "plan", lambda top, config, board: Plan(
        board=board, luts=1000, ffs=1000, brams=60, errors={},
        dsps=config.array.multipliers + 20))
    monkeypatch.setattr(propose, "SHAPES", 2)
    monkeypatch.setattr(propose, "TUNED", 0)


def test_plan_proposes_what_to_build_for_a_model(run, run_json, quick):
    model = references.stored("mlperf_tiny", "kws_ref_model.tflite")
    command = ("plan", "--board", "ulx3s_85f", "--model", model, "--set", "memory.act_rows=8192",
               "--best", "2")
    report = run_json(*command)
    first, second = report["proposals"]
    assert first["cycles"] <= second["cycles"]
    assert first["per_second"] == pytest.approx(
        1e6 * BOARDS["ulx3s_85f"].target_mhz / first["cycles"])
    assert (first["macs"], first["host_ops"]) == (2_656_768, [])
    assert first["rows"] * first["cols"] == 128
    assert first["act_bytes"] <= 8192 * first["rows"]   # less is proposed where it does as well
    config = BOARDS["ulx3s_85f"].config.overridden(["memory.act_rows=8192", *second["changes"]])
    assert (config.array.rows, config.array.cols) == (second["rows"], second["cols"])
    result = run(*command)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].strip() == first["build"]
    assert first["build"].startswith(
        "systolith build --board ulx3s_85f --set memory.act_rows=8192")


def test_plan_needs_a_model_of_integers(refuse, quick):
    model = references.stored("onnx", "opt-mnist.onnx")
    assert "calibrate it" in refuse("plan", "--board", "ulx3s_85f", "--model", model)
    assert refuse("plan", "--board", "ulx3s_85f", "--weights", "int4") == (
        "model must be given where calibrate or weights is")
    assert refuse("plan", "--board", "ulx3s_85f", "--model", model, "--best", "0") == (
        "best must be at least 1, not 0")
