"""What the planner learns from builds, which a test makes up."""

import json
import random
from collections import Counter

import pytest
from click.testing import CliRunner
from systolith_boards import fit
from systolith_boards.count import KINDS, Design
from systolith_boards.fit import Build, draw, samples
from systolith_boards.plan import WEIGHTS, foresee, weights

WEIGHT = {"luts": {"registers": 0.9, "adders": 0.5, "equals": 0.25},
          "ffs": {"registers": 0.8}}


def made_up(seed, board, held_out=False, bias=1.0):
    """A build of a design of random operators, which takes what ``WEIGHT`` says."""
    rng = random.Random(f"{seed} {board}")
    design = Design(bits=Counter({kind: rng.randrange(500, 5000) for kind in KINDS}),
                    rams=Counter({(512, 8 * rng.randrange(1, 9), 8): 2}))
    built = {name: round(bias * sum(weight * design.bits[kind] for kind, weight in kinds.items()))
             for name, kinds in WEIGHT.items()}
    return Build(board=board, changes=(f"array.rows={seed}",), held_out=held_out, design=design,
                 built={**built, "dsps": 0, "brams": 4})


@pytest.fixture
def builds():
    return [made_up(seed, board, held_out=seed % 5 == 0, bias=1.25 if seed == 5 else 1.0)
            for board in ("icebreaker", "ulx3s_25f") for seed in range(1, 31)]


def test_weights_are_those_that_builds_were_made_with(builds, monkeypatch):
    monkeypatch.setattr(fit, "TRUST", 1e-9)
    found = fit.fit(builds)
    for family in ("ice40", "ecp5"):
        for name, wanted in WEIGHT.items():
            assert {kind: weight for kind, weight in found[family][name].items()
                    if kind in KINDS and weight > 0.005} == pytest.approx(wanted, abs=0.01)
        # The one that takes a quarter more than foreseen is held out.
        assert found[family]["errors"] == pytest.approx(dict.fromkeys(WEIGHT, 0.2), abs=0.005)


def test_no_weight_is_negative():
    rng = random.Random(3)
    builds = [made_up(seed, "icebreaker", bias=rng.uniform(0.5, 1.5)) for seed in range(8)]
    found = fit.fit(builds)["ice40"]
    assert all(weight >= 0 for name in WEIGHT for weight in found[name].values())


def test_what_builds_leave_open_stays_as_it_is_expected():
    alike = [made_up(1, "icebreaker") for _ in range(5)]
    found = fit.fit(alike)["ice40"]
    assert found["luts"]["controllers"] == 700  # of which the builds have none
    bits = alike[0].design.bits
    expected = fit._EXPECTED["luts"]
    unsure = sum(weight * bits[kind] for kind, weight in expected.items())
    wanted = alike[0].built["luts"]
    # All shares move together towards what the builds take.
    for kind in ("adders", "choices"):
        assert (found["luts"][kind] < expected[kind]) == (unsure > wanted)
    assert sum(weight * bits[kind] for kind, weight in found["luts"].items()) == pytest.approx(
        wanted, rel=0.01)


def test_held_out_builds_stand_in_the_table(builds, monkeypatch):
    monkeypatch.setattr(fit, "TRUST", 1e-9)
    lines = fit.table(builds, fit.fit(builds)).splitlines()[2:]
    assert len(lines) == 12
    assert [line.split(" | ")[0] for line in lines] == ["| icebreaker"] * 6 + ["| ulx3s_25f"] * 6
    errors = [float(line.split("(")[1].split(" %")[0]) for line in lines]
    assert [round(error) for error in errors].count(-20) == 2
    assert sum(abs(error) < 0.5 for error in errors) == 10


@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_what_is_drawn_is_a_configuration_with_multipliers_enough(family):
    drawn = [draw(family, seed) for seed in range(20)]
    assert drawn == [draw(family, seed) for seed in range(20)]
    assert len(set(drawn)) == 20
    for board, changes in drawn:
        array = board.config.overridden(list(changes)).array
        assert board.chip.family == family
        assert array.strategy == "soft" or array.rows * array.cols <= 28


def test_two_fifths_of_what_is_drawn_are_held_out():
    chosen = len(list(samples(0)))
    wanted = list(samples(30))[chosen:]
    assert Counter((board.chip.family, held_out) for board, _, held_out in wanted) == {
        (family, held_out): 6 if held_out else 9
        for family in ("ice40", "ecp5") for held_out in (False, True)}
    assert not any(held_out for *_, held_out in samples(0))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files of the fit in an empty folder, and what is synthesised."""
    monkeypatch.setattr(fit, "BUILDS", tmp_path / "builds.json")
    monkeypatch.setattr(fit, "WEIGHTS", tmp_path / "weights.json")
    monkeypatch.setattr(fit, "top_of", lambda board, config: (board, config))
    monkeypatch.setattr(fit, "count", lambda top: made_up(str(top[1]), top[0].name).design)
    monkeypatch.setattr(fit, "chip_verilog", lambda top: top)
    synthesised = []

    def synthesise(top, board):
        synthesised.append(top)
        if len(synthesised) == 3:
            raise RuntimeError("yosys must succeed, not end with code 1: ")
        return top

    monkeypatch.setattr(fit, "synthesise", synthesise)
    monkeypatch.setattr(fit, "pack", lambda top, board: made_up(str(top[1]), board.name).built)
    monkeypatch.setattr(fit, "samples", lambda drawn: list(samples(drawn))[-drawn:])
    tmp_path.joinpath("boards.md").write_text("before\n" + "old\n".join(fit.MARKS) + "after\n")
    return tmp_path, synthesised


def test_the_fit_goes_on_where_it_ended_and_leaves_out_what_cannot_be_built(files):
    folder, synthesised = files
    arguments = ["--drawn", "12", "--document", str(folder / "boards.md")]
    result = CliRunner().invoke(fit.main, arguments)
    assert result.exit_code == 0, result.output
    assert "yosys must succeed" in " ".join(result.stderr.split())
    assert len(synthesised) == 12 and len(fit.load()) == 11
    assert json.loads((folder / "weights.json").read_text())["ice40"]["luts"].keys() >= set(KINDS)
    text = (folder / "boards.md").read_text()
    start, end = fit.MARKS
    assert text.startswith(f"before\n{start}| board |") and text.endswith(f"|\n{end}after\n")
    assert text.count("\n| ") == 2 + 6 and "old" not in text

    again = CliRunner().invoke(fit.main, arguments)
    assert again.exit_code == 0
    assert len(synthesised) == 13 and len(fit.load()) == 12


def test_a_design_that_counts_otherwise_is_built_again(files, monkeypatch):
    folder, synthesised = files
    assert CliRunner().invoke(fit.main, ["--drawn", "10"]).exit_code == 0
    monkeypatch.setattr(fit, "count", lambda top: made_up("other", top[0].name).design)
    assert CliRunner().invoke(fit.main, ["--drawn", "10"]).exit_code == 0
    assert len(synthesised) == 20 and len(fit.load()) == 10
    assert all(build.design == made_up("other", build.board).design for build in fit.load())


def test_the_weights_are_those_of_the_builds_beside_them():
    builds = fit.load()
    assert fit.fit(builds) == weights() == json.loads(WEIGHTS.read_text())
    assert sum(build.held_out for build in builds) >= 12
    for build in builds:
        foreseen = foresee(build.design, build.chip, weights()[build.chip.family])
        assert [foreseen[name] for name in ("dsps", "brams")] == [
            build.built[name] for name in ("dsps", "brams")], build
