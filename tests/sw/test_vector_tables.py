"""Tables: what they compute is what the core computes from their bytes; what they refuse."""

import numpy as np
import pytest
from configurations import core
from systolith import ModelDevice, Program, Slot
from systolith.vector import (
    Constants,
    Passes,
    Rows,
    Table,
    byte_table,
    channel_table,
    fit,
    fit_best,
)
from systolith.vector.tables import exponent, pack, reciprocal_table, root_table
from systolith.vector.values import RowScale
from systolith_hw.config import PRESETS
from systolith_hw.isa import ElementType, Function

CONFIG = core(8, 8, 4, {"act_rows": 1024})
INT16 = ElementType.INT16


def computed(keep, x, *, config=CONFIG, dtype=np.int16):
    """What passes make of one row of int16 on chip; keeps are given passes, source, result."""
    program = Program(config=config)
    constants = Constants(config)
    lanes = config.vector.lanes
    units = -(-2 * len(x) // config.act_row_bytes) * config.act_row_bytes // lanes
    source = Rows(kind=INT16, base=0, cols=len(x), pitch=units)
    result = Rows(kind=INT16, base=units, cols=len(x), pitch=units)
    passes = Passes(program, constants, rows=1)
    keep(passes, source, result)
    contents = b"".join(data for _, _, data in constants.contents())
    constants.load(program, 4096)
    program.load(memory=0, address=0, run_bytes=2 * len(x), row=0,
                 row_bytes=config.act_row_bytes, slots=[Slot(post="ready")])
    passes.emit(ready="ready")
    with ModelDevice(config, memory_bytes=1 << 16) as device:
        device.write(0, x.astype("<i2").tobytes())
        device.write(4096, contents)
        device.write(1 << 15, program.encode())
        device.run(1 << 15, len(program))
        act = device.model.state.act.reshape(-1)
        return act[units * lanes:][:2 * len(x)].copy().view("<i2"), device.model.state


@pytest.mark.parametrize("segments", [64, 256])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shift", [0, 3, 7, 9])
def test_a_table_computes_what_the_core_does(segments, signed, shift):
    table = fit(lambda x: 9000 * np.sin(x / (1 << shift) / 9), segments=segments, shift=shift,
                signed=signed)
    x = np.random.default_rng(shift).integers(-32768, 32768, 900)
    result, _ = computed(lambda passes, source, out: passes.step(
        source, function=table, result=out), x)
    assert np.array_equal(result, table(x))
    low, high = table.reach(-32768, 32767)
    assert low <= result.min() and result.max() <= high


@pytest.mark.parametrize("segments", [64, 256])
@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("gain", [1.0, 127, 256, 3e4])
def test_mantissas_are_those_of_reciprocals_and_roots(gain, root, segments):
    table = (root_table if root else reciprocal_table)(gain, segments=segments)

    def keep(passes, source, result):
        record = passes.record()
        passes.step(source, reduce=2, record=record)
        passes.step(record, function=table, saturates=("function",), result=RowScale(
            record=record, exponent=exponent(gain, root=root), root=root))
    for total in (7, 1000, 32767, 60000):
        x = np.array([total - total // 2, total // 2])
        _, state = computed(keep, x)
        record = state.rows[0]
        scale = float(record["multiplier"]) * 2.0 ** (int(record["shift"]) - 31)
        exact = gain / (np.sqrt(total) if root else total)
        if exact < 16:      # a scale has at most 7 bits to the left
            assert abs(scale / exact - 1) < (2e-5 if segments == 256 else 2e-4)


def test_a_fit_is_within_its_curvature():
    """The best lines are off by h^2 / 16 times the second derivative."""
    table = fit(lambda x: 32767 * np.exp(-x / 2048), shift=7)
    x = np.arange(256 << 7)
    bound = (128 / 2048) ** 2 / 16 * 32767
    assert np.abs(table(x) - 32767 * np.exp(-x / 2048)).max() < bound + 0.8


def test_narrow_segments_are_chosen_where_a_function_is_flat_outside():
    def function(x):
        return 20000 * np.tanh(x / 1000)
    table = fit_best(function, low=-32768, high=32767)
    assert table.shift < 8
    x = np.arange(-32768, 32768)
    assert np.abs(table(x) - function(x)).max() < 25


@pytest.mark.parametrize("config, size", [(CONFIG, 4), (PRESETS["ecp5_25f"], 1)])
def test_entries_alike_in_every_lane_are_packed_once(config, size):
    table = byte_table(lambda x: -x)
    raw = np.frombuffer(pack(table, config=config), np.int8).reshape(256, size)
    assert np.array_equal(raw[:, 0], np.clip(-np.arange(-128, 128), -128, 127))


def test_tables_share_what_they_leave_free():
    constants = Constants(core(8, 8, 4))
    assert constants.table(fit(np.negative, shift=0)) == 0
    assert constants.table(reciprocal_table(256)) == 2     # its first half is never read
    assert constants.table(fit(np.abs, segments=64, shift=4)) == 6
    assert constants.table(reciprocal_table(256)) == 2
    with pytest.raises(ValueError, match="vector.functions must have 256 more entries free for "
                                         "this operation, not 64 of 512"):
        constants.table(fit(np.abs, shift=1))


def test_what_does_not_fit_an_entry_is_refused():
    zeros = np.zeros(256, int)
    with pytest.raises(ValueError, match="table must have 64 or 256 entries, not 255"):
        Table(kind=Function.LINEAR, base=zeros[1:], slope=zeros[1:])
    with pytest.raises(ValueError, match="table must have 256 entries, not 64"):
        Table(kind=Function.TABLE, base=zeros[:64], slope=zeros[:64])
    with pytest.raises(ValueError, match="base must be from -131072 to 131071, not 131072"):
        Table(kind=Function.LINEAR, base=zeros + 131072, slope=zeros)
    with pytest.raises(ValueError, match="base must be from -128 to 127, not 128"):
        Table(kind=Function.TABLE, base=zeros + 128, slope=zeros)
    with pytest.raises(ValueError, match="slope must be from -8192 to 8191, not -8193"):
        Table(kind=Function.LINEAR, base=zeros, slope=zeros - 8193)
    with pytest.raises(ValueError, match=r"slope must have shape \(256,\), not \(64,\)"):
        Table(kind=Function.LINEAR, base=zeros, slope=zeros[:64])
    with pytest.raises(ValueError, match="shift must be from 0 to 23, not 24"):
        Table(kind=Function.LINEAR, base=zeros, slope=zeros, shift=24)
    with pytest.raises(ValueError, match="slope must be from -8192 to 8191, not"):
        fit(lambda x: 100.0 * x, shift=8)
    with pytest.raises(ValueError, match="slope must be from -8192 to 8191, not"):
        channel_table(np.ones(4), np.zeros(4), lanes=4)
    with pytest.raises(ValueError, match="function must be finite wherever the table reaches"):
        fit(lambda x: x * np.nan, shift=0)


def test_segments_need_a_multiplier():
    with pytest.raises(ValueError, match="vector.multiply must be true for segments, not False"):
        Constants(PRESETS["ecp5_25f"]).table(fit(np.negative, shift=0))
    with pytest.raises(ValueError, match="vector.multiply must be true for segments, not False"):
        pack(fit(np.negative, shift=0), config=PRESETS["ecp5_25f"])
