"""systolith compile, run and evaluate."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import references

sys.path.append(str(Path(__file__).resolve().parents[1] / "sw"))    # small networks

from int8_graphs import Network, image
from tflite_models import tflite_bytes

PRESET = ("--preset", "bench16")


@pytest.fixture
def compiled(run, tmp_path):
    """The keyword model's file, compiled, and inputs for it."""
    model = references.stored("mlperf_tiny", "kws_ref_model.tflite")
    result = run("compile", model, *PRESET, "-o", "kws.slith")
    assert result.exit_code == 0, result.stderr
    x = np.random.default_rng(0).integers(-128, 128, (3, 49, 10, 1)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    return model


def test_a_line_for_each_layer(run_json):
    model = references.stored("mlperf_tiny", "kws_ref_model.tflite")
    report = run_json("compile", model, *PRESET, "-o", "kws.slith")
    assert report["macs"] == 2_656_768
    assert report["host_ops"] == []
    assert len(report["layers"]) == 13
    assert report["cycles"] == sum(layer["cycles"] for layer in report["layers"])
    assert all(layer["moved_bytes"] for layer in report["layers"] if layer["macs"])


def test_multiplications_that_are_left_out_have_a_column(run, run_json, tmp_path):
    rng = np.random.default_rng(0)
    net = Network(rng, image(rng, (1, 6, 6, 4)))
    x = net.conv("x", 8)
    net.tensors["w0"].data[3:] = 0      # five of eight outputs are the same everywhere
    (tmp_path / "m.tflite").write_bytes(tflite_bytes(net.graph(net.conv(x, 8, kernel=1))))
    first, second = run_json("compile", "m.tflite", *PRESET, "-o", "m.slith")["layers"]
    assert (first["macs"], first["left_out"]) == (36 * 9 * 4 * 8, 36 * 9 * 4 * 5)
    assert (second["macs"], second["left_out"]) == (36 * 8 * 8, 36 * 5 * 8)
    text = run("compile", "m.tflite", *PRESET, "-o", "m.slith").stdout
    assert "MACs left out" in text and f"{36 * 5 * 8:,}" in text
    net.tensors["w0"].data[:] = 1
    (tmp_path / "n.tflite").write_bytes(tflite_bytes(net.graph(net.nodes[-1].output)))
    assert "MACs left out" not in run("compile", "n.tflite", *PRESET, "-o", "n.slith").stdout


def test_close_leaves_nothing_to_the_host(run_json):
    model = references.stored("mlperf_tiny", "kws_ref_model.tflite")
    command = ("compile", model, *PRESET, "--set", "vector.functions=256", "-o", "k.slith")
    assert run_json(*command)["host_ops"] == ["12:softmax"]
    assert run_json(*command, "--close")["host_ops"] == []


def test_what_is_compiled_runs_and_is_compared(run, compiled):
    result = run("run", "kws.slith", "--input", "x.npy", "--compare", compiled, "-o", "y.npz")
    assert result.exit_code == 0, result.stderr
    assert "the same in every byte" in result.stdout
    with np.load("y.npz") as answers:
        assert [answers[name].shape for name in answers.files] == [(3, 12)]


def test_another_model_is_told_from_the_reference(run, compiled):
    other = references.stored("mlperf_tiny", "pretrainedResnet_quant.tflite")
    result = run("run", "kws.slith", "--input", "x.npy", "--compare", other)
    assert result.exit_code == 2
    assert "inputs must be" in result.stderr


def test_right_answers_are_counted(run, compiled, tmp_path):
    found = run("run", "kws.slith", "--input", "x.npy", "--json")
    answers, = json.loads(found.stdout)["outputs"].values()
    (tmp_path / "y.csv").write_text("".join(
        f"name,{np.argmax(answer) if number else 99}\n" for number, answer in enumerate(answers)))
    result = run("evaluate", "kws.slith", "--data", "x.npy", "--labels", "y.csv")
    assert result.exit_code == 0, result.stderr
    assert "2 of 3, 66.7 %" in result.stdout


def test_bad_inputs_are_refused(refuse, compiled, tmp_path):
    np.save(tmp_path / "bad.npy", np.zeros((1, 49, 11, 1), np.int8))
    np.save(tmp_path / "nan.npy", np.full((1, 49, 10, 1), np.nan, np.float32))
    (tmp_path / "text.npy").write_text("x")
    (tmp_path / "y.csv").write_text("a,1\nb,2\n")
    assert "must be of shape" in refuse("run", "kws.slith", "--input", "bad.npy")
    assert "must be finite" in refuse("run", "kws.slith", "--input", "nan.npy")
    assert "must be a .npy or .npz file" in refuse("run", "kws.slith", "--input", "text.npy")
    assert "labels must be 3" in refuse("evaluate", "kws.slith", "--data", "x.npy",
                                        "--labels", "y.csv")
    assert "device must be one of model, rtl" in refuse(
        "run", "kws.slith", "--input", "x.npy", "--device", "none")


def test_a_file_of_another_kind_is_refused(refuse, tmp_path):
    (tmp_path / "x.npy").write_bytes(b"")
    (tmp_path / "no.slith").write_bytes(b"nothing")
    assert "must start with the header" in refuse("run", "no.slith", "--input", "x.npy")


def test_nothing_is_left_of_a_model_that_is_refused(refuse, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"no model at all, but long enough for a header")
    assert "bad.tflite" in refuse("compile", "bad.tflite", "-o", "out.slith")
    assert not (tmp_path / "out.slith").exists()
    model = references.stored("mlperf_tiny", "kws_ref_model.tflite")
    assert "no such folder" in refuse("compile", model, "-o", "none/out.slith")


def test_a_float_model_is_calibrated_and_compiled(run_json, refuse, tmp_path):
    model = references.stored("onnx", "opt-mnist.onnx")
    x = np.random.default_rng(0).random((20, 1, 28, 28)).astype(np.float32) * 255
    np.save(tmp_path / "x.npy", x)
    report = run_json("compile", model, *PRESET, "--set", "array.weights=int8,int4",
                      "--calibrate", "x.npy", "--weights", "int4", "-o", "m.slith")
    assert report["host_ops"] == []
    assert {layer["weights"] for layer in report["layers"] if layer["weights"]} == {"int4"}
    assert len(run_json("run", "m.slith", "--input", "x.npy")["outputs"]) == 1
    np.save(tmp_path / "bad.npy", x[:, :, :5])
    assert "must be of shape" in refuse("compile", model, "--calibrate", "bad.npy", "-o", "n.slith")
    assert "calibrate must be given" in refuse("compile", model, "--weights", "int4",
                                               "-o", "n.slith")
    assert not (tmp_path / "n.slith").exists()
