"""``systolith gemm``."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.formats import RANGES

from ..device import Device, ModelDevice, open_device
from ..gemm import plan_gemm
from ..image import Image
from ..layers import check_format
from ..quantise import quantise_multiplier
from ..shapes import Shape
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
from .output import Steps, check_folder, print_facts, print_json, write_file
from .reference import expected_product, requantised

__all__ = ["PAGE_BYTES", "Operands", "check_window", "compare_memories", "compile_product",
           "cycles_text", "gemm", "memory_for", "random_weights", "speed",
           "trace_text"]

PAGE_BYTES = 4096


def memory_for(image: Image) -> int:
    """Bytes of a window that holds ``image``."""
    return -(-image.memory_bytes // PAGE_BYTES) * PAGE_BYTES


def check_window(config: CoreConfig, count: int) -> None:
    """Raise ``ValueError`` where the bus of ``config`` cannot address ``count`` bytes."""
    limit = 1 << min(config.bus.addr_bits, 32)
    if count > limit:
        raise ValueError(f"operands and results must fit the {limit} bytes that "
                         f"bus.addr_bits={config.bus.addr_bits} can address, not {count!r}")


def compare_memories(device: Device, other: Device) -> bool:
    """Whether every byte of two devices' memories is the same."""
    step = 1 << 24
    return device.memory_bytes == other.memory_bytes and all(
        np.array_equal(device.read(start, min(step, device.memory_bytes - start)),
                       other.read(start, min(step, device.memory_bytes - start)))
        for start in range(0, device.memory_bytes, step))


def speed(config: CoreConfig, macs: int, cycles: int | None,
          weight_format: str = "int8") -> dict[str, Any]:
    """``cycles``, ``macs``, ``macs_per_cycle``, ``utilization``; null what was not counted."""
    rate = macs / cycles if cycles else None
    return {"cycles": cycles, "macs": macs, "macs_per_cycle": rate,
            "utilization": rate / config.peak(weight_format) if rate is not None else None}


def cycles_text(device: Device):
    """Says how many cycles a simulated device has done; None for others."""
    harness = getattr(device, "harness", None)
    if harness is None:
        return None
    return lambda: f"{harness.counts()['cycles']:,} cycles"


def trace_text(device: Device, trace: str) -> str:
    """Says which file ``trace`` is, and how much of the run it holds."""
    timeline = getattr(device, "timeline", None)
    if timeline is None or timeline.truncated is None:
        return trace
    return f"{trace} (only the first {timeline.truncated:,} cycles: too many changes of state)"


@dataclass(frozen=True, kw_only=True)
class Operands:
    """One product: what comes in, and what must come out."""
    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray | None
    multiplier: int | np.ndarray | None
    shift: int | np.ndarray | None
    clamp: tuple[int, int]
    table: np.ndarray | None = None
    weight_format: str = "int8"

    def expected(self) -> np.ndarray:
        """From NumPy alone."""
        sums = expected_product(self.a, self.b, self.bias)
        if self.multiplier is None or self.shift is None:
            return sums.astype(np.int32)
        results = requantised(sums, np.asarray(self.multiplier), np.asarray(self.shift),
                              self.clamp)
        return results if self.table is None else self.table[results.astype(np.int16) + 128]


def _load(name: str, path: str, kinds: tuple[str, ...], shape: str, ndim: int) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"{name} must be a .npy file, not {path!r}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} must be a .npy file, not {path!r}")
    if array.dtype.name not in kinds:
        raise TypeError(f"{name} must be of dtype {' or '.join(kinds)}, not {array.dtype.name!r}")
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape!r}")
    return array


def _size(name: str, given: int | None, found: int | None, default: int) -> int:
    if given is not None:
        check_count(name, given)
        if found is not None and given != found:
            raise ValueError(f"{name} must be {found} as in the given operands, not {given!r}")
    return given or found or default


def random_weights(rng: np.random.Generator, shape: tuple[int, int],
                   weight_format: str) -> np.ndarray:
    """Any weights of the format."""
    low, high = RANGES[weight_format]
    return rng.integers(low, high + 1, shape, dtype=np.int8)


def _operands(files: dict[str, str | None], sizes: dict[str, int | None], *, seed: int,
              int32: bool, scale: float | None, clamp: tuple[int, int],
              weight_format: str) -> Operands:
    check_count("seed", seed, 0)
    rng = np.random.default_rng(seed)
    a = _load("a", files["a"], ("int8", "uint8"), "(M, K)", 2) if files["a"] else None
    b = _load("b", files["b"], ("int8", "uint8"), "(K, N)", 2) if files["b"] else None
    bias = (_load("bias", files["bias"], ("int8", "int16", "int32", "int64"), "(N,)", 1)
            if files["bias"] else None)
    if a is not None and b is not None and a.shape[1] != b.shape[0]:
        raise ValueError(f"b must have shape ({a.shape[1]}, N), not {b.shape!r}")
    m = _size("m", sizes["m"], None if a is None else a.shape[0], 64)
    k = _size("k", sizes["k"], a.shape[1] if a is not None else None if b is None else b.shape[0],
              64)
    n = _size("n", sizes["n"], None if b is None else b.shape[1], 64)
    Shape(m, n, k)
    if bias is not None and bias.shape != (n,):
        raise ValueError(f"bias must have shape ({n},), not {bias.shape!r}")
    random_bias = bias is None and a is None and b is None
    if a is None:
        a = rng.integers(-128, 128, (m, k), dtype=np.int8)
    if b is None:
        b = random_weights(rng, (k, n), weight_format)
    if random_bias:
        bias = rng.integers(-(1 << 12), 1 << 12, n, dtype=np.int32)
    multiplier = shift = None
    if int32:
        if scale is not None or clamp != (-128, 127):
            raise ValueError("int32 must be given without scale and clamp, not with them")
    elif scale is not None:
        multiplier, shift = quantise_multiplier(np.full(n, scale))
    else:
        # The spread of the sums becomes about 40 steps; every column a little differently.
        spread = max(1.0, float(a.std()) * float(b.std()) * k ** 0.5)
        multiplier, shift = quantise_multiplier(40 / spread * rng.uniform(0.5, 1.5, n))
    return Operands(a=a, b=b, bias=bias, multiplier=multiplier, shift=shift, clamp=clamp,
                    weight_format=weight_format)


def compile_product(operands: Operands, config: CoreConfig) -> tuple[Image, np.ndarray]:
    """The image, and its input: uint8 activations become int8 by a shift of the zero point.

    Raises
    ------
    ValueError
        The core's bus cannot address as much memory, or as ``plan_gemm``.
    """
    a, a_zero_point = operands.a, 0
    if a.dtype == np.uint8:
        a, a_zero_point = (a ^ 0x80).view(np.int8), -128
    image = plan_gemm(operands.b, operands.bias, config=config, rows=len(a),
                      multiplier=operands.multiplier, shift=operands.shift,
                      a_zero_point=a_zero_point, clamp=operands.clamp, table=operands.table,
                      weight_format=operands.weight_format)
    check_window(config, memory_for(image))
    return image, a


@click.command(epilog="""
\b
Examples:
  systolith gemm -m 100 -n 70 -k 300
  systolith gemm -m 100 -n 70 -k 300 --preset demo --device rtl --json
  systolith gemm --device rtl --memory dram --bandwidth 1/2 --shared
  systolith gemm --device rtl --trace gemm.json
  systolith gemm --device rtl --weights int4 --set array.weights=int8,int4
  systolith gemm --a x.npy --b w.npy --bias b.npy --int32 --output y.npy
""")
@click.option("-m", type=int, metavar="M", help="Rows of A and of the result (default 64).")
@click.option("-n", type=int, metavar="N", help="Columns of B and of the result (default 64).")
@click.option("-k", type=int, metavar="K", help="Columns of A, rows of B (default 64).")
@click.option("--a", "file_a", metavar="FILE", type=click.Path(),
              help="Operand A as .npy, int8 or uint8, (M, K); random where not given.")
@click.option("--b", "file_b", metavar="FILE", type=click.Path(),
              help="Operand B as .npy, int8 or uint8, (K, N); random where not given.")
@click.option("--bias", "file_bias", metavar="FILE", type=click.Path(),
              help="Bias as .npy, integers, (N,); random with random operands, else none.")
@config_options
@click.option("--device", "device_name", metavar="rtl|model|board:PORT", default="model",
              show_default=True, help="The emitted Verilog in Verilator, the bit-exact model, or "
                                      "a board on a serial port such as /dev/ttyUSB0.",
              shell_complete=complete("rtl", "model", "board:"))
@baud_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of random operands.")
@weights_option
@click.option("--int32", is_flag=True, help="Results are the int32 sums, not requantised int8.")
@click.option("--scale", type=float, metavar="REAL",
              help="Results are about sum times this (default: so that they fill int8).")
@click.option("--clamp", type=int, nargs=2, default=(-128, 127), metavar="LOW HIGH",
              help="Least and largest int8 result; 0 127 is ReLU.")
@memory_options
@click.option("--trace", metavar="FILE", type=click.Path(),
              help="Waveform to write, .fst or .vcd, or timeline of the engines, .json (rtl).")
@click.option("--output", metavar="FILE", type=click.Path(), help="Result, as .npy.")
@json_option
def gemm(m: int | None, n: int | None, k: int | None, file_a: str | None, file_b: str | None,
         file_bias: str | None, preset: str | None, path: str | None,
         assignments: tuple[str, ...], device_name: str, baud: int | None, seed: int,
         weight_format: str, int32: bool, scale: float | None, clamp: tuple[int, int],
         memory_timing: dict[str, Any], trace: str | None, output: str | None, as_json: bool):
    """Multiply two matrices of any size, and check the result.

    The result is compared with NumPy. On device rtl and on a board, every byte of memory is
    compared with the bit-exact model besides, and cycles are counted by the core. Exit code 1
    where anything differs.
    """
    config = configuration(preset, path, assignments)
    check_format("weights", weight_format, config)
    settings = device_settings(device_name, ("rtl", "model"), baud=baud,
                               memory_timing=memory_timing, trace=trace)
    for file in (output, trace):
        if file is not None:
            check_folder(Path(file))
    operands = _operands({"a": file_a, "b": file_b, "bias": file_bias}, {"m": m, "n": n, "k": k},
                         seed=seed, int32=int32, scale=scale, clamp=clamp,
                         weight_format=weight_format)
    image, a = compile_product(operands, config)
    steps = Steps(quiet=as_json)
    result, equal, alike, cycles, traced = _run(config, image, a, operands, device_name, steps,
                                                settings)
    if output is not None:
        buffer = io.BytesIO()
        np.save(buffer, result)
        write_file(Path(output), buffer.getvalue())
    rows, inner = operands.a.shape
    cols = operands.b.shape[1]
    passed = equal and alike is not False
    report = {"bit_exact": passed, **speed(config, rows * cols * inner, cycles, weight_format),
              "m": rows, "n": cols, "k": inner, "weights": weight_format, "device": device_name,
              "core": config.name}
    if as_json:
        print_json(report)
    else:
        _print(config, image, report, equal, alike, output, traced)
    if not passed:
        click.get_current_context().exit(1)


def _run(config: CoreConfig, image: Image, a: np.ndarray, operands: Operands, name: str,
         steps: Steps, options: dict[str, Any]
         ) -> tuple[np.ndarray, bool, bool | None, int | None, str | None]:
    """Result, equal to NumPy, equal to the model, cycles, what is said of ``trace``."""
    size = memory_for(image)
    model = ModelDevice(config, memory_bytes=size)
    result = steps.run("Running on the bit-exact model", lambda: image.run(model, a)[0])
    alike, cycles, traced = None, None, None
    if name == "rtl":
        device = steps.run("Emitting and building the simulation, once per configuration",
                           lambda: open_device("rtl", config, memory_bytes=size, **options))
        with device:
            result = steps.run("Running on the emitted Verilog",
                               lambda: image.run(device, a)[0], cycles_text(device))
            alike = compare_memories(device, model)
            cycles = device.counters()["cycles"]
            traced = trace_text(device, options["trace"]) if "trace" in options else None
    elif name != "model":
        with open_device(name, config, memory_bytes=size, **options) as device:
            with steps.step("Running on the board"):
                # The model's memory holds zeros where nothing was written.
                device.write(0, bytes(size))
                result = image.run(device, a)[0]
            with steps.step("Reading the board's memory"):
                alike = compare_memories(device, model)
            cycles = device.counters()["cycles"]
    equal = steps.run("Comparing with NumPy",
                      lambda: np.array_equal(result, operands.expected()))
    return result, equal, alike, cycles, traced


def _print(config: CoreConfig, image: Image, report: dict[str, Any], equal: bool,
           alike: bool | None, output: str | None, trace: str | None) -> None:
    weights = "" if report["weights"] == "int8" else f" of {report['weights']}"
    facts = {"product": f"{report['m']} x {report['k']} by {report['k']} x {report['n']}"
                        f"{weights} on "
                        f"{config.name} ({config.array.rows} x {config.array.cols}), "
                        f"device {report['device']}",
             "NumPy": "every result equal" if equal else "results differ"}
    if alike is not None:
        facts["model"] = (f"all {memory_for(image):,} bytes of memory equal" if alike else
                          "memory differs")
    facts["bit-exact"] = "yes" if report["bit_exact"] else "no"
    facts["MAC"] = f"{report['macs']:,}"
    if report["cycles"] is None:
        facts["cycles"] = "the model counts none; take --device rtl"
    else:
        facts["cycles"] = f"{report['cycles']:,}"
        facts["MAC/cycle"] = (f"{report['macs_per_cycle']:.2f} of "
                              f"{config.peak(report['weights']):g}")
        facts["utilisation"] = f"{100 * report['utilization']:.1f} %"
    if output is not None:
        facts["result"] = output
    if trace is not None:
        facts["trace"] = trace
    print_facts(facts)
