"""The bound is what counting tiles and bus words one by one gives."""

import random

import pytest
from systolith.bound import product_bound
from systolith.shapes import Shape
from systolith_hw.config import PRESETS, CoreConfig


def tiles(size, step):
    """Sizes of the pieces."""
    return [min(step, size - start) for start in range(0, size, step)]


def array_cycles(config, m, n, k):
    """Each tile takes its activation rows or, if those are fewer, the rows of its weights."""
    rows, cols = config.array.rows, config.array.cols
    return sum(max(m, rows) for _ in tiles(n, cols) for _ in tiles(k, rows))


@pytest.mark.parametrize("seed", range(30))
def test_array_and_bus_are_counted_like_this(seed):
    rng = random.Random(seed)
    config = CoreConfig().updated({
        "array": {"rows": rng.randint(1, 20), "cols": rng.choice([3, 4, 8, 17])},
        "bus": {"data_bits": rng.choice([32, 64, 128])}})
    m, n, k = (rng.randint(1, 90) for _ in "mnk")
    result_bytes, param_bytes = rng.choice([1, 4]), rng.choice([0, 12])
    bound = product_bound(config, Shape(m, n, k), result_bytes=result_bytes,
                          param_bytes=param_bytes)
    assert bound.array == min(array_cycles(config, m, n, k), array_cycles(config, n, m, k))
    moved = [1] * (m * k) + [1] * (k * n) + [param_bytes] * n + [result_bytes] * (m * n)
    assert bound.compulsory_bytes == sum(moved)
    assert bound.bus == len(tiles(sum(moved), config.bus.data_bytes))
    assert bound.cycles == max(bound.array, bound.bus)


@pytest.mark.parametrize("shape, param_bytes, cycles", [
    ((256, 256, 256), 0, 256**3 // 256),                    # full tiles: the peak
    ((35, 700, 2560), 0, 35 * 160 * 44),                    # 35 rows against 44 column tiles
    ((700, 35, 2560), 0, 35 * 160 * 44),                    # whichever operand is called which
    ((1, 4096, 4096), 0, 4096 * 4096 // 16 + 2 * 4096 // 16),
    ((1, 4096, 4096), 12, 4096 * 4096 // 16 + 14 * 4096 // 16),
], ids=["full", "short", "exchanged", "vector", "parameters"])
def test_products_on_16_by_16(shape, param_bytes, cycles):
    assert product_bound(PRESETS["bench16"], Shape(*shape), result_bytes=1,
                         param_bytes=param_bytes).cycles == cycles
