"""The builder of passes: ranges, refusals, order; rows in the accumulator."""

import re
from dataclasses import replace

import numpy as np
import pytest
from configurations import core
from systolith import CoreError, ModelDevice, Program
from systolith.image import Segment
from systolith.vector import Constants, Passes, Quantity, Rows, compile_vector, fit, operations
from systolith.vector.errors import real_softmax
from systolith.vector.rows import quantise_rows, softmax
from systolith.vector.values import ROW, SQUARE, Columns, Product, Weighted
from systolith_hw.config import PRESETS
from systolith_hw.isa import (
    COMMAND_BYTES,
    COMMANDS,
    ONCE,
    ElementType,
    ErrorCode,
    Opcode,
    Reduction,
    VectorOp,
)
from vectors import CORES, check_waits, run
from vectors import passes_of as vector_passes

CONFIG = PRESETS["demo"]
ROWS = Rows(kind=ElementType.INT16, base=0, cols=32, pitch=16)
BYTES = Rows(kind=ElementType.INT8, base=256, cols=32, pitch=8)
WIDE = Rows(kind=ElementType.INT32, base=512, cols=32, pitch=32)


def passes_of(rows=4, config=CONFIG):
    return Passes(Program(config=config), Constants(config), rows=rows)


def test_ranges_are_computed_at_every_stage():
    ranges = passes_of().step(replace(ROWS, low=-100, high=50), second=20, function=SQUARE,
                              operation=VectorOp.SUBTRACT, scale=(1 << 30, 0), result=ROWS,
                              sum_results=True, record=None)
    assert ranges == {"combined": (-120, 30), "function": (0, 14400), "scale": (0, 7200),
                      "result": (0, 7200), "sum": (0, 32 * 7200)}


@pytest.mark.parametrize("operation", VectorOp)
def test_a_combined_range_holds_every_number_and_reaches_its_ends(operation):
    rng = np.random.default_rng(operation)
    for _ in range(30):
        ends = np.sort(rng.integers(-20, 20, (2, 2)), axis=1)
        a, b = (np.arange(low, high + 1) for low, high in ends)
        a, b = (values.reshape(-1) for values in np.meshgrid(a, b))
        exact = {
            VectorOp.ADD: a + b, VectorOp.SUBTRACT: a - b, VectorOp.REVERSE: b - a,
            VectorOp.MINIMUM: np.minimum(a, b), VectorOp.MAXIMUM: np.maximum(a, b),
            VectorOp.BELOW: np.where(a < b, a, -1 << 31), VectorOp.SELECT: np.concatenate([a, b]),
            VectorOp.DISTANCE: np.abs(a - b)}[operation]
        first, second = (replace(ROWS, low=int(low), high=int(high)) for low, high in ends)
        low, high = passes_of().step(first, second=second, operation=operation)["combined"]
        assert low <= exact.min() and exact.max() <= high
        if operation != VectorOp.BELOW:
            assert (low, high) == (exact.min(), exact.max())


def refused(message, *arguments, **keywords):
    with pytest.raises(ValueError) as error:
        passes_of().step(*arguments, **keywords)
    assert message in str(error.value)


def test_saturation_that_is_not_meant_is_refused():
    refused("combined number must be from -2147483648 to 2147483647, not -4294967296 to "
            "4294967294", WIDE, second=WIDE)
    refused("fine source must be", WIDE, fine=True)
    refused("result must be from -128 to 127, not -32768 to 32767", ROWS, result=BYTES)
    refused("result must be from -32768 to 32767, not -65536 to 65534", ROWS, scale=(1 << 30, 2),
            result=ROWS)
    refused("root of a square must be from -131072 to 131071, not", WIDE, function=SQUARE)
    refused("square must be from -2147483648 to 2147483647, not 0 to 17179344900",
            replace(WIDE, low=-131070, high=131070), function=SQUARE)
    refused("product must be", replace(WIDE, low=0, high=131071), function=Product(stream=ROWS))
    refused("stream of a product must be", ROWS, function=Product(stream=WIDE))
    refused("weighted sum must be", replace(WIDE, low=0),
            function=Weighted(stream=ROWS, weight=3))
    refused("number of a table of 256 must be from -128 to 127, not -32768 to 32767", ROWS,
            function=operations.elements.byte_table(np.negative))
    passes_of().step(ROWS, result=BYTES, saturates=("result",))


def test_sums_longer_than_their_accumulator_are_refused():
    refused("sum of a row of 70000 columns must be from -2147483648 to 2147483647 "
            "(at most 65536 columns), not -2293760000 to 2293690000",
            replace(ROWS, cols=70000), reduce=Reduction.SUM)
    refused("sum of results of 32 columns must be from 0 to 2147483647", ROWS, sum_results=True)


def test_rows_that_do_not_fit_are_refused():
    refused("base of int16 rows must be a multiple of 2, not 1", replace(ROWS, base=1))
    refused("pitch of int32 rows must be a multiple of 2, not 5", replace(WIDE, pitch=5))
    refused("rows of one pass must have 1 runs of 32 columns, not 1 of 31", ROWS,
            second=replace(BYTES, cols=31))
    refused("stream must be the same wherever a pass uses it, not", ROWS, second=BYTES, mask=WIDE)
    refused("record must be given where the second operand is a row's, not None", ROWS, second=ROW)
    refused("second must be from -2147483648 to 2147483647, not 2147483648", ROWS, second=1 << 31)
    refused("runs must be 1 for a scale of each column, not 2", replace(ROWS, runs=2),
            scale=Columns(multiplier=np.ones(32, int), shift=np.zeros(32, int)))
    passes = passes_of(rows=200)
    passes.record()
    with pytest.raises(ValueError, match="rows must be at most 128 of 2 records each, not 200"):
        passes.record()


def test_what_the_core_has_not_is_refused():
    tiny, plain = PRESETS["tiny"], PRESETS["ecp5_25f"]
    with pytest.raises(ValueError, match="vector.elementwise must be true for operands in"):
        passes_of(config=tiny).step(ROWS)
    acc = Rows(kind=ElementType.ACC, base=0, cols=4, pitch=4)
    with pytest.raises(ValueError, match="vector.rows must be at least 16 for reductions of rows"):
        passes_of(config=tiny.updated({"vector": {"elementwise": True}})).step(
            acc, reduce=Reduction.MAXIMUM, record=operations.rows.Record(base=0))
    with pytest.raises(ValueError, match="vector.multiply must be true for products and squares"):
        passes_of(config=plain).step(acc, function=SQUARE)


def test_operations_refuse_what_does_not_fit():
    quantity = Quantity(dtype="int16", scale=2.0 ** -13)
    norm = operations.layer_norm(gamma=np.ones(500), beta=np.zeros(500), source=quantity,
                                 result=quantity)
    with pytest.raises(ValueError, match="number of a channel's function must be from -131072 to "
                                         "131071, not"):
        compile_vector(norm, (3, 500), config=CONFIG)
    with pytest.raises(ValueError, match="vector.functions must have"):
        compile_vector(operations.layer_norm(
            gamma=np.ones(2000), beta=np.zeros(2000), source=quantity,
            result=Quantity(dtype="int8", scale=0.1)), (1, 2000), config=PRESETS["ecp5_85f"])
    with pytest.raises(ValueError, match="memory.act_rows must be at least 2250 beside constants "
                                         "for rows of 9000 columns, not 1024"):
        compile_vector(operations.softmax(scale=0.1), (1, 9000), config=CONFIG)
    with pytest.raises(ValueError, match="shapes must be 1 for softmax, not 2"):
        compile_vector(operations.softmax(scale=0.1), (1, 9), (1, 9), config=CONFIG)
    with pytest.raises(ValueError, match="shapes must broadcast to one, not"):
        compile_vector(operations.maximum(), (3, 4), (3, 5), config=CONFIG)
    with pytest.raises(ValueError, match="rows must all have 9 columns, not"):
        compile_vector(operations.softmax(scale=0.1, masked=True), (2, 9), (2, 1), config=CONFIG)
    with pytest.raises(ValueError, match="shapes must have at least one element in each axis"):
        compile_vector(operations.maximum(), (0,), (0,), config=CONFIG)
    with pytest.raises(ValueError, match="scale must be above 0, not 0"):
        compile_vector(operations.softmax(scale=0), (2, 9), config=CONFIG)
    with pytest.raises(ValueError, match="out_dtype must be one of int8, int16, not 'int32'"):
        operations.softmax(scale=1, out_dtype="int32")
    with pytest.raises(ValueError, match="k must be from 1 to the columns"):
        operations.top_k(5, cols=4)
    with pytest.raises(ValueError, match="function must be one of gelu, .*, not 'relu7'"):
        operations.activation("relu7", source=quantity, result=quantity)


def without_waits(image, opcode, once):
    """The image whose commands of one engine wait for nothing once a command, or at no loop."""
    changed = bytearray(image.program)
    for start in range(0, len(changed), COMMAND_BYTES):
        if changed[start] != opcode:
            continue
        fields = COMMANDS[opcode].decode(bytes(changed[start:start + COMMAND_BYTES]))
        for slot in (0, 1):
            if (fields[f"level{slot}"] == ONCE) == once:
                changed[start + 4 + slot] &= 0x7f
    segments = tuple(Segment(address=s.address, data=bytes(changed))
                     if s.address == image.program_address else s for s in image.segments)
    return replace(image, segments=segments)


def test_a_missing_wait_between_passes_is_found():
    image = compile_vector(operations.softmax(scale=0.1), (20, 30), config=CONFIG)
    check_waits(image, CONFIG)
    with pytest.raises(AssertionError, match="must wait before it reads value 0"):
        check_waits(without_waits(image, Opcode.VECTOR, once=False), CONFIG)


@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.VECTOR, Opcode.STORE])
def test_a_missing_wait_between_engines_shows_in_some_order(opcode):
    quantity = Quantity(dtype="int8", scale=0.05)
    image = compile_vector(operations.activation("gelu", source=quantity, result=quantity),
                           (64, 200), config=CONFIG)
    x = np.random.default_rng(7).integers(-128, 128, (64, 200)).astype(np.int8)
    with ModelDevice(CONFIG) as device:
        wanted, = image.run(device, x)

    def shows(order):
        with ModelDevice(CONFIG, order=order) as device:
            assert np.array_equal(image.run(device, x)[0], wanted)
        with ModelDevice(CONFIG, order=order) as device:
            try:
                return not np.array_equal(without_waits(image, opcode, once=True).run(
                    device, x)[0], wanted)
            except CoreError as error:
                return error.code == ErrorCode.SEMAPHORE_OVERFLOW
    assert any(shows(order) for order in range(6))


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 50, 64, 100])
def test_at_most_nine_tokens_are_outstanding_between_passes(rows):
    passes = passes_of(rows=rows)
    record = passes.record()
    passes.step(ROWS, reduce=Reduction.MAXIMUM, record=record)
    passes.step(ROWS, second=ROW, operation=VectorOp.SUBTRACT, record=record)
    passes.emit()
    commands = [fields for _, fields in passes.program.commands]
    tokens = [int(np.prod(fields["counts"][fields["level0"]:])) for fields in commands]
    assert sum(np.prod(fields["counts"][1:]) for fields in commands) == 2 * rows
    assert min(rows, 5) <= sum(tokens[:len(tokens) // 2]) <= 9
    assert passes.program.balance["vector_chain"] == 0


@pytest.mark.parametrize("loops", [3, 4])
@pytest.mark.parametrize("tiles", [1, 3])
def test_softmax_of_sums_in_the_accumulator(tiles, loops):
    """Rows that lie in several tiles of the accumulator, as a product leaves them."""
    config = core(8, 8, 4, {"act_rows": 1024}, {"vector_loops": loops})
    rows, cols = 21, 8
    rng = np.random.default_rng(tiles)
    sums = rng.integers(-2000, 2000, (rows, tiles * cols))
    groups = config.acc_group_pitch
    source = Rows(kind=ElementType.ACC, base=0, cols=cols, pitch=groups, runs=tiles,
                  run_pitch=rows * groups)
    result = Rows(kind=ElementType.INT8, base=0, cols=cols, pitch=groups * tiles, runs=tiles,
                  run_pitch=groups)
    program, constants = Program(config=config), Constants(config)
    passes = Passes(program, constants, rows=rows)
    softmax(passes, source, result, scale=1 / 400)
    contents = b"".join(data for _, _, data in constants.contents())
    constants.load(program, 0)
    program.control(2)
    passes.emit()
    with ModelDevice(config, memory_bytes=1 << 16) as device:
        device.model.state.acc[:tiles * rows, :cols] = (
            sums.reshape(rows, tiles, cols).swapaxes(0, 1).reshape(-1, cols))
        device.write(0, contents)
        device.write(1 << 15, program.encode())
        device.run(1 << 15, len(program))
        y = device.model.state.act.reshape(-1)[:rows * tiles * cols].reshape(rows, -1)
        assert np.abs(y - np.minimum(real_softmax(sums / 400) * 256 - 128, 127)).max() < 1


def test_rows_of_the_accumulator_are_quantised_by_their_peak():
    config = PRESETS["bench16"]
    sums = np.random.default_rng(3).integers(-1 << 24, 1 << 24, (30, 16))
    source = Rows(kind=ElementType.ACC, base=0, cols=16, pitch=config.acc_group_pitch)
    result = Rows(kind=ElementType.INT8, base=0, cols=16, pitch=2)
    peaks = Rows(kind=ElementType.INT32, base=256, cols=1, pitch=4)
    program, constants = Program(config=config), Constants(config)
    passes = Passes(program, constants, rows=30)
    quantise_rows(passes, source, result, peaks)
    contents = b"".join(data for _, _, data in constants.contents())
    constants.load(program, 0)
    program.control(2)
    passes.emit()
    with ModelDevice(config, memory_bytes=1 << 16) as device:
        device.model.state.acc[:30, :16] = sums
        device.write(0, contents)
        device.write(1 << 15, program.encode())
        device.run(1 << 15, len(program))
        act = device.model.state.act.reshape(-1)
        q = act[:30 * 16].reshape(30, 16)
        peak = np.abs(sums).max(axis=1, keepdims=True)
        assert np.array_equal(act[256 * 8:].view("<i4")[:30 * 8:8], peak[:, 0])
    assert np.abs(q - sums * 127 / peak).max() < 0.52


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
def test_chunks_overlap(config):
    """Loads are issued a chunk ahead of the passes, and stores a chunk behind."""
    image = compile_vector(operations.activation(
        "gelu", source=Quantity(dtype="int8", scale=0.05),
        result=Quantity(dtype="int8", scale=0.05)), (64, 1024), config=config)
    kinds = image.program[::COMMAND_BYTES]
    letters = {Opcode.LOAD: "l", Opcode.VECTOR: "v", Opcode.STORE: "s"}
    order = "".join(letters.get(kind, "") for kind in kinds)
    chunks = order.count("v")
    assert chunks >= 4
    assert re.fullmatch(rf"l+v(l+vs+){{{chunks - 2}}}vs+s+", order)


def test_flat_tables_reach_what_they_say():
    table = fit(lambda x: 100 - x, shift=0)
    assert table.reach(3, 50) == (50, 97)
    assert table.reach(-5, -1) == (100, 100)


@pytest.mark.parametrize("config", [PRESETS[name] for name in ("demo", "ecp5_85f", "bench16")],
                         ids=["demo", "ecp5_85f", "bench16"])
def test_operations_take_the_passes_that_they_state(config):
    int8, small = Quantity(dtype="int8", scale=0.05), Quantity(dtype="int8", scale=0.05)
    gamma, beta = np.ones(256), np.zeros(256)
    for operation, most in (
            (operations.softmax(scale=0.05), 3.05),
            (operations.layer_norm(gamma=gamma, beta=beta, source=int8, result=small), 2.15),
            (operations.rms_norm(gamma=gamma, source=int8, result=small), 2.05),
            (operations.activation("gelu", source=int8, result=small), 1.0),
            (operations.addition(a=int8, b=int8, result=int8), 1.0),
            (operations.product(multiplier=(1 << 30, -7)), 1.0)):
        shapes = [(128, 256)] * len(operation.inputs)
        image = compile_vector(operation, *shapes, config=config)
        assert vector_passes(image, config, 128 * 256) <= most


def test_rows_too_long_for_two_buffers_take_turns_in_one():
    x = np.random.default_rng(5).integers(-128, 128, (3, 4000)).astype(np.int8)
    y, = run(operations.softmax(scale=0.1), x, config=CONFIG, order=1)
    assert np.abs(y - np.minimum(real_softmax(x * 0.1) * 256 - 128, 127)).max() < 1


@pytest.mark.parametrize("masked", [False, True])
def test_softmax_fits_one_table_of_256(masked):
    config = CONFIG.updated({"vector": {"functions": 256}})
    x = np.random.default_rng(6).integers(-128, 128, (9, 40)).astype(np.int8)
    mask = np.ones((1, 40), np.int8)
    for scale in (0.01, 0.05, 0.3):
        y, = run(operations.softmax(scale=scale, masked=masked), x, *[mask] * masked,
                 config=config)
        assert np.abs(y - np.minimum(real_softmax(x * scale) * 256 - 128, 127)).max() < 1
