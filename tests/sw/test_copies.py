"""Copies of the model that run one program side by side do what each would alone."""

import numpy as np
import pytest
from configurations import core
from systolith import ModelDevice, Program
from systolith.compiler.compile import compile_model
from systolith.image import COPIES
from systolith.model.state import CopiesDiffer
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Memory
from systolith_sim.random_programs import draw_case, random_config
from systolith_sim.random_programs.run import WINDOW_BYTES, expected
from test_compile import chain

COUNT = 3
CONFIGS = {"demo": CoreConfig.preset("demo"), **{f"random {i}": random_config(i) for i in range(5)}}


def device_of(config, before, seed, copies):
    """Cores with memory ``before``; the contents of other memories are random, and those of a
    copy's own depend on the copy."""
    device = ModelDevice(config, memory_bytes=WINDOW_BYTES, copies=len(copies))
    state = device.model.state
    rng = np.random.default_rng(seed)
    for pad in (Memory.WGT, Memory.FUN):
        if pad in state.pads:
            array = state.pads[pad].data
            array[...] = rng.integers(0, 256, array.shape, np.uint8)
    for number, copy in enumerate(copies):
        own = np.random.default_rng([seed, copy])
        state.acts[number] = own.integers(-128, 128, state.act.shape)
        state.accs[number, :, :config.array.cols] = own.integers(
            -2**31, 2**31, (len(state.acc), config.array.cols)) >> own.integers(0, 32)
        for name in ("value", "sum", "multiplier"):
            state.records[name][number] = own.integers(0, 2**31, len(state.rows))
    device.write(0, before)
    return device


@pytest.mark.parametrize("name", CONFIGS)
def test_random_programs_do_in_each_copy_what_they_do_alone(name):
    config, compared = CONFIGS[name], 0
    for seed in range(25):
        given = expected(draw_case(config, seed))
        run = {"program_address": given.run.address, "commands": given.run.commands,
               "params": given.run.params}
        together = device_of(config, given.before, seed, range(COUNT))
        try:
            together.run(**run)
        except CopiesDiffer:    # what a copy stored is loaded as weights
            continue
        state = together.model.state
        for copy in range(COUNT):
            single = device_of(config, given.before, seed, [copy])
            single.run(**run)
            alone = single.model.state
            for found, wanted in ((state.acts[copy], alone.act), (state.accs[copy], alone.acc),
                                  (state.records[copy], alone.rows),
                                  (together.memories[copy], single.memory)):
                assert np.array_equal(found, wanted), f"seed {seed}, copy {copy}"
            assert together.counters() == single.counters()
        compared += 1
    print(f"{compared} programs compared")
    assert compared >= 10


def test_weights_that_differ_are_refused():
    config = CoreConfig.preset("demo")
    program = Program(config=config)
    program.load(memory=Memory.WGT, address=0, row=0, run_bytes=8)
    device = ModelDevice(config, memory_bytes=4096, copies=2)
    device.write(1024, program.encode())
    device.run(1024, len(program))
    device.memories[1, 7] += 1
    with pytest.raises(CopiesDiffer):
        device.run(1024, len(program))


@pytest.mark.parametrize("count", [2, COPIES + 3])
def test_runs_of_a_network_are_those_of_one_at_a_time(count):
    config = core(8, 8, 2)
    network = compile_model(chain(np.random.default_rng(3)), config=config)
    rng = np.random.default_rng(count)
    x = rng.integers(-128, 128, (count, *network.inputs[0].shape[1:])).astype(np.int8)
    device = ModelDevice(config, memory_bytes=network.memory_bytes)
    ends = []
    found, = network.run(device, x, each=lambda: ends.append(device.counters()["rows"]))
    alone = ModelDevice(config, memory_bytes=network.memory_bytes)
    wanted = [network.run(alone, one[None])[0] for one in x]
    assert np.array_equal(found, np.concatenate(wanted))
    assert ends == [alone.counters()["rows"]] * count
