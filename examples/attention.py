"""Attention and perceptron of a transformer: each one program, compared with float64.

Runs on the bit-exact model; with ``--device rtl`` on the simulated core as well, byte by byte the
same, with cycles, and with ``--trace FILE.json`` a timeline of each block for Perfetto (the
block's name goes before the file's ending).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from systolith import open_device
from systolith.blocks import Attention, Perceptron, compile_attention, compile_perceptron
from systolith_hw.config import PRESETS

parser = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--device", choices=("model", "rtl"), default="model")
parser.add_argument("--preset", choices=tuple(PRESETS), default="bench16")
parser.add_argument("--tokens", type=int, default=64)
parser.add_argument("--width", type=int, default=256)
parser.add_argument("--head", type=int, default=64)
parser.add_argument("--dtype", choices=("int8", "int16"), default="int8", help="of the results")
parser.add_argument("--causal", action="store_true", help="mask the tokens that come later")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--trace", type=Path, help="timeline to write, .json; needs --device rtl")
options = parser.parse_args()
if options.trace and options.device != "rtl":
    parser.error("--trace must come with --device rtl")

config = PRESETS[options.preset]
x = np.random.default_rng(options.seed).normal(0, 1, (options.tokens, options.width))
mask = np.tril(np.ones((options.tokens,) * 2, np.int8)) if options.causal else None
masks = () if mask is None else (mask,)
attention = Attention.random(options.width, options.head, seed=options.seed)
perceptron = Perceptron.random(options.width, 4 * options.width, seed=options.seed)
common = {"config": config, "dtype": options.dtype}
blocks = {
    "attention": (compile_attention(attention, x, mask=mask, **common), masks,
                  attention.steps(x, *masks)["y"]),
    "perceptron": (compile_perceptron(perceptron, x, **common), (), perceptron.steps(x)["y"]),
}
print(f"{'block':12} {'commands':>8} {'cycles':>8} {'MACs used':>9} {'error':>7}  bytes as model")
failed = False
for name, (block, given, real) in blocks.items():
    with open_device("model", config) as device:
        y = block.run(device, x, *given)
    error = np.sqrt(((y - real) ** 2).mean() / (real ** 2).mean())
    cycles = used = same = "-"
    if options.device == "rtl":
        trace = options.trace and options.trace.with_name(
            f"{options.trace.stem}.{name}{options.trace.suffix}")
        with open_device("rtl", config, trace=trace) as device:
            equal = np.array_equal(block.run(device, x, *given), y)
            cycles = device.counters()["cycles"]
        used, same = f"{block.macs / cycles / config.macs_per_cycle:.1%}", "yes" if equal else "NO"
        failed |= not equal
    failed |= error > 0.02
    print(f"{name:12} {block.image.commands:8} {cycles:>8} {used:>9} {error:7.2%}  {same}")
sys.exit(int(failed))
