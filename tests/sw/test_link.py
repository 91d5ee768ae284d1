"""The host's end of the link on lines that lose, double, reorder and corrupt."""

import random

import pytest
import systolith.link as link_module
from lines import BoardEnd, Harm, SimulatedPort, transfer
from systolith.frames import ANSWER, Decoder, Frame, Op, Record
from systolith.link import Link, LinkError

RECORD = Record(data_words=64, memory_bytes=1 << 16, clock_hz=12_000_000, fingerprint=7)
BAUD = 1_000_000


class Registers:
    """Register 0 counts how often it is written; the others keep what they get."""
    def __init__(self):
        self.values = {}
        self.bad = set()

    def get(self, offset):
        return None if offset in self.bad else self.values.get(offset, 0)

    def set(self, offset, value):
        self.values[offset] = self.values.get(0, 0) + 1 if offset == 0 else value
        return offset not in self.bad


def connected(port=None, **options):
    registers = Registers()
    board = BoardEnd(RECORD, get=registers.get, set=registers.set)
    port = port or SimulatedPort(board, **options)
    port.board = board
    link = Link(port, baud=BAUD, name="the board", clock=port.clock)
    link.connect()
    return link, port, board, registers


@pytest.mark.parametrize("frame", [
    Frame(Op.WRITE, 0xC0, 2, 0xDBC0DCDD, b"\xc0\xdb\xdc\xdd\xdb\xc0\xc0\xdb"),
    Frame(Op.GET | ANSWER, 1, 1, 4, b"abcd", refused=True), Frame(Op.HELLO, 0, 6, 0),
])
def test_a_frame_comes_out_as_it_went_in(frame):
    decoder = Decoder()
    assert [*decoder.feed(b"\xdbnoise" + frame.encode() + frame.encode()[1:])] == [frame, frame]


def test_the_record_comes_out_as_it_went_in():
    assert Record.unpack(RECORD.pack()) == RECORD


def test_transfers_of_every_size_on_a_line_without_faults():
    link, port, board, registers = connected()
    rng = random.Random(1)
    for count in (0, 4, 256, 260, 8192, 1 << 16):
        data = rng.randbytes(count)
        link.write((1 << 16) - count, data)
        assert bytes(board.memory[(1 << 16) - count:]) == data
        assert link.read((1 << 16) - count, count) == data
    link.set(0x40, 0xC0DBDCDD)
    assert link.get(0x3c, 3) == [0, 0xC0DBDCDD, 0]
    assert link.repeats == 0


def test_latency_of_an_adapter_costs_little():
    link, port, board, registers = connected()
    before = port.now
    link.write(0, bytes(1 << 16))
    link.read(0, 1 << 16)
    # 64 KiB each way, in windows of some 40 ms of the line's time, and 16 ms for each.
    assert port.now - before < 2 * (1 << 16) * 10 / BAUD


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_silently_wrong_on_a_line_with_faults(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    # The last lines are so bad that transfers may fail; they still must say so.
    rate = (1 / 3000, 1 / 1500, 1 / 800, 1 / 300)[seed % 4]
    quiet = Harm(rng, 0)
    port = SimulatedPort(None, latency=rng.choice((0.0, 0.001, 0.016)))
    link, port, board, registers = connected(port)
    up, down = port.to_board, port.to_host = Harm(rng, rate), Harm(rng, rate)
    memory = bytearray(board.memory)
    counted = errors = 0
    transfers = 0
    while up.count + down.count < 1000:
        transfers += 1
        port.limit = port.now + 60
        address = rng.randrange(0, 1 << 16, 4)
        count = rng.randrange(0, min(1 << 14, (1 << 16) - address) + 1, 4)
        action = rng.choice(("write", "write", "read", "read", "set", "get"))
        data = rng.randbytes(count) if action == "write" else bytes(count)
        try:
            transfer(link, action, memory, address=address, data=data, counted=counted)
            counted += action == "set"
        except LinkError:
            errors += 1
            port.to_board = port.to_host = quiet
            link.connect()
            if action == "write":
                link.write(address, bytes(count))
                memory[address:address + count] = bytes(count)
            if action == "set":
                assert registers.values[0] in (counted, counted + 1)
                counted = registers.values[0]
            port.to_board, port.to_host = up, down
        assert bytes(board.memory) == memory, action
        assert registers.values.get(0, 0) == counted, action
    print(f"{transfers} transfers, {up.count + down.count} faults, {link.repeats} repeats, "
          f"{errors} errors, {port.now:.1f} s: {up.counts}")
    assert errors < transfers / 2
    assert link.repeats


@pytest.mark.parametrize("after", [0, 1, 5, 20])
@pytest.mark.parametrize("action", ["read", "write"])
def test_a_cut_cable_is_one_sentence_and_a_new_one_works(action, after):
    link, port, board, registers = connected()
    port.dead = after
    with pytest.raises(LinkError) as caught:
        link.write(0, bytes(1 << 16)) if action == "write" else link.read(0, 1 << 16)
    assert str(caught.value) == ("the board must stay connected, not fail with Input/output error; "
                                 "check cable and power")
    with pytest.raises(LinkError, match="must be connected again after an error"):
        link.read(0, 4)
    port.dead = None
    link.connect()
    link.write(0, b"abcd")
    assert link.read(0, 4) == b"abcd"


def test_a_line_that_falls_silent_is_one_sentence_and_ends():
    link, port, board, registers = connected()
    port.to_host = lambda data: b""
    began = port.now
    with pytest.raises(LinkError) as caught:
        link.write(0, bytes(4096))
    assert str(caught.value) == ("the board must answer write, not be silent after 8 attempts; "
                                 "check cable, power and baud=1000000")
    assert port.now - began < 10


def test_a_board_that_was_reset_is_found_out():
    link, port, board, registers = connected()
    for turn in (1, 200):
        for _ in range(turn):
            link.set(4, 1)
        board.restart()
        for action in (lambda: link.write(0, b"abcd"), lambda: link.set(0, 1),
                       lambda: link.read(0, 4)):
            with pytest.raises(LinkError) as caught:
                action()
            assert "was it reset or loaded anew?" in str(caught.value)
            board.restart()
            link._ready = True  # as if it had not been noticed
        link.connect()
    assert registers.values == {4: 1} and not any(board.memory)


def test_orders_that_come_late_and_twice_are_done_once():
    link, port, board, registers = connected()
    old = []

    def keep(data):
        old.append(data)
        # Everything that was ever sent within the last hundred requests comes again.
        return data + b"".join(old[-100:])

    port.to_board = keep
    for i in range(300):
        link.set(0, i)
        link.write(4 * (i % 3), i.to_bytes(4, "little"))
    assert registers.values[0] == 300
    assert [int.from_bytes(board.memory[i:i + 4], "little") for i in (0, 4, 8)] == [297, 298, 299]


def test_a_refusal_is_one_sentence():
    link, port, board, registers = connected()
    registers.bad.add(0x44)
    with pytest.raises(LinkError, match="the board must do set, not refuse it at 0x44"):
        link.set(0x44, 1)
    link.connect()
    with pytest.raises(LinkError, match="the board must answer get, not refuse it at 0x40"):
        link.get(0x40, 3)
    link.connect()
    link.set(0x40, 1)


@pytest.mark.parametrize("says, text", [
    (b"", "the board must answer hello, not say nothing; check power, cable, bitstream and port"),
    (b"login: \xc0", ("the board must answer hello, not say 64 bytes that are no answer of a "
                      "board; check baud=1000000")),
])
def test_whoever_is_no_board_is_one_sentence(says, text):
    class Other:
        memory = b""

        def hear(self, data):
            return says if len(data) > 1 else b""

    port = SimulatedPort(Other(), latency=0)
    with pytest.raises(LinkError) as caught:
        Link(port, baud=BAUD, name="the board", clock=port.clock).connect()
    assert str(caught.value) == text


def test_a_loop_of_the_line_is_no_board():
    class Loop:
        def hear(self, data):
            return data

    port = SimulatedPort(Loop())
    with pytest.raises(LinkError, match="that are no answer of a board"):
        Link(port, baud=BAUD, clock=port.clock).connect()


def test_another_version_is_one_sentence():
    board = BoardEnd(RECORD._replace(version=2), get=None, set=None)
    port = SimulatedPort(board)
    with pytest.raises(LinkError, match="the board must have a link of version 1, not 2"):
        Link(port, baud=BAUD, name="the board", clock=port.clock).connect()


def test_progress_is_told_of_in_long_transfers_only(monkeypatch):
    link, port, board, registers = connected()
    calls = []
    link.progress = lambda *numbers: calls.append(numbers)
    link.write(0, bytes(1 << 15))
    assert calls == []
    monkeypatch.setattr(link_module, "QUIET", 0.1)
    link.read(0, 1 << 16)
    assert calls and calls[-1] == (1 << 16, 1 << 16)
    assert calls == sorted(calls)


@pytest.mark.parametrize("address, count", [(2, 4), (-4, 4), (0, 3), (1 << 16, 4), (0, 1 << 17)])
def test_transfers_outside_memory_are_refused(address, count):
    link, *_ = connected()
    for action in (lambda: link.read(address, count), lambda: link.write(address, bytes(count))):
        with pytest.raises(ValueError, match="address must be a multiple of 4 that leaves"):
            action()
    assert link.read(0, 4) == bytes(4)
