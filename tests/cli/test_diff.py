"""systolith diff."""

import json
import sys

import numpy as np
import pytest
import systolith
from faulty import FaultyDevice
from networks import residual
from systolith.compiler.hazards import touched
from systolith.device import open_device
from systolith.program import decode_program
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Opcode


@pytest.fixture
def compiled(tmp_path):
    """A small network, stored beside an input."""
    network = systolith.compile(residual(5), preset="demo")
    network.save(tmp_path / "net.slith")
    x = np.random.default_rng(6).integers(-128, 128, (2, *network.inputs[0].shape[1:]))
    np.save(tmp_path / "x.npy", x.astype(np.int8))
    return network


@pytest.fixture
def planted(compiled, monkeypatch):
    """The number of a command that device `rtl`, in whose place stands a model, does wrong."""
    program = compiled.images[0].program
    number = next(number for number, (opcode, _) in enumerate(decode_program(program))
                  if opcode == Opcode.VECTOR)
    record = program[64 * number:64 * number + 64]

    rows = touched(*decode_program(record)[0], CoreConfig.preset("demo"))[1][0][1]

    def harm(state):
        state.act[rows, 2] ^= 4

    def open_(spec, config, **options):
        if spec == "rtl":
            return FaultyDevice(config, record=record, harm=harm, **options)
        return open_device(spec, config, **options)
    monkeypatch.setattr(sys.modules["systolith.cli.diff"], "open_device", open_)
    return number


def test_equal_devices_end_with_a_sentence_and_exit_code_0(run, run_json, compiled):
    result = run("diff", "net.slith", "--input", "x.npy", "--devices", "model,model")
    assert result.exit_code == 0, result.stderr
    assert f"all {compiled.images[0].memory_bytes:,} bytes agree after each" in result.stdout
    report = run_json("diff", "net.slith", "--input", "x.npy", "--devices", "model,model")
    assert report == {"equal": True, "devices": ["model", "model"], "runs": 2}


def test_a_planted_difference_is_shown_with_the_commands_around_it(run, planted):
    result = run("diff", "net.slith", "-i", "x.npy")
    assert result.exit_code == 1
    assert f"command {planted}, vector, of program 0, run 0" in result.stdout
    marked, = (line for line in result.stdout.splitlines() if line.startswith(">"))
    assert marked.split()[1:3] == [str(planted), "vector"]
    assert "element     row 0: group 0, lane 2" in result.stdout
    report = json.loads(run("diff", "net.slith", "-i", "x.npy", "--json").stdout)
    assert (report["equal"], report["command"], report["engine"], report["memory"]) == (
        False, planted, "vector", "act")
    assert (report["tile"], report["element"]) == (0, {"group": 0, "lane": 2})
    first, second = (each["value"] for each in report["values"])
    assert (first ^ second) & 0xff == 4
    assert [each["command"] for each in report["around"]] == list(range(
        max(0, planted - 3), planted + 4))


@pytest.mark.parametrize("devices, sentence", [
    ("model", "devices must be two, with a comma between them, not 'model'"),
    ("model,none", "device must be one of model, rtl, board:PORT, not 'none'"),
])
def test_other_devices_are_refused(refuse, compiled, devices, sentence):
    assert refuse("diff", "net.slith", "-i", "x.npy", "--devices", devices) == sentence


def test_options_of_devices_that_are_not_there_are_refused(refuse, compiled):
    common = ("diff", "net.slith", "-i", "x.npy", "--devices", "model,model")
    assert refuse(*common, "--latency", "3") == (
        "latency must be given with device rtl, not with 'model,model'")
    assert refuse(*common, "--baud", "3") == (
        "baud must be given with device board:PORT, not with 'model,model'")
