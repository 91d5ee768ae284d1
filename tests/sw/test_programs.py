"""Programs, their text, and the packing of weights and parameters."""

import random

import numpy as np
import pytest
from configurations import core
from systolith import Linear, Program, Slot, assemble, compile_layers, disassemble
from systolith.layout import pack_parameters, pack_weights, split_weights
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, ElementType, Function, Memory, Opcode, Operand, ResultType

DEMO = CoreConfig.preset("demo")


def test_strides_become_jumps():
    program = Program(config=DEMO)
    program.load(memory=Memory.WGT, address=0x1000, run_bytes=64, row=3, byte=2, row_bytes=8,
                 counts=[4, 3], strides=[100, 1000], row_strides=[8, 40], ring=5,
                 slots=[Slot(wait="a"), Slot(post="b", level=1)])
    fields = COMMANDS[Opcode.LOAD].decode(program.encode())
    assert fields["memory_jumps"] == (100, 1000 - 300, 0)
    assert fields["pad_base"] == 3 * 8 + 2
    assert fields["pad_jumps"] == (64, 320 - 3 * 64, 0)
    assert fields["ring"] == (5, 0, 0, 0)
    assert (fields["wait0"], fields["wait0_valid"], fields["level0"]) == (0, 1, 15)
    assert (fields["raise1"], fields["raise1_valid"], fields["level1"]) == (1, 1, 1)
    assert (fields["wait1_valid"], fields["raise0_valid"]) == (0, 0)
    assert program.balance == {"a": -1, "b": 3}


def test_strides_of_vector_commands_count_lane_groups():
    program = Program(config=DEMO)
    program.vector(counts=[3, 4, 2], source=7, source_step=2, source_strides=[10, 100], stream=8,
                   stream_type=ElementType.INT16, stream_strides=[6, 0], result=9,
                   result_type=ResultType.INT32, result_strides=[12, 40], rings=(0, 4, 9))
    fields = COMMANDS[Opcode.VECTOR].decode(program.encode())
    assert [fields[f"{name}_base"] for name in ("source", "stream", "result")] == [7, 8, 9]
    assert fields["source_jumps"] == (10 - 2 * 2, 100 - 2 * 2 - 3 * 10, 0)
    assert fields["stream_jumps"] == (6 - 2 * 2, -2 * 2 - 3 * 6 + 16, 0)    # in a ring of 16
    assert fields["result_jumps"] == (12 - 2 * 4, 40 - 2 * 4 - 3 * 12, 0)
    assert fields["ring"] == (0, 4, 9, 0)
    assert (fields["source_type"], fields["second"]) == (ElementType.ACC, Operand.CHANNEL)
    assert (fields["clamp_low"], fields["clamp_high"]) == (-128, 127)


def test_a_stream_that_loop_0_does_not_advance_begins_each_row_where_it_was():
    program = Program(config=DEMO)
    program.vector(counts=[3, 4], stream_step=0, stream_strides=[2], result_step=0,
                   result_strides=[1])
    fields = COMMANDS[Opcode.VECTOR].decode(program.encode())
    assert (fields["stream_jumps"][0], fields["result_jumps"][0]) == (2, 1)


def test_function_tables_are_loaded_row_by_row():
    program = Program(config=DEMO)
    program.load(memory=Memory.FUN, address=0, run_bytes=64, row=3, row_bytes=16, counts=[2],
                 row_strides=[64])
    fields = COMMANDS[Opcode.LOAD].decode(program.encode())
    assert (fields["pad_base"], fields["pad_jumps"][0]) == (3 * 16, 64 * 16)


def test_a_program_knows_its_limits():
    program = Program(config=core(4, 4, control={"semaphores": 4}))
    for name in "abcd":
        program.credit(name, 1)
    with pytest.raises(ValueError) as caught:
        program.credit("e", 1)
    assert str(caught.value) == "control.semaphores must be at least 5 for this program, not 4"
    with pytest.raises(ValueError) as caught:
        program.fill(memory=Memory.ACT, value=0, run_bytes=1, row=0, slots=[Slot()] * 3)
    assert str(caught.value).startswith("slots must be at most 2, not ")
    with pytest.raises(ValueError) as caught:
        program.fill(memory=Memory.ACT, value=0, run_bytes=1, row=0, counts=[2],
                     slots=[Slot(wait="a", level=0), Slot(wait="a")])
    assert str(caught.value).startswith(
        "slots must wait for one semaphore at one level only, not ")
    with pytest.raises(ValueError) as caught:
        program.fill(memory=Memory.ACT, value=0, run_bytes=70000, row=0)
    assert str(caught.value) == "run_bytes must be from 0 to 65535, not 70000"
    with pytest.raises(TypeError) as caught:
        Program(config="demo")  # type: ignore[arg-type]
    assert str(caught.value) == "config must be a CoreConfig, not 'demo'"


def test_text_is_short_and_named():
    program = Program(config=DEMO)
    program.load(memory=Memory.WGT, address=0x1000, run_bytes=64, row=0, row_bytes=8,
                 slots=[Slot(wait="a", level=0)])
    program.vector(counts=[1, 1], source=0, source_strides=[1], result=0, result_strides=[4],
                   result_type=ResultType.INT32, function=Function.TABLE, stream_step=0)
    text = disassemble(program.encode())
    assert text == ("load level0=0 wait0=0 run_bytes=64 row_bytes=8 memory_base=0x1000 memory=wgt\n"
                    "vector result_type=int32 function=table stream_step=0 source_jumps=1 "
                    "result_jumps=4\n")
    assert assemble(text) == program.encode()


def test_random_records_survive_the_text():
    choice = random.Random(1)
    records = []
    for _ in range(300):
        command = COMMANDS[choice.choice(list(Opcode))]
        values = {}
        for field in command.fields:
            if field.name != "opcode" and choice.random() < 0.5:
                entries = [choice.randint(field.low, field.high) for _ in range(field.count)]
                values[field.name] = entries if field.count > 1 else entries[0]
        records.append(command.encode(values))
        records.append(choice.randbytes(64))
    raw = b"".join(records)
    assert assemble(disassemble(raw)) == raw


def test_a_whole_compiled_program_survives_the_text():
    program = compile_layers([Linear(weights=np.ones((100, 30), np.int8))], config=DEMO,
                             rows=20).program
    text = disassemble(program)
    assert assemble(text) == program
    assert "raw" not in text


def test_comments_and_blank_lines_are_nothing():
    assert assemble("# nothing\n\n  fence # neither\n".replace("fence", "control operation=fence")
                    ) == COMMANDS[Opcode.CONTROL].encode({"operation": 2})
    assert assemble("load wait0=3 wait0_valid=0") == COMMANDS[Opcode.LOAD].encode({"wait0": 3})


@pytest.mark.parametrize("line, text", [
    ("laod", "command must be one of load, execute, vector, store, control, raw, not 'laod'"),
    ("load 3", "field must be written name=value, not '3'"),
    ("load opcode=1", "opcode must be given by the command's name, not 'opcode=1'"),
    ("load fill=1 fill=2", "fill must be given once, not again as '2'"),
    ("load fill=200", "fill must be from -128 to 127, not 200"),
    ("load fill=x", "fill must be a number, not 'x'"),
    ("load memory=acc", "memory must be one of act, wgt, par, fun, or a number, not 'acc'"),
    ("load counts=1,2,3,4", "counts must have at most 3 values, not [1, 2, 3, 4]"),
    ("raw 00", "raw must be followed by 128 hexadecimal digits, not '00'"),
])
def test_mistakes_in_text_name_line_and_rule(line, text):
    with pytest.raises(ValueError) as caught:
        assemble(f"load\n{line}\n")
    assert str(caught.value) == f"line 2: {text}"


def test_unknown_fields_and_odd_lengths_are_refused():
    with pytest.raises(ValueError) as caught:
        assemble("store colour=1")
    assert str(caught.value).startswith("line 1: field of store must be one of opcode, ")
    with pytest.raises(ValueError) as caught:
        disassemble(bytes(65))
    assert str(caught.value) == "length of records must be a multiple of 64, not 65"


def test_weights_lie_panel_by_panel():
    config = core(2, 3)
    weights = np.arange(20, dtype=np.int8).reshape(4, 5)
    packed = np.frombuffer(pack_weights([weights], config=config, padded_rows=6), np.int8)
    assert packed[:18].reshape(6, 3).tolist() == [*weights[:, :3].tolist(), [0] * 3, [0] * 3]
    assert packed[18:].reshape(6, 2).tolist() == [*weights[:, 3:].tolist(), [0] * 2, [0] * 2]


def test_nine_bit_weights_split_into_summands():
    wide = np.array([[-255, 255, 0], [-129, 128, 7]], np.int16)
    parts = split_weights(wide)
    assert len(parts) == 3 and all(part.dtype == np.int8 for part in parts)
    assert np.array_equal(sum(part.astype(int) for part in parts), wide)
    assert len(split_weights(np.array([[-128, 127]]))) == 1


def test_parameters_are_padded_to_lane_groups():
    config = core(3, 3, 2)
    packed = pack_parameters(np.array([1, -2, 3, 4]), np.array([5, 6, 7, 8]),
                             np.array([-1, 2, 3, 4]), config=config)
    records = [packed[i:i + 12] for i in range(0, len(packed), 12)]
    assert len(records) == 2 * 4
    assert records[1] == (-2).to_bytes(4, "little", signed=True) + bytes([6, 0, 0, 0, 2, 0, 0, 0])
    assert records[3] == bytes(12)
    assert records[4] == bytes([4, 0, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0])
