"""Runs cocotb benches on emitted Verilog in Verilator; a bench that ran nothing has failed."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from amaranth.lib import wiring
from systolith.cache import cached, digest
from systolith_hw.emit import emit_verilog

from .build import WAIVERS, tail
from .tools import MAKE_VARIABLES, ToolError, environment, verilator_version

__all__ = ["PARAMETERS_VARIABLE", "BenchError", "run_bench"]

PARAMETERS_VARIABLE = "SYSTOLITH_BENCH"  # in the environment of the bench, as JSON

# cocotb makes every signal writable, which costs more than half of the speed.
_FLAGS = ("--no-public-flat-rw", "--public-depth", "1", "--assert", "--x-assign", "unique",
          "--x-initial", "unique")


class BenchError(AssertionError):
    """A bench failed, or ran no test."""


def run_bench(component: wiring.Component, *, name: str, test_module: str | Path,
              parameters: Mapping[str, Any] | None = None, testcase: str | None = None,
              seed: int = 1, trace: str | Path | None = None, sources: tuple[str, ...] = (),
              top: str | None = None) -> int:
    """Emit ``component`` with assertions, build it once, and run the cocotb tests on it.

    Parameters
    ----------
    component : wiring.Component
    name : str
        Name of the top module.
    test_module : str or Path
        Python module with cocotb tests, or its file.
    parameters : mapping or None
        Passed to the bench as JSON; ``systolith_sim.tb.parameters()`` reads them there.
    testcase : str or None
        The one test to run. None: all.
    seed : int
        Of the bench's randomness and of the registers' contents before reset.
    trace : path or None
        Waveform file (VCD) to write.
    sources : tuple of str
        Verilog of modules that ``component`` instantiates, or that stand around it.
    top : str or None
        Name of the top module where it is one of theirs.

    Returns
    -------
    int
        Number of tests that passed.

    Raises
    ------
    BenchError
        A test failed, or there was none; with the end of the log.
    ToolError
        A tool is missing or refuses the Verilog.
    """
    try:
        from cocotb_tools import config
        from cocotb_tools.check_results import get_results
        from cocotb_tools.runner import get_runner
    except ImportError:
        raise ToolError("cocotb must be installed for benches: "
                        "pip install 'systolith[sim]'") from None

    verilog = "\n".join([emit_verilog(component, name=name, assertions=True), *sources])
    name = top or name
    flags = [*_FLAGS, *(["--trace-vcd"] if trace else [])]
    key = digest(verilog, name, WAIVERS.read_bytes(), verilator_version(), " ".join(flags),
                 MAKE_VARIABLES, metadata.version("cocotb"), str(config.libs_dir))
    runner = get_runner("verilator")
    with cached("benches", key) as (folder, building), _environment([]):
        if building is not None:
            source, log = building / f"{name}.v", building / "build.log"
            source.write_text(verilog)
            try:
                runner.build(sources=[WAIVERS, source], hdl_toplevel=name, build_args=flags,
                             build_dir=building / "build", waves=trace is not None, log_file=log)
            except (RuntimeError, SystemExit):
                raise ToolError(f"Verilator must accept the text, not end with\n"
                                f"{tail(log.read_text())}") from None

    paths = []
    if Path(test_module).suffix == ".py":
        paths, test_module = [str(Path(test_module).resolve().parent)], Path(test_module).stem
    with tempfile.TemporaryDirectory() as work, _environment(paths):
        results, log = Path(work) / "results.xml", Path(work) / "test.log"
        try:
            # What this does about a failing bench depends on how it fails and on pytest; the
            # results file decides.
            runner.test(
                test_module=str(test_module), hdl_toplevel=name, hdl_toplevel_lang="verilog",
                build_dir=folder / "build", test_dir=work, results_xml=str(results),
                testcase=testcase, seed=seed, waves=trace is not None, log_file=log,
                plusargs=[f"+verilator+seed+{seed % 2147483646 + 1}", "+verilator+rand+reset+2"],
                extra_env={PARAMETERS_VARIABLE: json.dumps(dict(parameters or {}))})
        except (RuntimeError, SystemExit):
            pass
        if trace and (Path(work) / "dump.vcd").exists():
            shutil.copy(Path(work) / "dump.vcd", trace)
        text = log.read_text() if log.exists() else ""
        try:
            tests, failures = get_results(results)
        except (RuntimeError, SyntaxError):  # no results, or cut off
            raise BenchError(f"bench must end by itself, not with\n{tail(text)}") from None
    if tests == 0:
        raise BenchError(f"bench must run at least one test, not 0\n{tail(text)}")
    if failures:
        raise BenchError(f"bench must pass all of {tests} tests, not fail {failures}\n"
                         f"{tail(text, 80)}")
    return tests


@contextmanager
def _environment(paths: list[str]) -> Iterator[None]:
    """The tools' environment and import paths for the runner, which reads both from the process."""
    kept, kept_path = dict(os.environ), list(sys.path)
    os.environ.update(environment())
    os.environ.pop("VERILATOR_ROOT", None)
    os.environ.pop("COCOTB_TEST_FILTER", None)
    sys.path[:0] = paths
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
        sys.path[:] = kept_path
