"""Constraints are those that amaranth-boards itself would write, under our names of ports."""

import re

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io
from systolith_boards.boards import BOARDS, Pin, board_of
from systolith_boards.constraints import constraints, pcf

ICE40 = [name for name, board in BOARDS.items() if board.chip.family == "ice40"]
ECP5 = [name for name, board in BOARDS.items() if board.chip.family == "ecp5"]


def ports(board):
    return {name: len(pins) for name, pins in board.pins.items()}


def files_of_amaranth(board, monkeypatch):
    """What Amaranth writes for a design that uses the same resources."""
    monkeypatch.setenv("AMARANTH_USE_YOSYS", "builtin")
    platform = board.platform()
    platform.add_resources(board.resources)
    wanted = {(board.platform.default_clk, 0): [""]}
    names = [*(f"{board.uart}.{pin}" for pin in ("rx", "tx")), *board.leds,
             *(resource for _, resource in board.high)]
    for name in names + (["sdram"] if board.memory == "sdram" else []):
        where, _, inner = name.partition(".")
        resource, _, number = where.partition(":")
        wanted.setdefault((resource, int(number or 0)), []).append(inner)

    def leaves(port):
        return vars(port).values() if not isinstance(port, io.PortLike) else [port]

    class Design(Elaboratable):
        def elaborate(self, platform):
            m = Module()
            for (name, number), inner in wanted.items():
                if (name, number) not in platform.resources:
                    continue
                group = platform.request(name, number, dir="-")
                chosen = [getattr(group, part) if part else group for part in inner]
                for port in (leaf for each in chosen for leaf in leaves(each)):
                    buffer = io.Buffer(port.direction, port)
                    m.submodules += buffer
            return m

    return platform.build(Design(), do_build=False).files


@pytest.mark.parametrize("name", ECP5)
def test_lpf_has_amaranths_sites_attributes_and_frequency(name, monkeypatch):
    def read(text):
        sites = dict(re.findall(r'LOCATE COMP "(\S+)" SITE "(\w+)";', text))
        attributes = dict(re.findall(r'IOBUF PORT "(\S+)" (.*?);', text))
        return ({site: set(attributes[port].split()) for port, site in sites.items()},
                re.findall(r'FREQUENCY PORT "\S+" (.*);', text))

    board = board_of(name)
    theirs = files_of_amaranth(board, monkeypatch)["top.lpf"]
    theirs = theirs.decode() if isinstance(theirs, bytes) else theirs
    ours = constraints(board, ports(board))
    assert read(ours) == read(theirs)
    assert len(read(ours)[0]) == sum(ports(board).values())
    assert read(ours)[1]


@pytest.mark.parametrize("name", ICE40)
def test_pcf_has_amaranths_sites_pulls_and_frequency(name, monkeypatch):
    def sites(text):
        return sorted(re.findall(r"^set_io (?:-pullup yes )?\S+ (\S+)$", text, re.M))

    board = board_of(name)
    files = {name: text.decode() if isinstance(text, bytes) else text
             for name, text in files_of_amaranth(board, monkeypatch).items()}
    ours = constraints(board, ports(board))
    assert sites(ours) == sites(files["top.pcf"])
    assert len(sites(ours)) == sum(ports(board).values())
    pulled = len(re.findall(r"parameter .*\\PULLUP .*1", files["top.il"]))
    assert pulled == {"upduino_v3": 0}.get(name, 2)
    assert ours.count("-pullup yes") == pulled
    assert (re.findall(r"set_frequency \S+ (\S+)", ours)
            == re.findall(r"set_frequency \S+ (\S+)", files["top.pcf"]))


def test_ports_that_a_top_does_not_have_are_left_out():
    assert constraints(board_of("icebreaker"), {"clk": 1, "led": 2}) == (
        "set_io clk 35\nset_io led[0] 37\nset_io led[1] 11\nset_frequency clk 12.0\n")


@pytest.mark.parametrize("wrong, message", [
    ({"button": 1}, "port must be one of clk, uart_rx, uart_tx, led on icebreaker, not 'button'"),
    ({"led": 3}, "led must have 2 bits on icebreaker, not 3"),
])
def test_a_port_that_the_board_lacks_is_refused(wrong, message):
    with pytest.raises(ValueError) as info:
        constraints(board_of("icebreaker"), wrong)
    assert str(info.value) == message


def test_a_standard_that_pcf_cannot_say_is_refused():
    pin = Pin(site="1", direction="i", inverted=False,
              attributes={"IO_STANDARD": "SB_LVDS_INPUT"})
    with pytest.raises(ValueError) as info:
        pcf({"pair": pin}, None)
    assert str(info.value) == ("IO_STANDARD of pair must be SB_LVCMOS or SB_LVTTL, not "
                               "'SB_LVDS_INPUT'")
