"""Runs the emitted smoke test, plain Verilog and all, in Verilator."""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from systolith.cache import cached, digest

from .build import WAIVERS, run_verilator, tail
from .tools import verilator_version

__all__ = ["SmokeError", "run_smoke"]

# Delays in the bench need coroutines. It runs briefly, so that compiling fast matters more.
_MAKE_VARIABLES = ("CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_COROUTINES=-fcoroutines "
                   "CFG_CXXFLAGS_STD=-std=gnu++20 OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O0")


class SmokeError(AssertionError):
    """The bench ended without PASS."""


def run_smoke(verilog: str, files: Mapping[str, str], *, timeout: float = 600.0) -> str:
    """Build the bench in ``files`` around the core in ``verilog``, and run it.

    Parameters
    ----------
    verilog : str
    files : mapping of str to str
        What ``systolith_hw.smoke.smoke_files`` returned.
    timeout : float
        Seconds the run may take.

    Returns
    -------
    str
        What the bench printed.

    Raises
    ------
    SmokeError
        It did not print PASS.
    ToolError
        A tool is missing or refuses the text.
    """
    bench = next(name for name in files if name.endswith("_tb.v"))
    top = Path(bench).stem
    key = digest(verilog, files[bench], WAIVERS.read_bytes(), verilator_version(),
                 _MAKE_VARIABLES)
    with cached("smoke", key) as (folder, building):
        if building is not None:
            (building / "core.v").write_text(verilog)
            (building / bench).write_text(files[bench])
            run_verilator(["--binary", "--timing", "-j", "2", "--top-module", top,
                           "--Mdir", "obj", "-o", "../bench", "-MAKEFLAGS", _MAKE_VARIABLES,
                           str(WAIVERS), "core.v", bench], building)
    with tempfile.TemporaryDirectory() as work:
        for name, text in files.items():
            (Path(work) / name).write_text(text)
        try:
            result = subprocess.run([str(folder / "bench")], cwd=work, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True, check=False,
                                    timeout=timeout)
        except subprocess.TimeoutExpired:
            raise SmokeError(f"bench must end within {timeout} s, not still run") from None
    if result.returncode or not any(line.startswith("PASS")
                                    for line in result.stdout.splitlines()):
        raise SmokeError(f"bench must print PASS, not end with\n{tail(result.stdout)}")
    return result.stdout
