"""The text a user gets: plain, lint clean, with a bench that passes, and not alone in a design."""

import re

import numpy as np
import pytest
from cores import CORES
from icarus import run_icarus
from systolith import ModelDevice, plan_gemm
from systolith.cli.generate import core_files
from systolith_hw.config import CoreConfig
from systolith_hw.emit import module_names
from systolith_hw.smoke import hex_text, instantiation, smoke_files
from systolith_sim.build import lint
from systolith_sim.device import core_verilog
from systolith_sim.smoke import SmokeError, run_smoke


def text_of(name):
    return core_verilog(CORES[name], assertions=False)


@pytest.mark.parametrize("name", ["demo", "1x1", "16x1"])
def test_the_text_is_plain_verilog(name):
    text = text_of(name)
    for word in ("assert", "initial", "$write", "$display", "$error", "always_", "logic ",
                 "synopsys", "(* src"):
        assert word not in text, word
    assert not re.search(r"always @\(?\*", text)
    assert not re.search(r"^\s*reg\b.*=", text, re.M)
    assert text.isascii()


@pytest.mark.parametrize("name", ["demo", "3x5"])
def test_every_module_begins_with_the_core_s_name(name):
    text, core = text_of(name), CORES[name].name
    names = module_names(text)
    assert core in names
    assert all(module == core or module.startswith(f"{core}_") for module in names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", [
    "demo", "3x5", *(pytest.param(name, marks=pytest.mark.full) for name in
                     ("1x1", "1x16", "16x1", "4x4", "5x3", "8x8 wide", "bench16"))])
def test_lint_finds_nothing(name):
    lint(text_of(name), name=CORES[name].name)


def test_two_cores_fit_into_one_design():
    texts, uses = [], []
    for name in ("demo", "3x5"):
        text, core = text_of(name), CORES[name].name
        texts.append(text)
        # Each in a module of its own, so that their ports may be called the same.
        uses.append(f"module use_{core};\n{instantiation(text, name=core)}endmodule\n")
    both = "module both;\n" + "".join(
        f"  use_{CORES[name].name} u_{name[0]}x();\n" for name in ("demo", "3x5")) + "endmodule\n"
    both = both.replace("u_3x", "u_b")
    assert not set(module_names(texts[0])) & set(module_names(texts[1]))
    # Whoever instantiates drives the inputs.
    design = "".join(["/* verilator lint_off UNDRIVEN */\n", *uses, both, *texts])
    lint(design, name="both")


@pytest.fixture(scope="module")
def smoke():
    """A product in the bench: the core's text, the bench's files, and what is expected."""
    config = CORES["demo"]
    rng = np.random.default_rng(1)
    a, b = rng.integers(-128, 128, (12, 30), np.int8), rng.integers(-128, 128, (30, 11), np.int8)
    image = plan_gemm(b, config=config, rows=12)
    size = -(-image.memory_bytes // 4096) * 4096
    with ModelDevice(config, memory_bytes=size) as device:
        image.install(device)
        device.write(image.inputs[0].address, a.tobytes())
        before = device.read(0, size).tobytes()
        device.run(image.program_address, image.commands)
        output = image.outputs[0]
        expected = device.read(output.address, output.byte_count).tobytes()
    text = text_of("demo")
    files = smoke_files(config, text, image=before, program_address=image.program_address,
                        commands=image.commands, expected=expected,
                        expected_address=output.address)
    return text, files, expected


def test_the_smoke_bench_passes(smoke):
    text, files, _ = smoke
    assert re.search(r"^PASS: demo, \d+ cycles$", run_smoke(text, files), re.M)


@pytest.mark.parametrize("size", [(8, 8), (3, 5)], ids=["8x8", "3x5"])
def test_no_undefined_value_reaches_memory(size, tmp_path):
    """In a simulator of four values memories and data registers begin undefined, and stay so where
    nobody wrote; Verilator would show some number there."""
    rows, cols = size
    config = CoreConfig.preset("demo").updated(
        {"array": {"rows": rows, "cols": cols}, "vector": {"lanes": 1}})
    text = core_verilog(config, assertions=False)
    for name, contents in core_files(config, text).items():
        (tmp_path / name).write_text(contents)
    said = run_icarus(["demo_smoke_tb.v", "demo.v"], tmp_path)
    assert re.search(r"^PASS: demo, \d+ cycles$", said, re.M), said[-2000:]


@pytest.mark.parametrize("place", [0, -1])
def test_the_smoke_bench_fails_where_a_byte_differs(smoke, place):
    text, files, expected = smoke
    wrong = bytearray(expected)
    wrong[place] ^= 1
    with pytest.raises(SmokeError, match=r"(?s)must hold .*FAIL: demo, 1 errors"):
        run_smoke(text, {**files, "demo_smoke_expected.hex": hex_text(bytes(wrong))})
