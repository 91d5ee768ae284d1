"""The device around the emitted core, tried on a stand-in for the core."""

import re

import numpy as np
import pytest
from systolith.errors import CoreError
from systolith_hw.emit import emit_verilog
from systolith_hw.isa import ErrorCode
from systolith_sim import device
from systolith_sim.device import RtlDevice


@pytest.fixture
def rtl(copier, copier_config, monkeypatch):
    """Make a device with the stand-in for a core; closed when the test ends."""
    made = []

    def stand_in(config, *, assertions):
        return emit_verilog(copier(config), name=config.name, assertions=assertions)

    def make(config=None, **options):
        made.append(RtlDevice(config or copier_config(), **options))
        return made[-1]

    monkeypatch.setattr(device, "core_verilog", stand_in)
    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("window", [0, 0x40000000])
def test_runs_a_program_on_memory_relative_to_the_window(rtl, window):
    dut = rtl(memory_bytes=1 << 16, window=window)
    data = np.arange(64, 96, dtype=np.uint8)
    dut.write(128, data)
    dut.run(128, 4, params={1: 4096})
    assert dut.read(4096, 32).dtype == np.uint8
    assert bytes(dut.read(4096, 32)) == bytes(data)
    assert dut.counters()["cycles"] > 64


def test_takes_bytes_too(rtl):
    dut = rtl(memory_bytes=4096)
    dut.write(4093, b"abc")
    assert bytes(dut.read(4092, 4)) == b"\0abc"


def test_an_error_of_the_core_is_raised_and_the_device_goes_on(rtl):
    dut = rtl(memory_bytes=1 << 16)
    dut.inject_errors(128, 8)
    with pytest.raises(CoreError) as caught:
        dut.run(128, 4, params={1: 4096})
    assert caught.value.code == ErrorCode.READ_RESPONSE
    assert caught.value.index == 0
    dut.inject_errors(0, 0)
    dut.run(128, 4, params={1: 4096})


def test_a_run_without_end_times_out_and_the_device_goes_on(rtl):
    dut = rtl(memory_bytes=1 << 16, max_cycles=500)
    with pytest.raises(TimeoutError, match="^program must end within max_cycles=500, "
                                           "not still run$"):
        dut.run(0, 4, params={1: 4096, 2: 16})
    dut.run(0, 4, params={1: 4096})


def test_a_core_of_another_configuration_is_refused(rtl, copier, copier_config, monkeypatch):
    other = copier_config().updated({"memory": {"act_rows": 2048}})
    monkeypatch.setattr(device, "core_verilog", lambda config, *, assertions: emit_verilog(
        copier(other), name=config.name))
    with pytest.raises(RuntimeError, match="^register fingerprint_low must be 0x"):
        rtl()


@pytest.mark.parametrize("options, text", [
    ({"memory_bytes": 4096, "window": 100},
     ("window must be a multiple of 4096 that leaves memory_bytes=4096 within 32 address bits, "
      "not 100")),
])
def test_wrong_parameters_are_refused(rtl, options, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        rtl(**options)


@pytest.mark.parametrize("call, text", [
    (lambda dut: dut.write(4095, b"ab"),
     "address must leave 2 bytes inside the window of 4096 bytes, not 4095"),
    (lambda dut: dut.read(-1, 1),
     "address must leave 1 bytes inside the window of 4096 bytes, not -1"),
    (lambda dut: dut.run(3, 1), "program_address must be a multiple of 64, not 3"),
    (lambda dut: dut.run(0, 1, params={99: 1}), "params must name registers from 1 to 15, not 99"),
])
def test_wrong_calls_are_refused(rtl, call, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        call(rtl(memory_bytes=4096))
