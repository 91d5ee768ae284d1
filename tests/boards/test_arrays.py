"""The command that measures arrays: what it counts, and its clock."""

import json

import pytest
from click.testing import CliRunner
from systolith_boards import arrays
from systolith_boards.wrapped import Wrapped
from systolith_hw.arrays import array_of
from systolith_hw.parts import ArrayConfig


def measured(*options):
    result = CliRunner().invoke(arrays.main, [*options, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_counts_dsps_for_two_columns_each_and_finds_a_clock():
    found = measured("--strategy", "ice40", "--rows", "3", "--cols", "3", "--chip", "up5k",
                     "--seed", "1")
    assert found["DSP"] == 3 * 2
    # Shadow weights alone; what else there is would be as much again in a systolic array.
    assert 3 * 3 * 8 < found["FF"] <= found["LC"] < 2 * 3 * 3 * 8
    assert found["LC/MAC"] == round(found["LC"] / 9, 1)
    assert found["MHz, median"] == found["MHz, seed 1"] > 45


@pytest.mark.parametrize("chip, logic", [("hx8k", "LC"), ("lfe5u-25f", "COMB")])
def test_soft_arrays_take_no_dsps(chip, logic):
    found = arrays.area(ArrayConfig(rows=2, cols=2, strategy="soft", cell="ternary",
                                    weights=("ternary",)), chip=chip)
    assert found["DSP"] == 0
    assert found[logic] > 0


def test_a_seed_that_does_not_route_in_time_has_no_clock(monkeypatch, tmp_path):
    def never(*_, seed, **__):
        if seed == 2:
            raise TimeoutError
        return 100.0 + seed

    monkeypatch.setattr(arrays, "clock", never)
    monkeypatch.setattr(arrays, "synthesise", lambda *_, **__: None)
    monkeypatch.setattr(arrays, "area", lambda *_, **__: {"LC": 10, "FF": 5, "DSP": 1})
    found = arrays.measure(ArrayConfig(rows=2, cols=2, strategy="ice40"), chip="up5k",
                           seeds=(1, 2, 3), frequency=100, timeout=1, directory=tmp_path)
    assert found["LC/MAC"] == 2.5
    assert [found[f"MHz, seed {seed}"] for seed in (1, 2, 3)] == [101.0, None, 103.0]
    assert found["MHz, median"] == 102.0


def test_the_wrapper_leaves_the_array_its_registers(tmp_path):
    array = ArrayConfig(rows=2, cols=2, strategy="ecp5")
    alone, wrapped = (
        arrays.synthesise(component, chip="lfe5u-25f", directory=tmp_path)["TRELLIS_FF"]
        for component in (array_of(array), Wrapped(part=array_of(array))))
    inputs, outputs = 2 * 8 + 2 * 8 + 3, 2 * 17 + 1
    parity = 9 + 3 + 1
    assert wrapped == alone + 2 * inputs + outputs + parity


def test_a_strategy_on_the_wrong_chip_is_refused():
    result = CliRunner().invoke(arrays.main, ["--strategy", "ecp5", "--rows", "2", "--cols", "2",
                                              "--chip", "hx8k"])
    assert result.exit_code == 2
    assert ("array.strategy must be one of generic, ice40, soft for ice40, not 'ecp5'"
            in " ".join(result.output.split()))
