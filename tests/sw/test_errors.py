"""Every error code, the command it names, and which programs may not run."""

import pytest
from systolith import CoreError, ModelDevice, Program, Slot
from systolith_hw.config import CoreConfig
from systolith_hw.isa import (
    COMMANDS,
    ERROR_TEXT,
    ControlOp,
    ElementType,
    ErrorCode,
    Function,
    Memory,
    Opcode,
    Operand,
    Reduction,
    ResultType,
    Scale,
    VectorOp,
)

TINY = CoreConfig.preset("tiny")    # has the least that a vector unit can have
DEMO = CoreConfig.preset("demo")    # has all of it


def run(*records, order=None, config=TINY, params=None):
    with ModelDevice(config, memory_bytes=8192, order=order) as device:
        device.write(0, b"".join(records))
        device.run(0, len(records), params=params)
        return device


def encode(opcode, **values):
    return COMMANDS[opcode].encode(values)


def load(**values):
    return encode(Opcode.LOAD, **{"memory_base": 4096, **values})


LOAD = load()
EXECUTE = encode(Opcode.EXECUTE)
VECTOR = encode(Opcode.VECTOR)
STORE = encode(Opcode.STORE, memory_base=4096)
FENCE = encode(Opcode.CONTROL, operation=ControlOp.FENCE)


def vector(**values):
    return encode(Opcode.VECTOR, **values)


def param_set(**values):
    return encode(Opcode.CONTROL, operation=ControlOp.PARAM_SET, **values)


def credit(**values):
    return encode(Opcode.CONTROL, operation=ControlOp.CREDIT, **values)


def patched(record, byte, value):
    return record[:byte] + bytes([value]) + record[byte + 1:]


@pytest.mark.parametrize("record", [LOAD, EXECUTE, VECTOR, STORE, FENCE])
def test_plain_commands_run(record):
    run(record)


BAD = {
    ErrorCode.BAD_OPCODE: {
        "no opcode": bytes(64), "unknown opcode": patched(LOAD, 0, 6)},
    ErrorCode.BAD_FIELD: {
        "index": load(index=1), "reserved byte": patched(LOAD, 1, 1),
        "reserved bit": patched(LOAD, 63, 1), "slot bit": patched(LOAD, 4, 0x20),
        "memory": patched(LOAD, 60, 4), "functions": load(memory=Memory.FUN),
        "mode": patched(LOAD, 62, 2),
        "store of weights": encode(Opcode.STORE, memory_base=4096, memory=Memory.WGT),
        "format": encode(Opcode.EXECUTE, format=1),
        "k_last 0": encode(Opcode.EXECUTE, k_last=0),
        "k_last beyond the rows": encode(Opcode.EXECUTE, k_last=5),
        "operation": vector(operation=VectorOp.SUBTRACT), "fine": vector(fine=1),
        "source": vector(source_type=ElementType.INT8),
        "source from records": vector(source_type=ElementType.ROW_VALUE),
        "stream": vector(second=Operand.STREAM), "row": vector(second=Operand.ROW),
        "mask": vector(masked=1), "row's scale": vector(scale=Scale.ROW),
        "record as result": vector(result_type=ResultType.ROW_VALUE),
        "table": vector(function=Function.TABLE), "segments": vector(function=Function.LINEAR),
        "square": vector(function=Function.SQUARE), "sum": vector(sum_results=1),
        "reduction": vector(reduce=Reduction.SUM),
        "fold": vector(reduce=Reduction.MAXIMUM, fold=1), "tail": vector(tail=2),
        "load loop beyond the core's": load(counts=[1, 1, 2]),
        "execute loop beyond the core's": encode(Opcode.EXECUTE, counts=[1, 1, 1, 1, 2, 1]),
        "vector loop beyond the core's": encode(Opcode.VECTOR, counts=[1, 1, 1, 2]),
        "execute level": encode(Opcode.EXECUTE, level0=1),
        "load level beyond the core's": load(level1=2),
        "semaphore": load(wait0=8, wait0_valid=1), "raise": load(raise1=9, raise1_valid=1),
        "address register": load(address_param=4), "count register": load(count_param=4),
        "count slot": load(count_level=6),
        "control operation": patched(FENCE, 16, 5), "control slot": patched(FENCE, 4, 0x80),
        "control level": patched(FENCE, 2, 0xf0),
        "register 0": param_set(register=0), "register": param_set(register=4),
        "no raises": credit(register=1, value=0), "raises": credit(register=1, value=16),
        "credited semaphore": credit(register=8, value=1)},
    ErrorCode.ZERO_COUNT: {
        "load": load(counts=[0]), "unused loop": load(counts=[1, 1, 0]),
        "run": load(run_bytes=0), "row": load(row_bytes=0),
        "execute": encode(Opcode.EXECUTE, counts=[1, 1, 0]),
        "vector": encode(Opcode.VECTOR, counts=[0]),
        "store": encode(Opcode.STORE, memory_base=4096, counts=[0])},
    ErrorCode.MEMORY_ADDRESS: {
        "load": load(memory_base=8192), "last byte": load(memory_base=8190, run_bytes=3),
        "below": load(counts=[2], memory_jumps=[-5000]),
        "store": encode(Opcode.STORE, memory_base=8192)},
    ErrorCode.SCRATCHPAD_ADDRESS: {
        "row": load(pad_base=2048), "byte of a row": load(pad_base=3, row_bytes=2, run_bytes=2),
        "below": load(run_bytes=2, row_step=-1), "weights": load(memory=Memory.WGT, pad_base=2048),
        "parameters": load(memory=Memory.PAR, pad_base=12),
        "activations": encode(Opcode.EXECUTE, act_base=512),
        "accumulator": encode(Opcode.EXECUTE, acc_base=256),
        "weight rows": encode(Opcode.EXECUTE, wgt_base=512),
        "source": vector(source_base=256 * 4),
        "source beyond 16 bits": vector(source_base=1 << 16),
        "result": vector(result_base=2048), "parameter row": vector(param_base=128),
        "second parameter row": vector(param_base=127, counts=[2]),
        "unaligned int32": vector(result_type=ResultType.INT32, result_base=2)},
}
# Of a core that has everything: 2048 lane groups of activations, two of them a row; 1024 groups of
# the accumulator; 256 records; 512 table entries.
STREAM = {"second": Operand.STREAM}
LINEAR = {"function": Function.LINEAR, "function_first": 1, "scale": Scale.UNIT}
BAD_OF_ALL = {
    ErrorCode.BAD_FIELD: {
        "source": vector(source_type=7), "second operand": vector(second=4),
        "stream": vector(stream_type=ElementType.ACC), "result": vector(result_type=7),
        "function": vector(function=7), "scale": vector(scale=3), "reduction": vector(reduce=3),
        "tail": vector(tail=5), "segments": vector(function_shift=24),
        "product after the scale": vector(function=Function.PRODUCT),
        "weighted after the scale": vector(function=Function.WEIGHTED),
        "channel before the scale": vector(function=Function.CHANNEL, function_first=1),
        "fold of nothing": vector(fold=1),
        **{f"sum of {kind.name}": vector(result_type=kind, sum_results=1, **LINEAR)
           for kind in (ResultType.ROW_VALUE, ResultType.ROW_SCALE, ResultType.ROW_ROOT)},
        **{f"{kind.name} with {name}": vector(result_type=kind, **{**LINEAR, name: value})
           for kind in (ResultType.ROW_SCALE, ResultType.ROW_ROOT)
           for name, value in (("function", Function.SQUARE), ("function_first", 0),
                               ("scale", Scale.ROW))}},
    ErrorCode.SCRATCHPAD_ADDRESS: {
        "source": vector(source_type=ElementType.INT8, source_base=2048),
        "end of source": vector(source_type=ElementType.INT8, counts=[2], source_base=2047),
        "wide source": vector(source_type=ElementType.INT32, counts=[2], source_base=2044),
        "source beyond 16 bits": vector(source_type=ElementType.INT8, source_base=1 << 16),
        "source from records": vector(source_type=ElementType.ROW_SUM, counts=[1, 2],
                                      row_base=255),
        "stream": vector(**STREAM, stream_base=2048),
        "end of stream": vector(**STREAM, stream_base=2047, counts=[2]),
        "mask": vector(masked=1, stream_base=2048),
        "selection": vector(operation=VectorOp.SELECT, stream_base=2048),
        "factor": vector(function=Function.PRODUCT, function_first=1, stream_base=2048),
        "summand": vector(function=Function.WEIGHTED, function_first=1, stream_base=2048),
        "result": vector(result_type=ResultType.INT16, result_base=2048),
        "end of result": vector(result_type=ResultType.INT16, result_base=2046, counts=[2]),
        "folded result": vector(result_type=ResultType.INT8, reduce=Reduction.SUM, fold=1,
                                result_base=2047, counts=[2]),
        "result in records": vector(result_type=ResultType.ROW_VALUE, result_base=256),
        "scale in records": vector(result_type=ResultType.ROW_SCALE, result_base=256, **LINEAR),
        "unaligned source": vector(source_type=ElementType.INT16, source_base=1),
        "unaligned stream": vector(**STREAM, stream_type=ElementType.INT32, stream_base=3),
        "unaligned result": vector(result_type=ResultType.INT32, result_base=1),
        "unaligned step": vector(source_type=ElementType.INT16, source_step=1, counts=[2]),
        "second operand": vector(second=Operand.ROW, counts=[1, 257]),
        "scale": vector(scale=Scale.ROW, counts=[1, 2], row_base=255),
        "sum": vector(sum_results=1, counts=[1, 1, 2], span=1, row_base=255),
        "reduced row": vector(reduce=Reduction.MAXIMUM, counts=[1, 2], row_base=255),
        "parameters once": vector(param_base=256, param_step=0),
        "parameters of loop 2": vector(param_base=252, counts=[2, 1, 3]),
        "table": vector(function=Function.TABLE, function_base=5),
        "segments": vector(function=Function.LINEAR, segments=1, function_base=5),
        "channel": vector(function=Function.CHANNEL, function_base=7, counts=[65])},
}
# What is not used may lie anywhere.
GOOD_OF_ALL = {
    "source": vector(source_type=ElementType.ROW_VALUE, source_base=0xffffffff),
    "stream": vector(stream_base=2048, stream_type=ElementType.INT32),
    "result": vector(result_type=ResultType.NONE, result_base=0xffff),
    "parameters": vector(second=Operand.IMMEDIATE, scale=Scale.UNIT, param_base=256),
    "record": vector(row_base=255, counts=[1, 2]),
    "record of a fold": vector(reduce=Reduction.SUM, fold=1, row_base=255, counts=[1, 2]),
    "table": vector(function=Function.SQUARE, function_base=7, segments=1),
    "last table": vector(function=Function.TABLE, function_base=4),
    "last segments": vector(function=Function.LINEAR, function_base=7),
    "last groups": vector(source_type=ElementType.INT32, source_base=2044, **STREAM,
                          stream_type=ElementType.INT16, stream_base=2046,
                          result_type=ResultType.INT8, result_base=2047),
}


@pytest.mark.parametrize("order", [None, 3])
@pytest.mark.parametrize("code, name", [(c, n) for c, records in BAD.items() for n in records])
def test_a_bad_command_stops_the_core(code, name, order):
    with pytest.raises(CoreError) as caught:
        run(LOAD, FENCE, BAD[code][name], LOAD, order=order)
    assert (caught.value.code, caught.value.index) == (code, 2)
    assert str(caught.value) == f"command 2: {ERROR_TEXT[code]}"


@pytest.mark.parametrize("code, name", [(c, n) for c, records in BAD_OF_ALL.items()
                                        for n in records])
def test_a_bad_vector_command_stops_a_core_that_has_everything(code, name):
    with pytest.raises(CoreError) as caught:
        run(LOAD, FENCE, BAD_OF_ALL[code][name], LOAD, config=DEMO)
    assert (caught.value.code, caught.value.index) == (code, 2)


@pytest.mark.parametrize("name", GOOD_OF_ALL)
def test_a_vector_command_may_have_anything_in_fields_that_it_does_not_use(name):
    run(GOOD_OF_ALL[name], config=DEMO)


def test_the_program_itself_must_lie_inside_the_window():
    with ModelDevice(TINY, memory_bytes=4096) as device:
        device.write(0, LOAD.replace(b"\x00\x10\x00\x00", bytes(4)) * 64)
        with pytest.raises(CoreError) as caught:
            device.run(0, 65)
    assert (caught.value.code, caught.value.index) == (ErrorCode.MEMORY_ADDRESS, 64)


def test_a_core_runs_again_after_an_error():
    with ModelDevice(TINY, memory_bytes=8192) as device:
        device.write(0, credit(register=0, value=15) + bytes(64))
        for _ in range(2):
            with pytest.raises(CoreError):
                device.run(0, 2)
        device.run(0, 1)


@pytest.mark.parametrize("order", [None, 1, 2])
def test_a_semaphore_beyond_15_is_an_error(order):
    posts = load(counts=[2], raise0=2, raise0_valid=1, level0=0)
    with pytest.raises(CoreError) as caught:
        run(credit(register=2, value=14), posts, order=order)
    assert (caught.value.code, caught.value.index) == (ErrorCode.SEMAPHORE_OVERFLOW, 1)
    with pytest.raises(CoreError) as caught:
        run(credit(register=2, value=14), credit(register=2, value=2), order=order)
    assert (caught.value.code, caught.value.index) == (ErrorCode.SEMAPHORE_OVERFLOW, 1)


@pytest.mark.parametrize("order", [None, 1, 2])
def test_waiting_for_what_never_comes_names_the_first_command(order):
    waits = {"wait0": 1, "wait0_valid": 1}
    with pytest.raises(CoreError) as caught:
        run(LOAD, encode(Opcode.STORE, memory_base=4096, **waits), load(**waits), FENCE,
            order=order)
    assert (caught.value.code, caught.value.index) == (ErrorCode.DEADLOCK, 1)


@pytest.mark.parametrize("order", [None, 1, 2])
def test_a_full_queue_holds_up_what_is_behind_it(order):
    # Queue depth 2: one load runs, two wait, the fourth keeps the store from being dispatched.
    waiting = load(wait0=1, wait0_valid=1)
    store = encode(Opcode.STORE, memory_base=4096, raise0=1, raise0_valid=1, level0=0,
                   counts=[4])
    run(waiting, LOAD, LOAD, store, credit(register=3, value=1), order=order)
    with pytest.raises(CoreError) as caught:
        run(waiting, LOAD, LOAD, LOAD, store, order=order)
    assert (caught.value.code, caught.value.index) == (ErrorCode.DEADLOCK, 0)


def test_slots_wait_and_raise_at_their_levels():
    program = Program(config=TINY)
    program.credit("go", 2)
    program.fill(memory=Memory.ACT, value=1, run_bytes=1, row=0, counts=[3, 2],
                 slots=[Slot(wait="go", post="outer", level=1), Slot(post="inner", level=0)])
    program.fill(memory=Memory.ACT, value=1, run_bytes=1, row=0, slots=[Slot(post="once")])
    assert program.balance == {"go": 0, "outer": 2, "inner": 6, "once": 1}
    with ModelDevice(TINY) as device:
        device.write(0, program.encode())
        device.run(0, len(program))
        assert device.model.state.semaphores[:4] == [0, 2, 6, 1]


def test_parameter_registers_shift_addresses_and_replace_counts():
    records = [param_set(register=1, value=16),
               encode(Opcode.CONTROL, operation=ControlOp.PARAM_ADD, register=1, value=-8),
               encode(Opcode.STORE, memory_base=4096, address_param=1, count_param=2,
                      memory_jumps=[2])]
    config = TINY.updated({"control": {"params": 4}})
    with ModelDevice(config, memory_bytes=8192) as device:
        device.model.state.act[0, 0] = 7
        device.write(0, b"".join(records))
        device.run(0, 3, params={2: 3})
        assert device.read(4096, 16).tolist() == [0] * 8 + [7, 0, 7, 0, 7, 0, 0, 0]
        with pytest.raises(CoreError) as caught:
            device.run(0, 3, params={2: 0x10000})
    assert (caught.value.code, caught.value.index) == (ErrorCode.ZERO_COUNT, 2)


def test_an_interrupt_command_sets_the_flag():
    device = run(encode(Opcode.CONTROL, operation=ControlOp.INTERRUPT))
    assert device.model.interrupt
    assert not run(LOAD).model.interrupt


def test_a_race_shows_in_a_shuffled_order():
    racing = [encode(Opcode.STORE, memory_base=4096), load(memory_base=4097, mode=1, fill=9)]
    results = set()
    for order in (None, *range(20)):
        results.add(run(*racing, order=order).read(4096, 1).item())
    assert results == {0, 9}
