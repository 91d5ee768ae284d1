"""The row file: three parts of a record, each written and read on its own."""

import random

import pytest
from systolith_hw.config import CoreConfig
from systolith_hw.rowfile import RowFile, position_bits

from .simulate import simulate
from .streams import plain

READS = {"value_read": ("record", ("value", "position")), "sum_read": ("record", ("sum",)),
         "scale_read": ("scale_record", ("scale",))}
WRITES = {"value_write": ("value_record", ("value_data", "position_data")),
          "sum_write": ("sum_record", ("sum_data",)),
          "scale_write": ("scale_write_record", ("scale_data",))}
PART = {"value_data": "value", "position_data": "position", "sum_data": "sum",
        "scale_data": "scale"}


@pytest.mark.parametrize("rows, lanes", [(16, 1), (256, 8)])
def test_reads_what_was_written_last_two_cycles_later(rows, lanes):
    rng = random.Random(rows)
    config = CoreConfig.from_dict({"vector": {"lanes": lanes, "rows": rows}})
    dut = RowFile(config=config)
    parts = {"value": lambda: rng.randint(-2**31, 2**31 - 1), "sum": lambda: rng.getrandbits(31),
             "position": lambda: rng.getrandbits(position_bits(config)),
             "scale": lambda: {"multiplier": rng.getrandbits(31), "shift": rng.randint(-32, 31)}}
    held = [dict.fromkeys(parts) for _ in range(rows)]
    few = rng.sample(range(rows), 5)    # so that a record is read right after it was written
    checked = 0

    async def bench(ctx):
        nonlocal checked
        due = []
        for cycle in range(1500):
            written = {}
            for enable, (record, datas) in WRITES.items():
                number, on = rng.choice(few), rng.randrange(2)
                ctx.set(getattr(dut, enable), on)
                ctx.set(getattr(dut, record), number)
                for data in datas:
                    value = parts[PART[data]]()
                    ctx.set(getattr(dut, data), value)
                    if on:
                        written[PART[data], number] = value
            wanted = {record: rng.choice(few) for record, _ in READS.values()}
            for enable, (record, names) in READS.items():
                number, on = wanted[record], rng.randrange(2)
                # A record is not read in the cycle it is written.
                on = on and not any((name, number) in written for name in names)
                ctx.set(getattr(dut, enable), on)
                ctx.set(getattr(dut, record), number)
                if on:
                    due += [(cycle + dut.READ_LATENCY, name, held[number][name])
                            for name in names]
            for _, name, value in [item for item in due if item[0] == cycle]:
                if value is not None:
                    assert plain(ctx.get(getattr(dut, name))) == value
                    checked += 1
            for (name, number), value in written.items():
                held[number][name] = value
            await ctx.tick()

    simulate(dut, bench)
    assert checked > 500
