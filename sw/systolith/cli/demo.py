"""``systolith demo``."""

import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from systolith_hw.config import CoreConfig

from ..demo import Classifier, Digits, load_digits, quantise_classifier, train
from ..device import ModelDevice, open_device
from ..image import Image
from ..layers import check_format, compile_layers
from .gemm import compare_memories, cycles_text, memory_for, speed, trace_text
from .generate import core_files, emit_core
from .options import config_options, configuration, json_option, memory_options, weights_option
from .output import Steps, print_facts, print_json, print_table, write_files

__all__ = ["demo"]

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
""")
@config_options
@click.option("-o", "--output", "folder", metavar="DIR", default="build/demo", show_default=True,
              help="Folder for the Verilog, the image and result.json.")
@weights_option
@memory_options
@click.option("--trace", metavar="FILE", type=click.Path(),
              help="Waveform to write, .fst or .vcd, or timeline of the engines, .json.")
@json_option
@click.pass_context
def demo(ctx: click.Context, preset: str | None, path: str | None, assignments: tuple[str, ...],
         folder: str, weight_format: str, memory_timing: dict[str, Any], trace: str | None,
         as_json: bool):
    """Classify handwritten digits with the emitted Verilog.

    Trains a small classifier (64 -> 32 -> 10, ReLU with a clamp) on scikit-learn's digits,
    quantises it to int8 (for narrower weights, after it was trained on with weights as they will
    be), compiles it, and runs 400 held-out digits on the bit-exact model and on the Verilog. Exit
    code 1 where the two differ in any byte, or accuracy falls below 0.95 or more than a point (two
    with ternary weights) below that of real numbers.
    """
    started = time.monotonic()
    config = configuration(preset, path, assignments)
    check_format("weights", weight_format, config)
    steps = Steps(quiet=as_json)
    target = Path(folder)

    digits = steps.run("Loading digits", load_digits)
    at = [""]
    classifier = steps.run("Training 64 -> 32 -> 10", lambda: train(
        digits, progress=lambda text: at.__setitem__(0, text)), lambda: at[0])
    trained = classifier
    if weight_format != "int8":
        trained = steps.run(f"Training on with {weight_format} weights", lambda: train(
            digits, pretrained=classifier, weight_format=weight_format,
            progress=lambda text: at.__setitem__(0, text)), lambda: at[0])
    quantised = quantise_classifier(trained, digits.train_x, weight_format)
    image = compile_layers(quantised.layers, config=config, rows=len(digits.test_x))
    verilog = steps.run(f"Emitting {config.name}.v", lambda: emit_core(config))
    write_files(target, {**core_files(config, verilog), "digits.slith": image.to_bytes()})
    image = Image.load(target / "digits.slith")
    x = quantised.quantise(digits.test_x)

    model = ModelDevice(config, memory_bytes=memory_for(image))
    model_scores = steps.run("Running the bit-exact model", lambda: image.run(model, x)[0])
    device = steps.run(
        "Building the simulation of the Verilog with Verilator, once per configuration",
        lambda: open_device("rtl", config, memory_bytes=memory_for(image), trace=trace,
                            verilog=verilog, **memory_timing))
    with device:
        rtl_scores = steps.run(f"Running {len(x)} digits on the Verilog",
                               lambda: image.run(device, x)[0], cycles_text(device))
        bit_exact = compare_memories(device, model) and np.array_equal(rtl_scores, model_scores)
        cycles = device.counters()["cycles"]
        traced = trace_text(device, trace) if trace is not None else None
    result = _result(config, digits, classifier, image, model_scores, rtl_scores, bit_exact, cycles,
                     weight_format)
    write_files(target, {"result.json": json.dumps(result, indent=2) + "\n"})
    if as_json:
        print_json(result)
    else:
        _print(config, result, target, traced, image, time.monotonic() - started)
    failures = _failures(result)
    for failure in failures:
        click.echo(f"systolith: {failure}", err=True)
    ctx.exit(1 if failures else 0)


def _result(config: CoreConfig, digits: Digits, classifier: Classifier, image: Image,
            model_scores: np.ndarray, rtl_scores: np.ndarray, bit_exact: bool,
            cycles: int, weight_format: str) -> dict[str, Any]:
    labels = digits.test_y
    macs = len(labels) * sum(weights.size for weights in classifier.weights)
    return {
        "bit_exact": bit_exact,
        "accuracy_float": _accuracy(classifier.scores(digits.test_x), labels),
        "accuracy_model": _accuracy(model_scores, labels),
        "accuracy_rtl": _accuracy(rtl_scores, labels),
        "weights": weight_format, **speed(config, macs, cycles, weight_format),
        "digits": len(labels), "memory_bytes": memory_for(image), "commands": image.commands,
        "core": config.name, "fingerprint": f"{config.fingerprint:016x}",
    }


def _failures(result: dict[str, Any]) -> list[str]:
    """What must hold and does not."""
    failures = []
    if not result["bit_exact"]:
        failures.append("bytes of Verilog and model must be the same, not different")
    for name in ("accuracy_model", "accuracy_rtl"):
        least = max(0.95, result["accuracy_float"] - LOSS[result["weights"]])
        if result[name] < least:
            failures.append(f"{name} must be at least {least:.4f}, not {result[name]:.4f}")
    return failures


def _print(config: CoreConfig, result: dict[str, Any], target: Path, trace: str | None,
           image: Image, seconds: float) -> None:
    count = result["digits"]
    shape, weights = f"{config.array.rows} x {config.array.cols}", result["weights"]
    rows = [[text, f"{result[name]:.4f}", f"{round(result[name] * count)} of {count}"]
            for text, name in (("real numbers (NumPy)", "accuracy_float"),
                               (f"{weights}, bit-exact model", "accuracy_model"),
                               (f"{weights}, emitted Verilog {shape}", "accuracy_rtl"))]
    print_table(["held-out digits", "accuracy", "right"], rows)
    facts = {
        "bytes agree": (f"yes, all {result['memory_bytes']:,} bytes of memory"
                        if result["bit_exact"] else "no"),
        "cycles": f"{result['cycles']:,} ({result['cycles'] / count:.1f} per digit)",
        "MAC/cycle": f"{result['macs_per_cycle']:.2f} of {config.peak(weights):g}",
        "utilisation": f"{100 * result['utilization']:.1f} %",
        "Verilog": str(target / f"{config.name}.v"),
        "image": f"{target / 'digits.slith'} ({image.commands} commands)",
        "result": str(target / "result.json"),
        "trace": trace or "none; --trace FILE.fst or FILE.json writes one",
        "time": f"{seconds:.0f} s",
    }
    print_facts(facts)
