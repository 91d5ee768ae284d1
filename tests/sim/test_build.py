"""Builds in the cache: shared by processes, whole or not there, and gone when nobody uses them."""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from systolith_hw.emit import emit_verilog
from systolith_sim import build
from systolith_sim.tools import ToolError, environment

BUILD = """
import sys
from systolith_sim.build import build_core
try:
    print(build_core(open(sys.argv[1]).read(), name="copier", assertions=True))
except (RuntimeError, OSError) as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def builder(copier, copier_config, tmp_path, monkeypatch):
    """Begin to build the stand-in in a process of its own, with an empty cache."""
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "copier.v"
    text.write_text(emit_verilog(copier(copier_config()), name="copier"))
    started = []

    def begin(**options):
        started.append(subprocess.Popen([sys.executable, "-c", BUILD, str(text)],
                                        stdout=subprocess.PIPE, text=True, **options))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def entries(tmp_path):
    """What the cache of cores holds but locks."""
    return [path for path in (tmp_path / "cache" / "cores").iterdir() if path.suffix != ".lock"]


def test_two_processes_build_the_same_core_at_once(builder, tmp_path):
    outputs = [process.communicate(timeout=300)[0].strip()
               for process in [builder(), builder()]]
    assert outputs[0] == outputs[1]
    assert [str(entry / "libcore.so") for entry in entries(tmp_path)] == outputs[:1]
    assert ctypes.CDLL(outputs[0]).core_new


def test_a_killed_build_is_not_used_and_does_not_stop_the_next(builder, tmp_path):
    process = builder(start_new_session=True)
    give_up = time.monotonic() + 120
    while not list((tmp_path / "cache").glob("cores/*/obj/*.cpp")):
        assert time.monotonic() < give_up and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = entries(tmp_path)
    assert len(left) == 1
    library = builder().communicate(timeout=300)[0].strip()
    assert ctypes.CDLL(library).core_new
    assert not (left[0] / "libcore.so").exists()


@pytest.mark.parametrize("limit", [4_000, 40_000, 150_000])
def test_a_full_disk_leaves_nothing_and_is_said_in_one_sentence(builder, tmp_path, limit):
    # No file may grow beyond the limit: writing the text, compiling and linking fail in turn.
    output = builder(preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (limit, limit))).communicate(timeout=300)[0]
    no_room = (f"disk of {tmp_path}/cache/cores and of {tempfile.gettempdir()} must have room for "
               f"the build, not be full")
    assert output in ("OSError: [Errno 27] File too large\n", f"ToolError: {no_room}\n")
    assert entries(tmp_path) == []


def test_a_failed_build_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    with pytest.raises(ToolError):
        build.build_core("module top(; endmodule", name="top")
    assert [path.suffix for path in (tmp_path / "cores").iterdir()] == [".lock"]


def test_a_missing_compiler_is_named(tmp_path):
    script = ("from systolith_sim.tools import environment\n"
              "try:\n    environment()\n"
              "except RuntimeError as error:\n    print(error)")
    result = subprocess.run([sys.executable, "-c", script], env={"PATH": str(tmp_path)},
                            capture_output=True, text=True, check=True)
    assert result.stdout == "g++ must be installed for simulation: apt install g++\n"


def test_a_build_needs_no_command_called_python(tmp_path, monkeypatch):
    # Verilator's makefiles for small designs call it; a venv that is not active has none on PATH.
    for tool in ("g++", "make", "perl"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = shutil.which("python", path=environment()["PATH"])
    assert found is not None
    version = subprocess.run([found, "-c", "import sys; print(sys.version)"], capture_output=True,
                             text=True, check=True).stdout
    assert version.strip() == sys.version
