"""A PyTorch model on the accelerator: trained, exported as ONNX, compiled for int8 and judged.

Trains a small convolutional network on scikit-learn's handwritten digits (8 x 8 pixels). Systolith
does not depend on torch: what it reads is the ONNX file that ``torch.onnx.export`` writes.

Needs ``pip install torch 'systolith[models,demo]'``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import systolith
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from systolith.models import read_model
from systolith.models.evaluate import evaluate
from systolith_hw.config import PRESETS

try:
    import torch
    from torch import nn
except ImportError:
    sys.exit("torch must be installed for this example: pip install torch (a build for the CPU is "
             "enough)")

parser = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--preset", choices=tuple(PRESETS), default="bench16")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--output", type=Path, default=Path("digits_torch.onnx"), help="model to write")
options = parser.parse_args()

pixels, digits = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(
    (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8), digits, random_state=0)

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(16 * 4 * 4, 10))
images, labels = torch.from_numpy(x), torch.from_numpy(y)
optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(options.epochs):
    optimiser.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimiser.step()

# Without dynamo the export needs no further package; in evaluation mode BatchNorm2d is constant.
torch.onnx.export(model.eval(), (torch.zeros(1, 1, 8, 8),), str(options.output), dynamo=False,
                  opset_version=17, input_names=["image"], output_names=["scores"])

graph = read_model(options.output)
network = systolith.compile(graph, preset=options.preset, calibrate={"image": x[:200]})
network.save(options.output.with_suffix(".slith"))
for layer in network.layers:
    print(f"{layer.name:14} {layer.host or f'{layer.cycles:,} cycles'}")
real = evaluate(graph, {"image": x_test})[graph.outputs[0]]
right = [int((scores.argmax(1) == y_test).sum()) for scores in (real, network(x_test))]
print(f"right of {len(y_test)}: {right[0]} in real numbers, {right[1]} on int8")
print(f"wrote {options.output} and {options.output.with_suffix('.slith')}")
