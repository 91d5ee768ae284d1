"""Trained models, quantised, name nearly as many inputs right as they do in real numbers."""

import numpy as np
import pytest
from systolith.models.evaluate import evaluate
from systolith.models.quantiser import MAX_LOSS, output_error, quantised_model
from trained import trained

# How many are right in real numbers, as int8 and as int4; docs/models.md states them.
RIGHT = {"keywords": (910, 910, 904), "pictures": (751, 753, 756), "digits": (9890, 9888, 9887)}
# Sums of real numbers in another order may round a weight the other way.
OTHERS = (1, 4, 20)
POINTS = {"int8": 0.005, "int4": 0.02}  # of accuracy that may be lost


def named(graph, inputs):
    return evaluate(graph, inputs)[graph.outputs[0]].argmax(1)


def of_fewer_bits(made):
    return [made.of(node, 1).dtype for node in made.nodes if node.op in ("conv", "linear")]


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", ["keywords", "digits"])
def test_a_quantised_model_names_what_the_float_one_names(name, weights):
    graph, inputs, _, data = trained(name)
    made = quantised_model(graph, data, weights=weights)
    other = {key: x[-200:] for key, x in inputs.items()}
    assert set(of_fewer_bits(made)) == {weights}
    assert (named(made, other) == named(graph, other)).mean() >= 0.96


@pytest.mark.full
@pytest.mark.parametrize("name", RIGHT)
def test_accuracy_of_quantised_models_is_near_that_of_float_ones(name):
    graph, inputs, labels, data = trained(name)
    many = len(next(iter(data.values())))
    exact = named(graph, inputs) == labels
    right = [exact.sum()]
    for weights, points in POINTS.items():
        found = named(quantised_model(graph, data, weights=weights), inputs) == labels
        assert found.mean() >= exact.mean() - points
        # What did not calibrate is fewer inputs, and moves more.
        assert found[many:].mean() >= exact[many:].mean() - 1.5 * points
        right.append(found.sum())
    print(name, right)
    assert (np.abs(np.subtract(right, RIGHT[name])) <= OTHERS).all()


@pytest.mark.full
@pytest.mark.parametrize("calibration", ["minmax", "percentile"])
@pytest.mark.parametrize("name", RIGHT)
def test_each_calibration_keeps_the_accuracy_of_int8(name, calibration):
    graph, inputs, labels, data = trained(name)
    exact, found = (
        (named(one, inputs) == labels).mean()
        for one in (graph, quantised_model(graph, data, calibration=calibration)))
    assert found >= exact - 0.01


@pytest.mark.full
def test_layers_of_a_trained_model_get_fewer_bits_within_the_loss():
    graph, inputs, labels, data = trained("keywords")
    made = quantised_model(graph, data, weights="auto")
    assert output_error(graph, made, data) <= MAX_LOSS
    assert "int8" not in of_fewer_bits(made) and "ternary" in of_fewer_bits(made)
    right = (named(made, inputs) == labels).mean()
    assert right >= (named(graph, inputs) == labels).mean() - 0.015
    assert made.weight_bytes < 0.6 * quantised_model(graph, data).weight_bytes


def test_a_larger_error_of_the_outputs_comes_of_fewer_bits():
    graph, _, _, data = trained("keywords")
    errors = [output_error(graph, quantised_model(graph, data, weights=weights), data)
              for weights in ("int8", "int4", "ternary")]
    assert errors == sorted(errors)
    assert errors[0] < 0.003 and errors[1] < 0.01 and errors[2] < 0.15
    assert np.isfinite(errors).all()
