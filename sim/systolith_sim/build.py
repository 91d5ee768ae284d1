"""Verilates a core into a shared library, once for each text, tool version and set of flags."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from systolith.cache import cached, digest

from .tools import MAKE_VARIABLES, ToolError, environment, require_header, verilator_version

__all__ = ["build_core", "lint", "run_verilator", "tail"]

HARNESS = Path(__file__).parent / "harness.cpp"
HEADERS = tuple(Path(__file__).parent / name for name in ("memory.h", "observe.h"))
WAIVERS = Path(__file__).parent / "waivers.vlt"

FAST_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert")
FAST_MAKE_VARIABLES = f"{MAKE_VARIABLES} OPT_SLOW=-O0"
# Registers start at random, so that what was never reset or written shows.
CHECKED_FLAGS = ("-O3", "--x-assign", "unique", "--x-initial", "unique", "--assert")
# Checked runs are short, and compiling is most of what they wait for.
CHECKED_MAKE_VARIABLES = FAST_MAKE_VARIABLES.replace("-O2", "-O1")

# What tools say, in the C locale, when a file cannot grow; 25 is SIGXFSZ. Verilator itself writes
# half a file without a word, so that what is free on the disk counts too.
NO_ROOM = ("No space left on device", "Disk quota exceeded", "File too large",
           "File size limit exceeded", "signal 25")
LEAST_FREE = 1 << 16  # bytes


def build_core(verilog: str, *, name: str, assertions: bool = False,
               trace: str = "", observed: tuple[int, int] | None = None) -> Path:
    """Verilate the core ``name`` in ``verilog`` together with its harness.

    Parameters
    ----------
    verilog : str
        Text with the core's top module.
    name : str
        Name of that module.
    assertions : bool
        Check assertions and start registers at random, at some cost in speed.
    trace : str
        ``fst`` or ``vcd``: able to write such waveforms, at some cost in speed.
    observed : tuple of int or None
        Tracks and pulses that the top module's port ``observed`` shows (``ObservedCore``); None:
        it has no such port.

    Returns
    -------
    Path
        The shared library, in the cache.

    Raises
    ------
    ToolError
        A tool is missing or refuses the text.
    """
    flags = CHECKED_FLAGS if assertions else FAST_FLAGS
    make = CHECKED_MAKE_VARIABLES if assertions else FAST_MAKE_VARIABLES
    if trace:
        flags = (*flags, f"--trace-{trace}")
    if trace == "fst":
        require_header("zlib.h", "zlib1g-dev")
        require_header("lz4.h", "liblz4-dev")
    defines = ["-fPIC", "-DVL_USER_STOP", "-DVL_USER_FINISH", "-DVL_USER_FATAL"]
    if observed:
        defines += [f"-DOBSERVED_TRACKS={observed[0]}", f"-DOBSERVED_PULSES={observed[1]}"]
    flags = (*flags, "-CFLAGS", " ".join(defines))
    key = digest(verilog, name, *(path.read_bytes() for path in (HARNESS, *HEADERS, WAIVERS)),
                 verilator_version(), " ".join(flags), make)
    with cached("cores", key) as (folder, building):
        if building is not None:
            _verilate(verilog, name, flags, make, building)
        return folder / "libcore.so"


def _verilate(verilog: str, name: str, flags: tuple[str, ...], make: str, folder: Path) -> None:
    (folder / "core.v").write_text(verilog)
    arguments = [
        "--cc", "--exe", "--build", "-j", "2", *flags,
        "--prefix", "Vcore", "--top-module", name, "--Mdir", "obj", "-o", "../libcore.so",
        "-LDFLAGS", "-shared -Wl,-z,defs", "-MAKEFLAGS", make, str(WAIVERS), "core.v", str(HARNESS),
    ]
    run_verilator(arguments, folder)
    shutil.rmtree(folder / "obj")


def lint(verilog: str, *, name: str) -> None:
    """Check ``verilog`` with all of Verilator's warnings but the waived ones.

    Raises
    ------
    ToolError
        Verilator is missing or warns.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "core.v").write_text(verilog)
        run_verilator(["--lint-only", "-Wall", "--top-module", name, str(WAIVERS), "core.v"],
                      Path(folder))


def run_verilator(arguments: list[str], folder: Path) -> None:
    """Run Verilator in ``folder``.

    Raises
    ------
    ToolError
        It is missing, finds no room on the disk, or ends with an error; with the end of what it
        printed.
    """
    env = {**environment(), "LC_ALL": "C"}  # so that NO_ROOM is recognised
    if "-MAKEFLAGS" in arguments:  # they say it all
        env.pop("MAKEFLAGS", None)
    result = subprocess.run(["verilator", *arguments], cwd=folder, env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False)
    if result.returncode and (any(text in result.stdout for text in NO_ROOM)
                              or shutil.disk_usage(folder).free < LEAST_FREE):
        raise ToolError(f"disk of {folder.parent} and of {tempfile.gettempdir()} must have room "
                        f"for the build, not be full")
    if result.returncode:
        raise ToolError(f"Verilator must accept the text, not end with\n{tail(result.stdout)}")


def tail(text: str, lines: int = 40) -> str:
    """The last ``lines`` of ``text``."""
    return "\n".join(text.strip().splitlines()[-lines:])
