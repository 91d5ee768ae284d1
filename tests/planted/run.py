"""Plants one bug at a time in a copy of the sources and shows which test catches it.

Usage: ``python tests/planted/run.py [name ...]``; without names, all of them. Ends with 1 when a
bug survives, when a patch no longer applies, or when the tests fail without any bug.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hw/systolith_hw", "sw/systolith", "sim/systolith_sim")


@dataclass(frozen=True)
class Bug:
    """One line of source that is wrong.

    Parameters
    ----------
    name : str
        What is wrong.
    file : str
        Where, from the root.
    old, new : str
        Text that stands there exactly once, and what takes its place.
    tests : str
        Test files or single tests that should catch it, from ``tests``.
    """
    name: str
    file: str
    old: str
    new: str
    tests: str


BUGS = (
    Bug("a flipped product bit", "hw/systolith_hw/multiply.py",
        "product.eq(activation * weight)", "product.eq((activation * weight) ^ 4)",
        "hw/test_element.py"),
    Bug("a swap one cycle late", "hw/systolith_hw/array.py",
        "swap  = self.swap & self.row_valid",
        "swap  = Signal(name=\"late\")\n        m.d.sync += swap.eq(self.swap & self.row_valid)",
        "hw/test_array.py"),
    Bug("a sum one bit too narrow", "hw/systolith_hw/element.py",
        "partial = Signal(self.sum.shape(), reset_less=True)",
        "partial = Signal(signed(len(self.sum) - 1), reset_less=True)", "hw/test_element.py"),
    Bug("a missed accumulate", "hw/systolith_hw/accumulator.py",
        "new[c].eq(base[c] + self.sums[c])", "new[c].eq(base[c] + self.sums[c] if c else "
        "self.sums[c])", "hw/test_accumulator.py"),
    Bug("accumulate ignored by the first K tile", "hw/systolith_hw/execute.py",
        "self.overwrite.eq(row.first[2:loops - 1].all() & ~now.accumulate)",
        "self.overwrite.eq(row.first[2:loops - 1].all())", "hw/test_execute.py"),
    Bug("an address off by one", "hw/systolith_hw/execute.py",
        "base.eq(base + tile_rows + rewind)", "base.eq(base + tile_rows + rewind + 1)",
        "hw/test_execute.py"),
    Bug("a jump of the wrong loop", "hw/systolith_hw/affine.py",
        "chosen = Mux(last[level], chosen, jump[level])",
        "chosen = Mux(last[0], chosen, jump[level])", "hw/test_affine.py"),
    Bug("a bubble between walks", "hw/systolith_hw/affine.py",
        "self.walk.ready.eq(step & enter)", "self.walk.ready.eq(~valid)", "hw/test_affine.py"),
    Bug("settings of the command before", "hw/systolith_hw/transfer.py",
        "run_bytes = Mux(run.first, self.settings.run_bytes, now.run_bytes)",
        "run_bytes = now.run_bytes", "hw/test_load.py"),
    Bug("a ring one row too small", "hw/systolith_hw/transfer.py",
        "(ring <= i)", "(ring <= i + 1)", "hw/test_load.py"),
    Bug("a bubble between tiles", "hw/systolith_hw/execute.py",
        "walker.open & (~self.loaded | self.swap)", "walker.open & ~self.loaded",
        "hw/test_execute.py"),
    Bug("a dropped write strobe", "hw/systolith_hw/store.py",
        "word.strobe.eq(collected | mask)", "word.strobe.eq(mask)", "hw/test_store.py"),
    Bug("a strobe beyond the end of a run", "hw/systolith_hw/store.py",
        "& (i < moving.end)", "& (i <= moving.end)", "hw/test_store.py"),
    Bug("a raise before memory has answered", "hw/systolith_hw/store.py",
        "self.bursts.payload.tag.event.eq(Mux(splitter.burst.payload.last, tag.event, 0))",
        "self.bursts.payload.tag.event.eq(tag.event)", "hw/test_store.py"),
    Bug("a burst across 4 KB", "hw/systolith_hw/bursts.py",
        "room.eq(~word[:burst_bits] if burst_bits else 0)", "room.eq(self.max_burst - 1)",
        "hw/test_bursts.py"),
    Bug("read data without a place reserved", "hw/systolith_hw/axi.py",
        "fits.eq(space > burst.words)", "fits.eq(1)", "hw/test_axi.py"),
    Bug("a write response forgotten", "hw/systolith_hw/axi.py",
        "self.done.payload.error.eq(self.bresp != OKAY)", "self.done.payload.error.eq(0)",
        "hw/test_axi.py"),
    Bug("a lost semaphore", "hw/systolith_hw/semaphore.py",
        "up.eq(raising & (raise_number == i))", "up.eq(raising & (raise_number == i) & ~taking)",
        "hw/test_semaphore.py"),
    Bug("a gate that waits once too often", "hw/systolith_hw/semaphore.py",
        "want[slot].eq(~final)", "want[slot].eq(1)", "hw/test_semaphore.py"),
    Bug("tokens of the next command before this one's", "hw/systolith_hw/semaphore.py",
        "self.waits.ready.eq(~ahead & ~have.any() & ~want.any())",
        "self.waits.ready.eq(~ahead & ~have.any())", "hw/test_semaphore.py"),
    Bug("a raise before it is due", "hw/systolith_hw/semaphore.py",
        "self.raise_.valid.eq(owed != 0)", "self.raise_.valid.eq(pairs.o.valid)",
        "hw/test_semaphore.py"),
    Bug("a second raise dropped", "hw/systolith_hw/semaphore.py",
        "pairs.o.ready.eq(taken & (slot | ~head.event[1]))", "pairs.o.ready.eq(taken)",
        "hw/test_semaphore.py"),
    Bug("a queue that overflows", "hw/systolith_hw/fifo.py",
        "self.i.ready.eq(level != self.depth),\n            ram.write_en",
        "self.i.ready.eq(1),\n            ram.write_en", "hw/test_fifo.py"),
    Bug("an entry from the wrong side", "hw/systolith_hw/fifo.py",
        "item = Mux(valid[i + 1], entries[i + 1], item)",
        "item = Mux(valid[i], entries[i + 1], item)",
        "hw/test_fifo.py"),
    Bug("the bank of another request", "hw/systolith_hw/scratchpad.py",
        "m.d.sync += bank.eq(port.addr[inner:])", "m.d.comb += bank.eq(port.addr[inner:])",
        "hw/test_scratchpad.py"),
    Bug("rounding towards zero on ties", "hw/systolith_hw/requantise.py",
        "right_1 & (value_high_1 < 0)).as_signed()", "right_1 & 0).as_signed()",
        "hw/test_requantise.py"),
    Bug("a bias of the lane beside", "hw/systolith_hw/vector.py",
        "bias.eq(own[0:32])", "bias.eq(params[0:32])", "hw/test_vector.py"),
    Bug("the zero point of the next command", "hw/systolith_hw/vector.py",
        "raw | (valids[self.PLACE - 1] & places[self.PLACE - 1].first)",
        "raw | (valids[self.PLACE - 2] & places[self.PLACE - 2].first)", "hw/test_vector.py"),
    Bug("int8 results right behind int32 results", "hw/systolith_hw/vector.py",
        "((now.raw == raw) | (under_way == 0))", "1", "hw/test_vector.py"),
    Bug("a parameter row of the tile before", "hw/systolith_hw/vector.py",
        "[param.eq(param + 1), param_tile.eq(param + 1)]", "[param.eq(param_tile)]",
        "hw/test_vector.py"),
    Bug("lanes beyond the last weight left in", "hw/systolith_hw/execute.py",
        "Mux(i < entering.lanes, self.act.data[8 * i:8 * i + 8], 0)",
        "self.act.data[8 * i:8 * i + 8]",
        "e2e/test_verilog.py::test_no_undefined_value_reaches_memory"),
    Bug("k_last up to R + 1", "hw/systolith_hw/legal.py",
        "value > config.array.rows", "value > config.array.rows + 1", "hw/test_legal.py"),
    Bug("a fence that does not wait", "hw/systolith_hw/dispatch.py",
        "done.eq(self.engines_idle & queues.empty)", "done.eq(queues.empty)",
        "hw/test_dispatch.py"),
    Bug("a credit too many", "hw/systolith_hw/dispatch.py",
        "credit + 1 >= record[\"value\"][:4]", "credit >= record[\"value\"][:4]",
        "hw/test_dispatch.py"),
    Bug("a start that needs no reset after an error", "hw/systolith_hw/control.py",
        "word[0] & ~busy & ~failed & ~resetting", "word[0] & ~busy & ~resetting",
        "hw/test_control.py"),
    Bug("a cycle in two states", "hw/systolith_hw/core.py",
        "none = none & ~applies[state]", "none = none & ~applies[\"busy\"]",
        "e2e/test_rtl_gemm.py::test_counters_say_where_every_cycle_of_every_engine_went"),
    Bug("the model rounds half up", "sw/systolith/model/arithmetic.py",
        "np.where((right > 0) & (x < 0), np.int64(1) << 31, 0)", "0",
        "sw/test_arithmetic.py"),
)


def plant(bug: Bug | None, folder: Path) -> None:
    """Copy the sources to ``folder``, with ``bug`` in them.

    Raises
    ------
    ValueError
        The patch does not apply.
    """
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / Path(package).name,
                        ignore=shutil.ignore_patterns("__pycache__"))
    if bug is None:
        return
    path = folder / Path(bug.file).relative_to(Path(bug.file).parts[0])
    text = path.read_text()
    if text.count(bug.old) != 1:
        raise ValueError(f"{bug.file} must contain {bug.old!r} once, not {text.count(bug.old)} "
                         f"times")
    path.write_text(text.replace(bug.old, bug.new))


def run_tests(folder: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests on the sources in ``folder``; pytest's exit code and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1",
                   "COLUMNS": "500"}
    where = subprocess.run(
        [sys.executable, "-c",
         "import systolith, systolith_hw; print(systolith.__file__, systolith_hw.__file__)"],
        env=environment, capture_output=True, text=True, check=True).stdout.split()
    if not all(Path(path).is_relative_to(folder) for path in where):
        raise RuntimeError(f"tests must run on the copy in {folder}, not on {where}")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no",
         *(f"tests/{test}" for test in tests)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, timeout=300)
    return result.returncode, result.stdout


def try_bug(bug: Bug) -> tuple[bool, str]:
    """Whether ``bug`` is caught, and by which test."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        try:
            plant(bug, Path(folder))
        except ValueError as error:
            return False, f"DOES NOT APPLY: {error}"
        code, output = run_tests(Path(folder), bug.tests.split())
    # Python's own errors would say that the patch is no good, not that a test is.
    caught = re.search(r"^FAILED (?:tests/)?(\S+) - (?:assert|Assertion|Timeout)", output, re.M)
    if code == 1 and caught:
        return True, caught[1]
    if code == 0:
        return False, "SURVIVES"
    return False, f"TESTS DO NOT RUN: {output.strip().splitlines()[-1]}"


def main(names: list[str]) -> int:
    """Print the table; 0 when every bug is caught."""
    unknown = set(names) - {bug.name for bug in BUGS}
    if unknown:
        print(f"name must be one of {', '.join(bug.name for bug in BUGS)}, not {unknown.pop()!r}")
        return 2
    bugs = [bug for bug in BUGS if not names or bug.name in names]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        plant(None, Path(folder))
        tests = sorted({test for bug in bugs for test in bug.tests.split()})
        code, output = run_tests(Path(folder), tests)
    if code:
        print(f"tests must pass without a bug, not end with\n{output[-3000:]}")
        return 1
    width = max(len(bug.name) for bug in bugs)
    survivors = 0
    for bug in bugs:
        caught, by = try_bug(bug)
        survivors += not caught
        print(f"{bug.name:{width}}  {'caught by ' if caught else ''}{by}", flush=True)
    print(f"{len(bugs) - survivors} of {len(bugs)} bugs caught in "
          f"{time.monotonic() - begin:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
