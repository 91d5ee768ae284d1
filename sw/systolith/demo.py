"""A small classifier of handwritten digits: trained, quantised, and compiled for a core.

The data are scikit-learn's bundled 8 x 8 digits (UCI ML repository, 1,797 of them). Everything is
seeded and runs in NumPy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from .layers import Linear
from .quantise import activation_scale, quantise, quantise_multiplier, quantise_weights

__all__ = ["HELD_OUT", "Classifier", "Digits", "Quantised", "load_digits", "quantise_classifier",
           "train"]

PIXEL_MAX = 16
HELD_OUT = 400
HIDDEN = 32
CLASSES = 10
EPOCHS = 60
BATCH = 32
RATE = 3e-3
CLAMP = 4.0     # hidden values lie in 0 to this


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits:
    """Images as rows of 64 values in 0 to 1, and what they show, in two parts.

    Parameters
    ----------
    train_x, train_y : float array, (1397, 64), and int array, (1397,)
    test_x, test_y : float array, (400, 64), and int array, (400,)
        Held out: no step of training or calibration sees them.
    """
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    def first(self, count: int) -> "Digits":
        """The same with no more than ``count`` held out."""
        return replace(self, test_x=self.test_x[:count], test_y=self.test_y[:count])


def load_digits(*, seed: int = 1) -> Digits:
    """scikit-learn's digits, shuffled with ``seed`` and split.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError("scikit-learn must be installed for the digits: "
                          "pip install systolith[demo]") from error
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = images[order] / PIXEL_MAX, labels[order]
    return Digits(train_x=images[:-HELD_OUT], train_y=labels[:-HELD_OUT],
                  test_x=images[-HELD_OUT:], test_y=labels[-HELD_OUT:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """``scores = clip(x @ weights[0] + biases[0], 0, clamp) @ weights[1] + biases[1]``.

    Parameters
    ----------
    weights : tuple of float array, (64, 32) and (32, 10)
    biases : tuple of float array, (32,) and (10,)
    clamp : float
        Largest hidden value.
    """
    weights: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]
    clamp: float

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """What the first layer gives for images ``x``."""
        return np.clip(x @ self.weights[0] + self.biases[0], 0, self.clamp)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """One real number for each image and digit; the largest is the answer."""
        return self.hidden(x) @ self.weights[1] + self.biases[1]


def train(digits: Digits, *, seed: int = 1, pretrained: Classifier | None = None,
          weight_format: str = "int8",
          progress: Callable[[str], None] = lambda text: None) -> Classifier:
    """Train with Adam on the cross-entropy of softmax; the clamp takes part.

    With weights narrower than int8, sums are those of the quantised weights, and gradients go on to
    the real ones as if nothing were between (Bengio, Leonard and Courville, "Estimating or
    propagating gradients through stochastic neurons", arXiv:1308.3432).

    Parameters
    ----------
    digits : Digits
    seed : int
        Of the weights at the start and of the order of images.
    pretrained : Classifier or None
        What to go on from.
    weight_format : str
        That the weights are for.
    progress : callable
        Told how far it is.
    """
    rng = np.random.default_rng(seed)
    sizes = (digits.train_x.shape[1], HIDDEN, CLASSES)
    values = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        if pretrained is None:
            values += [rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)), np.zeros(fan_out)]
        else:
            values += [pretrained.weights[i], pretrained.biases[i]]
    means, squares = [0 * v for v in values], [0 * v for v in values]
    wanted = np.eye(CLASSES)[digits.train_y]
    steps = EPOCHS * -(-len(wanted) // BATCH)
    step = 0
    for epoch in range(EPOCHS):
        progress(f"epoch {epoch + 1} of {EPOCHS}")
        order = rng.permutation(len(wanted))
        for start in range(0, len(order), BATCH):
            chosen = order[start:start + BATCH]
            seen = values
            if weight_format != "int8":
                seen = [_as_quantised(value, weight_format) for value in values]
            gradients = _gradients(seen, digits.train_x[chosen], wanted[chosen])
            rate = RATE * (1 - step / steps)
            step += 1
            for i, gradient in enumerate(gradients):
                means[i] = 0.9 * means[i] + 0.1 * gradient
                squares[i] = 0.999 * squares[i] + 0.001 * gradient ** 2
                values[i] = values[i] - rate * (means[i] / (1 - 0.9 ** step)) / (
                    np.sqrt(squares[i] / (1 - 0.999 ** step)) + 1e-8)
    return Classifier(weights=(values[0], values[2]), biases=(values[1], values[3]), clamp=CLAMP)


def _as_quantised(value: np.ndarray, weight_format: str) -> np.ndarray:
    """Weights as the core will have them; biases stay."""
    if value.ndim == 1:
        return value
    quantised, scale = quantise_weights(value, weight_format)
    return quantised * scale


def _gradients(values: list[np.ndarray], x: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """Of the mean cross-entropy, in the order of ``values``: weights, bias, weights, bias."""
    sums = x @ values[0] + values[1]
    hidden = np.clip(sums, 0, CLAMP)
    scores = hidden @ values[2] + values[3]
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    error = (likely / likely.sum(axis=1, keepdims=True) - wanted) / len(x)
    back = (error @ values[2].T) * ((sums > 0) & (sums < CLAMP))
    return [x.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """The classifier in integers.

    Parameters
    ----------
    layers : tuple of Linear
    scale, zero_point : float, int
        Of the input.
    """
    layers: tuple[Linear, ...]
    scale: float
    zero_point: int

    def quantise(self, x: np.ndarray) -> np.ndarray:
        """Images as int8."""
        return quantise(x, self.scale, self.zero_point)


def quantise_classifier(classifier: Classifier, calibration: np.ndarray,
                        weight_format: str = "int8", *, symmetric: bool = False) -> Quantised:
    """Layers of integers, with the ranges of activations taken from the images in
    ``calibration``; symmetric ones have the zero point 0, and half the steps where nothing is
    negative."""
    hidden = classifier.hidden(calibration)
    scores = classifier.scores(calibration)
    ranges = [activation_scale(0.0, 1.0), activation_scale(0.0, float(hidden.max())),
              activation_scale(float(scores.min()), float(scores.max()))]
    if symmetric:
        ranges = [(float(peak) / 127, 0) for peak in (1.0, hidden.max(), np.abs(scores).max())]
    layers = []
    for i, (before, after) in enumerate(pairwise(ranges)):
        weights, weight_scale = quantise_weights(classifier.weights[i], weight_format)
        bias = np.rint(classifier.biases[i] / (before[0] * weight_scale)).astype(np.int32)
        multiplier, shift = quantise_multiplier(before[0] * weight_scale / after[0])
        clamp = (-128, 127)
        if i == 0:  # ReLU and the clamp from above
            low, high = quantise(np.array([0.0, classifier.clamp]), *after).tolist()
            clamp = (low, high)
        layers.append(Linear(weights=weights, bias=bias, multiplier=multiplier, shift=shift,
                             input_zero_point=before[1], zero_point=after[1], clamp=clamp,
                             weight_format=weight_format))
    return Quantised(layers=tuple(layers), scale=ranges[0][0], zero_point=ranges[0][1])
