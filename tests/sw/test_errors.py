"""Every error code, the command it names, and which programs may not run."""

import pytest
from systolith import CoreError, ModelDevice, Program, Slot
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ERROR_TEXT, ControlOp, ErrorCode, Memory, Opcode

TINY = CoreConfig.preset("tiny")


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
        "flags": load(flags=1), "index": load(index=1),
        "reserved bit": patched(LOAD, 63, 1), "slot bit": patched(LOAD, 4, 0x20),
        "vector modes": encode(Opcode.VECTOR, modes=1),
        "vector immediate": encode(Opcode.VECTOR, immediate=1),
        "vector shift": encode(Opcode.VECTOR, shift=1),
        "second source": encode(Opcode.VECTOR, second_base=1),
        "second jumps": encode(Opcode.VECTOR, second_jumps=[0, 0, 1]),
        "memory": patched(LOAD, 60, 3), "mode": patched(LOAD, 62, 2),
        "store of weights": encode(Opcode.STORE, memory_base=4096, memory=Memory.WGT),
        "format": encode(Opcode.EXECUTE, format=1),
        "k_last 0": encode(Opcode.EXECUTE, k_last=0),
        "k_last beyond the rows": encode(Opcode.EXECUTE, k_last=5),
        "operation": encode(Opcode.VECTOR, operation=1),
        "source": encode(Opcode.VECTOR, source_type=0),
        "result": encode(Opcode.VECTOR, result_type=1),
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
        "source": encode(Opcode.VECTOR, source_base=256 * 4),
        "result": encode(Opcode.VECTOR, result_base=2048),
        "parameter row": encode(Opcode.VECTOR, param_base=128),
        "unaligned int32": encode(Opcode.VECTOR, operation=1, result_type=2, result_base=2)},
}


@pytest.mark.parametrize("order", [None, 3])
@pytest.mark.parametrize("code, name", [(c, n) for c, records in BAD.items() for n in records])
def test_a_bad_command_stops_the_core(code, name, order):
    with pytest.raises(CoreError) as caught:
        run(LOAD, FENCE, BAD[code][name], LOAD, order=order)
    assert (caught.value.code, caught.value.index) == (code, 2)
    assert str(caught.value) == f"command 2: {ERROR_TEXT[code]}"


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
    with ModelDevice(TINY, memory_bytes=8192) as device:
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
