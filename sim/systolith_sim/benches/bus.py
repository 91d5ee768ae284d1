"""The other side of the core's AXI4 ports: memory with pauses on every channel, and the rules."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge
from cocotbext.axi import AxiBus, AxiRam
from systolith_hw.config import BusConfig

__all__ = ["BusRules", "memory", "pauses"]

PAGE = 4096
_CHANNELS = {
    "aw": ("id", "addr", "len", "size", "burst", "cache", "prot"),
    "ar": ("id", "addr", "len", "size", "burst", "cache", "prot"),
    "w": ("data", "strb", "last"),
}


def pauses(probability: float, seed: str) -> Iterator[bool]:
    """Pauses in bursts: a channel changes its mind every few cycles."""
    rng = random.Random(seed)
    while True:
        pause = rng.random() < probability
        yield from itertools.repeat(pause, rng.choice([1, 1, 2, 3, 8]))


def memory(dut: Any, *, size: int, pause: float, seed: int) -> AxiRam:
    """An ``AxiRam`` at the ports ``m_axi_*`` with random pauses on all five channels."""
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=size)
    channels = {"aw": ram.write_if.aw_channel, "w": ram.write_if.w_channel,
                "b": ram.write_if.b_channel, "ar": ram.read_if.ar_channel,
                "r": ram.read_if.r_channel}
    if pause:
        for name, channel in channels.items():
            channel.set_pause_generator(pauses(pause, f"{name} {seed}"))
    return ram


class BusRules:
    """Watches what a master sends, and counts words.

    A payload stays until it is taken; bursts are no longer than configured, of whole words, and
    within 4 KB; as many words as announced, the last one marked; no write outside of
    ``may_write``.

    Parameters
    ----------
    dut : cocotb handle
    config : BusConfig
    may_write : set of int or None
        Byte addresses that may be written. None: all.
    """

    def __init__(self, dut: Any, config: BusConfig, *, may_write: set[int] | None = None):
        self.dut = dut
        self.config = config
        self.may_write = may_write
        self.reads = 0
        self.writes = 0
        self.held: dict[str, tuple[int, ...]] = {}
        self.announced: list[tuple[int, int]] = []   # first address and words of write bursts
        self.word = 0                                # of the first of them
        self.early: list[tuple[int, int]] = []       # words that came before their address
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            if self.dut.rst.value:
                self.held.clear()
                continue
            for channel, names in _CHANNELS.items():
                self._look(channel, names)
            if self._get("rvalid") and self._get("rready"):
                self.reads += 1

    def _get(self, name: str) -> int:
        return int(getattr(self.dut, f"m_axi_{name}").value)

    def _look(self, channel: str, names: tuple[str, ...]) -> None:
        valid = self._get(f"{channel}valid")
        payload = tuple(self._get(channel + name) for name in names) if valid else None
        if channel in self.held:
            if payload != self.held[channel]:
                raise AssertionError(f"{channel} must stay {self.held[channel]} until taken, "
                                     f"not {payload}")
            del self.held[channel]
        if payload is None:
            return
        if not self._get(f"{channel}ready"):
            self.held[channel] = payload
        elif channel == "w":
            self._take_word(*payload)
        else:
            self._take_address(channel, *payload)

    def _take_address(self, channel: str, number: int, address: int, length: int, size: int,
                      kind: int, cache: int, prot: int) -> None:
        words, data_bytes = length + 1, self.config.data_bytes
        last = address + words * data_bytes - 1
        if kind != 1 or 1 << size != data_bytes or address % data_bytes:
            raise AssertionError(f"{channel} must be an incrementing burst of whole words, "
                                 f"not {address:#x} size {size} burst {kind}")
        if words > self.config.max_burst:
            raise AssertionError(f"{channel} must have at most {self.config.max_burst} words, "
                                 f"not {words}")
        if address // PAGE != last // PAGE:
            raise AssertionError(f"{channel} must stay within 4 KB, not {address:#x} to {last:#x}")
        if channel == "aw":
            self.announced.append((address, words))
            early, self.early = self.early, []
            for strobe, end in early:
                self._place_word(strobe, end)

    def _take_word(self, data: int, strobe: int, end: int) -> None:
        self.writes += 1
        self._place_word(strobe, end)

    def _place_word(self, strobe: int, end: int) -> None:
        if not self.announced:
            self.early.append((strobe, end))
            return
        address, words = self.announced[0]
        first = address + self.word * self.config.data_bytes
        for lane in range(self.config.data_bytes):
            if strobe >> lane & 1 and self.may_write is not None:
                if first + lane not in self.may_write:
                    raise AssertionError(f"byte {first + lane:#x} must not be written")
        self.word += 1
        if bool(end) != (self.word == words):
            raise AssertionError(f"wlast must come with word {words} of a burst, "
                                 f"not with word {self.word}")
        if end:
            self.announced.pop(0)
            self.word = 0
