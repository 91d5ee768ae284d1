"""Toggles: counting them, what counts, and that gating makes them fewer."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from systolith_hw.array import Array
from systolith_hw.config import CoreConfig
from systolith_hw.core import Core
from systolith_hw.emit import emit_verilog
from systolith_sim.toggles import (
    LAYERS,
    PARTS,
    array_parts,
    core,
    count_toggles,
    main,
    traceable,
    workload,
)

from tests.hw.test_array import Sequencer
from tests.hw.test_gating import sparse_tiles

HEADER = """\
$scope module TOP $end
$scope module core $end
$var wire 4 # value [3:0] $end
$var wire 1 % valid $end
$scope module inner $end
$var wire 4 # alias [3:0] $end
$var wire 4 ! value [3:0] $end
$upscope $end
$upscope $end
$upscope $end
$enddefinitions $end
"""


def test_counts_bits_that_change_and_an_alias_once(tmp_path):
    path = tmp_path / "x.vcd"
    path.write_text(HEADER + "#0\nb0101 #\nb0 !\n0%\n#5\nb1010 #\n1%\n#10\nb1011 #\nb1111 !\n0%\n")
    assert count_toggles(path, {"value": "sums", "inner.alias": "sums", "valid": "weights"},
                         top="core") == {**dict.fromkeys(PARTS, 0), "sums": 5, "weights": 2}
    assert count_toggles(path, {"inner.value": "sums"}, top="core")["sums"] == 4


def test_a_waveform_without_a_signal_is_refused(tmp_path):
    path = tmp_path / "x.vcd"
    path.write_text(HEADER)
    with pytest.raises(ValueError) as info:
        count_toggles(path, {"value": "sums", "inner.valid": "sums"}, top="core")
    assert str(info.value) == "x.vcd must hold all 2 signals, not lack 'inner.valid'"


@pytest.mark.parametrize("pairs", [False, True])
def test_registers_and_results_of_the_whole_array_have_a_part(pairs):
    config = CoreConfig.preset("tiny").updated({"name": "core", "array": {
        "rows": 2, "cols": 3, "fanout": 2, "gated": True, "pairs": pairs,
        "weights": ["int8", "int4"] if pairs else ["int8"]}})
    verilog = traceable(emit_verilog(Core(config=config), name="core"), top="core")
    parts = array_parts(verilog, top="core")
    assert set(parts.values()) == set(PARTS)
    elements = 2 * (6 if pairs else 3)
    bits = 5 if pairs else 8
    for part, pattern, count in [
            ("multipliers", r"\.multiplier\.(product|activation\$\d+)", 2),
            ("inside", r"\.multiplier\.(and_\d|row_\d)", 2 * bits - 1),
            ("sums", r"\.element_\d\.(sum|result_\d+)", 2),
            ("weights", r"\.(weight_below|weight\$\d+)", 2)]:
        assert count * elements == len([name for name, found in parts.items()
                                        if found == part and re.search(f"{pattern}$", name)])
    groups = [name for name in parts if re.search(r"array(\.nibbles)?\.(activ|lives)", name)]
    assert [parts[name] for name in groups] == 2 * ["activations"]


@pytest.mark.parametrize("zeros, least, most", [(0, 0.7, 1.0), (0.5, 0.5, 0.7), (0.9, 0.0, 0.25)])
def test_operands_of_a_gated_array_toggle_less_the_more_zeros_there_are(tmp_path, zeros, least,
                                                                        most):
    # About (1 - zeros) of their toggles are left where zeros and others toggled before: in
    # (1 - zeros ** 2). Rows that are not valid hold anything here, which gating does not take.
    toggles = []
    for gated in (False, True):
        rng = np.random.default_rng(4)
        dut = Array(rows=4, cols=4, fanout=2, gated=gated)
        tiles = sparse_tiles(rng, dut, zeros=zeros, low=-128, high=127)
        path = tmp_path / f"{gated}.vcd"
        Sequencer(dut, tiles, rng, vcd=path).run()
        operands = {f"column_{c}.element_{r}.multiplier.activation": "multipliers"
                    for c in range(4) for r in range(4)}
        toggles.append(count_toggles(path, operands, top="top")["multipliers"])
    assert least <= toggles[1] / toggles[0] <= most


def test_random_layers_have_the_zeros_of_their_name():
    for name in LAYERS[2:]:
        work = workload(name, weights="ternary", rows=10)
        kind, percent = name.split("-")
        zeros = {"random": 100 * (work.x == 0).mean(),
                 "weights": 100 * (work.layers[0].weights == 0).mean()}
        assert round(zeros[kind]) == int(percent)
        assert round(zeros["weights" if kind == "random" else "random"]) == (
            33 if kind == "random" else 0)


def test_gating_changes_nothing_else_in_the_cores():
    plain, gated = (core(8, 8, weights="ternary", gated=gated) for gated in (False, True))
    assert plain.updated({"array": {"gated": True}}) == gated


@pytest.mark.parametrize("arguments, text", [
    ("--size 8", "size must be rows x columns such as 8x8, not '8'"),
    ("--size 0x8", "array.rows must be from 1 to 64, not 0"),
    ("--size 8x65", "array.cols must be from 1 to 64, not 65"),
    ("--layer random-1", "'random-1' is not one of 'digits'"),
    ("--weights int2", "'int2' is not one of 'int8', 'int4', 'ternary'")])
def test_wrong_options_are_refused(arguments, text):
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.full
def test_layers_are_counted_on_small_arrays():
    arguments = ["--size", "2x3", "--weights", "int8", "--rows", "8", "--layer", "random-0",
                 "--layer", "random-75"]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    runs = json.loads(result.stdout)
    assert [(run["layer"], run["gated"]) for run in runs] == [
        ("random-0", False), ("random-0", True), ("random-75", False), ("random-75", True)]
    assert {run["macs"] for run in runs} == {8 * 64 * 32}
    # 8 rows for each of 32 x 11 tiles, on the array in every cycle that is not idle.
    assert {run["cycles"] - run["idle"] for run in runs} == {8 * 32 * 11}
    assert len({run["cycles"] for run in runs}) == 1
    dense, dense_gated, sparse, sparse_gated = (sum(run["toggles"].values()) for run in runs)
    assert 0.97 * dense < dense_gated < 1.02 * dense
    assert sparse_gated < 0.93 * sparse < 0.7 * dense
    assert runs[2]["zero_activations"] == pytest.approx(0.75, abs=0.01)

    table = CliRunner().invoke(main, arguments)
    assert table.exit_code == 0, table.output
    row = next(line for line in table.stdout.splitlines() if "random-75" in line and "yes" in line)
    assert f" {100 * (1 - sparse_gated / sparse):.1f} % " in row
    assert f" {sparse_gated / (8 * 64 * 32):.2f} " in row
