"""The demo: it learns, it quantises within a point, and the Verilog agrees in every byte."""

import json
import sys

import numpy as np
import pytest
from systolith import ModelDevice, compile_layers
from systolith.demo import load_digits, quantise_classifier, train
from systolith.image import Image
from systolith_hw.config import CoreConfig


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="scikit-learn brings the digits")
    return load_digits()


@pytest.fixture(scope="module")
def classifier(digits):
    return train(digits)


def test_training_is_the_same_every_time(digits, classifier):
    again = train(digits)
    for before, after in zip(classifier.weights + classifier.biases,
                             again.weights + again.biases, strict=True):
        assert np.array_equal(before, after)


def test_no_held_out_digit_is_trained_on(digits):
    assert len(digits.train_x) + len(digits.test_x) == 1797
    assert len(digits.test_x) >= 200


def test_the_clamp_takes_part(digits, classifier):
    hidden = classifier.hidden(digits.train_x)
    assert hidden.max() == classifier.clamp and hidden.min() == 0


def test_int8_is_within_a_point_of_real_numbers(digits, classifier):
    quantised = quantise_classifier(classifier, digits.train_x)
    config = CoreConfig.preset("demo")
    image = compile_layers(quantised.layers, config=config, rows=len(digits.test_x))
    with ModelDevice(config) as device:
        scores, = image.run(device, quantised.quantise(digits.test_x))
    accuracy = (scores.argmax(axis=1) == digits.test_y).mean()
    real = (classifier.scores(digits.test_x).argmax(axis=1) == digits.test_y).mean()
    assert accuracy >= 0.95
    assert accuracy >= real - 0.01


def test_the_command_runs_the_emitted_verilog(run, tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn brings the digits")
    result = run("demo")
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "build/demo/result.json").read_text())
    assert report.keys() >= {"bit_exact", "accuracy_float", "accuracy_model", "accuracy_rtl",
                             "cycles", "macs_per_cycle", "utilization"}
    assert report["bit_exact"] is True
    assert min(report[f"accuracy_{name}"] for name in ("float", "model", "rtl")) >= 0.95
    assert report["accuracy_rtl"] == report["accuracy_model"] >= report["accuracy_float"] - 0.01
    assert 0.5 < report["utilization"] < 1
    assert (tmp_path / "build/demo/demo.v").is_file()
    image = Image.load(tmp_path / "build/demo/digits.slith")
    assert image.fingerprint == CoreConfig.preset("demo").fingerprint


NARROW = {
    "int4": ("array.weights=int8,int4", "array.pairs=true", "array.strategy=ecp5"),
    "ternary": ("array.weights=ternary", "array.cell=ternary", "array.strategy=soft"),
}


@pytest.mark.full
@pytest.mark.parametrize("weights, loss", [("int4", 0.01), ("ternary", 0.02)])
def test_the_command_runs_narrow_weights_on_their_own_multipliers(run, tmp_path, weights, loss):
    pytest.importorskip("sklearn", reason="scikit-learn brings the digits")
    sets = [word for assignment in NARROW[weights] for word in ("--set", assignment)]
    result = run("demo", "--weights", weights, *sets)
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "build/demo/result.json").read_text())
    assert report["bit_exact"] is True
    assert report["weights"] == weights
    assert report["accuracy_rtl"] >= report["accuracy_float"] - loss


@pytest.mark.parametrize("weights, loss", [("int4", 0.01), ("ternary", 0.02)])
def test_training_on_with_narrow_weights_keeps_the_accuracy(digits, classifier, weights, loss):
    trained = train(digits, pretrained=classifier, weight_format=weights)
    quantised = quantise_classifier(trained, digits.train_x, weights)
    config = CoreConfig.preset("demo").updated({"array": {"weights": (weights,)}})
    image = compile_layers(quantised.layers, config=config, rows=len(digits.test_x))
    with ModelDevice(config) as device:
        scores, = image.run(device, quantised.quantise(digits.test_x))
    real = (classifier.scores(digits.test_x).argmax(axis=1) == digits.test_y).mean()
    assert (scores.argmax(axis=1) == digits.test_y).mean() >= real - loss


def test_missing_digits_are_explained(refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert refuse("demo") == ("scikit-learn must be installed for the digits: pip install "
                              "systolith[demo]")
