"""Verilates a core into a shared library, once for each text, tool version and set of flags."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .tools import MAKE_VARIABLES, ToolError, environment, require_header, verilator_version

__all__ = ["build_core", "cache_folder", "cached", "digest", "lint", "run_verilator", "tail"]

HARNESS = Path(__file__).parent / "harness.cpp"
WAIVERS = Path(__file__).parent / "waivers.vlt"

FAST_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert")
# Registers start at random, so that what was never reset or written shows.
CHECKED_FLAGS = ("-O3", "--x-assign", "unique", "--x-initial", "unique", "--assert")
# Checked runs are short, and compiling is most of what they wait for.
CHECKED_MAKE_VARIABLES = MAKE_VARIABLES.replace("-O3", "-O1") + " OPT_SLOW=-O0"


def cache_folder() -> Path:
    """Where builds are kept: ``$SYSTOLITH_CACHE``, or ``systolith`` among the user's caches."""
    chosen = os.environ.get("SYSTOLITH_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "systolith"


def digest(*parts: str | bytes) -> str:
    """One hash over ``parts``, which stay apart."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:40]


@contextmanager
def cached(kind: str, key: str) -> Iterator[tuple[Path, Path | None]]:
    """The cache entry ``key``: its final folder, and where to build it if it is not there yet.

    Yields ``(folder, None)`` when the entry exists. Otherwise the caller fills the second path,
    a temporary folder beside the first, which takes the first one's place when the block ends
    without an exception. Other processes that want the same entry wait for it.
    """
    parent = cache_folder() / kind
    parent.mkdir(parents=True, exist_ok=True)
    final = parent / key
    if final.is_dir():
        yield final, None
        return
    with open(parent / f"{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.is_dir():
            yield final, None
            return
        building = Path(tempfile.mkdtemp(prefix=f"{key[:8]}-", dir=parent))
        try:
            yield final, building
            building.rename(final)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def build_core(verilog: str, *, name: str, assertions: bool = False,
               trace: str = "") -> Path:
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
    make = CHECKED_MAKE_VARIABLES if assertions else MAKE_VARIABLES
    if trace:
        flags = (*flags, f"--trace-{trace}")
    if trace == "fst":
        require_header("zlib.h", "zlib1g-dev")
        require_header("lz4.h", "liblz4-dev")
    key = digest(verilog, name, HARNESS.read_bytes(), WAIVERS.read_bytes(), verilator_version(),
                 " ".join(flags), make)
    with cached("cores", key) as (folder, building):
        if building is not None:
            _verilate(verilog, name, flags, make, building)
        return folder / "libcore.so"


def _verilate(verilog: str, name: str, flags: tuple[str, ...], make: str, folder: Path) -> None:
    (folder / "core.v").write_text(verilog)
    arguments = [
        "--cc", "--exe", "--build", "-j", "2", *flags,
        "--prefix", "Vcore", "--top-module", name, "--Mdir", "obj", "-o", "../libcore.so",
        "-CFLAGS", "-fPIC -DVL_USER_STOP -DVL_USER_FINISH -DVL_USER_FATAL",
        "-LDFLAGS", "-shared", "-MAKEFLAGS", make, str(WAIVERS), "core.v", str(HARNESS),
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
        It is missing or ends with an error; with the end of what it printed.
    """
    env = environment()
    if "-MAKEFLAGS" in arguments:  # they say it all
        env.pop("MAKEFLAGS", None)
    result = subprocess.run(["verilator", *arguments], cwd=folder, env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False)
    if result.returncode:
        raise ToolError(f"Verilator must accept the text, not end with\n{tail(result.stdout)}")


def tail(text: str, lines: int = 40) -> str:
    """The last ``lines`` of ``text``."""
    return "\n".join(text.strip().splitlines()[-lines:])
