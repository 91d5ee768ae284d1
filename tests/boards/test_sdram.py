"""External memory: LiteDRAM's controller, its initialisation, and a memory chip on its pins."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from systolith import Linear, ModelDevice, compile_layers
from systolith.board import BoardDevice
from systolith_boards.boards import BOARDS
from systolith_boards.build import synthesise
from systolith_boards.constraints import constraints
from systolith_boards.soc import top_of
from systolith_boards.soc.litedram import litedram
from systolith_boards.soc.sdram import Initialiser
from systolith_hw.config import CoreConfig
from systolith_hw.emit import emit_verilog
from systolith_sim.bench import run_bench
from systolith_sim.chip import ChipPort

from ..hw.simulate import simulate
from .memory_chip import CHIP, CLOCK_HZ, MemorySystem, board_around, memory_chip

BENCH = Path(__file__).parent / "bench_sdram.py"


def run(testcase, *, data_bits=32, clock_hz=CLOCK_HZ, **parameters):
    system = MemorySystem(data_bits=data_bits, clock_hz=clock_hz)
    assert run_bench(
        system, name="system", test_module=BENCH, testcase=testcase,
        top="board",
        parameters={"seed": 1, "mhz": clock_hz / 1e6, **parameters},
        sources=(system.controller.verilog, memory_chip(CHIP, clock_hz),
                 board_around("system", system))) == 1


def test_the_chip_is_initialised_before_its_use():
    run("the_chip_is_initialised_before_its_use")


@pytest.mark.parametrize("data_bits, pause", [(32, 0.4), *(
    pytest.param(data_bits, pause, marks=pytest.mark.full)
    for data_bits, pause in ((32, 0.0), (64, 0.0), (64, 0.4), (128, 0.0), (128, 0.4)))])
def test_every_user_finds_what_it_wrote(data_bits, pause):
    run("every_user_finds_what_it_wrote", data_bits=data_bits, pause=pause)


@pytest.mark.full
def test_every_user_finds_what_it_wrote_at_a_clock_that_takes_a_longer_latency():
    assert litedram(CHIP, 120e6).steps[-1].address == 0x030
    run("every_user_finds_what_it_wrote", data_bits=32, clock_hz=120e6, pause=0.2)


@pytest.mark.full
def test_refresh_goes_on_for_milliseconds():
    run("refresh_goes_on_for_milliseconds")


@pytest.mark.full
@pytest.mark.parametrize("data_bits, both", [(32, 1.6), (64, 1.7), (128, 1.8)])
def test_long_transfers_use_most_of_the_pins(data_bits, both):
    run("long_transfers_use_most_of_the_pins", data_bits=data_bits, longest=16,
        least={"reads": 1.9, "writes": 1.85, "both": both})


def test_the_initialisation_is_the_packages_with_pauses_that_chips_need():
    steps = litedram(CHIP, CLOCK_HZ).steps
    commands = {(0, 0, 0): "clock", (1, 0, 1): "precharge", (1, 1, 0): "refresh",
                (1, 1, 1): "mode"}
    assert [commands[step.ras, step.cas, step.we] for step in steps] == [
        "clock", "precharge", "mode", "precharge", "refresh", "refresh", "mode"]
    assert [step.address for step in steps] == [0, 1 << 10, 0x120, 1 << 10, 0, 0, 0x020]
    assert steps[0].cycles >= 200e-6 * CLOCK_HZ
    assert min(step.cycles for step in steps) >= 70e-9 * CLOCK_HZ
    dut = Initialiser(geometry=CHIP, steps=steps)
    seen = []

    async def watch(ctx):
        pins = dut.pins
        for cycle in range(sum(step.cycles for step in steps) + 1):
            *_, cs, ras, cas, we, address, done = await ctx.tick().sample(
                pins.cs, pins.ras, pins.cas, pins.we, pins.a, dut.done)
            if cs:
                seen.append((cycle, ras, cas, we, address))
            assert done == (cycle == sum(step.cycles for step in steps))

    simulate(dut, watch, cycles=25_000)
    expected, cycle = [], 0
    for step in steps:
        if step.ras:
            expected.append((cycle, step.ras, step.cas, step.we, step.address))
        cycle += step.cycles
    assert seen == expected


def test_the_controllers_text_depends_on_nothing_but_the_memory():
    script = ("from tests.boards.memory_chip import *; "
              "print(litedram(CHIP, CLOCK_HZ).verilog, end='')")
    own = litedram(CHIP, CLOCK_HZ).verilog
    other = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join([*sys.path, str(Path(__file__).parents[2])]),
             "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}).stdout
    assert own == other
    assert "Date" not in own
    assert own.startswith("// LiteDRAM's memory controller, made by litedram 2024.12")
    assert own.count("Redistribution and use in source and binary forms") == 3


DIVISOR = 8     # cycles of a bit on the line


@pytest.mark.full
def test_a_network_on_a_chip_with_sdram_gives_the_models_bytes():
    config = CoreConfig.preset("tiny").overridden(["bus.addr_bits=25"])
    top = top_of(BOARDS["ulx3s_25f"], config, target_hz=CLOCK_HZ, baud=CLOCK_HZ / DIVISOR)
    verilog = "\n".join([emit_verilog(top, name="top"), *top.sources, memory_chip(),
                         board_around("top", top)])
    port = ChipPort(verilog, name="board", divisor=DIVISOR, clock_hz=top.clock_hz, timeout=0.0002)
    rng = np.random.default_rng(1)
    layers = [Linear(weights=rng.integers(-128, 128, (k, n), dtype=np.int8),
                     bias=rng.integers(-500, 500, n), multiplier=1 << 30, shift=-9)
              for k, n in ((40, 21), (21, 10))]
    image = compile_layers(layers, config=config, rows=16)
    x = rng.integers(-128, 128, (16, 40), dtype=np.int8)
    port.run(25_000)    # half a millisecond, in which the memory is initialised
    results, memories = [], []
    with (BoardDevice(config, port="ttyTEST", baud=round(CLOCK_HZ / DIVISOR),
                      open_port=lambda name, baud: port,
                      clock=lambda: port.cycle / port.clock_hz) as device,
          ModelDevice(config, memory_bytes=device.memory_bytes) as model):
        assert device.memory_bytes == 32 << 20
        last = rng.bytes(256)
        device.write((32 << 20) - 256, last)
        device.write(0, bytes(8 << 10))
        for each in (device, model):
            results.append(image.run(each, x))
            memories.append(each.read(0, 8 << 10))
        assert device.read((32 << 20) - 256, 256).tobytes() == last
        assert port.leds >> 3 == 0      # the memory chip has nothing to complain about
    assert np.array_equal(*results)
    assert np.array_equal(*memories)


@pytest.mark.full
@pytest.mark.parametrize("name", ["ulx3s_12f", "icesugar_pro"])
def test_a_chip_with_sdram_is_synthesised_for_its_pins(name):
    board = BOARDS[name]
    top = top_of(board, CoreConfig.preset("tiny").overridden(["bus.addr_bits=25"]))
    verilog = "\n".join([emit_verilog(top, name="top", vendor_cells=True), *top.sources])
    module = json.loads(synthesise(verilog, board).read_text())["modules"]["top"]
    text = constraints(board, {port: len(of["bits"]) for port, of in module["ports"].items()})
    sites = [pin.site for port, pins in board.pins.items() for pin in pins
             if port.startswith("sdram_")]
    assert len(sites) == 39 and all(f'SITE "{site}";' in text for site in sites)
    cells = [(cell["type"], cell["parameters"]) for cell in module["cells"].values()]
    kinds = Counter(kind for kind, _ in cells)
    assert (kinds["TRELLIS_IO"], kinds["ODDRX1F"], kinds["EHXPLLL"]) == (16, 1, 1)
    pll, = (parameters for kind, parameters in cells if kind == "EHXPLLL")
    assert pll["CLKOS_ENABLE"] == "ENABLED"
