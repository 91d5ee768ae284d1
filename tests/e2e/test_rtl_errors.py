"""What stops the core: which code, at which command, as the model says; and it goes on."""

import numpy as np
import pytest
from cores import CORES, rtl
from systolith import CoreError, ModelDevice, gemm
from systolith_hw.config import CoreConfig
from systolith_hw.isa import (
    COMMANDS,
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
)
from systolith_hw.registers import REGISTERS
from systolith_sim.random_programs import reset_midway

BYTES = 1 << 16
DATA = 1 << 15      # where commands here read and write
NAME = "3x5"        # has fewer semaphores, registers and loops than commands can name
SHARED = "4x4 shared"   # has one sequencer for all engines
ORDERS = (None, 1, 2)


@pytest.fixture(scope="module")
def devices():
    """Opened once for all tests of this file: each goes on where an error left it."""
    opened = {}

    def get(name):
        if name not in opened:
            opened[name] = rtl(name, memory_bytes=BYTES, max_cycles=100_000, latency=12,
                               jitter=30, backpressure=0.2, seed=5)
        return opened[name]

    yield get
    for device in opened.values():
        device.close()


def encode(opcode, **values):
    return COMMANDS[opcode].encode(values)


# Places apart from each other, so that commands may overlap.

def load(**values):
    return encode(Opcode.LOAD, **{"memory_base": DATA, **values})


def fill(**values):
    return load(mode=1, **values)


def store(**values):
    return encode(Opcode.STORE, **{"memory_base": DATA, "pad_base": 128, **values})


def execute(**values):
    return encode(Opcode.EXECUTE, **{"act_base": 24, **values})


def vector(**values):
    return encode(Opcode.VECTOR, **{"source_base": 24, "result_base": 20, **values})


def control(operation, **values):
    return encode(Opcode.CONTROL, operation=operation, **values)


def credit(register, value):
    return control(ControlOp.CREDIT, register=register, value=value)


def patched(record, byte, value):
    return record[:byte] + bytes([value]) + record[byte + 1:]


FENCE = control(ControlOp.FENCE)
ENGINES = {"load": load, "fill": fill, "execute": execute, "vector": vector, "store": store}


def waits(number, slot=0):
    return {f"wait{slot}": number, f"wait{slot}_valid": 1}


def raises(number, slot=0, **values):
    return {f"raise{slot}": number, f"raise{slot}_valid": 1, **values}


def run(device, records, **options):
    device.write(0, b"".join(records))
    device.run(0, len(records), **options)


def still_works(device):
    """The same device computes a product, and only its memory."""
    rng = np.random.default_rng(3)
    a, b = rng.integers(-128, 128, (9, 20), np.int8), rng.integers(-128, 128, (20, 7), np.int8)
    assert (gemm(a, b, device=device) == a.astype(np.int32) @ b).all()


def refused(device, code, index, records, *, model=True):
    """Model and Verilog stop at the same command for the same reason."""
    if model:
        for order in ORDERS:
            with pytest.raises(CoreError) as caught:
                run(ModelDevice(device.config, memory_bytes=BYTES, order=order), records)
            assert (caught.value.code, caught.value.index) == (code, index)
    for _ in range(2):
        with pytest.raises(CoreError) as caught:
            run(device, records)
        assert (caught.value.code, caught.value.index) == (code, index)
    still_works(device)


def bad_records(config: CoreConfig):
    """Commands that ``config`` refuses, by code and name."""
    control_, memory = config.control, config.memory
    act, wgt = config.act_row_bytes, config.wgt_row_pitch
    plain = load()
    bad = {
        ErrorCode.BAD_OPCODE: {"none": bytes(64), "unknown": patched(plain, 0, 6),
                               "all ones": b"\xff" * 64},
        ErrorCode.BAD_FIELD: {
            "reserved byte": patched(plain, 1, 1), "index": load(index=1),
            "reserved bit": patched(plain, 63, 1), "slot bit": patched(plain, 4, 0x20),
            "memory": patched(plain, 60, 4), "mode": patched(plain, 62, 2),
            "store of weights": store(memory=Memory.WGT),
            "store of parameters": store(memory=Memory.PAR), "format": execute(format=3),
            "k_last 0": execute(k_last=0), "k_last": execute(k_last=config.array.rows + 1),
            "source": vector(source_type=7), "second operand": vector(second=4),
            "stream": vector(stream_type=ElementType.ACC), "result": vector(result_type=7),
            "function": vector(function=7), "scale": vector(scale=3),
            "reduction": vector(reduce=3), "tail": vector(tail=config.vector.lanes + 1),
            "segments": vector(function_shift=24),
            "product after the scale": vector(function=Function.PRODUCT),
            "channel before the scale": vector(function=Function.CHANNEL, function_first=1),
            "fold of nothing": vector(fold=1),
            "sum of values": vector(result_type=ResultType.ROW_VALUE, sum_results=1),
            "scale by itself": vector(result_type=ResultType.ROW_SCALE),
            "root after the scale": vector(result_type=ResultType.ROW_ROOT, scale=Scale.UNIT,
                                           function=Function.LINEAR),
            "execute level": execute(level0=1),
            "execute level 0": execute(level1=0, **raises(1, 1)),
            "load level": load(level1=control_.load_loops),
            "store level": store(level0=14), "vector level": vector(level0=control_.vector_loops),
            "count slot": load(count_level=6), "control operation": patched(FENCE, 16, 5),
            "control wait": patched(FENCE, 4, 0x80), "control raise": patched(FENCE, 7, 0x81),
            "control level": patched(FENCE, 2, 0xf0),
            "register 0": control(ControlOp.PARAM_SET, register=0),
            "register": control(ControlOp.PARAM_ADD, register=control_.params),
            "no raises": credit(1, 0), "too many raises": credit(1, 16),
            "negative raises": credit(1, -1), "credited": credit(control_.semaphores, 1)},
        ErrorCode.ZERO_COUNT: {
            "load": load(counts=[0]), "unused loop": load(counts=[1, 1, 0]),
            "run": load(run_bytes=0), "row": load(row_bytes=0), "store": store(counts=[0]),
            "store run": store(run_bytes=0), "execute": execute(counts=[1, 1, 0]),
            "last execute loop": execute(counts=[1, 1, 1, 1, 1, 0]),
            "vector": vector(counts=[0])},
        ErrorCode.MEMORY_ADDRESS: {
            "load": load(memory_base=BYTES), "last byte": load(memory_base=BYTES - 2, run_bytes=3),
            "far": load(memory_base=0xffffffff, run_bytes=2),
            "below": load(counts=[2], memory_jumps=[-DATA - 1]),
            "store": store(memory_base=BYTES), "second run": store(counts=[2],
                                                                   memory_jumps=[DATA])},
        ErrorCode.SCRATCHPAD_ADDRESS: {
            "row": load(pad_base=act * memory.act_rows),
            "last row": fill(run_bytes=2, pad_base=act * (memory.act_rows - 1)),
            "byte of a row": load(pad_base=act - 1, row_bytes=2, run_bytes=2),
            "below": load(run_bytes=2, row_step=-1),
            "second run": load(counts=[2], pad_jumps=[act * memory.act_rows]),
            "negative run": load(counts=[2], pad_jumps=[-act]),
            "weights": load(memory=Memory.WGT, pad_base=wgt * memory.wgt_rows),
            "parameters": load(memory=Memory.PAR, pad_base=config.par_row_pitch * memory.par_rows),
            "byte of a parameter row": load(memory=Memory.PAR, pad_base=config.par_row_bytes - 1,
                                            row_bytes=2, run_bytes=2),
            "result below": vector(counts=[1, 2], result_jumps=[-21]),
            "source beyond": vector(counts=[1, 2], source_jumps=[config.acc_groups]),
            "activations": execute(act_base=memory.act_rows),
            "activations beyond 16 bits": execute(act_base=1 << 16),
            "second activation": execute(counts=[2], act_jumps=[memory.act_rows],
                                         acc_jumps=[1]),
            "accumulator": execute(acc_base=memory.acc_rows),
            "accumulator below": execute(counts=[2], acc_jumps=[-1]),
            "weight rows": execute(wgt_base=memory.wgt_rows),
            "last weight row": execute(k_last=2, wgt_base=memory.wgt_rows - 1),
            "source": vector(source_base=config.acc_groups),
            "source beyond 16 bits": vector(source_base=1 << 16),
            "result": vector(result_base=config.act_groups),
            "parameter row": vector(param_base=memory.par_rows),
            "last int32 result": vector(result_type=ResultType.INT32, counts=[2],
                                        result_base=config.act_groups - 4),
            "functions": load(memory=Memory.FUN,
                              pad_base=2 * config.fun_row_bytes * config.vector.functions),
            "source of int8": vector(source_type=ElementType.INT8, source_base=config.act_groups),
            "last source of int16": vector(source_type=ElementType.INT16, counts=[2],
                                           source_step=2, source_base=config.act_groups - 2),
            "source of int8 beyond 16 bits": vector(source_type=ElementType.INT8,
                                                    source_base=1 << 16),
            "stream": vector(second=Operand.STREAM, stream_base=config.act_groups),
            "mask below": vector(masked=1, counts=[1, 2], stream_jumps=[-1]),
            "factor": vector(function=Function.PRODUCT, function_first=1,
                             stream_base=config.act_groups),
            "source from records": vector(source_type=ElementType.ROW_SUM, counts=[1, 2],
                                          row_base=255),
            "row of the second operand": vector(second=Operand.ROW, counts=[1, 3], row_base=254),
            "reduced row": vector(reduce=Reduction.SUM, counts=[2, 1, 2], row_base=255),
            "value in records": vector(result_type=ResultType.ROW_VALUE,
                                       result_base=config.vector.rows),
            "scale in records": vector(result_type=ResultType.ROW_SCALE, scale=Scale.UNIT,
                                       function=Function.LINEAR, function_first=1,
                                       result_base=config.vector.rows),
            "parameters of loop 2": vector(counts=[2, 1, 2], param_base=memory.par_rows - 2),
            "table": vector(function=Function.TABLE, function_base=5),
            "channel": vector(function=Function.CHANNEL, function_base=7, counts=[65]),
            "store": store(pad_base=act * memory.act_rows),
            "store below": store(run_bytes=2, row_step=-1, pad_base=0)},
    }
    fields = bad[ErrorCode.BAD_FIELD]
    if control_.semaphores < 32:
        fields["wait"] = load(**waits(control_.semaphores))
        fields["raise"] = vector(**raises(31, 1))
    if control_.params < 16:
        fields["address register"] = execute(address_param=control_.params)
        fields["count register"] = load(count_param=15)
    for opcode, loops, count in ((Opcode.LOAD, control_.load_loops, 3),
                                 (Opcode.STORE, control_.load_loops, 3),
                                 (Opcode.EXECUTE, control_.execute_loops, 6),
                                 (Opcode.VECTOR, control_.vector_loops, 4)):
        if loops < count:
            fields[f"loop of {opcode.name}"] = encode(opcode, counts=[1] * loops + [2])
    if control_.compact:
        fields["count of 4096"] = load(counts=[4096])
        fields["vector count of 4096"] = vector(counts=[1, 4096])
        large = [memory.act_rows.bit_length(), memory.wgt_rows.bit_length(),
                 memory.acc_rows.bit_length()]
        bad[ErrorCode.SCRATCHPAD_ADDRESS] |= {
            "parameter row far beyond": vector(param_base=4 * memory.par_rows),
            "ring of a load": load(ring=large[:1]), "ring of a store": store(ring=large[:1]),
            "ring of activations": execute(ring=large[:1]),
            "ring of weights": execute(ring=[0, large[1]]),
            "ring of sums": execute(ring=[0, 0, large[2]])}
    if min(4, act // config.vector.lanes) > 1:
        bad[ErrorCode.SCRATCHPAD_ADDRESS] |= {
            "unaligned int32": vector(result_type=ResultType.INT32, result_base=1),
            "unaligned source": vector(source_type=ElementType.INT16, source_base=1),
            "unaligned stream": vector(second=Operand.STREAM, stream_type=ElementType.INT16,
                                       stream_base=3)}
    return bad


CASES = [(name, code, what) for name in (NAME, "demo")
         for code, records in bad_records(CORES[name]).items() for what in records
         if name == NAME or code == ErrorCode.SCRATCHPAD_ADDRESS]
COMPACT = ("16x1", SHARED)  # walk no wider than their memories
CASES += [(name, code, what) for name in COMPACT
          for code, records in bad_records(CORES[name]).items() for what in records
          if code == ErrorCode.MEMORY_ADDRESS
          or what.startswith(("ring of", "count of", "store", "parameter"))]


@pytest.mark.parametrize("name, code, what", CASES)
def test_a_bad_command_stops_the_core(devices, name, code, what):
    record = bad_records(CORES[name])[code][what]
    refused(devices(name), code, 2, [load(), FENCE, record, load()])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_plain_commands_run(devices, name, engine):
    run(devices(name), [ENGINES[engine]()])


def test_a_count_from_a_register_may_not_be_zero(devices):
    device = devices(NAME)
    for value, code in ((0x10000, ErrorCode.ZERO_COUNT), (1, None)):
        records = [control(ControlOp.PARAM_SET, register=2, value=value),
                   load(count_param=2, counts=[0])]
        if code is None:
            run(device, records)
        else:
            refused(device, code, 1, records)


def test_a_register_may_not_move_an_address_out_of_the_window(devices):
    refused(devices(NAME), ErrorCode.MEMORY_ADDRESS, 1, [
        control(ControlOp.PARAM_SET, register=1, value=DATA), store(address_param=1)])


@pytest.mark.parametrize("commands, index", [(3, 2), (2, 2)])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_a_program_that_leaves_the_window_stops_there(devices, name, commands, index):
    device = devices(name)
    address = BYTES - 64 * index
    for each in (ModelDevice(device.config, memory_bytes=BYTES), device):
        each.write(address, load() * index)
        if commands == index:
            each.run(address, commands)
            continue
        with pytest.raises(CoreError) as caught:
            each.run(address, commands)
        assert (caught.value.code, caught.value.index) == (ErrorCode.MEMORY_ADDRESS, index)
    still_works(device)


# The bus

@pytest.mark.parametrize("first, count, index", [
    (DATA, 1, 1), (DATA + 300, 4, 1), (DATA + 1000, 100, 2)])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_a_read_that_is_answered_with_an_error(devices, name, first, count, index):
    device = devices(name)
    records = [fill(), load(run_bytes=4, row_bytes=4, counts=[100], memory_jumps=[4]),
               load(run_bytes=4, row_bytes=4, memory_base=DATA + 1000), store()]
    device.inject_errors(first, count)
    try:
        with pytest.raises(CoreError) as caught:
            run(device, records)
    finally:
        device.inject_errors(0, 0)
    assert (caught.value.code, caught.value.index) == (ErrorCode.READ_RESPONSE, index)
    still_works(device)


@pytest.mark.parametrize("first, index", [(DATA, 1), (DATA + 128, 1), (DATA + 1000, 2)])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_a_write_that_is_answered_with_an_error(devices, name, first, index):
    device = devices(name)
    records = [fill(run_bytes=4), store(run_bytes=4, row_bytes=4, counts=[40], memory_jumps=[4]),
               store(run_bytes=4, row_bytes=4, memory_base=DATA + 1000), FENCE, load()]
    device.inject_errors(first, 4)
    try:
        with pytest.raises(CoreError) as caught:
            run(device, records)
    finally:
        device.inject_errors(0, 0)
    assert (caught.value.code, caught.value.index) == (ErrorCode.WRITE_RESPONSE, index)
    still_works(device)


@pytest.mark.parametrize("index, byte", [(0, 0), (0, 60), (3, 0), (3, 32), (5, 60)])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_a_command_that_is_answered_with_an_error(devices, name, index, byte):
    device = devices(name)
    device.inject_errors(64 * index + byte, 4)
    try:
        with pytest.raises(CoreError) as caught:
            run(device, [load(), FENCE, fill(), control(ControlOp.INTERRUPT), store(), load()])
    finally:
        device.inject_errors(0, 0)
    assert (caught.value.code, caught.value.index) == (ErrorCode.READ_RESPONSE, index)
    still_works(device)


# Semaphores

@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("after", ["nothing", "a fence", "more commands", "a full queue"])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_waiting_for_what_never_comes(devices, name, engine, after):
    records = {"nothing": [], "a fence": [FENCE, load()], "more commands": [load(), store()],
               "a full queue": [ENGINES[engine]()] * 4}[after]
    refused(devices(name), ErrorCode.DEADLOCK, 1,
            [fill(run_bytes=4), ENGINES[engine](**waits(3)), *records])


@pytest.mark.parametrize("level, count", [(0, 3), (1, 2)])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_waiting_once_too_often(devices, name, level, count):
    refused(devices(name), ErrorCode.DEADLOCK, 1, [
        credit(3, count - 1), load(counts=[3, 2][level:] if level == 0 else [3, count],
                                   level0=level, **waits(3))])


@pytest.mark.parametrize("first, second", [
    ("load", "execute"), ("execute", "vector"), ("vector", "store"), ("store", "load")])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_two_engines_that_wait_for_each_other(devices, name, first, second):
    refused(devices(name), ErrorCode.DEADLOCK, 1, [
        fill(run_bytes=4), ENGINES[first](**waits(1), **raises(2, 1)),
        ENGINES[second](**waits(2), **raises(1, 1))])


@pytest.mark.parametrize("name", [NAME, SHARED])
def test_the_earliest_of_several_that_wait_is_named(devices, name):
    refused(devices(name), ErrorCode.DEADLOCK, 1, [
        load(), store(**waits(1)), vector(**waits(2)), execute(**waits(3)), load(**waits(4))])


@pytest.mark.parametrize("name", [NAME, SHARED])
def test_a_queue_that_is_full_keeps_back_who_would_raise(devices, name):
    device = devices(name)
    depth = device.config.control.queue_depth
    waiting, raising = load(**waits(1)), store(**raises(1))
    run(device, [waiting, *[load()] * depth, raising])
    refused(device, ErrorCode.DEADLOCK, 0, [waiting, *[load()] * (depth + 1), raising])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_an_engine_may_not_raise_a_semaphore_beyond_15(devices, name, engine):
    command = ENGINES[engine](**raises(3))
    run(devices(name), [credit(3, 14), command, FENCE])
    refused(devices(name), ErrorCode.SEMAPHORE_OVERFLOW, 2, [credit(3, 14), command, command])


@pytest.mark.parametrize("counts, level", [([16], 0), ([2, 16], 1)])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_a_loop_may_not_raise_a_semaphore_beyond_15(devices, name, counts, level):
    refused(devices(name), ErrorCode.SEMAPHORE_OVERFLOW, 1, [
        load(), fill(counts=counts, **raises(3, level0=level))])


@pytest.mark.parametrize("name", [NAME, SHARED])
def test_tiles_may_not_raise_a_semaphore_beyond_15(devices, name):
    refused(devices(name), ErrorCode.SEMAPHORE_OVERFLOW, 0, [
        execute(counts=[1, 1, 4, 4], ring=[0, 5], **raises(3, level0=2))])


@pytest.mark.parametrize("name", [NAME, SHARED])
def test_credits_may_not_raise_a_semaphore_beyond_15(devices, name):
    run(devices(name), [credit(3, 14), credit(3, 1)])
    refused(devices(name), ErrorCode.SEMAPHORE_OVERFLOW, 1, [credit(3, 14), credit(3, 2)])


# Reset, registers, interrupt

@pytest.mark.parametrize("cycles", [1, 2, 3, 5, 8, 13, 40, 77, 120, 200, 301, 350, 444, 600])
@pytest.mark.parametrize("name", [NAME, SHARED])
def test_a_reset_in_the_midst_of_a_program(devices, name, cycles):
    device = devices(name)
    records = [credit(0, 15), load(run_bytes=100, row_bytes=4, counts=[30, 2], level0=1,
                                   **waits(0)),
               store(run_bytes=100, row_bytes=4, counts=[40, 2], memory_jumps=[100, -3000],
                     pad_base=112),
               execute(counts=[5, 1, 1, 3], acc_jumps=[1, -4, -4, -4], act_base=60),
               vector(counts=[2], result_base=54),
               execute(**waits(7)), store(**waits(6))]
    device.write(0, b"".join(records))
    assert reset_midway(device, 0, len(records), cycles=cycles)
    assert not device.status()
    still_works(device)


@pytest.mark.parametrize("name", [NAME, SHARED])
def test_a_reset_after_an_error_and_one_of_an_idle_core(devices, name):
    device = devices(name)
    for records in ([bytes(64)], [load(**waits(1))], []):
        device.write(0, b"".join(records))
        reset_midway(device, 0, len(records), cycles=400)
        still_works(device)


@pytest.mark.parametrize("register", [1, 2, 3])
def test_registers_move_addresses_and_replace_counts(devices, register):
    other = register % 3 + 1
    records = [
        fill(run_bytes=4, row_bytes=4, counts=[8], pad_jumps=[4], fill=-3),
        load(run_bytes=4, row_bytes=4, memory_base=DATA, pad_base=8), FENCE,
        control(ControlOp.PARAM_SET, register=register, value=-16),
        control(ControlOp.PARAM_ADD, register=register, value=24),
        store(address_param=register, count_param=other, run_bytes=4, row_bytes=4, pad_base=0,
              memory_jumps=[5], pad_jumps=[4], memory_base=DATA + 100),
        store(address_param=register, count_param=other, count_level=3, run_bytes=999, row_bytes=4,
              pad_base=0, memory_base=DATA + 200)]
    results = []
    for device in (ModelDevice(CORES[NAME], memory_bytes=BYTES), devices(NAME)):
        device.write(0, bytes(BYTES))
        device.write(DATA, bytes(range(1, 5)))
        for params in ({other: 3}, {other: 0x70005}):
            run(device, records, params=params)
            results.append(device.read(DATA, 300).tobytes())
            assert device.read(DATA + 108, 14).tobytes() == (
                b"\xfd\xfd\xfd\xfd\0" * 2 + b"\1\2\3\4")
    assert results[:2] == results[2:]
    still_works(devices(NAME))


def test_an_interrupt_command_raises_the_line(devices):
    device = devices(NAME)
    records = [control(ControlOp.INTERRUPT), FENCE, load(counts=[300])]
    model = ModelDevice(CORES[NAME], memory_bytes=BYTES)
    run(model, records)
    assert model.model.interrupt
    device.write(0, b"".join(records))
    events = REGISTERS["interrupt_enable"].bits
    device.write_register("interrupt_enable", 1 << events.index("command"))
    device.start(0, len(records))
    assert device.harness.run(1000)
    assert device.status() == {"busy", "interrupt"}
    device.act("clear_interrupt")
    assert device.status() == {"busy"}
    assert not device.harness.run(20_000)   # done does not raise it unless enabled
    assert device.status() == {"done", "interrupt"}
    device.act("clear_interrupt")
    assert device.status() == {"done"}
    device.reset()
    run(device, records)    # the device does not enable it
    still_works(device)
