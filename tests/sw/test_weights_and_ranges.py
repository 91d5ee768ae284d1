"""Weights become integers, and ranges of activations come of data, with the least error."""

import numpy as np
import pytest
from float_models import Model, network
from systolith.models import evaluate as evaluation
from systolith.models import quantised_nodes
from systolith.models.calibrate import CALIBRATIONS, Histogram, ranges
from systolith.models.evaluate import evaluate
from systolith.models.quantiser import output_error, quantised_model
from systolith.models.weights import DAMPING, Moments, factors, grouped, rounded
from systolith.quantise import activation_scale

SEEDS = range(4)
FORMATS = {"int8": 127, "int4": 7, "ternary": 1}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", FORMATS)
def test_integers_and_scales_make_the_weights_again(dtype, seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, rng.uniform(0.001, 100, (3, 4, 1)), (3, 4, 50))
    weights[1, 2] = 0
    whole, scale = rounded(weights, dtype)
    high = FORMATS[dtype]
    assert np.abs(whole.astype(int)).max() == high
    assert (scale > 0).all() and not whole[1, 2].any()
    off = weights - whole * scale[..., None]
    inside = np.abs(whole) < high
    assert (np.abs(off) <= scale[..., None] * 0.6)[inside].all()
    share = (off ** 2).sum(2) / np.maximum((weights ** 2).sum(2), 1e-30)
    assert share.max() < {"int8": 0.0002, "int4": 0.04, "ternary": 0.3}[dtype]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", ["int4", "ternary"])
def test_weights_rounded_by_their_inputs_make_better_sums_than_the_nearest(dtype, seed):
    rng = np.random.default_rng(seed)
    real = rng.normal(0, 1, (2, 400, 12)) @ rng.normal(0, 1, (2, 12, 12))   # not independent
    whole = real + rng.normal(0, 0.05, real.shape)
    weights = rng.normal(0, 1, (2, 5, 12))
    moments = Moments(2, 12, True)
    for first in range(0, 400, 150):
        moments.add(real[:, first:first + 150], whole[:, first:first + 150])
    exact = real @ weights.transpose(0, 2, 1)

    def error(found):
        integers, scale = found
        made = whole @ (integers * scale[..., None]).transpose(0, 2, 1)
        return ((made - exact) ** 2).mean((0, 1))

    assert (error(rounded(weights, dtype, moments.forms(False))).mean()
            < 0.8 * error(rounded(weights, dtype)).mean())


@pytest.mark.parametrize("centred", [False, True])
def test_moments_are_means_of_products_about_the_means_or_not(centred):
    rng = np.random.default_rng(0)
    real, whole = rng.normal(2, 1, (2, 3, 50, 4))
    moments = Moments(3, 4, True)
    moments.add(real[:, :30], whole[:, :30])
    moments.add(real[:, 30:], whole[:, 30:])
    crossed, squared = moments.forms(centred)
    if centred:
        real, whole = (x - x.mean(1, keepdims=True) for x in (real, whole))
    for group in range(3):
        wanted = whole[group].T @ whole[group] / 50
        damping = DAMPING * np.trace(wanted) / 4 * np.eye(4)
        assert np.allclose(squared[group], wanted + damping)
        assert np.allclose(crossed[group], whole[group].T @ real[group] / 50 + damping)


def test_layers_of_too_many_inputs_are_rounded_without_their_products(monkeypatch):
    graph, data = network(4)
    fitted = output_error(graph, quantised_model(graph, data, weights="int4"), data)
    monkeypatch.setattr(quantised_nodes, "MOST_PRODUCTS", 1)
    monkeypatch.setattr(Moments, "forms", None)     # is not called
    nearest = quantised_model(graph, data, weights="int4")
    assert fitted < output_error(graph, nearest, data) < 0.2


def test_a_single_integer_cannot_be_changed_for_the_better():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (1, 300, 9)) @ rng.normal(0, 1, (9, 9))
    weights = rng.normal(0, 1, (1, 4, 9))
    moments = Moments(1, 9, True)
    moments.add(x, x)
    crossed, squared = moments.forms(True)
    whole, scale = rounded(weights, "int4", (crossed, squared))

    def error(integers):
        made = scale[0, :, None] * integers
        return np.einsum("ri,ij,rj->r", made, squared[0], made) - 2 * np.einsum(
            "ri,ij,rj->r", made, crossed[0], weights[0])

    least = error(whole[0].astype(float))
    for i in range(9):
        for step in (-1, 1):
            other = whole[0].astype(float)
            other[:, i] += step
            allowed = np.abs(other[:, i]) <= 7
            assert (error(other) >= least - 1e-9)[allowed].all()


@pytest.mark.parametrize("groups, attributes", [
    (1, {}), (2, {"stride": (2, 1)}), (6, {"dilation": (2, 1), "pads": ((2, 1), (0, 2))})])
def test_factors_times_weights_are_a_convolution(groups, attributes):
    model = Model(groups)
    weights = model.numbers(12, 3, 3, 6 // groups)
    graph = model.graph(model.conv("x", 12, weights=weights, bias=np.zeros(12), groups=groups,
                                   **attributes))
    made = evaluate(graph, model.data)["y"]
    found = factors(graph.nodes[0], model.data["x"], (3, 3)) @ grouped(
        weights, groups).transpose(0, 2, 1)
    assert np.allclose(np.concatenate(list(found), 1), made.reshape(-1, 12), atol=1e-4)


# Calibration.

def test_ranges_are_those_of_all_data_however_many_run_at_a_time(monkeypatch):
    graph, data = network(1)
    whole = {kind: ranges(graph, data, kind) for kind in CALIBRATIONS}
    monkeypatch.setattr(evaluation, "BATCH_ELEMENTS", 1)
    for kind, found in whole.items():
        apart = ranges(graph, data, kind)
        assert found.keys() == apart.keys() == graph.tensors.keys()
        assert all(np.allclose(found[name], apart[name], rtol=1e-3) for name in found)
    assert whole["minmax"]["x"] == (data["x"].min(), data["x"].max())


def test_a_percentile_leaves_outliers_out():
    values = np.random.default_rng(0).uniform(-1, 2, 100_000)
    values[:2], values[2:4] = -900, 700
    histogram = Histogram(values.min(), values.max())
    for part in np.split(values, 10):
        histogram.add(part)
    low, high = histogram.percentile()
    assert -1.5 < low < -0.5 and 1.5 < high < 2.5


@pytest.mark.parametrize("values", [[5.0], [-3.0, -3.0], [0.0], [1.0, 2.0]])
@pytest.mark.parametrize("calibration", ["percentile", "mse"])
def test_few_numbers_have_their_own_range(calibration, values):
    histogram = Histogram(min(values), max(values))
    histogram.add(np.array(values))
    low, high = getattr(histogram, calibration)()
    assert min(low, 0) >= min(*values, 0) and max(high, 0) <= max(*values, 0)
    scale, zero = activation_scale(low, high)
    made = (np.clip(np.rint(np.array(values) / scale) + zero, -128, 127) - zero) * scale
    assert np.allclose(made, values, atol=scale * 0.51)


@pytest.mark.parametrize("draw", ["normal", "laplace", "exponential", "pixels", "far"])
def test_the_range_of_least_squared_error_is_no_worse_than_the_whole(draw):
    rng = np.random.default_rng(len(draw))
    values = {"normal": lambda: rng.normal(1, 3, 20_000), "laplace": lambda: rng.laplace(
        0, 1, 20_000), "exponential": lambda: rng.exponential(2, 20_000),
        "pixels": lambda: rng.integers(0, 256, 20_000).astype(float),
        "far": lambda: np.append(rng.normal(0, 1, 20_000), [80, -50])}[draw]()
    histogram = Histogram(values.min(), values.max())
    histogram.add(values)

    def error(low, high):
        scale, zero = activation_scale(low, high)
        made = (np.clip(np.rint(values / scale) + zero, -128, 127) - zero) * scale
        return ((made - values) ** 2).mean()

    least, whole = error(*histogram.mse()), error(values.min(), values.max())
    assert least <= whole * 1.01    # of bins, not of each number
    if draw in ("laplace", "exponential", "far"):
        assert least < whole * 0.99
