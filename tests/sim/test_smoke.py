"""The emitted core end to end: the device, and the plain-Verilog bench that users get."""

import random

import pytest
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMANDS, Opcode
from systolith_hw.smoke import smoke_files
from systolith_sim import build
from systolith_sim.device import RtlDevice, core_verilog
from systolith_sim.smoke import SmokeError, run_smoke

SOURCE, TARGET, COUNT = 1024, 8192 - 32, 64


@pytest.fixture(scope="module")
def config():
    return CoreConfig.preset("tiny").updated({"control": {"traffic": True}})


@pytest.fixture(scope="module")
def verilog(config):
    return core_verilog(config, assertions=False)


@pytest.fixture(scope="module")
def image():
    """A program that copies bytes through the activation scratchpad, and the bytes."""
    transfer = {"run_bytes": COUNT, "row_bytes": 4}
    program = (COMMANDS[Opcode.LOAD].encode({**transfer, "memory_base": SOURCE,
                                             "raise0_valid": 1, "raise0": 2})
               + COMMANDS[Opcode.STORE].encode({**transfer, "memory_base": TARGET,
                                                "wait0_valid": 1, "wait0": 2}))
    return program.ljust(SOURCE, b"\0") + random.Random(0).randbytes(COUNT)


def bench_files(config, verilog, image, expected):
    return smoke_files(config, verilog, image=image, program_address=0, commands=2,
                       expected=expected, expected_address=TARGET, max_cycles=5000)


def test_the_core_passes_the_lint(config, verilog):
    build.lint(verilog, name=config.name)


@pytest.mark.parametrize("options", [
    {}, {"assertions": True, "backpressure": 0.5, "jitter": 30, "seed": 5}])
def test_the_core_runs_a_program_on_the_device(config, image, options):
    with RtlDevice(config, **options) as device:
        device.write(0, image)
        for _ in range(3):
            device.run(0, 2)
            assert bytes(device.read(TARGET, COUNT)) == image[SOURCE:]
            device.write(TARGET, bytes(COUNT))
        assert device.counters()["load_words"] == 16
        assert device.harness.counts()["fetch_words"] == 3 * device.counters()["fetch_words"]


def test_the_smoke_bench_passes(config, verilog, image):
    output = run_smoke(verilog, bench_files(config, verilog, image, image[SOURCE:]))
    assert output.startswith("PASS: tiny, ")


def test_the_smoke_bench_fails_where_memory_differs(config, verilog, image):
    wrong = bytes([image[SOURCE] ^ 1]) + image[SOURCE + 1:]
    with pytest.raises(SmokeError, match="FAIL: tiny, 1 errors"):
        run_smoke(verilog, bench_files(config, verilog, image, wrong))


def test_the_smoke_bench_fails_where_the_program_does(config, verilog, image):
    with pytest.raises(SmokeError, match="the core must be done, not stop with error 1"):
        run_smoke(verilog, bench_files(config, verilog, bytes(64) + image[64:], image[SOURCE:]))
