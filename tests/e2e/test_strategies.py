"""One command stream, the same bytes and cycles whatever the array multiplies with."""

import numpy as np
import pytest
from cores import core
from systolith import Linear, ModelDevice, compile_layers
from systolith.cycles import predict_cycles
from systolith.program import decode_program
from systolith_hw.formats import RANGES
from systolith_sim.device import RtlDevice

ALL = ("int8", "int4", "ternary")
# Arrays that differ in nothing but their strategy, so that all have one fingerprint.
ARRAYS = {
    "int8": ({"weights": ALL}, ("ice40", "ecp5", "generic")),
    "pairs": ({"weights": ALL, "pairs": True}, ("ecp5", "soft", "generic")),
    "int4": ({"weights": ALL, "cell": "int4"}, ("soft", "generic")),
    "ternary": ({"weights": ALL, "cell": "ternary"}, ("soft_ecp5", "soft", "generic")),
}
DEFAULT = {("int8", "ice40"), ("pairs", "ecp5"), ("ternary", "soft_ecp5")}
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


@pytest.mark.parametrize("array, strategy", [
    pytest.param(array, strategy, marks=() if (array, strategy) in DEFAULT else pytest.mark.full)
    for array, (_, strategies) in ARRAYS.items() for strategy in strategies])
def test_the_same_commands_give_the_same_bytes(array, strategy):
    rng = np.random.default_rng(len(array))
    image = compile_layers(list(layers(rng)), config=core_of(array, "generic"), rows=23)
    x = rng.choice([-128, 127, *range(-128, 128, 5)], (23, 37)).astype(np.int8)
    config, memories = core_of(array, strategy), []
    for device in (ModelDevice(config, memory_bytes=1 << 16),
                   RtlDevice(config, memory_bytes=1 << 16, assertions=True, max_cycles=1 << 20)):
        with device:
            image.run(device, x)
            memories.append(device.read(0, device.memory_bytes).copy())
            cycles = device.counters().get("cycles")
    assert np.array_equal(*memories)
    # Nothing but the array's latency differs, which is in the prediction; small layers are mostly
    # their ends, which it does not follow to the cycle.
    predicted = predicted_cycles(image, config)
    assert abs(cycles - predicted) <= 0.06 * predicted


def predicted_cycles(image, config):
    program = next(segment.data for segment in image.segments
                   if segment.address == image.program_address)
    return predict_cycles(decode_program(program), config=config)
