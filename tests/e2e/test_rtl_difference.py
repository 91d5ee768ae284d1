"""Where the emitted Verilog differs from the model first, with and without a bug in it."""

import numpy as np
import pytest
import systolith
from networks import residual
from systolith.device import ModelDevice
from systolith.difference import _Pair, _Program, first_difference, memory_for
from systolith.program import decode_program
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Opcode, Scale
from systolith_sim.device import RtlDevice, core_verilog

DEMO = CoreConfig.preset("demo")


@pytest.fixture(scope="module")
def network():
    return systolith.compile(residual(5), config=DEMO)


@pytest.fixture
def x(network):
    return np.random.default_rng(6).integers(-128, 128, network.inputs[0].shape).astype(np.int8)


def test_every_stretch_leaves_the_same_in_all_memories(network, x):
    image, = network.images
    size = memory_for(network)
    with RtlDevice(DEMO, memory_bytes=size, assertions=False) as rtl:
        devices = [ModelDevice(DEMO, memory_bytes=size), rtl]
        assert first_difference(network, devices, [np.concatenate([x, x // 2])]) is None
        pair, program = _Pair(image, devices, [x]), _Program(image, DEMO)
        windows = list(program.windows())
        pair._prepare()
        assert [pair._observe(program, window) for window in windows] == [None] * len(windows)
        assert len(windows) > 3 and windows[-1].end == image.setup_commands + image.commands
        assert np.array_equal(pair.outputs()[0], network(x, integers=True))


@pytest.mark.full     # builds a core of its own
def test_a_planted_wrong_rounding_is_found_in_the_first_command_that_rounds(network, x):
    text = core_verilog(DEMO, assertions=False)
    planted = text.replace("right_6 & shifted_7[0]", "1'h0")      # floor in place of rounding
    assert planted != text
    size = memory_for(network)
    with RtlDevice(DEMO, memory_bytes=size, verilog=planted) as rtl:
        found = first_difference(network, [ModelDevice(DEMO, memory_bytes=size), rtl], [x])
    assert found is not None
    commands = decode_program(network.images[0].program)
    first = next(number for number, (opcode, fields) in enumerate(commands)
                 if opcode == Opcode.VECTOR and fields["scale"] == Scale.CHANNEL)
    assert (found.command, found.memory, found.overlapping) == (first, "act", False)
    assert found.values[0] - found.values[1] == 1
    assert 0 < found.differing <= found.written
