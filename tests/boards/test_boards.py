"""The table of boards: pins that exist, configurations that the chips can hold, and new boards."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.build import DiffPairs, Pins, Subsignal
from amaranth_boards.icebreaker import ICEBreakerPlatform
from systolith.board import DEFAULT_BAUD
from systolith_boards.boards import BOARDS, Board, board_of
from systolith_boards.plan import plan
from systolith_boards.soc import top_of
from systolith_boards.soc.clocking import ecp5_pll

NAMES = ("icebreaker upduino_v3 ice40_hx8k_b_evn ulx3s_12f ulx3s_25f ulx3s_45f ulx3s_85f "
         "orangecrab_r0_2_25f orangecrab_r0_2_85f icesugar_pro colorlight_5a75b ecpix5_45f "
         "ecpix5_85f versa_ecp5_5g")


def declared_sites(platform):
    """Every site that a platform names, in a resource or on a connector."""
    sites = {pin for connector in platform.connectors.values()
             for pin in connector.mapping.values()}
    waiting = list(platform.resources.values())
    while waiting:
        item = waiting.pop()
        if isinstance(item, Subsignal):  # also a Resource
            waiting += item.ios
        elif isinstance(item, DiffPairs):
            waiting += [item.p, item.n]
        elif isinstance(item, Pins):
            sites.update(item.names)
    return sites


def test_there_is_every_board():
    assert list(BOARDS) == NAMES.split()
    assert all(board.name == name for name, board in BOARDS.items())


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_pin_is_one_of_the_platforms_and_used_once(board):
    sites = [pin.site for pins in board.pins.values() for pin in pins]
    assert set(sites) <= declared_sites(board.platform())
    assert len(sites) == len(set(sites))


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_board_has_a_clock_a_serial_line_and_what_its_top_needs(board):
    directions = {name: {pin.direction for pin in pins} for name, pins in board.pins.items()}
    if board.platform.default_clk == "SB_HFOSC":
        assert "clk" not in directions
    else:
        assert directions["clk"] == {"i"}
    assert directions["uart_rx"] == {"i"}
    assert directions["uart_tx"] == {"o"}
    assert len(board.pins.get("led", ())) == len(board.leds)
    assert all(directions[name] <= {"o", "io"} for name, _ in board.high)
    assert 10e6 <= board.clock_hz <= 100e6


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_configuration_fits_the_multipliers_of_the_chip(board):
    array, chip = board.config.array, board.chip
    needed = {"ecp5": array.multipliers, "ice40": array.rows * -(-array.cols // 2),
              "soft": 0}[array.strategy]
    assert needed <= chip.dsps
    # The bus can address the memory.
    assert board.memory_bytes <= 1 << board.config.bus.addr_bits


@pytest.mark.parametrize("name, columns, size", [
    ("ulx3s_85f", 9, 32 << 20), ("icesugar_pro", 9, 32 << 20), ("colorlight_5a75b", 8, 4 << 20)])
def test_sdram_has_the_size_that_its_address_pins_select(name, columns, size):
    board = replace(BOARDS[name], memory="sdram", memory_bytes=size)
    pins = {name: len(of) for name, of in board.pins.items()}
    words = 1 << pins["sdram_a"] + pins["sdram_ba"] + columns
    assert words * pins["sdram_dq"] // 8 == size


@pytest.mark.parametrize("name, preset", [
    (board.name, preset) for board in BOARDS.values() if board.chip.family == "ecp5"
    for preset in board.each])
def test_the_clock_wanted_of_an_ecp5_is_one_that_its_pll_makes_and_the_line_divides(name, preset):
    board = board_of(name).each[preset]
    made = ecp5_pll(board.clock_hz, board.target_mhz * 1e6).frequency
    assert made == pytest.approx(board.target_mhz * 1e6, rel=1e-6)
    assert round(made / DEFAULT_BAUD) * DEFAULT_BAUD == pytest.approx(made, rel=0.02)


def test_a_board_runs_its_presets_by_name():
    board = board_of("ulx3s_85f")
    assert list(board.each) == list(board.presets) == ["models", "wide", "peak", "ternary"]
    models, wide, peak, ternary = board.each.values()
    assert models.config == board.config and models.target_mhz == board.target_mhz
    assert (peak.config.array.rows * peak.config.array.cols, peak.config.vector.lanes) == (144, 2)
    assert ternary.config.macs_per_cycle == 1024
    assert ternary.config.array.weights == ("ternary",)
    assert all(each.pins == board.pins for each in (models, wide, peak, ternary))
    other = board_of("ulx3s_45f")
    assert other.each == {"ecp5_25f": other}


@pytest.mark.parametrize("name, preset", [
    (board.name, preset) for board in BOARDS.values() for preset in board.presets])
def test_every_preset_of_several_fits_the_chip(name, preset):
    board = board_of(name).running(preset)
    assert plan(top_of(board, board.config), board.config, board).lacking == ()


def test_inverted_leds_say_so():
    assert [pin.inverted for pin in board_of("icebreaker").pins["led"]] == [True, True]
    assert [pin.inverted for pin in board_of("ulx3s_85f").pins["led"]] == [False] * 3


def test_options_of_place_and_route_name_chip_package_and_speed():
    assert board_of("ice40_hx8k_b_evn").place_options == ("--hx8k", "--package", "ct256")
    assert board_of("versa_ecp5_5g").place_options == (
        "--um5g-45k", "--package", "CABGA381", "--speed", "8")


def test_an_unknown_board_is_refused():
    with pytest.raises(ValueError) as info:
        board_of("nexys")
    assert str(info.value) == (f"board must be one of {', '.join(BOARDS)}, or FILE.py, not "
                               "'nexys'")


FREE = "resource of ICEBreakerPlatform must be one that it has, free, not"


@pytest.mark.parametrize("change, message", [
    ({"memory": "hyperram"}, "memory must be one of bram, spram, sdram, not 'hyperram'"),
    ({"memory": "bram"},
     "memory_bytes must be at most the 15360 of bram in iCE40UP5K, not 131072"),
    ({"changes": ("array.strategy=ecp5",)},
     "array.strategy must be one of generic, ice40, soft for ice40, not 'ecp5'"),
    ({"changes": ("array.rows=0",)}, "array.rows must be from 1 to 64, not 0"),
    ({"preset": "huge"},
     "preset must be one of demo, tiny, ecp5_25f, ecp5_85f, bench16, not 'huge'"),
    ({"presets": {"wide": {"changes": ("array.cols=0",)}}},
     "array.cols must be from 1 to 64, not 0"),
    ({"leds": ("lamp:0",)}, f"{FREE} 'lamp:0' (Resource lamp#0 does not exist)"),
    ({"uart": "led:0"},
     f"{FREE} 'led:0.rx' ('SingleEndedPort' object has no attribute 'rx')"),
    ({"leds": ("led:0", "led_r:0")},
     (f"{FREE} 'led_r:0' (Resource component led_r_0 uses physical pin 11, but it is already used "
      f"by resource component led_0 that was requested earlier)")),
    ({"platform": type("Other", (ICEBreakerPlatform,), {"device": "iCE40UP3K"})},
     "device of Other must be one of iCE40UP5K, iCE40HX8K, 12F, 25F, 45F, 85F, not 'iCE40UP3K'"),
])
def test_a_wrong_board_is_refused(change, message):
    with pytest.raises(ValueError) as info:
        replace(board_of("icebreaker"), **change)
    assert str(info.value) == message


def example():
    """The board that the document adds."""
    document = Path(__file__).parent.parent.parent / "docs" / "boards.md"
    block, = re.findall(r"^```python\n(.*?)^```", document.read_text(), re.M | re.S)
    return block


def test_a_file_adds_a_board(tmp_path):
    path = tmp_path / "icepi_zero.py"
    path.write_text(example())
    board = board_of(str(path))
    assert isinstance(board, Board)
    assert (board.name, board.device) == ("icepi_zero", "LFE5U-25F")
    assert board.pins["clk"][0].site == "M1"
    assert board.memory_bytes == 48 << 10


@pytest.mark.parametrize("text, count", [("", 0), ("\nother = board\n", 2)])
def test_a_file_must_make_one_board(tmp_path, text, count):
    path = tmp_path / "mine.py"
    path.write_text(f"{example()}{text}" if text else "")
    with pytest.raises(ValueError) as info:
        board_of(str(path))
    assert str(info.value) == f"{path} must make one board, not {count}"


@pytest.mark.parametrize("text, error", [
    ("board =", "SyntaxError: invalid syntax (mine.py, line 1)"),
    ("1 / 0", "ZeroDivisionError: division by zero"),
])
def test_a_file_that_does_not_run_is_refused(tmp_path, text, error):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError) as info:
        board_of(str(path))
    assert str(info.value) == f"{path} must run, not end with {error}"
