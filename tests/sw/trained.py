"""Trained float models with what judges them: inputs, labels, and how many of them calibrate."""

import csv
import gzip

import numpy as np
import references
from systolith.models import read_model

MFCC_SCALE = np.float32(0.33674)    # of the stored features


def labelled_keywords():
    """Features of 1000 words (n, 49, 10, 1), and which word each is."""
    features = np.load(references.stored("kws01", "kws01_mfcc_1000.npz"))["x_int8_10x49"]
    rows = csv.reader(references.stored("mlperf_tiny", "kws01_y_labels.csv").open())
    labels = np.array([int(row[2]) for row in rows])[:len(features)]
    return (features.transpose(0, 2, 1) * MFCC_SCALE)[..., None].astype(np.float32), labels


def labelled_pictures():
    """1000 images (n, 32, 32, 3) of 0 to 255, and what each shows."""
    data = np.load(references.stored("cifar10", "cifar10_test_jpeg_1000.npz"))
    return data["x"].astype(np.float32), data["y"].reshape(-1)


def labelled_digits():
    """10,000 images (n, 1, 28, 28) of 0 to 1, and which digit each is."""
    images, labels = (gzip.decompress(references.stored("mnist", f"t10k-{name}.gz").read_bytes())
                      for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return x / np.float32(255), np.frombuffer(labels, np.uint8, offset=8)


# File, labelled inputs, and how many of the first of those calibrate; there are no others.
MODELS = {
    "keywords": (("mlperf_tiny", "kws_ref_model_float32.tflite"), labelled_keywords, 100),
    "pictures": (("mlperf_tiny", "pretrainedResnet.tflite"), labelled_pictures, 300),
    "digits": (("onnx", "opt-mnist.onnx"), labelled_digits, 200)}


def trained(name):
    """A model, its inputs, their labels, and those inputs that calibrate it."""
    file, labelled, many = MODELS[name]
    graph = read_model(references.stored(*file))
    x, labels = labelled()
    return graph, {graph.inputs[0]: x}, labels, {graph.inputs[0]: x[:many]}
