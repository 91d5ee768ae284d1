"""Bad input: one sentence on stderr, exit code 2, no traceback, nothing half-written."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from systolith.cli import output
from systolith.device import ModelDevice
from systolith.errors import CoreError

UNDECODABLE = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
COMMANDS = "load, execute, vector, store, control"
PRESETS = "demo, tiny, ecp5_25f, ecp5_85f, bench16"


@pytest.mark.parametrize("line, sentence", [
    ("nothing", "No such command 'nothing' (see systolith -h)"),
    ("gemm --nothing", "No such option '--nothing' (see systolith gemm -h)"),
    ("gemm -m x", "Invalid value for '-m': 'x' is not a valid integer (see systolith gemm -h)"),
    ("gemm surplus", "Got unexpected extra argument (surplus) (see systolith gemm -h)"),
    ("generate", "Missing option '-o' / '--output' (see systolith generate -h)"),
    ("generate -o x --preset no", f"preset must be one of {PRESETS}, not 'no'"),
    ("generate -o x --set array.rows=65", "array.rows must be from 1 to 64, not 65"),
    ("generate -o x --set array.rows=x", "array.rows must be an integer, not 'x'"),
    ("generate -o x --set rows=1", "assignment must be section.field=value, not 'rows=1'"),
    ("generate -o x --set array.tall=1",
     ("field of array must be one of rows, cols, strategy, weights, cell, pairs, fanout, gated, "
      "soft_cols, not 'tall'")),
    ("generate -o x --set no.rows=1",
     "field must be one of name, array, memory, bus, vector, control, not 'no'"),
    ("generate -o x --set name=A", "name must be a lower-case identifier, not 'A'"),
    ("generate -o x --config no.toml", "no.toml: no such file or directory"),
    ("generate -o x --config no.toml --preset demo",
     "config must be given without a preset, not with 'demo'"),
    ("gemm -m 0", "m must be at least 1, not 0"),
    ("gemm --seed -1", "seed must be at least 0, not -1"),
    ("gemm --device gpu", "device must be one of rtl, model, board:PORT, not 'gpu'"),
    ("gemm --baud 9600", "baud must be given with device board:PORT, not with 'model'"),
    ("gemm --device board:x --latency 3",
     "latency must be given with device rtl, not with 'board:x'"),
    ("gemm --trace x.fst", "trace must be given with device rtl, not with 'model'"),
    ("gemm --device rtl --trace x.txt", "trace must end in .fst, .vcd or .json, not 'x.txt'"),
    ("gemm --latency 3", "latency must be given with device rtl, not with 'model'"),
    ("gemm --device rtl --latency 0", "latency must be from 1 to 1000000, not 0"),
    ("gemm --device rtl --bandwidth 2",
     "bandwidth must be a number or fraction above 0 and at most 1, not '2'"),
    ("gemm --device rtl --memory sram", "memory must be one of ideal, dram, not 'sram'"),
    ("gemm --scale -2", "scale must be from 0 to below 128, not -2.0"),
    ("gemm --int32 --scale 2", "int32 must be given without scale and clamp, not with them"),
    ("gemm --clamp 3 1", "clamp must be from 3 to 127, not 1"),
    ("gemm -m 100000 -k 100000", "m * k must be at most 2147483648, not 10000000000"),
    ("gemm --a no.npy", "no.npy: no such file or directory"),
    ("gemm --output no/y.npy", "no: no such folder"),
    ("asm no.s", "no.s: no such file or directory"),
    ("disasm no.bin", "no.bin: no such file or directory"),
    ("timeline no.json -o x.svg", "no.json: no such file or directory"),
    ("gemm --device rtl --trace no/x.json", "no: no such folder"),
    ("completion tcsh", "shell must be one of bash, zsh, fish, not 'tcsh'"),
    ("demo --preset no", f"preset must be one of {PRESETS}, not 'no'"),
])
def test_what_is_wrong_is_said_in_one_sentence(refuse, tmp_path, line, sentence):
    assert refuse(*line.split()) == sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command, content, sentence", [
    ("generate -o x --config", b"a = [",
     "configuration FILE must be TOML: Invalid value (at end of document)"),
    ("generate -o x --config", b"\xff = 1",
     f"configuration FILE must be TOML: {UNDECODABLE}"),
    ("generate -o x --config", b"array = 3", "array must be a table, not 3"),
    ("generate -o x --config", b"[array]\nrows = '8'", "array.rows must be an integer, not '8'"),
    ("generate -o", b"", "FILE: is no folder"),
    ("asm", b"# fine\njump",
     f"FILE, line 2: command must be one of {COMMANDS}, raw, not 'jump'"),
    ("asm", b"\xff\xfe", "FILE must be UTF-8 text, not bytes such as commands"),
    ("disasm", b"12345", "length of records must be a multiple of 64, not 5"),
    ("disasm", b"SLITH",
     "image must start with the header of a .slith file, not b'SLITH' as FILE does"),
    ("timeline -o x.svg", b"{}", "timeline must be a file of --trace FILE.json, not 'FILE'"),
    ("timeline -o x.svg", b"\xff", "timeline must be a file of --trace FILE.json, not 'FILE'"),
    ("timeline -o x.svg --first 5", b'{"traceEvents": [], "otherData": {"core": "demo"}}',
     "first must be from 0 to below 0, not 5"),
    ("gemm --a", b"not an array", "a must be a .npy file, not 'FILE'"),
    ("gemm --b", b"", "b must be a .npy file, not 'FILE'"),
])
def test_bad_files_are_named(refuse, tmp_path, command, content, sentence):
    (tmp_path / "FILE").write_bytes(content)
    assert refuse(*command.split(), "FILE") == sentence
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


def test_a_missing_compiler_is_said_in_one_sentence(refuse, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "cache"))
    assert refuse("gemm", "--preset", "tiny", "--device", "rtl") == (
        "g++ must be installed for simulation: apt install g++")
    assert not list(tmp_path.glob("cache/cores/*/*"))


def test_a_full_disk_is_said_in_one_sentence(refuse, tmp_path, monkeypatch):
    def fill(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "run", fill)
    assert refuse("gemm", "--preset", "tiny", "--device", "rtl") == "no space left on device"
    assert not list(tmp_path.glob("cache/cores/*/*"))


@pytest.mark.parametrize("options, arrays, sentence", [
    ("--a a.npy", {"a": np.zeros((2, 3))}, "a must be of dtype int8 or uint8, not 'float64'"),
    ("--a a.npy", {"a": np.zeros(3, np.int8)}, "a must have shape (M, K), not (3,)"),
    ("--a a.npy", {"a": np.zeros((0, 3), np.int8)}, "a must have shape (M, K), not (0, 3)"),
    ("--a a.npy -m 3", {"a": np.zeros((2, 3), np.int8)},
     "m must be 2 as in the given operands, not 3"),
    ("--a a.npy --b b.npy", {"a": np.zeros((2, 3), np.int8), "b": np.zeros((2, 3), np.int8)},
     "b must have shape (3, N), not (2, 3)"),
    ("--bias b.npy -n 3", {"b": np.zeros(2, np.int32)}, "bias must have shape (3,), not (2,)"),
    ("--a a.npy", {"a": np.array([[None]])}, "a must be a .npy file, not 'a.npy'"),
    ("--bias b.npy -n 1 -k 3", {"b": np.array([2**31 - 1])},
     "weights must keep every sum of column 0 within 2147483647, not ANY"),
    ("-m 300 -n 300 -k 1000 --preset tiny", {},
     "operands and results must fit the 131072 bytes that bus.addr_bits=17 can address, not ANY"),
])
def test_bad_operands_are_named(refuse, tmp_path, options, arrays, sentence):
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    said = refuse("gemm", *options.split())
    start, any_number, _ = sentence.partition("ANY")
    assert said.startswith(start) and (any_number or said == sentence)


@pytest.mark.parametrize("error, sentence", [
    (CoreError(9, 3), "command 3: every semaphore waited for must be raised by some command"),
    (TimeoutError("program must end within max_cycles=5, not still run"),
     "program must end within max_cycles=5, not still run"),
    (ImportError("device rtl must have its packages installed: pip install systolith[sim]"),
     "device rtl must have its packages installed: pip install systolith[sim]"),
    (RuntimeError("g++ must be installed for simulation: apt install g++"),
     "g++ must be installed for simulation: apt install g++"),
    (MemoryError(), "memory of this computer must suffice"),
])
def test_what_fails_below_is_said_in_one_sentence(refuse, monkeypatch, error, sentence):
    def fail(*arguments, **options):
        raise error
    monkeypatch.setattr(ModelDevice, "run", fail)
    assert refuse("gemm") == sentence


def test_an_error_of_ours_is_not_hidden(run, monkeypatch):
    def fail(*arguments, **options):
        raise KeyError("surprise")
    monkeypatch.setattr(ModelDevice, "run", fail)
    assert isinstance(run("gemm").exception, KeyError)


def test_an_interrupt_ends_with_130(run, monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr(ModelDevice, "run", fail)
    result = run("gemm")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "systolith: interrupted")


def test_an_interrupt_ends_work_that_python_cannot_stop():
    script = """
import sys, time
from systolith.cli.output import Steps
def work():
    print("begun", file=sys.stderr, flush=True)
    time.sleep(60)
Steps().run("Working", work)
"""
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stderr is not None
        assert [process.stderr.readline() for _ in range(2)] == ["Working ...\n", "begun\n"]
        time.sleep(0.5)  # the main thread now waits
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == "systolith: interrupted\n"
    assert process.returncode == 130


def test_a_shell_sees_exit_code_and_sentence_and_no_traceback(tmp_path):
    script = Path(sys.executable).parent / "systolith"
    result = subprocess.run([script, "generate", "-o", "x", "--set", "array.rows=65"],
                            cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "systolith: array.rows must be from 1 to 64, not 65\n"


def test_a_reader_that_leaves_is_no_error(tmp_path):
    script = Path(sys.executable).parent / "systolith"
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([script, "presets"], cwd=tmp_path, stdout=write, text=True,
                            stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert result.stderr == ""


def test_files_are_written_all_or_none(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError):
        output.write_files(tmp_path, {"a": "new", "b": "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_files_that_stay_the_same_are_left_alone(tmp_path):
    output.write_files(tmp_path, {"a": "old", "b": "old"})
    for name in "ab":
        os.utime(tmp_path / name, (1, 1))
    output.write_files(tmp_path, {"a": "old", "b": "new"})
    assert [(tmp_path / name).stat().st_mtime == 1 for name in "ab"] == [True, False]
    assert (tmp_path / "b").read_text() == "new"
