"""Results on their way to the scratchpad, against bytes put in their place."""

import random

import pytest
from systolith_hw.isa import ResultType
from systolith_hw.writer import ResultWriter

from .simulate import simulate
from .vectors import config_of

SIZES = {ResultType.INT8: 1, ResultType.INT16: 2, ResultType.INT32: 4}


@pytest.mark.parametrize("rows, lanes", [(4, 1), (4, 4), (8, 2), (16, 4), (8, 8)])
def test_every_type_goes_to_its_place_in_a_row_or_to_several_rows(rows, lanes):
    config = config_of(rows, 8, lanes)
    rng = random.Random(f"{rows} {lanes}")
    dut = ResultWriter(config=config)
    width = config.act_row_bytes
    expected, written = {}, {}

    async def bench(ctx):
        busy = 0    # cycles that the rows of the group before take
        for cycle in range(400):
            kind = rng.choice(list(ResultType))
            size = SIZES.get(kind, 0)
            rows_of = max(1, size * lanes // width)
            valid = rng.random() < 0.7 and (not busy or not size)
            place = rng.randrange(config.act_groups // 4 - 4) * 4
            results = [rng.randrange(-2**31, 2**31) for _ in range(lanes)]
            for port, value in ((dut.valid, valid), (dut.type, kind), (dut.place, place),
                                (dut.results, results)):
                ctx.set(port, value)
            if valid and size:
                data = b"".join((value & (1 << 8 * size) - 1).to_bytes(size, "little")
                                for value in results)
                for i, byte in enumerate(data):
                    row, at = divmod(place * lanes + i, width)
                    expected[cycle + 1 + i // width, row, at] = byte
                busy = rows_of
            busy = max(0, busy - 1)
            *_, seen, addr, line, mask = await ctx.tick().sample(
                dut.act.valid, dut.act.addr, dut.act.data, dut.act.mask)
            if seen:
                for at in range(width):
                    if mask >> at & 1:
                        written[cycle, addr, at] = line >> 8 * at & 0xff

    simulate(dut, bench)
    last = max(cycle for cycle, _, _ in written)
    assert written == {key: byte for key, byte in expected.items() if key[0] <= last}
