"""Runs of bytes cut into bus bursts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = ["BurstSplitter", "burst_layout", "run_layout"]

run_layout = data.StructLayout({"address": 32, "bytes": 16})


def burst_layout(data_bytes: int) -> data.StructLayout:
    """A burst: address of its first ``word``, number of ``words`` less one, ``last`` of its run."""
    return data.StructLayout({"word": 32 - exact_log2(data_bytes), "words": 8, "last": 1})


class BurstSplitter(wiring.Component):
    """Cuts a run of bytes into bursts of bus words.

    A burst ends where the run ends or where the address reaches a multiple of the longest burst,
    so none ever crosses a 4 KB boundary (AXI4, ARM IHI 0022, A3.4.1).

    Timing: one burst per cycle; a run's first burst is offered the cycle after the run came.

    Parameters
    ----------
    data_bytes : int
        Bytes of a bus word, a power of two.
    max_burst : int
        Longest burst in words, a power of two; at most 4096 bytes are used.
    address_bits : int
        Bits of an address that are used.

    Members
    -------
    run : ``In(stream.Signature(...))``
        ``address`` of the first byte, number of ``bytes`` (at least 1).
    burst : ``Out(stream.Signature(...))``
        ``word`` address (byte address over ``data_bytes``), ``words`` in the burst less one, and
        whether it ends its run (``last``).
    idle : ``Out(1)``
        No run is inside.
    """
    def __init__(self, *, data_bytes: int, max_burst: int, address_bits: int = 32):
        self.data_bytes = data_bytes
        self.address_bits = address_bits
        self.max_burst = min(max_burst, 4096 // data_bytes)
        self.offset_bits = exact_log2(data_bytes)
        super().__init__({
            "run": In(stream.Signature(run_layout)),
            "burst": Out(stream.Signature(burst_layout(data_bytes))),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        word  = Signal(self.address_bits - self.offset_bits, reset_less=True)
        burst_bits = exact_log2(self.max_burst)
        place = word[:burst_bits]  # up to the next boundary are ~place words and one
        left  = Signal(burst_bits, reset_less=True)     # words of the last burst, less one
        # Words beyond the boundary, less one.
        beyond = Signal(signed(18 - self.offset_bits), reset_less=True)
        valid = Signal()
        last  = beyond[-1]
        words = Signal(8)
        accept = Signal()
        m.d.comb += [
            words.eq(Mux(last, left, ~place) if burst_bits else 0),
            self.burst.valid.eq(valid),
            self.burst.payload.word.eq(word),
            self.burst.payload.words.eq(words),
            self.burst.payload.last.eq(last),
            self.idle.eq(~valid),
            self.run.ready.eq(~valid | (self.burst.ready & last)),
            accept.eq(self.run.valid & self.run.ready),
        ]
        address, more = self.run.payload.address, self.run.payload.bytes - 1
        boundary = Cat(address[:self.offset_bits + burst_bits], Const(1, 1)).as_signed()
        with m.If(accept):
            m.d.sync += [
                valid.eq(1),
                word.eq(address[self.offset_bits:]),
                left.eq((more + address[:self.offset_bits]) >> self.offset_bits),
                beyond.eq((more + boundary) >> self.offset_bits),
            ]
        with m.Elif(valid & self.burst.ready):
            m.d.sync += [
                valid.eq(~last),
                word.eq(Cat(Const(0, burst_bits), word[burst_bits:] + 1)),
                left.eq(beyond),
                beyond.eq(beyond - self.max_burst),
            ]
        return m
