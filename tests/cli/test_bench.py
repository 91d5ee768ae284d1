"""`systolith bench`: figures that follow from each other, and what becomes of bad input."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from systolith.bound import Bound
from systolith.cli import main
from systolith.cli.bench_vector import PROGRAMS
from systolith.cli.measure import Task, loss_reason, lost_cycles
from systolith.device import ModelDevice
from systolith.shapes import Shape, suite_shapes
from systolith.vector.alone import data_cycles, repeat_alone
from systolith.vector.elements import FUNCTIONS
from systolith.vector.speed import LIMITS, benchmarks
from systolith_hw.config import PRESETS

LAYERS = "layer,k,n,m\nfirst,30,10,20\nsecond,16,9,1\nfirst again,30,10,20\n"
REQUIRED = {"m", "n", "k", "cycles", "bound_cycles", "share_of_bound", "macs_per_cycle",
            "bus_share", "bit_exact"}


@pytest.fixture
def layers(tmp_path):
    """A file of three shapes, one of which occurs twice."""
    (tmp_path / "layers.csv").write_text(LAYERS)
    return "layers.csv"


def sizes(rows):
    return [(row["m"], row["n"], row["k"]) for row in rows]


@pytest.mark.parametrize("options", ["", "--params", "--int32", "--set=array.cols=3"])
def test_the_model_checks_results_and_counts_bytes(run_json, layers, options):
    report = run_json("bench", "gemm", "--shapes", layers, "--device", "model", "--preset", "tiny",
                      "--jobs", 1, *options.split())
    assert sizes(report["shapes"]) == [(20, 10, 30), (1, 9, 16), (20, 10, 30)]
    assert report["bit_exact"] is True
    assert report["geomean_share_of_bound"] is report["cycles"] is None
    for row in report["shapes"]:
        assert row.keys() >= REQUIRED
        assert row["bit_exact"] is True
        assert row["cycles"] is row["share_of_bound"] is row["bus_share"] is row["reason"] is None
        assert row["moved_bytes"] >= row["compulsory_bytes"]
        assert row["traffic"] == row["moved_bytes"] / row["compulsory_bytes"]


def test_results_and_parameters_count_for_the_bytes(run_json):
    def compulsory(*options):
        row, = run_json("bench", "gemm", "-m", 3, "-n", 7, "-k", 11, "--device", "model",
                        *options)["shapes"]
        return row["compulsory_bytes"]
    assert compulsory() == 3 * 11 + 11 * 7 + 3 * 7
    assert compulsory("--params") == 3 * 11 + 11 * 7 + 12 * 7 + 3 * 7
    assert compulsory("--int32") == 3 * 11 + 11 * 7 + 4 * 3 * 7


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("m", [20, 1])
def test_results_go_through_a_function(run_json, function, m):
    """Also where operands are swapped; the results are compared with NumPy's."""
    report = run_json("bench", "gemm", "-m", m, "-n", 30, "-k", 40, "--device", "model", "--params",
                      "--function", function)
    assert (report["bit_exact"], report["function"]) == (True, function)


def test_the_function_is_the_one_that_is_named():
    task = Task(config=PRESETS["demo"], shape=Shape(1, 1, 1), function="gelu")
    # gelu(1) = 0.8413 and gelu(-1) = -0.1587, in steps of 1/16.
    assert [int(task.table[x + 128]) for x in (16, -16, 0, 127, -128)] == [13, -3, 0, 127, 0]
    results = task.operands().expected()
    assert results == task.table[replace(task, function=None).operands().expected() + np.int16(128)]


def test_a_function_costs_next_to_nothing(run_json):
    def cycles(*options):
        row, = run_json("bench", "gemm", "-m", 64, "-n", 64, "-k", 64, "--preset", "demo", *options
                        )["shapes"]
        assert row["bit_exact"]
        return row["cycles"]
    plain = cycles()
    assert plain <= cycles("--function", "gelu") < plain + 80


def test_the_verilog_counts_cycles(run, run_json, layers, tmp_path):
    arguments = ("bench", "gemm", "--shapes", layers, "--preset", "tiny", "--set",
                 "control.traffic=true")
    report = run_json(*arguments, "--output", "figures.csv")
    assert report["bit_exact"] is True
    assert report["preset"] == report["core"] == "tiny"
    assert report["memory"] == {}
    product = 1
    for row in report["shapes"]:
        macs = row["m"] * row["n"] * row["k"]
        assert row["cycles"] > row["bound_cycles"] >= macs / 16
        assert row["share_of_bound"] == row["bound_cycles"] / row["cycles"]
        assert row["macs_per_cycle"] == macs / row["cycles"]
        assert row["utilization"] == row["macs_per_cycle"] / 16
        assert 0 < row["bus_share"] < 1
        lost = row["padding_cycles"] + row["bus_cycles"] + row["overhead_cycles"]
        assert lost + -(-macs // 16) == row["cycles"]
        product *= row["share_of_bound"]
    assert report["geomean_share_of_bound"] == pytest.approx(product ** (1 / 3))
    assert report["lowest_share_of_bound"] == min(r["share_of_bound"] for r in report["shapes"])
    assert report["cycles"] == sum(row["cycles"] for row in report["shapes"])

    written = list(csv.DictReader(io.StringIO((tmp_path / "figures.csv").read_text())))
    assert [row["cycles"] for row in written] == [str(r["cycles"]) for r in report["shapes"]]

    slow = run_json(*arguments, "--latency", 200)
    assert slow["memory"] == {"latency": 200}
    assert slow["cycles"] > report["cycles"] + 2 * 168

    text = run(*arguments).stdout
    assert re.search(r"^ +2 +20 +10 +30 +swapped +[\d,]+ +[\d,]+ +400 .* yes +overhead [\d,]+ "
                     r"cycles *$", text, re.M)
    assert re.search(r"^of bound +\d+\.\d % \(geometric mean\), lowest \d+\.\d % at 1 x 9 x 16$",
                     text, re.M)
    assert re.search(r"^bit-exact +yes, all 3$", text, re.M)
    assert f"cycles     {report['cycles']:,} in all" in text


def test_processes_change_nothing(run_json, layers):
    def rows(jobs):
        return run_json("bench", "gemm", "--shapes", layers, "--device", "model", "--preset",
                        "tiny", "--jobs", jobs)["shapes"]
    assert rows(2) == rows(1)


def test_figures_follow_the_seed_alone(run_json):
    def report(seed):
        report = run_json("bench", "gemm", "-m", 5, "-n", 6, "-k", 7, "--preset", "tiny", "--seed",
                          seed, "--jitter", 40)
        return {key: value for key, value in report.items() if key != "seconds"}
    assert report(3) == report(3)
    assert report(3)["cycles"] != report(4)["cycles"]


def test_the_suite_runs_the_shapes_of_the_package(run_json):
    report = run_json("bench", "gemm", "--suite", "deepbench", "--device", "predict")
    assert sizes(report["shapes"]) == [(s.m, s.n, s.k) for s in suite_shapes("deepbench")]
    assert report["core"] == "bench16"
    assert report["bit_exact"] is None


def test_wrong_results_end_with_1_and_their_shapes(run, layers, monkeypatch):
    honest = ModelDevice.read
    monkeypatch.setattr(ModelDevice, "read", lambda self, address, count:
                        honest(self, address, count) ^ (count == 20 * 10))
    arguments = ("bench", "gemm", "--shapes", layers, "--device", "model", "--preset", "tiny",
                 "--jobs", 1)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "systolith: results of 20 x 10 x 30 must equal NumPy's, not differ")
    assert re.search(r"^bit-exact +no$", result.stdout, re.M)
    report = json.loads(run(*arguments, "--json").stdout)
    assert [row["bit_exact"] for row in report["shapes"]] == [False, True, False]
    assert report["bit_exact"] is False


def word(text):
    """A parameter's name without spaces."""
    return text.replace(" ", "_")


SOURCES = "shapes must be given by one of -m -n -k, --shapes and --suite"


@pytest.mark.parametrize("line, sentence", [
    ("", f"{SOURCES}, not by none"),
    ("-m 3 --suite deepbench", f"{SOURCES}, not by more"),
    ("--shapes layers.csv --suite deepbench", f"{SOURCES}, not by more"),
    ("-m 3 -k 3", "n must be given with m and k, not left out"),
    ("-m 0 -n 1 -k 1", "m must be at least 1, not 0"),
    ("-m 1 -n 1 -k -1", "k must be at least 1, not -1"),
    ("-m 65536 -n 1 -k 65536", "m * k must be at most 2147483648, not 4294967296"),
    ("--suite resnet", "suite must be one of deepbench, not 'resnet'"),
    ("--shapes no.csv", "no.csv: no such file or directory"),
    ("--suite deepbench --device gpu", "device must be one of rtl, model, predict, not 'gpu'"),
    ("--suite deepbench --jobs 0", "jobs must be at least 1, not 0"),
    ("--suite deepbench --seed -1", "seed must be at least 0, not -1"),
    ("--suite deepbench --params --int32", "int32 must be given without params, not with them"),
    ("--suite deepbench --int32 --function gelu",
     "int32 must be given without function, not with one"),
    ("--suite deepbench --function relu",
     f"function must be one of {', '.join(FUNCTIONS)}, not 'relu'"),
    ("--suite deepbench --preset no --device model",
     f"preset must be one of {', '.join(PRESETS)}, not 'no'"),
    ("--suite deepbench --output no/x.csv", "no: no such folder"),
    ("-m 1 -n 1 -k 1 --preset tiny --latency 0", "latency must be ANY"),
    ("--suite deepbench --device model --latency 3",
     "latency must be given with device rtl, not with 'model'"),
    ("-m 1 -n 1 -k 1 --preset tiny --latency 2147483648", "latency must be ANY"),
    ("-m 1 -n 1 -k 1 --preset tiny --jitter -1", "jitter must be ANY"),
    ("-m 1 -n 300 -k 1000 --preset tiny --device model",
     "1 x 300 x 1000: operands and results must fit the 131072 bytes ANY"),
], ids=word)
def test_what_is_wrong_is_said_in_one_sentence(refuse, tmp_path, line, sentence):
    said = refuse("bench", "gemm", *line.split())
    start, any_number, _ = sentence.partition("ANY")
    assert said.startswith(start) and (any_number or said == sentence)
    assert list(tmp_path.iterdir()) == []


def test_a_benchmark_must_be_named(refuse):
    assert refuse("bench") == "Missing command (see systolith bench -h)"


@pytest.mark.parametrize("content, sentence", [
    (b"\xff\xfe\x00", "shapes must be a CSV file, not 'FILE'"),
    (b"{}", "shapes must have a column m, which 'FILE' has not"),
    (b"m,n,k\n1,x,3", "FILE, line 2: n must be an integer, not 'x'"),
], ids=["binary", "json", "word"])
def test_bad_files_are_named(refuse, tmp_path, content, sentence):
    (tmp_path / "FILE").write_bytes(content)
    assert refuse("bench", "gemm", "--shapes", "FILE") == sentence


def test_what_a_process_refuses_is_said_the_same(refuse, tmp_path):
    # Without commands, the product would fit.
    (tmp_path / "x.csv").write_text("m,n,k\n1,1,1\n1,995,130\n")
    said = refuse("bench", "gemm", "--shapes", "x.csv", "--preset", "tiny", "--device", "model",
                  "--jobs", 2)
    assert said.startswith("1 x 995 x 130: operands and results must fit the 131072 bytes")


def test_long_sums_stay_within_32_bits(run_json):
    row, = run_json("bench", "gemm", "-m", 1, "-n", 2, "-k", 300_000, "--device", "model", "--int32"
                    )["shapes"]
    assert row["bit_exact"]


def test_an_interrupt_ends_the_processes_as_well(tmp_path):
    script = Path(sys.executable).parent / "systolith"
    shapes = tmp_path / "x.csv"
    shapes.write_text("m,n,k\n2000,2000,2000\n2000,2000,2001\n")
    with subprocess.Popen([script, "bench", "gemm", "--shapes", shapes, "--device", "model",
                           "--jobs", "2"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Running 2 shapes in 2 processes ...\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        # Until every process that holds the other end has closed it.
        assert process.stderr.read().splitlines()[-1] == "systolith: interrupted"
    assert process.returncode == 130


def test_help_teaches_with_examples(run):
    result = run("bench", "gemm", "-h")
    assert result.exit_code == 0
    assert re.search(r"Examples:\n +systolith bench gemm -m 256", result.stdout)
    gemm = main.commands["bench"].commands["gemm"]
    assert all(option.help for option in gemm.params)


@pytest.mark.parametrize("option, text, words", [
    ("--suite", "d", ["deepbench"]), ("--device", "", ["rtl", "model", "predict"]),
    ("--preset", "be", ["bench16"])])
def test_values_are_completed(option, text, words):
    gemm = main.commands["bench"].commands["gemm"]
    parameter = next(p for p in gemm.params if option in p.opts)
    context = gemm.make_context("gemm", [], main.make_context("systolith", ["bench"]))
    assert [item.value for item in parameter.shell_complete(context, text)] == words


# Causes of lost cycles, on an array of 16 x 16 with a bus of 16 bytes.

def lost(shape, bound, cycles, busy=None, wait=0, stall=0):
    counters = {"cycles": cycles}
    if busy is not None:
        counters |= {"execute_busy": busy, "execute_wait": wait, "execute_stall": stall}
    return lost_cycles(PRESETS["bench16"], Shape(*shape), bound, counters)


def report(shape, bound, cycles, **counters):
    found = lost(shape, bound, cycles, **counters)
    return loss_reason(bound.cycles / cycles, prod(shape) / 256 / cycles, found)


@pytest.mark.parametrize("bound, cycles, counters, reason", [
    # Of 1024 cycles at the peak for 64 x 64 x 64.
    (Bound(array=1024, bus=10, compulsory_bytes=0), 1200, {"busy": 1024}, None),
    (Bound(array=1024, bus=10, compulsory_bytes=0), 1300, {"busy": 1024}, "fill 276 cycles"),
    (Bound(array=1024, bus=10, compulsory_bytes=0), 1300, {"busy": 1024, "wait": 100, "stall": 76},
     "waiting 176 cycles"),
    (Bound(array=1024, bus=10, compulsory_bytes=0), 1300, {}, "overhead 276 cycles"),
    (Bound(array=1300, bus=10, compulsory_bytes=0), 1400, {"busy": 1300}, "padding 276 cycles"),
    (Bound(array=1024, bus=1300, compulsory_bytes=0), 1400, {"busy": 1024}, "bus 276 cycles"),
    (Bound(array=1100, bus=10, compulsory_bytes=0), 1290, {"busy": 1000, "stall": 20},
     "fill 190 cycles"),
], ids=["good", "fill", "waiting", "uncounted", "padding", "bus", "both"])
def test_the_largest_loss_is_named(bound, cycles, counters, reason):
    assert report((64, 64, 64), bound, cycles, **counters) == reason


@pytest.mark.parametrize("cycles", [1290, 1000])
def test_losses_add_up_to_what_the_array_did_not_use(cycles):
    found = lost((63, 60, 55), Bound(array=1100, bus=900, compulsory_bytes=0), cycles, busy=700,
                 stall=60)
    assert found["padding"] + found["bus"] + found["fill"] + found["waiting"] == (
        cycles - -(-63 * 60 * 55 // 256))
    assert found["fill"] + found["waiting"] == found["overhead"] == max(0, cycles - 1100)


def test_nothing_is_lost_where_nothing_is_counted():
    assert set(lost_cycles(PRESETS["demo"], Shape(1, 1, 1), Bound(
        array=8, bus=1, compulsory_bytes=3), {"load_words": 3}).values()) == {None}


# Programs of the vector unit.

# Passes over data of each program, and how many its cycles may come to. An int32 takes two rows of
# the scratchpad for each lane group, and so does every pass of a rotary embedding.
PASSES = {"softmax": (3, 3.5), "softmax masked": (3, 3.5), "layer_norm": (2, 3),
          "rms_norm": (2, 2.5), "gelu": (1, 1.05), "silu": (1, 1.05), "tanh": (1, 1.05),
          "addition": (1, 1.05), "rotary": (6, 7.2), "quantise_rows": (2, 2.35),
          "arg_max": (1, 1.3), "maximum pooling 2 x 2": (1, 1.05)}


def only(*names):
    return [word for name in names for word in ("--program", name)]


def test_the_verilog_takes_few_more_passes_than_programs_have(run_json):
    report = run_json("bench", "vector", "--preset", "demo", *only(*PASSES))
    core, = report["cores"]
    assert (report["bit_exact"], report["core"], core["lanes"]) == (True, "demo", 4)
    assert {row["program"] for row in core["programs"]} == set(PASSES)
    for row in core["programs"]:
        least, most = PASSES[row["program"]]
        assert row["cycles"] == row["busy"] + row["wait"] + row["stall"] + row["idle"]
        assert row["passes"] == row["cycles"] * 4 / row["elements"]
        assert row["least_passes"] == least <= row["passes"] <= most, row
        assert row["passes"] <= row["first_passes"] + 0.01 <= most + 0.2, row
        assert row["bit_exact"]


def test_a_shape_and_a_memory_are_the_users(run_json, run):
    arguments = ("bench", "vector", "--preset", "demo", *only("softmax"), "--cols", 20)
    row, wide = run_json(*arguments, "--rows", 12)["cores"][0]["programs"]
    assert (row["rows"], row["cols"], row["elements"]) == (12, 20, 240)
    assert (row["types"], wide["types"]) == ("int8 to int8", "int16 to int16")
    slow = run_json(*arguments, "--rows", 12, "--latency", 300)
    assert slow["memory"] == {"latency": 300}
    # A row takes 3 scratchpad rows of 8 bytes, and its result as many; pieces are alike.
    most, _ = run_json(*arguments, "--rows", 1000)["cores"][0]["programs"]
    assert most["rows"] == PRESETS["demo"].memory.act_rows // 6 // 8 * 8
    result = run(*arguments, "--lanes", "4")
    assert re.search(r"^ softmax +int8 to int8 +64 +20 +[\d,]+ +3\.\d\d +3.00 +3\.\d\d +yes",
                     result.stdout, re.M)
    assert result.stderr.splitlines()[-1] == "Running 2 programs with 4 lanes ..."


def test_wrong_results_of_a_program_end_with_1(run, monkeypatch):
    honest = ModelDevice.read
    monkeypatch.setattr(ModelDevice, "read", lambda self, address, count:
                        honest(self, address, count) ^ 1)
    result = run("bench", "vector", "--preset", "demo", *only("arg_max"))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-2:] == [
        f"systolith: results of arg_max, {dtype}, with 4 lanes must equal the model's, not differ"
        for dtype in ("int8", "int16")]
    assert re.search(r"^bit-exact +no$", result.stdout, re.M)


@pytest.mark.parametrize("line, sentence", [
    ("--program relu", f"program must be one of {', '.join(PROGRAMS)}, not 'relu'"),
    ("--lanes 1,two", "lanes must be numbers with commas between them, not '1,two'"),
    ("--lanes 3", "vector.lanes must be a power of two, not 3"),
    ("--rows 0", "rows must be at least 1, not 0"),
    ("--cols 0", "cols must be at least 1, not 0"),
    ("--seed -1", "seed must be at least 0, not -1"),
    ("--preset tiny", "control.counters must be true to measure the vector engine, not False"),
    ("--program gelu --set vector.functions=0 --set vector.elementwise=false",
     "; ".join(f"gelu, {dtype} to {dtype}: vector.elementwise must be true for operands in the "
               "scratchpad, not False" for dtype in ("int8", "int16"))),
], ids=word)
def test_what_is_wrong_with_a_program_is_said_in_one_sentence(refuse, line, sentence):
    assert refuse("bench", "vector", *line.split()) == sentence


@pytest.mark.parametrize("benchmark", list(benchmarks()), ids=lambda benchmark: word(
    f"{benchmark.name} {benchmark.types} {benchmark.cols}"))
def test_repeated_alone_a_program_computes_the_same(benchmark):
    """Engines in shuffled orders show what waits for nothing."""
    config = PRESETS["demo"]
    block = benchmark.block(config, rows=24, cols=20)
    image = block.image
    rng = np.random.default_rng(block.elements)
    inputs = [rng.integers(*LIMITS[tensor.dtype], tensor.shape).astype(tensor.dtype)
              for tensor in image.inputs]
    expected = image.run(ModelDevice(config), *inputs)
    lanes = config.vector.lanes
    assert data_cycles(image, config=config) >= block.elements / lanes
    for times in (1, 2, 3):
        alone = repeat_alone(image, times, config=config)
        assert alone.commands > times
        results = alone.run(ModelDevice(config, order=times), *inputs)
        assert all(map(np.array_equal, results, expected))


def test_help_says_what_is_measured(run):
    result = run("bench", "vector", "-h")
    assert result.exit_code == 0
    assert "A pass is elements / lanes cycles" in " ".join(result.stdout.split())
    vector = main.commands["bench"].commands["vector"]
    assert all(option.help for option in vector.params)
