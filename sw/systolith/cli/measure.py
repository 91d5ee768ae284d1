"""One matrix product, run and compared with what it could have taken at best."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from types import MappingProxyType
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType

from ..bound import Bound, product_bound
from ..cycles import Bus, predict_cycles
from ..device import Device, open_device
from ..image import Image
from ..program import decode_program
from ..quantise import quantise_multiplier
from ..shapes import Shape
from ..vector.elements import activation_table
from .gemm import (
    Operands,
    check_window,
    compile_product,
    cycles_text,
    memory_for,
    random_weights,
    speed,
)
from .output import Steps

__all__ = ["GOOD_SHARE", "RESULTS", "Results", "Task", "loss_reason", "lost_cycles", "measure",
           "predicted_cycles"]

GOOD_SHARE = 0.85     # of bound and peak; below it a report says what took the time
MAX_SUM = (1 << 31) - 1
MAX_BIAS = 1 << 12
STEPS_OF_SPREAD = 40  # int8 steps that the standard deviation of the sums becomes
STEP = 1 / 16         # that a function takes int8 results for, and gives


@dataclass(frozen=True, kw_only=True)
class Results:
    """A kind of results: bytes of each, and bytes of parameters for each output column."""
    text: str
    result_bytes: int
    param_bytes: int


RESULTS = MappingProxyType({
    "int8": Results(text="int8, one scale for all, no bias", result_bytes=1, param_bytes=0),
    "params": Results(text="int8, bias, multiplier and shift for every column", result_bytes=1,
                      param_bytes=12),
    "int32": Results(text="int32 sums", result_bytes=4, param_bytes=0),
})


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be measured, and where.

    Parameters
    ----------
    config : CoreConfig
    shape : Shape
    results : str
        One of ``RESULTS``.
    function : str or None
        Of ``vector.elements.FUNCTIONS``, on int8 results in steps of 1/16, as are its own.
    weight_format : str
    seed : int
        Of the operands, together with the shape: equal tasks have equal measurements.
    device : str
        ``rtl``, ``model``, or ``predict``, which runs nothing.
    memory_timing : dict of str to value
        How fast the simulated memory is: keywords of ``RtlDevice``.
    verilog : str or None
        Text of the core, where it has been emitted already.
    """
    config: CoreConfig
    shape: Shape
    results: str = "int8"
    function: str | None = None
    weight_format: str = "int8"
    seed: int = 0
    device: str = "rtl"
    memory_timing: dict[str, Any] = field(default_factory=dict)
    verilog: str | None = None

    @property
    def bound(self) -> Bound:
        """The fewest cycles it can take."""
        kind = RESULTS[self.results]
        return product_bound(self.config, self.shape, result_bytes=kind.result_bytes,
                             param_bytes=kind.param_bytes, weights=self.weight_format)

    def check(self) -> None:
        """Raise ``ValueError`` where it is plain before all work that the core cannot do it."""
        try:
            check_window(self.config, self.bound.compulsory_bytes)
        except ValueError as error:
            raise self._refused(error) from None

    def compile(self, operands: Operands) -> tuple[Image, np.ndarray]:
        """The image and its input.

        Raises
        ------
        ValueError
            The product does not suit the core; names the shape.
        """
        try:
            return compile_product(operands, self.config)
        except ValueError as error:
            raise self._refused(error) from None

    def _refused(self, error: ValueError) -> ValueError:
        return ValueError(f"{self.shape}: {error}")

    def open(self, memory_bytes: int) -> Device:
        """The device; only ``rtl`` has a simulated memory with options."""
        if self.device != "rtl":
            return open_device(self.device, self.config, memory_bytes=memory_bytes)
        return open_device("rtl", self.config, memory_bytes=memory_bytes, verilog=self.verilog,
                           seed=self.seed, **self.memory_timing)

    def operands(self) -> Operands:
        """Random operands whose sums stay within 32 bits however they come out."""
        shape = self.shape
        rng = np.random.default_rng([self.seed, shape.m, shape.n, shape.k])
        most = max(1, min(128, (MAX_SUM - MAX_BIAS) // (128 * shape.k)))
        a = rng.integers(-128, 128, (shape.m, shape.k), dtype=np.int8)
        b = (rng.integers(-most, most, (shape.k, shape.n), dtype=np.int8)
             if self.weight_format == "int8" else
             random_weights(rng, (shape.k, shape.n), self.weight_format))
        bias = multiplier = shift = None
        spread = max(1.0, float(a.std()) * float(b.std()) * shape.k ** 0.5)
        if self.results == "int8":
            multiplier, shift = (int(part[0]) for part in
                                 quantise_multiplier(STEPS_OF_SPREAD / spread))
        elif self.results == "params":
            bias = rng.integers(-MAX_BIAS, MAX_BIAS, shape.n, dtype=np.int32)
            multiplier, shift = quantise_multiplier(
                STEPS_OF_SPREAD / spread * rng.uniform(0.5, 1.5, shape.n))
        return Operands(a=a, b=b, bias=bias, multiplier=multiplier, shift=shift,
                        clamp=(-128, 127), table=self.table, weight_format=self.weight_format)

    @property
    def table(self) -> np.ndarray | None:
        """The function's result for every int8."""
        if self.function is None:
            return None
        return activation_table(self.function, source=ElementType.INT8, result=ElementType.INT8,
                                scale=STEP, out_scale=STEP).base.astype(np.int8)


def predicted_cycles(task: Task, image: Image) -> int | None:
    """Cycles that the compiler expects of ``image``; None where memory has more than latency and
    bandwidth to it."""
    if not task.memory_timing.keys() <= {"latency", "bandwidth"}:
        return None
    bus = Bus(latency=task.memory_timing.get("latency", Bus.latency),
              words=float(Fraction(task.memory_timing.get("bandwidth", 1))))
    return predict_cycles(decode_program(image.program), config=task.config, bus=bus)


def measure(task: Task, steps: Steps | None = None, text: str = "") -> dict[str, Any]:
    """Compile, run and check one product.

    Parameters
    ----------
    task : Task
    steps : Steps or None
        Where progress is shown, as ``text``.

    Returns
    -------
    dict
        Plain numbers and strings, ready for JSON; None for what the device does not count.
        ``bit_exact`` is the comparison with NumPy, ``predicted_cycles`` is there where the memory
        can be predicted. ``bus_share`` is words read a cycle, ``traffic`` the bytes
        moved over the compulsory ones, ``*_cycles`` of ``lost_cycles`` what was lost to what.

    Raises
    ------
    ValueError
        The product does not suit the core; names the shape.
    CoreError, RuntimeError
        As ``Image.run``.
    """
    operands = task.operands()
    image, a = task.compile(operands)
    if task.device == "predict":
        return _report(task, image, {}, None)
    with task.open(memory_for(image)) as device:
        result = (steps or Steps(quiet=True)).run(text, lambda: image.run(device, a)[0],
                                                  cycles_text(device))
        counters = device.counters()
    return _report(task, image, counters, bool(np.array_equal(result, operands.expected())))


def _report(task: Task, image: Image, counters: dict[str, int],
            bit_exact: bool | None) -> dict[str, Any]:
    config, shape, bound = task.config, task.shape, task.bound
    predicted = predicted_cycles(task, image)
    if task.device == "predict" and predicted is not None:
        counters = {"cycles": predicted}
    rates = speed(config, shape.macs, counters.get("cycles"), task.weight_format)
    report: dict[str, Any] = {"m": shape.m, "n": shape.n, "k": shape.k,
                              "orientation": image.orientation, **rates}
    if predicted is not None:
        report["predicted_cycles"] = predicted
    report |= {"bound_cycles": bound.cycles, "array_bound_cycles": bound.array,
               "bus_bound_cycles": bound.bus, "share_of_bound": None, "bus_share": None,
               "compulsory_bytes": bound.compulsory_bytes, "moved_bytes": None, "traffic": None,
               "bit_exact": bit_exact}
    if "load_words" in counters:
        read_words = counters["load_words"] + counters["fetch_words"]
        moved = (read_words + counters["store_words"]) * config.bus.data_bytes
        report |= {"moved_bytes": moved, "traffic": moved / bound.compulsory_bytes}
        if rates["cycles"]:
            report["bus_share"] = read_words / rates["cycles"]
    if rates["cycles"]:
        report["share_of_bound"] = bound.cycles / rates["cycles"]
    lost = lost_cycles(config, shape, bound, counters, task.weight_format)
    report |= {f"{cause}_cycles": cycles for cause, cycles in lost.items()}
    report["reason"] = loss_reason(report["share_of_bound"], rates["utilization"], lost)
    return report


def lost_cycles(config: CoreConfig, shape: Shape, bound: Bound, counters: dict[str, int],
                weight_format: str = "int8") -> dict[str, int | None]:
    """Where the cycles went in which the array did not multiply with all its elements.

    Together they are the cycles beyond M*N*K / (R*C). The first two are in the bound already:

    * ``padding``: tiles that M, N or K do not fill, where the array bounds the product;
    * ``bus``: operands and results that take the bus longer, where that bounds it.

    What was measured beyond the bound is ``overhead``, and on cores with counters for every
    engine two parts of it:

    * ``fill``: execute has no command, while the first operands or the last results are on their
      way, and between commands;
    * ``waiting``: it has one and waits for operands, space for results or a scratchpad port.

    Parameters
    ----------
    counters : dict of str to int
        As ``Device.counters``; without ``cycles``, all is None.
    """
    if "cycles" not in counters:
        return dict.fromkeys(("padding", "bus", "overhead", "fill", "waiting"))
    cycles = counters["cycles"]
    useful = ceil(shape.macs / config.peak(weight_format))
    # Products can beat their bound where reads and writes overlap.
    inherent = min(bound.cycles, cycles) - useful
    overhead = cycles - useful - inherent
    bus_bound = bound.bus > bound.array
    lost = {"padding": 0 if bus_bound else inherent, "bus": inherent if bus_bound else 0,
            "overhead": overhead, "fill": None, "waiting": None}
    if "execute_busy" in counters:
        idle = cycles - sum(counters[f"execute_{state}"] for state in ("busy", "wait", "stall"))
        lost["fill"] = min(idle, overhead)
        lost["waiting"] = overhead - lost["fill"]
    return lost


def loss_reason(share_of_bound: float | None, utilization: float | None,
                lost: dict[str, int | None]) -> str | None:
    """The largest loss, where a share is below ``GOOD_SHARE``, such as ``fill 1,234 cycles``.

    Below that share of the bound, the largest of what the bound does not have; otherwise, below
    that share of the peak, the largest of all.
    """
    if share_of_bound is None or utilization is None:
        return None
    if share_of_bound < GOOD_SHARE:
        causes = ["fill", "waiting"]
    elif utilization < GOOD_SHARE:
        causes = ["padding", "bus", "fill", "waiting"]
    else:
        return None
    if lost["fill"] is None:
        causes = [*causes[:-2], "overhead"]
    cycles, cause = max(((lost[cause] or 0), cause) for cause in causes)
    return f"{cause} {cycles:,} cycles"
