"""A linear layer of 784 inputs with clamp and ReLU: NumPy in, NumPy out, on the model or the RTL.

Run it with no argument on the bit-exact model, or with ``rtl`` on the simulated core.
"""

import sys

import numpy as np
from systolith import gemm, open_device, quantise_multiplier, quantise_weights
from systolith_hw.config import CoreConfig

rng = np.random.default_rng(1)
x = rng.integers(-128, 128, (32, 784), dtype=np.int8)             # scale 1/128
weights, scale = quantise_weights(rng.normal(0, 0.05, (784, 10)))
bias = rng.integers(-2000, 2000, 10)
# The result's scale is 1/16; ReLU is a clamp from below, 6.0 one from above.
multiplier, shift = quantise_multiplier(scale / 128 * 16)
name = sys.argv[1] if len(sys.argv) > 1 else "model"
with open_device(name, CoreConfig.preset("demo")) as device:
    y = gemm(x, weights, bias, device=device, multiplier=multiplier, shift=shift, clamp=(0, 96))
    print(device.counters())

exact = (x.astype(int) @ weights.astype(int) + bias) * (scale / 128 * 16)
expected = np.clip(np.rint(exact), 0, 96)
print("largest difference from NumPy, in steps of 1/16:", int(np.abs(y - expected).max()))
sys.exit(int(np.abs(y - expected).max() > 1))
