"""What cocotb benches share: clock and reset, streams with pauses, and a watchdog."""

import json
import os
import random
from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, SimTimeoutError, with_timeout

from .bench import PARAMETERS_VARIABLE

__all__ = ["PERIOD", "StreamDriver", "StreamMonitor", "bench", "parameters", "start"]

PERIOD = 10  # nanoseconds


def parameters() -> dict[str, Any]:
    """Parameters that ``run_bench`` was given."""
    return json.loads(os.environ.get(PARAMETERS_VARIABLE, "{}"))


def bench(*, cycles: int) -> Callable[..., Any]:
    """Declare a cocotb test that fails when it takes more than ``cycles`` clock cycles."""
    def declare(function: Callable[[Any], Coroutine[Any, Any, None]]) -> Any:
        @cocotb.test()
        @wraps(function)
        async def test(dut: Any) -> None:
            try:
                await with_timeout(function(dut), cycles * PERIOD, "ns")
            except SimTimeoutError:
                raise TimeoutError(f"bench must be done within {cycles} cycles, "
                                   f"not still run") from None
        return test
    return declare


async def start(dut: Any, *, cycles: int = 4) -> None:
    """Start the clock and hold reset for ``cycles`` cycles; returns after an edge, reset low."""
    dut.rst.value = 1
    Clock(dut.clk, PERIOD, unit="ns").start()
    for _ in range(cycles):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


class _Stream:
    """The three signals of an Amaranth stream port of a converted top."""

    def __init__(self, dut: Any, name: str, *, pause: float, seed: int):
        if not 0 <= pause < 1:
            raise ValueError(f"pause must be from 0 to below 1, not {pause!r}")
        self.clk = dut.clk
        self.payload = getattr(dut, f"{name}__payload")
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.pause = pause
        self.random = random.Random(f"{name} {seed}")


class StreamDriver(_Stream):
    """Sends items into the stream port ``name``, with random pauses.

    Parameters
    ----------
    dut : cocotb handle
    name : str
    pause : float
        Probability of a pause before each item and in each cycle of a pause.
    seed : int
    """

    def __init__(self, dut: Any, name: str, *, pause: float = 0.0, seed: int = 0):
        super().__init__(dut, name, pause=pause, seed=seed)
        self.valid.value = 0

    async def send(self, items: Iterable[int]) -> None:
        """Send ``items``; returns in the cycle after the last one was taken."""
        for item in items:
            while self.random.random() < self.pause:
                await RisingEdge(self.clk)
            self.payload.value = item
            self.valid.value = 1
            taken = False
            while not taken:
                await ReadOnly()
                taken = bool(self.ready.value)
                await RisingEdge(self.clk)
            self.valid.value = 0


class StreamMonitor(_Stream):
    """Takes items from the stream port ``name``, with random pauses, and checks its rules.

    Parameters
    ----------
    dut : cocotb handle
    name : str
    pause : float
        Probability that a cycle takes nothing.
    seed : int
    """

    def __init__(self, dut: Any, name: str, *, pause: float = 0.0, seed: int = 0):
        super().__init__(dut, name, pause=pause, seed=seed)
        self.ready.value = 0

    async def receive(self, count: int) -> list[int]:
        """The next ``count`` items.

        Raises
        ------
        AssertionError
            The port withdrew or changed an item that was not taken yet.
        """
        items: list[int] = []
        waiting: int | None = None
        while len(items) < count:
            ready = self.random.random() >= self.pause
            self.ready.value = int(ready)
            await ReadOnly()
            valid = bool(self.valid.value)
            payload = int(self.payload.value) if valid else None
            if waiting is not None and payload != waiting:
                raise AssertionError(f"item must stay {waiting:#x} until taken, not {payload!r}")
            waiting = None if ready else payload
            if valid and ready and payload is not None:
                items.append(payload)
            await RisingEdge(self.clk)
        self.ready.value = 0
        return items
