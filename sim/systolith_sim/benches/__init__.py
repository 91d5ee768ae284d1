"""cocotb benches of the parts and of the whole core; ``tests/sim/test_benches.py`` runs them."""
