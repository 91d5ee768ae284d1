"""Frames of the host link, declared once for the host's end and for the board's: ``docs/link.md``.

A frame is a header, its data and a CRC-32, packed by SLIP (RFC 1055).
"""

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

__all__ = ["ANSWER", "END", "ESC", "ESC_END", "ESC_ESC", "HEADER_WORDS", "MAGIC", "MAX_WORDS",
           "RECORD_WORDS", "VERSION", "Decoder", "Frame", "Op", "Record"]

VERSION = 1
MAGIC = b"SLNK"
END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
ANSWER = 0x80     # bit of an answer's op
MAX_WORDS = 4095  # that a question can ask for

_HEADER = struct.Struct("<BBHI")
_RECORD = struct.Struct("<4sHHIIQ")
_CRC = struct.Struct("<I")
_ESCAPES = {ESC_END: END, ESC_ESC: ESC}

HEADER_WORDS = _HEADER.size // 4
RECORD_WORDS = _RECORD.size // 4


class Op(IntEnum):
    """What a request wants. Bit 0: an order, which carries data and is done once, in turn; the
    others are questions. Bit 1: memory, not registers."""
    GET = 0x04
    SET = 0x05
    READ = 0x06
    WRITE = 0x07
    HELLO = 0x08

    @property
    def is_order(self) -> bool:
        """Whether it changes something on the board."""
        return bool(self & 1)


class Frame(NamedTuple):
    """A request or an answer.

    Attributes
    ----------
    op : int
        An ``Op``; with ``ANSWER`` in an answer.
    sequence : int
        Number of an order, tag of a question; in answers to orders and to hello, the number of the
        order that the board does next.
    words : int
        Words of data: those that an order carries, or those that a question asks for.
    address : int
        Byte address, or offset of a register, a multiple of 4; of hello, any number.
    data : bytes
        Data of an order, and of the answer to a question.
    refused : bool
        Answers: the board could not do it.
    """
    op: int
    sequence: int
    words: int
    address: int
    data: bytes = b""
    refused: bool = False

    def encode(self) -> bytes:
        """The frame on the line, an END before it and one behind it."""
        body = _HEADER.pack(self.op, self.sequence, self.words, self.address) + self.data
        check = zlib.crc32(body) ^ (0xffffffff if self.refused else 0)
        body += _CRC.pack(check)
        body = body.replace(bytes([ESC]), bytes([ESC, ESC_ESC]))
        return bytes([END]) + body.replace(bytes([END]), bytes([ESC, ESC_END])) + bytes([END])


def _decoded(body: bytes) -> Frame | None:
    """The frame with these bytes, if it is one."""
    if len(body) < _HEADER.size + _CRC.size:
        return None
    check, = _CRC.unpack_from(body, len(body) - _CRC.size)
    body = body[:-_CRC.size]
    error = check ^ zlib.crc32(body)
    if error not in (0, 0xffffffff):
        return None
    return Frame(*_HEADER.unpack_from(body), data=body[_HEADER.size:], refused=error != 0)


class Decoder:
    """Finds frames in a stream of bytes; what is none vanishes.

    Parameters
    ----------
    largest : int
        Words of data in the longest frame to expect.
    """
    def __init__(self, largest: int = MAX_WORDS):
        self.limit = _HEADER.size + 4 * largest + _CRC.size
        self.body = bytearray()
        self.escaped = self.bad = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames that end in ``data``."""
        for byte in data:
            if byte == END:
                frame = None if self.bad or self.escaped else _decoded(bytes(self.body))
                self.body.clear()
                self.escaped = self.bad = False
                if frame is not None:
                    yield frame
            elif byte == ESC and not self.escaped:
                self.escaped = True
            elif self.bad:
                continue
            elif self.escaped and byte not in _ESCAPES or len(self.body) == self.limit:
                self.bad = True
            else:
                self.body.append(_ESCAPES[byte] if self.escaped else byte)
                self.escaped = False


class Record(NamedTuple):
    """What a board says of itself when it is greeted.

    Attributes
    ----------
    data_words : int
        Most words that an order can carry.
    memory_bytes : int
        Size of its memory.
    clock_hz : int
        Its clock.
    fingerprint : int
        That of the core's configuration.
    version : int
        Of the link.
    magic : bytes
    """
    data_words: int
    memory_bytes: int
    clock_hz: int
    fingerprint: int
    version: int = VERSION
    magic: bytes = MAGIC

    def pack(self) -> bytes:
        """Its ``RECORD_WORDS`` words."""
        return _RECORD.pack(self.magic, self.version, 4 * self.data_words, self.memory_bytes,
                            self.clock_hz, self.fingerprint)

    @classmethod
    def unpack(cls, data: bytes) -> "Record":
        """The inverse of ``pack``."""
        magic, version, largest, memory_bytes, clock_hz, fingerprint = _RECORD.unpack(data)
        return cls(largest // 4, memory_bytes, clock_hz, fingerprint, version, magic)

