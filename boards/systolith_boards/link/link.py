"""The whole of the board's end: a serial line on one side, memory and registers on the other."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from systolith.frames import Record
from systolith_hw.checks import check_int

from .executor import Executor, answer_layout, master_ports, request_layout
from .inbox import Inbox
from .outbox import Outbox
from .uart import Receiver, Transmitter

__all__ = ["Link"]


class Link(wiring.Component):
    """Lets a host read and write memory and registers; the protocol is in ``docs/link.md``.

    Timing: an answer begins some ten cycles after the END of a question, and when an order is
    done: three cycles for each word where memory takes it at once.

    Parameters
    ----------
    divisor : int
        Cycles of a bit on the line, from 8.
    memory_words : int
        Size of the memory behind ``request``, from 2 to 2^30. Requests that begin outside are
        refused; hosts ask for none that ends there, which would go on at word 0 or past the end.
    clock_hz : int
        What the host is told of the clock.
    fingerprint : int
        And of the core, ``CoreConfig.fingerprint``.
    data_words : int
        Most words that one order carries, from 2 to 125.

    Members
    -------
    rx : ``In(1)``
        The line from the host; two flip-flops follow.
    tx : ``Out(1)``
        The line to the host.
    request : ``Out(stream of request_layout)``
        Words of memory to read or write: ``address`` in words, ``write``, ``data``.
    answer : ``In(stream of answer_layout)``
        ``data`` of each read, in order; writes have no answer.
    busy : ``Out(1)``
        Something is done, or an answer on its way; for a lamp.

    Raises
    ------
    TypeError, ValueError
        A parameter is no integer or out of range.
    """
    def __init__(self, *, divisor: int, memory_words: int, clock_hz: int, fingerprint: int,
                 data_words: int = 64):
        check_int("memory_words", memory_words, 2, 1 << 30)
        check_int("clock_hz", clock_hz, 1, (1 << 32) - 1)
        check_int("fingerprint", fingerprint, 0, (1 << 64) - 1)
        self.divisor = divisor
        self.memory_words = memory_words
        self.clock_hz = clock_hz
        self.fingerprint = fingerprint
        self.data_words = data_words
        self.receiver = Receiver(divisor=divisor)
        self.inbox = Inbox(data_words=data_words)
        self.executor = Executor(
            rows=self.inbox.rows, first_row=self.inbox.first_row, memory_words=memory_words,
            record=Record(data_words=data_words, memory_bytes=min(4 * memory_words, 0xfffffffc),
                          clock_hz=clock_hz, fingerprint=fingerprint))
        self.outbox = Outbox()
        self.transmitter = Transmitter(divisor=divisor)
        super().__init__({
            "rx": In(1, init=1),
            "tx": Out(1, init=1),
            "request": Out(stream.Signature(request_layout(memory_words))),
            "answer": In(stream.Signature(answer_layout)),
            "busy": Out(1),
            **master_ports(),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = self.receiver
        m.submodules.inbox = inbox = self.inbox
        m.submodules.executor = executor = self.executor
        m.submodules.outbox = outbox = self.outbox
        m.submodules.transmitter = transmitter = self.transmitter
        connect(m, executor.body, outbox.body)
        connect(m, outbox.bytes, transmitter.bytes)
        connect(m, executor.request, flipped(self.request))
        connect(m, flipped(self.answer), executor.answer)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            inbox.byte.eq(receiver.byte),
            inbox.strobe.eq(receiver.strobe),
            inbox.broken.eq(receiver.broken),
            inbox.row.eq(executor.row),
            inbox.release.eq(executor.release),
            executor.waiting.eq(inbox.waiting),
            executor.word.eq(inbox.word),
            self.busy.eq(executor.busy | outbox.busy),
        ]
        for name, member in master_ports().items():
            inner, outer = getattr(executor, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        return m
