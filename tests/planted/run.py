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
        "base[c] + self.sums[c]))", "base[c] + self.sums[c] if c else self.sums[c]))",
        "hw/test_accumulator.py"),
    Bug("sums forwarded from the row before", "hw/systolith_hw/accumulator.py",
        "pipe.at(\"new\", distance - least)", "pipe.at(\"new\", max(distance - least - 1, 0))",
        "hw/test_accumulator.py"),
    Bug("accumulate ignored by the first K tile", "hw/systolith_hw/execute.py",
        "new.at.overwrite.eq(row.first[2:loops - 1].all() & ~now.accumulate)",
        "new.at.overwrite.eq(row.first[2:loops - 1].all())", "hw/test_execute.py"),
    Bug("an address off by one", "hw/systolith_hw/weights.py",
        "Mux(last_digit, ahead, 0)", "Mux(last_digit, ahead + 1, 0)", "hw/test_execute.py"),
    Bug("a tile that begins in the middle of a weight row", "hw/systolith_hw/weights.py",
        "tile_rows + (1 << shift[name]) - 1 >> shift[name]", "tile_rows >> shift[name]",
        "hw/test_execute.py"),
    Bug("a digit that stays for the next command", "hw/systolith_hw/weights.py",
        "digit.eq(Mux(last_digit, 0, digit + 1))", "digit.eq(digit + 1)", "hw/test_execute.py"),
    Bug("sums of a digit at the wrong place", "hw/systolith_hw/execute.py",
        "total << self._shift_of(digit)", "total << digit", "hw/test_execute.py"),
    Bug("a ternary weight of -2", "hw/systolith_hw/unpack.py",
        "Cat(code[0], code[0] & code[1])", "code", "hw/test_execute.py"),
    Bug("a low nibble with a sign", "hw/systolith_hw/pairs.py",
        "Cat(weight[:4], weight[3] & self.weights_pairs)", "Cat(weight[:4], weight[3])",
        "hw/test_execute.py"),
    Bug("an upper half that is one too small", "hw/systolith_hw/array_ecp5.py",
        "high = (high[1:].as_signed() + high[0])", "high = (high[1:].as_signed() + 0)",
        "hw/test_array_ecp5.py"),
    Bug("a pair of products that wraps", "hw/systolith_hw/array_ice40.py",
        "total[15] & ~most", "total[15]", "hw/test_array_ice40.py"),
    Bug("negative terms that lack one", "hw/systolith_hw/array_soft.py",
        "(self._lack(m, kind), 0)", "(self._lack(m, kind) >> 1, 0)", "hw/test_array_soft.py"),
    Bug("a ternary term that lacks one", "hw/systolith_hw/element_ecp5.py",
        "self.left + term.as_signed() + negative)", "self.left + term.as_signed())",
        "hw/test_element_ecp5.py"),
    Bug("a gated product of the row before", "hw/systolith_hw/array.py",
        "with m.If(lives[r]):", "with m.If(lives[0]):", "hw/test_gating.py"),
    Bug("a jump of the wrong loop", "hw/systolith_hw/affine.py",
        "chosen = Mux(last[level], chosen, jump[level])",
        "chosen = Mux(last[0], chosen, jump[level])", "hw/test_affine.py"),
    Bug("a bubble between walks", "hw/systolith_hw/affine.py",
        "self.walk.ready.eq(step & enter)", "self.walk.ready.eq(~valid)", "hw/test_affine.py"),
    Bug("settings of the command before", "hw/systolith_hw/transfer.py",
        "first  = Mux(run.first, use.first, settings.first)",
        "first  = settings.first", "hw/test_load.py"),
    Bug("a ring one row too small", "hw/systolith_hw/transfer.py",
        "at_most(ring, i)", "at_most(ring, i + 1)", "hw/test_load.py"),
    Bug("a bubble between tiles", "hw/systolith_hw/weights.py",
        "(~loaded | swapped)", "~loaded", "hw/test_execute.py"),
    Bug("a dropped write strobe", "hw/systolith_hw/store.py",
        "word.strobe.eq(collected | mask)", "word.strobe.eq(mask)", "hw/test_store.py"),
    Bug("a strobe beyond the end of a run", "hw/systolith_hw/store.py",
        "(~at_most(moving.last, i - 1) if i else 1)",
        "(~at_most(moving.last, i - 2) if i > 1 else 1)",
        "hw/test_store.py"),
    Bug("a raise before memory has answered", "hw/systolith_hw/store.py",
        "taken.payload.tag.event.eq(Mux(splitter.burst.payload.last, tag.event, 0))",
        "taken.payload.tag.event.eq(tag.event)", "hw/test_store.py"),
    Bug("a burst across 4 KB", "hw/systolith_hw/bursts.py",
        "Mux(last, left, ~place)", "Mux(last, left, self.max_burst - 1)", "hw/test_bursts.py"),
    Bug("read data without a place reserved", "hw/systolith_hw/axi.py",
        "fits.eq(space > burst.words)", "fits.eq(1)", "hw/test_axi.py"),
    Bug("a write response forgotten", "hw/systolith_hw/axi.py",
        "self.done.payload.error.eq(self.bresp != OKAY)", "self.done.payload.error.eq(0)",
        "hw/test_axi.py"),
    Bug("a lost semaphore", "hw/systolith_hw/semaphore.py",
        "with m.If(up[i] & ~down[i] & ~value.all()):",
        "with m.If(up[i] & ~down.any() & ~value.all()):", "hw/test_semaphore.py"),
    Bug("a gate that waits once too often", "hw/systolith_hw/semaphore.py",
        "want[slot].eq(~self.final[slot])", "want[slot].eq(1)", "hw/test_semaphore.py"),
    Bug("tokens of the next command before this one's", "hw/systolith_hw/semaphore.py",
        "self.waits.ready.eq(~ahead & ~have.any() & ~want.any())",
        "self.waits.ready.eq(~ahead & ~have.any())", "hw/test_semaphore.py"),
    Bug("a raise before it is due", "hw/systolith_hw/semaphore.py",
        "self.raise_.valid.eq((owed != 0)", "self.raise_.valid.eq(1",
        "hw/test_semaphore.py"),
    Bug("a second raise dropped", "hw/systolith_hw/semaphore.py",
        "pairs.o.ready.eq(taken & (slot | ~head.event[1]))", "pairs.o.ready.eq(taken)",
        "hw/test_semaphore.py"),
    Bug("a queue that overflows", "hw/systolith_hw/fifo.py",
        "self.i.ready.eq(~level[-1]),\n            ram.write_en",
        "self.i.ready.eq(1),\n            ram.write_en", "hw/test_fifo.py"),
    Bug("an entry from the wrong side", "hw/systolith_hw/fifo.py",
        "item, free = Mux(valid[i + 1],", "item, free = Mux(valid[i],",
        "hw/test_fifo.py"),
    Bug("the bank of another request", "hw/systolith_hw/scratchpad.py",
        "pipe.at(f\"bank_of{i}\", self.READ_LATENCY - (not self.late))",
        "pipe.at(f\"bank_of{i}\", self.READ_LATENCY - 1 - (not self.late))",
        "hw/test_scratchpad.py"),
    Bug("rounding towards zero on ties", "hw/systolith_hw/requantise.py",
        "right_1 & minus_1)", "0)",
        "hw/test_requantise.py"),
    Bug("a carry lost below the last digit", "hw/systolith_hw/serial.py",
        "lowest[4] | following.any()", "lowest[4]",
        "hw/test_serial.py::test_takes_another_shift_zero_point_clamp_and_type_with_every_value"),
    Bug("a bias of the lane beside", "hw/systolith_hw/operands.py",
        "second.eq(bias[own])", "second.eq(bias[:32])",
        "hw/test_vector.py::test_parameter_rows_follow_the_column_tiles"),
    Bug("the zero point of the group behind", "hw/systolith_hw/lanes.py",
        "result_type > ResultType.ROW_VALUE, 0, zero_point)",
        "result_type > ResultType.ROW_VALUE, 0, setting(\"zero_point\", 0))",
        "hw/test_vector.py::test_commands_as_long_as_the_pipeline_follow_each_other_whatever_"
        "their_settings"),
    Bug("settings in the place of those under way", "hw/systolith_hw/groups.py",
        "slot.eq(Mux(begins & ~known, ~current, current))", "slot.eq(current)",
        "hw/test_vector.py::test_two_different_settings_may_be_under_way_and_a_third_waits_for_"
        "the_first"),
    Bug("another order of function and scale at once", "hw/systolith_hw/groups.py",
        "(now.same_order | vacant.all())", "1",
        "hw/test_vector.py::test_another_order_or_writer_of_records_waits_until_the_pipeline_is_"
        "empty"),
    Bug("a narrow result in the midst of a wide one", "hw/systolith_hw/reads.py",
        "& ~(head.begins & final & rests)", "",
        "hw/test_vector.py::test_a_narrow_result_waits_until_a_wide_one_is_written"),
    Bug("a raise before records are written", "hw/systolith_hw/stages.py",
        "max(written, self.result + self.sum) if", "written if",
        "hw/test_vector.py::test_results_are_written_end_cycles_after_their_group_and_records_"
        "until_latency"),
    Bug("a parameter row of the tile before", "hw/systolith_hw/groups.py",
        "[next_param.eq(param + 1), next_tile.eq(param + 1)]", "[next_param.eq(tile)]",
        "hw/test_vector.py::test_parameter_rows_follow_the_column_tiles"),
    Bug("a scale of the group behind", "hw/systolith_hw/lanes.py",
        "self.scale.addr.eq(travelling(\"param\", -ARRIVED))",
        "self.scale.addr.eq(travelling(\"param\", -ARRIVED - 1))",
        "hw/test_vector.py::test_parameter_rows_follow_the_column_tiles"),
    Bug("a refused read taken for granted", "hw/systolith_hw/reads.py",
        "granted.eq((granted | (asks & ready)) & ~step)", "granted.eq((granted | asks) & ~step)",
        "hw/test_vector.py::test_a_port_that_does_not_grant_only_costs_time"),
    Bug("rows of a group in the wrong order", "hw/systolith_hw/operands.py",
        "(self.beat == i)", "(self.beat == beats_of(4, self.config) - 1 - i)",
        "hw/test_vector.py::test_every_type_in_and_out"),
    Bug("a group of the row beside", "hw/systolith_hw/operands.py",
        "values.append(choose(groups, unit[exact_log2(size):]))", "values.append(groups[0])",
        "hw/test_vector.py::test_random_commands_equal_the_model[0.0-1_lane]"),
    Bug("a source not shifted for a fine one", "hw/systolith_hw/operands.py",
        "saturated(a << 8, 32)", "(a << 8)[:32].as_signed()",
        "hw/test_vector.py::test_every_type_in_and_out"),
    Bug("a lane of the tail taken", "hw/systolith_hw/lanes.py",
        "all_taken | (lane < tail)", "all_taken | (lane <= tail)",
        "hw/test_vector.py::test_every_reduction_with_every_tail_and_span"),
    Bug("a row that begins anew at every loop", "hw/systolith_hw/groups.py",
        "span_first = element.first[0] & (~now.settings.span | element.first[1])",
        "span_first = element.first[0]",
        "hw/test_vector.py::test_every_reduction_with_every_tail_and_span"),
    Bug("a record that does not advance", "hw/systolith_hw/groups.py",
        "next_row.eq(row + 1)", "next_row.eq(row)",
        "hw/test_vector.py::test_a_maximum_stands_at_the_first_of_its_equals"),
    Bug("a record written by every group of a fold", "hw/systolith_hw/lanes.py",
        "emitted & (~self._setting(\"fold\", before) | self.pipe.at(\"last\", before))",
        "emitted",
        "hw/test_vector.py::test_every_reduction_with_every_tail_and_span"),
    Bug("records read that nobody needs", "hw/systolith_hw/reads.py",
        "self.sum_read.eq(issue & head.uses.row_sum)", "self.sum_read.eq(issue)",
        "hw/test_vector.py::test_commands_write_the_same_records_in_turn"),
    Bug("a negative sum of results", "hw/systolith_hw/lanes.py",
        "rows.sum_data.eq(Mux(total < 0, 0, total[:31]))", "rows.sum_data.eq(total[:31])",
        "hw/test_vector.py::test_every_reduction_with_every_tail_and_span"),
    Bug("a mantissa beyond its bits", "hw/systolith_hw/rowscale.py",
        "Mux(self.result < 0, 0, Mux(", "Mux(0, 0, Mux(",
        "hw/test_vector.py::test_every_function_before_and_after_the_scale_with_every_result"),
    Bug("a difference that wraps", "hw/systolith_hw/combine.py",
        "number.eq(saturated(difference, 32))", "number.eq(difference[:32].as_signed())",
        "hw/test_combine.py"),
    Bug("a mask ignored", "hw/systolith_hw/combine.py",
        "Mux(self.masked & ~self.kept, INT32_MIN, number)", "number", "hw/test_combine.py"),
    Bug("a segment off by one", "hw/systolith_hw/function.py",
        "number + (mode[5].base << 6)", "number + (mode[5].base << 6) + wide",
        "hw/test_function.py::test_every_place_of_every_segment"),
    Bug("guard bits that do not round", "hw/systolith_hw/function.py",
        " + sum_12[GUARD_BITS - 1])", ")",
        "hw/test_function.py::test_every_place_of_every_segment"),
    Bug("a root of an odd exponent", "hw/systolith_hw/function.py",
        " & ~mode[3].halve", "",
        "hw/test_function.py::test_normalises_to_31_bits_by_even_places_for_a_root"),
    Bug("a result one bit beyond int16", "hw/systolith_hw/function.py",
        "number_13[bits - 1:above]\n                                     "
        "== sign_13.replicate(above - bits + 1))",
        "number_13[bits - 1 + (bits == 16):above]\n                                     "
        "== sign_13.replicate(above - bits + 1 - (bits == 16)))",
        "hw/test_function.py::test_products_saturate_at_the_limit"),
    Bug("a maximum at the last of its equals", "hw/systolith_hw/reduce.py",
        "Cat(number_1, least_1 | fresh_1).as_signed())",
        "Cat(number_1, least_1 | fresh_1).as_signed() - 1)", "hw/test_reduce.py"),
    Bug("a tie that the later lane wins", "hw/systolith_hw/reduce.py",
        "- Cat(low.group, high.number[:32]).as_signed())",
        "- Cat(low.group, high.number[:32]).as_signed() - 1)", "hw/test_reduce.py"),
    Bug("a fold that goes on from the row before", "hw/systolith_hw/reduce.py",
        "Mux(first_1, 0, limited)", "limited", "hw/test_reduce.py"),
    Bug("a sum in the record of a value", "hw/systolith_hw/rowfile.py",
        "write=(self.sum_write, self.sum_record, self.sum_data)",
        "write=(self.sum_write, self.value_record, self.sum_data)", "hw/test_rowfile.py"),
    Bug("a parameter of the lane beside", "hw/systolith_hw/parameters.py",
        "[RECORD_BYTES * lane + byte for", "[RECORD_BYTES * (lane & ~1) + byte for",
        "hw/test_parameters.py"),
    Bug("lanes beyond the last weight left in", "hw/systolith_hw/execute.py",
        "Mux(i < lanes, self.act.data[8 * i:8 * i + 8], 0)",
        "self.act.data[8 * i:8 * i + 8]",
        "e2e/test_verilog.py::test_no_undefined_value_reaches_memory"),
    Bug("k_last up to R + 1", "hw/systolith_hw/legal.py",
        "~at_most(value, config.array.rows)", "~at_most(value, config.array.rows + 1)",
        "hw/test_legal.py"),
    Bug("a fence that does not wait", "hw/systolith_hw/dispatch.py",
        "acting & all_idle & queues.empty", "acting & queues.empty",
        "hw/test_dispatch.py"),
    Bug("a credit too many", "hw/systolith_hw/dispatch.py",
        "(credits == 1)", "(credits == 0)", "hw/test_dispatch.py"),
    Bug("a start that needs no reset after an error", "hw/systolith_hw/control.py",
        "word[0] & ~busy & ~failed & ~resetting", "word[0] & ~busy & ~resetting",
        "hw/test_control.py"),
    Bug("a cycle in two states", "hw/systolith_hw/core.py",
        "none = none & ~applies[state]", "none = none & ~applies[\"busy\"]",
        "e2e/test_rtl_gemm.py::test_counters_say_where_every_cycle_of_every_engine_went"),
    Bug("the last of equal maxima", "sw/systolith/model/vector.py",
        "order.min(axis=1)", "order.max(axis=1)", "sw/test_vector.py"),
    Bug("a segment of the wrong side of zero", "sw/systolith/model/vector.py",
        'least = -count // 2 if fields["function_signed"] else 0',
        'least = 0 if fields["function_signed"] else 0', "sw/test_vector.py"),
    Bug("a program that does not wait for results of its own engine",
        "sim/systolith_sim/random_programs/order.py",
        "if self.engine == other.engine and not (ours.write and not theirs.write):",
        "if self.engine == other.engine:",
        "e2e/test_random_programs.py::test_nothing_is_touched_before_the_vector_engines_writes_to_"
        "it_have_landed"),
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
