"""The parameter memory: written as records, read as biases and as scales."""

import random

import pytest
from systolith_hw.config import CoreConfig
from systolith_hw.parameters import Parameters
from systolith_hw.scratchpad import Scratchpad

from .simulate import simulate

BYTES = {"bias": range(4), "scale": range(4, 9)}    # of a record of 12


@pytest.mark.parametrize("lanes", [1, 4])
def test_bias_and_scale_of_different_rows_are_read_at_once(lanes):
    rng = random.Random(lanes)
    config = CoreConfig.from_dict({"vector": {"lanes": lanes}, "memory": {"par_rows": 16}})
    dut = Parameters(config=config)
    rows = [bytearray(12 * lanes) for _ in range(16)]

    async def bench(ctx):
        due = {name: [] for name in BYTES}
        for name in BYTES:
            ctx.set(getattr(dut, name).valid, 1)
        for cycle in range(600):
            first = cycle < len(rows)
            written = cycle if first else rng.randrange(16)
            data = rng.randbytes(12 * lanes)
            mask = [1] * len(data) if first else [rng.randrange(2) for _ in data]
            ctx.set(dut.write.valid, 1)
            ctx.set(dut.write.addr, written)
            ctx.set(dut.write.data, int.from_bytes(data, "little"))
            ctx.set(dut.write.mask, sum(bit << i for i, bit in enumerate(mask)))
            assert ctx.get(dut.write.ready)
            for name, part in BYTES.items():
                port = getattr(dut, name)
                row = rng.choice([i for i in range(16) if i != written])
                ctx.set(port.addr, row)
                assert ctx.get(port.ready)
                due[name].append(b"".join(bytes(rows[row][12 * lane + byte] for byte in part)
                                          for lane in range(lanes)))
                if cycle >= len(rows) + Scratchpad.READ_LATENCY:
                    expected = due[name][cycle - Scratchpad.READ_LATENCY]
                    assert ctx.get(port.data) == int.from_bytes(expected, "little")
            for byte, bit in enumerate(mask):
                if bit:
                    rows[written][byte] = data[byte]
            await ctx.tick()

    simulate(dut, bench)
