"""An int8 TFLite model on the accelerator, equal to its reference in every byte.

MODEL is a .tflite file. Without one, MLPerf Tiny's keyword spotting is taken from ../shared where
that is there; it is ``kws_ref_model.tflite`` of github.com/mlcommons/tiny. Inputs are random, or
``--input x.npy``. Runs on the bit-exact model, with ``--device rtl`` on the simulated core as well.

Needs ``pip install 'systolith[models]'``, and for rtl ``'systolith[sim]'``.
"""

import argparse
from pathlib import Path

import numpy as np
import systolith
from systolith.models import read_model
from systolith.models.evaluate import evaluate
from systolith_hw.config import PRESETS

KEYWORDS = (Path(__file__).resolve().parents[2] / "shared" / "models" / "mlperf_tiny"
            / "kws_ref_model.tflite")

parser = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=Path, nargs="?", default=KEYWORDS, metavar="MODEL")
parser.add_argument("--input", type=Path, help=".npy file with one or more inputs")
parser.add_argument("--preset", choices=tuple(PRESETS), default="bench16")
parser.add_argument("--device", choices=("model", "rtl"), default="model")
options = parser.parse_args()
if not options.model.is_file():
    parser.error(f"MODEL must be a .tflite file, such as MLPerf Tiny's kws_ref_model.tflite of "
                 f"github.com/mlcommons/tiny, not {str(options.model)!r}, which is not there")

graph = read_model(options.model)
network = systolith.compile(graph, preset=options.preset)
for layer in network.layers:
    print(f"{layer.name:22} {' x '.join(map(str, layer.shape)):16} "
          f"{f'on the host: {layer.host}' if layer.host else f'{layer.cycles:,} cycles'}")
print(f"{network.cycles:,} cycles predicted, "
      f"{sum(layer.macs for layer in network.layers):,} multiplications")

if len(network.inputs) != 1:
    parser.error(f"MODEL must have one input, not {len(network.inputs)}")
port, = network.inputs
if options.input:
    x = np.load(options.input)
else:
    x = np.random.default_rng(0).integers(-128, 128, (3 * port.shape[0], *port.shape[1:]))
    x = port.real(x.astype(np.int8))    # what these integers stand for
wanted = evaluate(graph, {port.name: port.taken(x)})[graph.outputs[0]]
answers = network(x, integers=True)
same = np.array_equal(answers, wanted)
print(f"bit-exact model: {'equal to the reference in every byte' if same else 'DIFFERENT'}")
if options.device == "rtl":
    config = PRESETS[options.preset]
    with systolith.open_device("rtl", config, memory_bytes=network.memory_bytes) as device:
        equal = np.array_equal(network(x, device=device, integers=True), wanted)
        print(f"Verilog: {'equal' if equal else 'DIFFERENT'}, "
              f"{device.counters()['cycles']:,} cycles")
    same &= equal
raise SystemExit(not same)
