"""One command stream, the same bytes and cycles whatever the array multiplies with."""

import numpy as np
import pytest
from cores import core
from systolith import Image, Linear, ModelDevice, compile_layers
from systolith_hw.arrays import array_latency
from systolith_hw.formats import RANGES
from systolith_sim.device import RtlDevice

ALL = ("int8", "int4", "ternary")
# Arrays that differ in nothing but their strategy, so that all have one fingerprint.
ARRAYS = {
    "int8": ({"weights": ALL}, ("generic", "ecp5", "ice40")),
    "pairs": ({"weights": ALL, "pairs": True}, ("generic", "ecp5", "soft")),
    "int4": ({"weights": ALL, "cell": "int4"}, ("generic", "soft", "soft_ecp5")),
    "ternary": ({"weights": ALL, "cell": "ternary"}, ("generic", "soft", "soft_ecp5")),
}
MEMORY = {"act_rows": 128, "wgt_rows": 64, "acc_rows": 64, "par_rows": 64}


def core_of(array, strategy):
    return core(5, 3, {**ARRAYS[array][0], "strategy": strategy}, vector={"lanes": 2},
                memory=MEMORY)


def layers(rng):
    """A layer of each format, one after the other."""
    sizes = (37, 20, 11, 9)
    for name, k, n in zip(ALL, sizes, sizes[1:], strict=False):
        low, high = RANGES[name]
        yield Linear(weights=rng.integers(low, high + 1, (k, n), dtype=np.int8),
                     bias=rng.integers(-500, 500, n), weight_format=name,
                     multiplier=1 << 30, shift={"int8": -9, "int4": -5, "ternary": -2}[name])


def run(device, image, x):
    """Memory after the image's program, and its cycles (None on the model)."""
    with device:
        image.run(device, x)
        return (device.read(0, device.memory_bytes).copy(), device.counters().get("cycles"))


@pytest.mark.parametrize("array, strategy", [
    (array, strategy) for array, (_, strategies) in ARRAYS.items() for strategy in strategies])
def test_the_same_commands_give_the_same_bytes(array, strategy):
    rng = np.random.default_rng(len(array))
    image = compile_layers(list(layers(rng)), config=core_of(array, "generic"), rows=23)
    image = Image.from_bytes(image.to_bytes())
    x = rng.choice([-128, 127, *range(-128, 128, 5)], (23, 37)).astype(np.int8)
    config = core_of(array, strategy)
    expected, _ = run(ModelDevice(config, memory_bytes=1 << 16), image, x)
    found, cycles = run(RtlDevice(config, memory_bytes=1 << 16, assertions=True,
                                  max_cycles=1_000_000), image, x)
    assert np.array_equal(found, expected)
    # Latency is all that may differ: once for each time that something waits for a sum.
    generic = CYCLES[array]
    difference = array_latency(config.array) - array_latency(core_of(array, "generic").array)
    assert abs(cycles - generic) <= 40 * max(abs(difference), 1), (cycles, generic, difference)


CYCLES = {"int8": 0, "pairs": 0, "int4": 0, "ternary": 0}
