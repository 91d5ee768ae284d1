"""Matrix products of any shape on the Verilog: the model's bytes and counters, NumPy's numbers."""

import numpy as np
import pytest
from cores import CORES, rtl
from systolith import ModelDevice, gemm
from systolith_hw.formats import RANGES
from systolith_hw.registers import STATES

# (M, N, K) around the sizes of each array, its tiles and its scratchpads.
SHAPES = {
    "demo": [(1, 1, 1), (8, 8, 8), (1, 40, 100), (33, 1, 17), (100, 70, 300), (17, 9, 1)],
    "3x5": [(1, 1, 1), (3, 5, 3), (4, 11, 7), (40, 3, 50), (1, 23, 40), (9, 5, 1)],
    "1x1": [(1, 1, 1), (1, 7, 1), (5, 1, 9), (1, 2, 50), (19, 3, 6)],
    "1x16": [(1, 1, 1), (7, 16, 1), (1, 33, 20), (30, 17, 9), (4, 70, 70)],
    "16x1": [(1, 1, 1), (5, 1, 16), (1, 6, 100), (33, 3, 17), (40, 2, 130)],
    "64x1": [(1, 1, 1), (70, 1, 64), (1, 3, 200), (40, 2, 65), (9, 5, 300)],
    "1x64": [(1, 1, 1), (5, 64, 1), (1, 130, 20), (20, 65, 7), (30, 100, 40)],
}
MEMORIES = [  # how the memory behaves
    {"latency": 32},
    {"latency": 1},
    {"latency": 7, "jitter": 40, "backpressure": 0.3},
    {"latency": 90, "jitter": 5, "backpressure": 0.6},
    {"memory": "dram"},
    {"memory": "dram", "bandwidth": "1/3", "shared": True, "latency": 20},
]


def operands(shape, seed, weights="int8"):
    rng = np.random.default_rng(seed)
    m, n, k = shape
    low, high = RANGES[weights]
    return (rng.integers(-128, 128, (m, k), np.int8), rng.integers(low, high + 1, (k, n), np.int8),
            rng.integers(-1000, 1000, n))


def check(name, shape, *, requantised=False, weights="int8", **options):
    """The product on both devices; every byte of memory and every counter the model has."""
    a, b, bias = operands(shape, sum(shape), weights)
    scale = {"weight_format": weights}
    if requantised:
        scale |= {"multiplier": 1518500250, "shift": -6 - int(shape[2]).bit_length() // 2,
                  "zero_point": 3, "clamp": (-100, 127)}
    reach = 1 << CORES[name].bus.addr_bits
    options["memory_bytes"] = min(options.get("memory_bytes", 1 << 17), reach)
    model = ModelDevice(CORES[name], memory_bytes=options["memory_bytes"])
    expected = gemm(a, b, bias, device=model, **scale)
    if not requantised:
        assert (expected == a.astype(np.int64) @ b + bias).all()
    with rtl(name, **options) as device:
        result = gemm(a, b, bias, device=device, **scale)
        assert result.dtype == expected.dtype
        assert (result == expected).all()
        assert (device.read(0, device.memory_bytes) == model.memory).all()
        counters = device.counters()
        assert {key: counters[key] for key in model.counters()} == model.counters()
        if CORES[name].control.counters:
            for engine, states in STATES.items():
                assert sum(counters[f"{engine}_{state}"] for state in states) == counters["cycles"]
        return counters


@pytest.mark.parametrize("name, shape", [(name, shape) for name, shapes in SHAPES.items()
                                         for shape in shapes])
def test_int32_product(name, shape):
    memory = MEMORIES[sum(shape) % len(MEMORIES)]
    check(name, shape, seed=sum(shape), **memory)


@pytest.mark.parametrize("name, shape", [(name, shape) for name, shapes in SHAPES.items()
                                         for shape in shapes[3:]])
def test_int8_product(name, shape):
    memory = MEMORIES[(sum(shape) + 1) % len(MEMORIES)]
    check(name, shape, requantised=True, seed=sum(shape), **memory)


@pytest.mark.parametrize("name, weights, shape", [
    (name, weights, shape) for name in SHAPES for weights in CORES[name].array.weights
    if weights != "int8" for shape in SHAPES[name][-2:]])
def test_product_with_narrow_weights(name, weights, shape):
    memory = MEMORIES[(sum(shape) + 2) % len(MEMORIES)]
    check(name, shape, weights=weights, requantised=sum(shape) % 2, seed=sum(shape), **memory)


def test_the_window_may_lie_anywhere():
    check("demo", (20, 30, 40), window=0x7fff0000)


def test_products_follow_each_other_on_one_device():
    with rtl("demo") as device:
        for shape in [(9, 9, 9), (1, 64, 64), (64, 8, 3), (9, 9, 9)]:
            a, b, bias = operands(shape, 5)
            assert (gemm(a, b, bias, device=device) == a.astype(np.int64) @ b + bias).all()


def test_counters_say_where_every_cycle_of_every_engine_went():
    counters = check("demo", (64, 64, 64))
    for engine, states in STATES.items():
        assert sum(counters[f"{engine}_{state}"] for state in states) == counters["cycles"]
        assert all(counters[f"{engine}_{state}"] for state in ("busy", "wait", "idle"))
    assert counters["execute_busy"] == counters["rows"]
    assert counters["execute_weights"] >= CORES["demo"].array.rows


@pytest.mark.full
@pytest.mark.parametrize("name, shape", [
    ("4x4", (4, 4, 4)), ("4x4", (37, 30, 90)), ("4x4", (1, 100, 500)),
    ("5x3", (5, 3, 5)), ("5x3", (50, 20, 60)), ("5x3", (1, 10, 200)),
    ("8x8 wide", (8, 8, 8)), ("8x8 wide", (65, 130, 300)), ("8x8 wide", (1, 257, 500)),
])
@pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: "-".join(map(str, memory.values())))
def test_product_on_more_cores(name, shape, memory):
    for requantised in (False, True):
        check(name, shape, requantised=requantised, memory_bytes=1 << 20, **memory)


@pytest.mark.full
@pytest.mark.parametrize("requantised", [False, True])
def test_256_by_256_by_256_on_16_by_16(requantised):
    check("bench16", (256, 256, 256), requantised=requantised, memory_bytes=1 << 20)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(40))
def test_random_shapes(seed):
    rng = np.random.default_rng(seed)
    name = list(SHAPES)[seed % len(SHAPES)]
    shape = tuple(int(size) for size in np.exp(rng.uniform(0, 4.6, 3)))
    check(name, shape, requantised=bool(seed & 1), memory_bytes=1 << 20, seed=seed,
          **MEMORIES[seed % len(MEMORIES)])
