"""Blocks of a transformer on the Verilog: the model's bytes, and work that overlaps."""

import numpy as np
import pytest
from cores import rtl
from systolith import ModelDevice
from systolith.blocks import Attention, Perceptron, compile_attention, compile_perceptron
from systolith_hw.config import PRESETS
from systolith_sim.device import RtlDevice
from systolith_sim.overlap import busy_together

MEMORY_BYTES = 1 << 21


def build(kind, preset, tokens, width, size, *, mask=None, dtype="int8"):
    print(f"seed {tokens}")
    x = np.random.default_rng(tokens).normal(0, 1, (tokens, width))
    if kind == "attention":
        layer = Attention.random(width, size, seed=tokens)
        return x, compile_attention(layer, x, config=PRESETS[preset], mask=mask, dtype=dtype)
    layer = Perceptron.random(width, size, seed=tokens)
    return x, compile_perceptron(layer, x, config=PRESETS[preset], dtype=dtype)


def check(block, preset, device, *arrays):
    """Every byte of memory as the model has it; the counters."""
    with ModelDevice(PRESETS[preset], memory_bytes=MEMORY_BYTES) as model:
        expected = block.run(model, *arrays)
        memory = model.read(0, MEMORY_BYTES)
    assert np.array_equal(block.run(device, *arrays), expected)
    assert np.array_equal(device.read(0, MEMORY_BYTES), memory)
    return device.counters()


@pytest.mark.parametrize("memory", [{}, {"memory": "dram"},
                                    {"latency": 7, "jitter": 40, "backpressure": 0.3}], ids=str)
@pytest.mark.parametrize("kind, size, masked", [
    ("attention", 24, False), ("attention", 24, True), ("perceptron", 250, False)])
def test_a_block_of_odd_sizes_gives_the_models_bytes(kind, size, masked, memory):
    masks = (np.tril(np.ones((37, 37), np.int8)),) * masked
    x, block = build(kind, "demo", 37, 96, size, mask=masks[0] if masked else None)
    with rtl("demo", memory_bytes=MEMORY_BYTES, **memory) as device:
        check(block, "demo", device, x, *masks)


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("kind, size", [("attention", 64), ("perceptron", 1024)])
@pytest.mark.parametrize("preset", ["bench16", "ecp5_85f"])
def test_a_block_of_64_tokens_gives_the_models_bytes(preset, kind, size, dtype):
    x, block = build(kind, preset, 64, 256, size, dtype=dtype)
    with RtlDevice(PRESETS[preset], memory_bytes=MEMORY_BYTES) as device:
        check(block, preset, device, x)


# Least shares of the vector unit's busy cycles in which the array worked too, of each kind of
# command, and least shares of the array's products that are used.
LEAST = {
    "demo": {"attention softmax": 0.85, "attention residual": 0.4, "attention used": 0.5,
             "perceptron gelu": 0.9, "perceptron residual": 0.45, "perceptron used": 0.8},
    "bench16": {"attention softmax": 0.77, "attention residual": 0.5, "attention used": 0.67,
                "perceptron gelu": 0.95, "perceptron residual": 0.45, "perceptron used": 0.91},
}


@pytest.mark.parametrize("preset", ["demo", pytest.param("bench16", marks=pytest.mark.full)])
def test_vector_work_overlaps_with_the_array(preset, tmp_path):
    tokens, width, head = (64, 256, 64) if preset == "bench16" else (48, 64, 32)
    shares = {}
    for kind, size in (("attention", head), ("perceptron", 4 * width)):
        x, block = build(kind, preset, tokens, width, size)
        trace = tmp_path / f"{kind}.json"
        with RtlDevice(PRESETS[preset], memory_bytes=MEMORY_BYTES, trace=trace) as device:
            counters = check(block, preset, device, x)
        shares[f"{kind} used"] = block.macs / PRESETS[preset].macs_per_cycle / counters["cycles"]
        for name, text in (("softmax", "reduce=maximum|operation=reverse"),
                           ("gelu", "function=table"), ("residual", "function=weighted")):
            busy, both = busy_together(trace, "vector", "execute", command=text)
            if busy:
                shares[f"{kind} {name}"] = both / busy
    print({name: round(share, 3) for name, share in shares.items()})
    for name, least in LEAST[preset].items():
        assert shares[name] > least, name
