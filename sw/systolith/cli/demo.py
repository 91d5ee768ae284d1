"""``systolith demo``."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from systolith_hw.config import CoreConfig

from ..demo import (
    HELD_OUT,
    Classifier,
    Digits,
    Quantised,
    load_digits,
    quantise_classifier,
    train,
)
from ..device import Device, ModelDevice, open_device
from ..image import Image
from ..layers import check_format, compile_layers
from .gemm import cycles_text, memory_for, speed, trace_text
from .generate import core_files, emit_core
from .options import (
    baud_option,
    check_count,
    complete,
    config_options,
    configuration,
    device_settings,
    json_option,
    memory_options,
    weights_option,
)
from .output import Steps, print_facts, print_json, print_table, write_files

__all__ = ["demo"]

PLACES = {"rtl": "the Verilog", "board": "the board"}
# Most that accuracy may fall below that of real numbers.
LOSS = {"int8": 0.01, "int4": 0.01, "ternary": 0.02}


def _accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


@click.command(epilog="""
\b
Examples:
  systolith demo
  systolith demo --set array.rows=16 --trace build/demo/digits.fst
  systolith demo --weights ternary --set array.weights=ternary
  systolith demo --preset ulx3s_85f --device board:/dev/ttyUSB0
""")
@config_options
@click.option("--device", "spec", metavar="rtl|board:PORT", default="rtl", show_default=True,
              shell_complete=complete("rtl", "board:/dev/ttyUSB0"),
              help="Where the compiled program runs: the simulated Verilog, or a board on a serial "
                   "port.")
@baud_option
@click.option("--digits", "count", type=int, default=HELD_OUT, show_default=True,
              help="How many to classify.")
@click.option("-o", "--output", "folder", metavar="DIR", default="build/demo", show_default=True,
              help="Folder for the Verilog, the image and result.json.")
@weights_option
@memory_options
@click.option("--trace", metavar="FILE", type=click.Path(),
              help="Waveform to write, .fst or .vcd, or timeline of the engines, .json.")
@json_option
@click.pass_context
def demo(ctx: click.Context, preset: str | None, path: str | None, assignments: tuple[str, ...],
         spec: str, baud: int | None, count: int, folder: str, weight_format: str,
         memory_timing: dict[str, Any], trace: str | None, as_json: bool):
    """Classify handwritten digits with the emitted Verilog, or on a board.

    Trains a small classifier (64 -> 32 -> 10, ReLU with a clamp) on scikit-learn's digits,
    quantises it to int8 (for narrower weights, after it was trained on with weights as they will
    be), compiles it, and runs held-out digits on the bit-exact model and on the Verilog or a board,
    as many at a time as its memory holds. Exit code 1 where the two differ in any byte, or, with
    all 400 digits, accuracy falls below 0.95 or more than a point (two with ternary weights) below
    that of real numbers.
    """
    started = time.monotonic()
    config = configuration(preset, path, assignments)
    settings = device_settings(spec, ("rtl",), baud=baud, memory_timing=memory_timing, trace=trace)
    kind = spec.partition(":")[0]
    check_count("digits", count)
    if count > HELD_OUT:
        raise ValueError(f"digits must be at most {HELD_OUT}, not {count!r}")
    check_format("weights", weight_format, config)
    steps = Steps(quiet=as_json)
    target = Path(folder)

    digits = steps.run("Loading digits", load_digits).first(count)
    at = [""]
    classifier = steps.run("Training 64 -> 32 -> 10", lambda: train(
        digits, progress=lambda text: at.__setitem__(0, text)), lambda: at[0])
    trained = classifier
    if weight_format != "int8":
        trained = steps.run(f"Training on with {weight_format} weights", lambda: train(
            digits, pretrained=classifier, weight_format=weight_format,
            progress=lambda text: at.__setitem__(0, text)), lambda: at[0])
    quantised = quantise_classifier(trained, digits.train_x, weight_format)
    x = quantised.quantise(digits.test_x)

    if kind == "rtl":
        image = compile_layers(quantised.layers, config=config, rows=len(x))
        verilog = steps.run(f"Emitting {config.name}.v", lambda: emit_core(config))
        write_files(target, core_files(config, verilog))
        settings["verilog"] = verilog
    else:
        with open_device(spec, config, **settings) as board:
            image = _that_fits(quantised, config, len(x), board.memory_bytes)
    write_files(target, {"digits.slith": image.to_bytes()})
    image = Image.load(target / "digits.slith")

    model = ModelDevice(config, memory_bytes=memory_for(image))
    wanted = steps.run("Running the bit-exact model", lambda: list(_answers(image, model, x)))
    device = steps.run(
        "Building the simulation of the Verilog with Verilator, once per configuration"
        if kind == "rtl" else f"Connecting {spec}",
        lambda: open_device(spec, config, memory_bytes=memory_for(image), **settings))
    with device:
        got = steps.run(f"Running {len(x)} digits on {PLACES[kind]}",
                        lambda: list(_answers(image, device, x)), cycles_text(device))
        traced = trace_text(device, trace) if trace is not None else None
    bit_exact = all(np.array_equal(ours.memory, theirs.memory)
                    for ours, theirs in zip(got, wanted, strict=True))
    scores = {"model": _scores(wanted, len(x)), kind: _scores(got, len(x))}
    result = _result(config, digits, classifier, image, scores, bit_exact,
                     sum(answer.cycles for answer in got), weight_format)
    write_files(target, {"result.json": json.dumps(result, indent=2) + "\n"})
    if as_json:
        print_json(result)
    else:
        _print(config, result, target, traced, image, time.monotonic() - started, kind)
    failures = _failures(result, kind)
    for failure in failures:
        click.echo(f"systolith: {failure}", err=True)
    ctx.exit(1 if failures else 0)


class Answer(NamedTuple):
    """What came of one run: scores, all of memory, and cycles (0 where they are not counted)."""
    scores: np.ndarray
    memory: np.ndarray
    cycles: int


def _answers(image: Image, device: Device, x: np.ndarray) -> Iterator[Answer]:
    """Run all of ``x``, as many rows at a time as the image has; the last ones come again."""
    rows = image.inputs[0].shape[0]
    device.write(0, np.zeros(device.memory_bytes, np.uint8))  # a board's memory has any contents
    for start in range(0, len(x), rows):
        part = x[np.minimum(np.arange(start, start + rows), len(x) - 1)]
        scores = image.run(device, part, install=start == 0)[0]
        yield Answer(scores, device.read(0, device.memory_bytes),
                     device.counters().get("cycles") or 0)


def _scores(answers: list[Answer], count: int) -> np.ndarray:
    return np.concatenate([answer.scores for answer in answers])[:count]


def _that_fits(quantised: Quantised, config: CoreConfig, rows: int, memory_bytes: int) -> Image:
    """The image for as many digits at a time, halved until it fits ``memory_bytes``."""
    while True:
        image = compile_layers(quantised.layers, config=config, rows=rows)
        if rows == 1 or memory_for(image) <= memory_bytes:
            return image
        rows = -(-rows // 2)


def _result(config: CoreConfig, digits: Digits, classifier: Classifier, image: Image,
            scores: dict[str, np.ndarray], bit_exact: bool, cycles: int,
            weight_format: str) -> dict[str, Any]:
    labels = digits.test_y
    macs = len(labels) * sum(weights.size for weights in classifier.weights)
    return {
        "bit_exact": bit_exact,
        "accuracy_float": _accuracy(classifier.scores(digits.test_x), labels),
        **{f"accuracy_{where}": _accuracy(each, labels) for where, each in scores.items()},
        "weights": weight_format, **speed(config, macs, cycles, weight_format),
        "digits": len(labels), "memory_bytes": memory_for(image), "commands": image.commands,
        "core": config.name, "fingerprint": f"{config.fingerprint:016x}",
    }


def _failures(result: dict[str, Any], kind: str) -> list[str]:
    """What must hold and does not."""
    failures = []
    if not result["bit_exact"]:
        failures.append(f"bytes of {PLACES[kind]} and model must be the same, not different")
    if result["digits"] < HELD_OUT:  # too few to tell
        return failures
    for name in ("accuracy_model", f"accuracy_{kind}"):
        least = max(0.95, result["accuracy_float"] - LOSS[result["weights"]])
        if result[name] < least:
            failures.append(f"{name} must be at least {least:.4f}, not {result[name]:.4f}")
    return failures


def _print(config: CoreConfig, result: dict[str, Any], target: Path, trace: str | None,
           image: Image, seconds: float, kind: str) -> None:
    count = result["digits"]
    shape, weights = f"{config.array.rows} x {config.array.cols}", result["weights"]
    where = "emitted Verilog" if kind == "rtl" else "board"
    rows = [[text, f"{result[name]:.4f}", f"{round(result[name] * count)} of {count}"]
            for text, name in (("real numbers (NumPy)", "accuracy_float"),
                               (f"{weights}, bit-exact model", "accuracy_model"),
                               (f"{weights}, {where} {shape}", f"accuracy_{kind}"))]
    print_table(["held-out digits", "accuracy", "right"], rows)
    facts = {
        "bytes agree": (f"yes, all {result['memory_bytes']:,} bytes of memory"
                        if result["bit_exact"] else "no"),
    }
    if result["cycles"]:
        facts |= {
            "cycles": f"{result['cycles']:,} ({result['cycles'] / count:.1f} per digit)",
            "MAC/cycle": f"{result['macs_per_cycle']:.2f} of {config.peak(weights):g}",
            "utilisation": f"{100 * result['utilization']:.1f} %",
        }
    if kind == "rtl":
        facts["Verilog"] = str(target / f"{config.name}.v")
    facts |= {
        "image": f"{target / 'digits.slith'} ({image.commands} commands)",
        "result": str(target / "result.json"),
    }
    if kind == "rtl":
        facts["trace"] = trace or "none; --trace FILE.fst or FILE.json writes one"
    print_facts({**facts, "time": f"{seconds:.0f} s"})
