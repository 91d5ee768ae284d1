"""Whole chips behind their serial line: the host's software, the Verilog, and the model."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import systolith_boards.soc.chip
from systolith import Linear, ModelDevice, compile_layers
from systolith.board import BoardDevice
from systolith.errors import CoreError
from systolith.link import LinkError
from systolith_boards.boards import BOARDS
from systolith_boards.soc import top_of
from systolith_hw.config import CoreConfig
from systolith_hw.emit import emit_verilog
from systolith_sim.chip import ChipPort

DIVISOR = 8  # cycles of a bit, so that the line is not what takes the time
BLINK_BITS = 14


@pytest.fixture(scope="module")
def chip():
    """A 25F with its own preset and block RAM, and the port of its serial line."""
    board = replace(BOARDS["ulx3s_25f"], memory="bram", memory_bytes=48 << 10)
    config = board.config
    top = top_of(board, config, baud=board.target_mhz * 1e6 / DIVISOR)
    assert top.divisor == DIVISOR
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systolith_boards.soc.chip, "BLINK_BITS", BLINK_BITS)
        verilog = emit_verilog(top, name="top")
    port = ChipPort(verilog, divisor=DIVISOR, clock_hz=top.clock_hz, timeout=0.0002)
    yield config, top, port
    port.close()


class Kept:
    """The chip's port, which stays open when a device lets go of it."""
    def __init__(self, port):
        self._port = port

    def __getattr__(self, name):
        return getattr(self._port, name)

    def close(self):
        return


def device(chip, config=None, **options):
    own, top, port = chip
    return BoardDevice(config or own, port="ttyTEST", baud=round(top.clock_hz / DIVISOR),
                       open_port=lambda name, baud: Kept(port),
                       clock=lambda: port.cycle / port.clock_hz, **options)


def layers(rng):
    for k, n in ((40, 21), (21, 10)):
        yield Linear(weights=rng.integers(-128, 128, (k, n), dtype=np.int8),
                     bias=rng.integers(-500, 500, n), multiplier=1 << 30, shift=-9)


def test_a_network_gives_the_models_bytes(chip):
    rng = np.random.default_rng(1)
    config = chip[0]
    image = compile_layers(list(layers(rng)), config=config, rows=16)
    x = rng.integers(-128, 128, (16, 40), dtype=np.int8)
    results, memories, counters = [], [], []
    with device(chip) as board, ModelDevice(config, memory_bytes=board.memory_bytes) as model:
        assert board.memory_bytes == 48 << 10
        board.write(0, bytes(board.memory_bytes))
        for each in (board, model):
            results.append(image.run(each, x))
            memories.append(each.read(0, each.memory_bytes))
            counters.append(each.counters())
    assert np.array_equal(*results)
    assert np.array_equal(*memories)
    for name in ("rows", "load_words", "store_words", "fetch_words"):
        assert counters[0][name] == counters[1][name]


def test_a_core_that_stops_says_so_and_goes_on(chip):
    rng = np.random.default_rng(2)
    with device(chip) as board:
        board.write(0, b"\xff" * 64)
        with pytest.raises(CoreError) as caught:
            board.run(0, 1)
        assert caught.value.index == 0
        board.write_register("window_bytes", 4096)
        image = compile_layers(list(layers(rng)), config=chip[0], rows=3)
        board.prepare()
        x = rng.integers(-128, 128, (3, 40), dtype=np.int8)
        with ModelDevice(chip[0], memory_bytes=48 << 10) as model:
            assert np.array_equal(image.run(board, x), image.run(model, x))


def test_lamps_show_that_it_is_alive_busy_and_in_error(chip):
    _, top, port = chip
    assert not any(pin.inverted for pin in top.board.pins["led"])
    with device(chip) as board:
        board.write(0, b"\xff" * 64)
        board.start(0, 1)
        port.run(2000)
        assert port.leds >> 1 & 1      # it stopped at an error
        board.reset()
        port.run(2000)
        assert port.leds >> 1 == 0     # neither error nor busy
        port.write(b"\xc0\x00")
        board.write(0, bytes(4096))
    changes, before = 0, port.leds & 1
    for _ in range(80):
        port.run(1 << BLINK_BITS - 4)
        changes += before != (port.leds & 1)
        before = port.leds & 1
    assert changes == 5


def test_a_chip_of_another_configuration_is_refused(chip):
    other = CoreConfig.preset("demo")
    with pytest.raises(ValueError) as caught:
        device(chip, config=other)
    assert f"{other.fingerprint:016x}" in str(caught.value)
    assert f"{chip[0].fingerprint:016x}" in str(caught.value)


def test_noise_on_the_line_changes_nothing(chip):
    rng = np.random.default_rng(3)
    with device(chip) as board:
        board.write(0, bytes(256))
        for _ in range(20):
            chip[2].write(rng.bytes(rng.integers(1, 40)))
            data = rng.bytes(256)
            board.write(512, data)
            assert board.read(512, 256).tobytes() == data
        assert not board.read(0, 256).any()


def test_a_chip_that_does_not_answer_is_said(chip):
    # The host's questions do not arrive; time passes with each look at the port.
    own, top, port = chip
    looks = []

    class Dead(Kept):
        def write(self, data):
            return len(data)

        def read(self, size):
            looks.append(size)
            return b""

    with pytest.raises(LinkError):
        BoardDevice(own, port="ttyTEST", baud=round(top.clock_hz / DIVISOR),
                    open_port=lambda name, baud: Dead(port), clock=lambda: len(looks) * 0.02)


def test_sdram_that_no_controller_drives_is_refused():
    board = replace(BOARDS["colorlight_5a75b"], memory="sdram", memory_bytes=4 << 20)
    with pytest.raises(ValueError) as caught:
        top_of(board, board.config)
    assert str(caught.value) == (
        "sdram of colorlight_5a75b must have the pins clk, clk_en, cs, ras, cas, we, ba, a, dqm, "
        "dq, not lack clk_en, cs, dqm")
    board = replace(BOARDS["ulx3s_25f"], memory_bytes=24 << 20)
    with pytest.raises(ValueError) as caught:
        top_of(board, board.config)
    assert str(caught.value) == ("memory_bytes of ulx3s_25f must be a power of two that its "
                                 "address pins reach, not 25165824")
    board = replace(BOARDS["ulx3s_25f"], memory_bytes=1 << 30)
    with pytest.raises(ValueError) as caught:
        top_of(board, board.config)
    assert str(caught.value) == (
        "memory must have a shape that litedram knows, not Geometry(row_bits=13, column_bits=14, "
        "bank_bits=2, data_bits=16)")


def test_a_clock_that_no_sdram_reaches_is_refused():
    board = BOARDS["ulx3s_85f"]
    with pytest.raises(ValueError) as caught:
        top_of(board, board.config, target_hz=150e6)
    assert str(caught.value) == "clock of a chip with SDRAM must be at most 133 MHz, not 150"


def test_packages_that_make_the_controller_are_named_where_they_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "litedram.common", None)
    board = BOARDS["ulx3s_25f"]
    with pytest.raises(ImportError) as caught:
        top_of(board, board.config)
    assert str(caught.value) == ("litedram must be installed for boards with SDRAM: pip install "
                                 "'systolith[boards]'")


def test_a_baud_that_the_clock_cannot_make_is_refused():
    board = BOARDS["orangecrab_r0_2_25f"]
    with pytest.raises(ValueError) as caught:
        top_of(board, board.config, baud=board.target_mhz * 1e6 / 3.5)
    assert str(caught.value).startswith("baud must divide the clock of")
