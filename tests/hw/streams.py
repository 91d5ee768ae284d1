"""Stream ports in Amaranth's simulator: items in and out, with pauses on both sides."""

import random
from collections.abc import Iterable
from typing import Any

from amaranth.lib import data

__all__ = ["plain", "receive", "send"]


def plain(value: Any) -> Any:
    """A sampled value as integers: structures as dictionaries, arrays as lists."""
    if not isinstance(value, data.Const):
        return value
    layout = value.shape()
    if isinstance(layout, data.ArrayLayout):
        return [plain(value[i]) for i in range(layout.length)]
    return {name: plain(value[name]) for name in layout.members}


async def send(ctx: Any, port: Any, items: Iterable[Any], *, rng: random.Random,
               pause: float = 0.0) -> None:
    """Send ``items``; returns in the cycle after the last was taken."""
    for item in items:
        while rng.random() < pause:
            await ctx.tick()
        ctx.set(port.payload, item)
        ctx.set(port.valid, 1)
        await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)


async def receive(ctx: Any, port: Any, count: int, *, rng: random.Random,
                  pause: float = 0.0) -> list[Any]:
    """The next ``count`` items, which must stay until they are taken."""
    items: list[Any] = []
    waiting = None
    while len(items) < count:
        ready = rng.random() >= pause
        ctx.set(port.ready, ready)
        *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
        payload = plain(payload)
        if waiting is not None:
            assert valid and payload == waiting, f"an item must stay {waiting!r} until taken"
        waiting = payload if valid and not ready else None
        if valid and ready:
            items.append(payload)
    ctx.set(port.ready, 0)
    return items
