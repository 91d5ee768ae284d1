"""Runs a component and its benches in Amaranth's simulator."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from amaranth.sim import Simulator

__all__ = ["simulate"]

PERIOD = 1e-8  # seconds
Bench = Callable[[Any], Awaitable[None]]


def simulate(dut: Any, *benches: Bench, cycles: int = 10_000,
             background: Iterable[Bench] = (), vcd: str | Path | None = None) -> None:
    """Clock ``dut`` until every bench has returned; more than ``cycles`` cycles are an error.

    Benches of ``background`` need not return.

    Where asked, the waveform is left in the file ``vcd``.
    """
    async def watchdog(ctx):
        await ctx.delay(cycles * PERIOD)
        raise TimeoutError(f"the benches must be done within {cycles} cycles")

    simulator = Simulator(dut)
    simulator.add_clock(PERIOD)
    for bench in benches:
        simulator.add_testbench(bench)
    for bench in (watchdog, *background):
        simulator.add_testbench(bench, background=True)
    with nullcontext() if vcd is None else simulator.write_vcd(str(vcd)):
        simulator.run()
