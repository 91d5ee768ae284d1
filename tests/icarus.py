"""Icarus Verilog, a simulator that knows of undefined values."""

import os
import shutil
import subprocess

import pytest

__all__ = ["run_icarus"]


def run_icarus(files, folder, *, options=("-g2001",)):
    """What a bench prints; ``files`` are Verilog, relative to ``folder`` or absolute.

    Skips the test where Icarus is missing, and fails it in CI.
    """
    if shutil.which("iverilog") is None:
        missing = "iverilog must be installed: apt-get install iverilog"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    subprocess.run(["iverilog", *options, "-o", "bench", *map(str, files)], cwd=folder, check=True)
    return subprocess.run(["vvp", "bench"], cwd=folder, check=False, capture_output=True, text=True,
                          timeout=120).stdout
