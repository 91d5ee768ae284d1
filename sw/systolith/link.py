"""The host's end of the link to a board: transfers that are right or raise, ``docs/link.md``."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from .frames import ANSWER, END, MAGIC, RECORD_WORDS, VERSION, Decoder, Frame, Op, Record

__all__ = ["Link", "LinkError", "Port"]

ATTEMPTS = 8         # in a row without any progress
PATIENCE = 0.1       # seconds that adapters and operating systems may take besides the line's time
IN_FLIGHT = 0.04     # seconds of the line's time that requests and answers under way fill
LEAST_WORDS = 8      # that a question for memory is split to
MAX_QUESTION = 2048  # words
WINDOW = 64          # orders under way; safe up to 127
QUIET = 2.0          # seconds before a transfer reports its progress
PAGE_BYTES = 4096    # of registers
FRAME_BYTES = 14     # header, checksum and both ENDs


class LinkError(OSError):
    """The link to a board does not work; one sentence says what to check."""


class Port(Protocol):
    """What a link needs of a serial port, as pyserial's ``Serial`` has it."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, perhaps none after the port's own short timeout."""
        ...

    def write(self, data: bytes, /) -> int | None:
        """Send all of ``data``."""
        ...

    def close(self) -> None:
        """Let go of the port."""
        ...


class Link:
    """Memory and registers of a board, over a serial port.

    Orders (writes) are numbered, and the board does them in that order, each once; those not
    answered in time are sent again from the oldest on. Questions (reads) are asked again, in
    smaller parts where they fail. After an error the link must ``connect`` again.

    Parameters
    ----------
    port : Port
        An open port whose ``read`` returns after some ten milliseconds at the latest.
    baud : int
        Bits a second on the line.
    name : str
        What errors call the port.
    progress : callable or None
        Called with the bytes done and those to do, in transfers that take more than two seconds.
    clock : callable
        Seconds that pass.

    Attributes
    ----------
    record : Record
        What the board said of itself; set by ``connect``.
    repeats : int
        Requests that were sent again, so far.
    """
    record: Record

    def __init__(self, port: Port, *, baud: int, name: str = "board",
                 progress: Callable[[int, int], None] | None = None,
                 clock: Callable[[], float] = time.monotonic):
        self.port = port
        self.baud = baud
        self.name = name
        self.progress = progress
        self.clock = clock
        self.repeats = 0
        self._ready = False
        self._turn = 0  # number of the next order
        self._tag = 0   # of the next question
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()  # that came and were not looked at yet
        self._heard = 0                       # bytes since the board was greeted

    def connect(self) -> Record:
        """Greet the board, and go on with the number of orders that it expects.

        Raises
        ------
        LinkError
            Nobody answers, or somebody who is no board of this version.
        """
        self._ready = False
        self._decoder = Decoder()
        self._frames.clear()
        with self._faults():
            nonce = int.from_bytes(os.urandom(4), "little")
            answer = self._greet(nonce, ATTEMPTS)
            if answer is None:
                said = (f"{self._heard} bytes that are no answer of a board; check baud={self.baud}"
                        if self._heard else "nothing; check power, cable, bitstream and port")
                raise LinkError(f"{self.name} must answer hello, not say {said}")
            if len(answer.data) != 4 * RECORD_WORDS or answer.data[:4] != MAGIC:
                raise LinkError(f"{self.name} must be a board of Systolith, not one that says "
                                f"{answer.data!r}")
            record = Record.unpack(answer.data)
            if record.version != VERSION:
                raise LinkError(f"{self.name} must have a link of version {VERSION}, "
                                f"not {record.version}")
            self.record = record
            self._turn = answer.sequence
            self._ready = True
        return self.record

    def write(self, address: int, data: bytes) -> None:
        """Write words of memory.

        Parameters
        ----------
        address : int
            Of the first byte, a multiple of 4.
        data : bytes
            A multiple of 4 of them.
        """
        self._begin()
        self._check(address, len(data), self.record.memory_bytes)
        step = 4 * self.record.data_words
        self._order(Op.WRITE, [(address + i, data[i:i + step])
                               for i in range(0, len(data), step)])

    def read(self, address: int, count: int) -> bytes:
        """``count`` bytes of memory, a multiple of 4, as is ``address``."""
        self._begin()
        self._check(address, count, self.record.memory_bytes)
        return self._ask(Op.READ, address, count)

    def set(self, offset: int, value: int) -> None:
        """Write a register, once."""
        self._begin()
        self._check(offset, 4, PAGE_BYTES)
        self._order(Op.SET, [(offset, value.to_bytes(4, "little"))])

    def get(self, offset: int, count: int = 1) -> list[int]:
        """Values of ``count`` registers that lie one behind the other."""
        self._begin()
        self._check(offset, 4 * count, PAGE_BYTES)
        raw = self._ask(Op.GET, offset, 4 * count)
        return [int.from_bytes(raw[i:i + 4], "little") for i in range(0, len(raw), 4)]

    def close(self) -> None:
        """Let go of the port."""
        self._ready = False
        self.port.close()

    def _check(self, address: int, count: int, size: int) -> None:
        if address < 0 or address % 4 or count < 0 or count % 4 or address + count > size:
            raise ValueError(f"address must be a multiple of 4 that leaves {count} bytes, a "
                             f"multiple of 4, inside {size}, not {address!r}")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What goes wrong inside leaves the link to be connected again."""
        ready, self._ready = self._ready, False
        try:
            yield
        except LinkError:
            raise
        except OSError as error:
            raise LinkError(f"{self.name} must stay connected, not fail with "
                            f"{error.strerror or error}; check cable and power") from error
        self._ready = self._ready or ready

    def _send(self, frame: Frame) -> None:
        self.port.write(frame.encode())

    def _answers(self, deadline: float) -> Iterator[Frame]:
        """Answers that come until ``deadline``; those not asked for come first the next time."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.op & ANSWER:
                    yield frame
            if self.clock() >= deadline:
                return
            data = self.port.read(4096)
            self._heard += len(data)
            self._frames.extend(self._decoder.feed(data))

    def _seconds(self, count: int) -> float:
        """That ``count`` bytes of frames take, most of them escaped at worst."""
        return 2 * 10 * count / self.baud

    def _greet(self, nonce: int, attempts: int) -> Frame | None:
        self._heard = 0
        # What the board still takes for a frame ends here.
        self.port.write(bytes([END]))
        for _ in range(attempts):
            self._send(Frame(Op.HELLO, 0, RECORD_WORDS, nonce))
            # The board may have a long answer to an older question under way.
            until = self.clock() + PATIENCE + self._seconds(4 * MAX_QUESTION)
            for answer in self._answers(until):
                if answer.op == Op.HELLO | ANSWER and answer.address == nonce:
                    return answer
        return None

    def _lost(self, what: str) -> LinkError:
        """The error of a transfer that ``ATTEMPTS`` attempts did not move on."""
        nonce = int.from_bytes(os.urandom(4), "little")
        if self._greet(nonce, 2) is not None:
            return LinkError(f"{self.name} must do {what}, not ignore it; was it reset or loaded "
                             f"anew? connect again")
        return LinkError(f"{self.name} must answer {what}, not be silent after {ATTEMPTS} "
                         f"attempts; check cable, power and baud={self.baud}")

    def _begin(self) -> None:
        if not self._ready:
            raise LinkError(f"{self.name} must be connected again after an error")

    def _order(self, op: Op, orders: list[tuple[int, bytes]]) -> None:
        """Have orders done: send up to a window ahead of what is done, and go back on silence."""
        report = _Report(self, sum(len(data) for _, data in orders))
        longest = max((len(data) for _, data in orders), default=0) + FRAME_BYTES
        window = min(WINDOW, 2 + int(IN_FLIGHT * self.baud / 10 / longest))
        with self._faults():
            first = self._turn
            done = sent = highest = attempts = 0
            while done < len(orders):
                while sent < min(done + window, len(orders)):
                    address, data = orders[sent]
                    self._send(Frame(op, (first + sent) & 255, len(data) // 4, address, data))
                    self.repeats += sent < highest
                    sent += 1
                    highest = max(highest, sent)
                before = done
                until = self.clock() + PATIENCE + self._seconds((sent - done) * longest)
                for answer in self._answers(until):
                    if not answer.op & 1:
                        continue
                    ahead = (answer.sequence - first - done) & 255
                    if not 0 < ahead <= highest - done:
                        continue
                    if answer.refused:
                        raise LinkError(f"{self.name} must do {op.name.lower()}, "
                                        f"not refuse it at {answer.address:#x}")
                    done += ahead
                    sent = max(sent, done)
                    self._turn = (first + done) & 255
                    break
                if done > before:
                    attempts = 0
                    report(sum(len(data) for _, data in orders[before:done]))
                    continue
                attempts += 1
                if attempts == ATTEMPTS:
                    raise self._lost(op.name.lower())
                sent = done

    def _ask(self, op: Op, address: int, count: int) -> bytes:
        """Answers to questions, two under way; what fails is asked for again in halves."""
        report = _Report(self, count)
        found = bytearray(count)
        largest = max(64, min(MAX_QUESTION, int(IN_FLIGHT * self.baud / 40)))
        todo = deque((start, min(4 * largest, count - start))
                     for start in range(0, count, 4 * largest))
        asked: dict[int, tuple[int, int]] = {}
        attempts = 0
        with self._faults():
            while todo or asked:
                while todo and len(asked) < 2:
                    start, size = todo.popleft()
                    self._tag = (self._tag + 1) & 255
                    asked[self._tag] = start, size
                    self._send(Frame(op, self._tag, size // 4, address + start))
                until = self.clock() + PATIENCE + self._seconds(
                    sum(size + 3 * FRAME_BYTES for _, size in asked.values()))
                failed = list(asked.values())
                for answer in self._answers(until):
                    start, size = asked.get(answer.sequence, (0, 0))
                    if ((answer.op, answer.address, answer.words)
                            != (op | ANSWER, address + start, size // 4)):
                        continue
                    if answer.refused:
                        raise LinkError(f"{self.name} must answer {op.name.lower()}, "
                                        f"not refuse it at {answer.address:#x}")
                    if len(answer.data) != size:
                        continue
                    found[start:start + size] = answer.data
                    tags = list(asked)
                    # Answers come in the order of questions: earlier ones are lost.
                    failed = [asked.pop(tag) for tag in tags[:tags.index(answer.sequence) + 1]]
                    failed.pop()
                    attempts = 0
                    report(size)
                    break
                else:
                    asked.clear()
                    attempts += 1
                    if attempts == ATTEMPTS:
                        raise self._lost(op.name.lower())
                self.repeats += len(failed)
                for start, size in reversed(failed):
                    half = size // 8 * 4 if size > 4 * LEAST_WORDS else size
                    if half < size:
                        todo.appendleft((start + half, size - half))
                    todo.appendleft((start, half))
        return bytes(found)


class _Report:
    """Calls a link's ``progress`` for one transfer, once that has taken long enough."""
    def __init__(self, link: Link, total: int):
        self.link = link
        self.total = total
        self.done = 0
        self.began = link.clock()

    def __call__(self, count: int) -> None:
        self.done += count
        if self.link.progress is not None and self.link.clock() - self.began > QUIET:
            self.link.progress(self.done, self.total)
