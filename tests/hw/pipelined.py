"""Pipelines in Amaranth's simulator: a case enters every cycle, results leave some cycles later."""

from collections.abc import Mapping, Sequence
from typing import Any

from .simulate import simulate
from .streams import plain

__all__ = ["through"]


def through(dut: Any, cases: Sequence[Mapping[str, Any]], *, latency: int, outputs: Sequence[str],
            later: Mapping[str, int] | None = None, before: Any = None) -> list[tuple[Any, ...]]:
    """``outputs`` of every case, ``latency`` cycles after it entered.

    Parameters
    ----------
    cases : sequence of mapping
        Values of inputs; all cases name the same ones.
    later : mapping of str to int
        Cycles by which an input comes after its case; 0 for those not named.
    before : async function of the simulator's context, or None
        What is done first.
    """
    results = []

    async def bench(ctx):
        if before is not None:
            await before(ctx)
        last: dict[str, Any] = {}
        for cycle in range(len(cases) + latency):
            for name in cases[0]:
                number = min(max(cycle - (later or {}).get(name, 0), 0), len(cases) - 1)
                value = cases[number][name]
                if name not in last or last[name] != value:
                    last[name] = value
                    ctx.set(getattr(dut, name), value)
            _, _, *values = await ctx.tick().sample(*(getattr(dut, name) for name in outputs))
            results.append(tuple(plain(value) for value in values))

    simulate(dut, bench, cycles=len(cases) + latency + 1100)
    return results[latency:]
