"""An ONNX model on the accelerator: trained, written, compiled for int8, run and judged.

Trains a perceptron on scikit-learn's handwritten digits (8 x 8 pixels) and writes it with package
onnx. Runs on the bit-exact model, with ``--device rtl`` on the simulated core as well.

Needs ``pip install 'systolith[models,demo]'``, and for rtl ``'systolith[sim]'``.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import systolith
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from systolith_hw.config import PRESETS

parser = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--preset", choices=tuple(PRESETS), default="bench16")
parser.add_argument("--device", choices=("model", "rtl"), default="model")
parser.add_argument("--weights", choices=("int8", "int4", "ternary"), default="int8")
parser.add_argument("--output", type=Path, default=Path("digits.onnx"), help="model to write")
options = parser.parse_args()

pixels, digits = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split((pixels / 16).astype(np.float32), digits, random_state=0)
trained = MLPClassifier(hidden_layer_sizes=32, max_iter=100, tol=0.01, random_state=0).fit(x, y)

constants = {f"{kind}{number}": array.astype(np.float32)
             for kind, arrays in (("w", trained.coefs_), ("b", trained.intercepts_))
             for number, array in enumerate(arrays)}
graph = helper.make_graph(
    [helper.make_node("Gemm", ["pixels", "w0", "b0"], ["sums"]),
     helper.make_node("Relu", ["sums"], ["hidden"]),
     helper.make_node("Gemm", ["hidden", "w1", "b1"], ["scores"])], "digits",
    [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 64])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
    [numpy_helper.from_array(array, name) for name, array in constants.items()])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), options.output)

config = PRESETS[options.preset].overridden(
    [f"array.weights={','.join(dict.fromkeys(('int8', options.weights)))}"])
network = systolith.compile(options.output, config=config, weights=options.weights,
                            calibrate={"pixels": x[:200]})
network.save(options.output.with_suffix(".slith"))
for layer in network.layers:
    print(f"{layer.name:14} {layer.host or f'{layer.cycles:,} cycles'}")
scores = network(x_test)    # float in, float out
right = [int((found == y_test).sum()) for found in (trained.predict(x_test), scores.argmax(1))]
print(f"right of {len(y_test)}: {right[0]} in real numbers, {right[1]} with {options.weights}")
print(f"wrote {options.output} and {options.output.with_suffix('.slith')}")
if options.device == "rtl":
    with systolith.open_device("rtl", config, memory_bytes=network.memory_bytes) as device:
        same = np.array_equal(network(x_test[:10], device=device), scores[:10])
        print(f"{device.counters()['cycles']:,} cycles on the Verilog; "
              f"{'the same in every byte' if same else 'DIFFERENT'}")
    raise SystemExit(not same)
