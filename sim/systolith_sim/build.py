"""Verilates a core into a shared library, once for each text, tool version and set of flags."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .tools import MAKE_VARIABLES, ToolError, environment, require_header, verilator_version

__all__ = ["build_core", "cache_folder", "cached", "digest", "lint", "run_verilator", "tail"]

HARNESS = Path(__file__).parent / "harness.cpp"
HEADERS = tuple(Path(__file__).parent / name for name in ("memory.h", "observe.h"))
WAIVERS = Path(__file__).parent / "waivers.vlt"

FAST_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert")
FAST_MAKE_VARIABLES = f"{MAKE_VARIABLES} OPT_SLOW=-O0"
# Registers start at random, so that what was never reset or written shows.
CHECKED_FLAGS = ("-O3", "--x-assign", "unique", "--x-initial", "unique", "--assert")
# Checked runs are short, and compiling is most of what they wait for.
CHECKED_MAKE_VARIABLES = FAST_MAKE_VARIABLES.replace("-O2", "-O1")

KEPT_SECONDS = 30 * 86400  # since an entry of the cache was last used
# What tools say, in the C locale, when a file cannot grow; 25 is SIGXFSZ. Verilator itself writes
# half a file without a word, so that what is free on the disk counts too.
NO_ROOM = ("No space left on device", "Disk quota exceeded", "File too large",
           "File size limit exceeded", "signal 25")
LEAST_FREE = 1 << 16  # bytes


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
    without an exception. Other processes that want the same entry wait for it. Whoever builds
    removes the entries of this kind that nobody has used for 30 days.
    """
    parent = cache_folder() / kind
    parent.mkdir(parents=True, exist_ok=True)
    final = parent / key
    if _use(final):
        yield final, None
        return
    with open(parent / f"{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _use(final):
            yield final, None
            return
        _prune(parent)
        building = Path(tempfile.mkdtemp(prefix=f"{key[:8]}-", dir=parent))
        try:
            yield final, building
            for path in building.iterdir():  # a name must not outlast a crash that its bytes do not
                if path.is_file():
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
            building.rename(final)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _use(folder: Path) -> bool:
    """Whether ``folder`` exists; it then counts as used now."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    except OSError:  # somebody else's, or read-only
        return folder.is_dir()
    return True


def _prune(parent: Path) -> None:
    """Remove entries, and what interrupted builds left, that nobody has used for long."""
    oldest = time.time() - KEPT_SECONDS
    for entry in parent.iterdir():
        try:
            if entry.is_dir() and entry.stat().st_mtime < oldest:
                shutil.rmtree(entry)
        except OSError:  # removed by somebody else meanwhile, or not ours to remove
            continue


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
