"""Cycle counts change only on purpose.

They are exact: the same on every machine and in every run. Whatever makes a product slower fails
here, and whatever makes one faster updates ``cycles.json`` in the same commit:
``python tests/e2e/test_cycles.py``, with ``systolith`` importable.
"""

import json
from pathlib import Path

import pytest
from cores import CORES
from systolith.cli.measure import Task, measure
from systolith.shapes import Shape

REGISTRY = Path(__file__).with_name("cycles.json")
COMMAND = "python tests/e2e/test_cycles.py"

# By core, the kind of results and M x N x K: tiles that fit and that do not, every operand small
# once, vectors, long and short sums, a product larger than the scratchpads.
PRODUCTS = {
    "demo": ["int8 1x1x1", "int8 64x64x64", "params 64x64x64", "int32 64x64x64", "int8 100x70x300",
             "params 1x256x256", "int8 33x1x500", "int8 256x8x8"],
    "bench16": ["int8 256x256x256", "params 64x768x768", "int32 16x128x128", "params 1x1024x1024",
                "int8 124x35x752", "int8 1x64x1216", "params 700x16x16"],
    "tiny": ["int8 16x16x16", "params 20x30x100", "int32 1x50x200"],
}


def products():
    return [(core, product) for core, names in PRODUCTS.items() for product in names]


def count_cycles(core, product):
    """Cycles of a product, whose result must be right."""
    results, sizes = product.split()
    report = measure(Task(config=CORES[core], shape=Shape(*map(int, sizes.split("x"))),
                          results=results))
    assert report["bit_exact"]
    return report["cycles"]


def test_every_product_is_registered():
    registered = json.loads(REGISTRY.read_text())
    assert {core: list(cycles) for core, cycles in registered.items()} == PRODUCTS


@pytest.mark.parametrize("core, product", products(), ids=lambda name: name.replace(" ", "-"))
def test_a_product_takes_the_registered_cycles(core, product):
    registered = json.loads(REGISTRY.read_text())[core][product]
    cycles = count_cycles(core, product)
    change = f"{abs(cycles - registered):,} cycles, {cycles / registered - 1:+.2%}"
    now = f"from {registered:,} to {cycles:,}"
    assert cycles <= registered, f"{product} on {core} grew by {change}, {now}"
    assert cycles == registered, (
        f"{product} on {core} shrank by {change}, {now}; in the same commit: {COMMAND}")


if __name__ == "__main__":
    counted = {core: {product: count_cycles(core, product) for product in names}
               for core, names in PRODUCTS.items()}
    REGISTRY.write_text(json.dumps(counted, indent=2) + "\n")
