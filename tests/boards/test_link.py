"""The board's end of the link in Amaranth's simulator, against frames made by Python."""

import random
import zlib

import pytest
from systolith.frames import ANSWER, END, Frame, Op, Record
from systolith_boards.link import Link

from ..hw.simulate import simulate
from .line import Line, Listener
from .stand_ins import got, memory, written

FINGERPRINT = 0xC0DB_DCDD_0123_4567
RECORD = Record(data_words=6, memory_bytes=4 * 64, clock_hz=12_000_000, fingerprint=FINGERPRINT)
BAUDS = [(8, 0.0), (8, 0.02), (8, -0.02), (13, 0.02), (16, -0.02)]


def make(divisor=8, memory_words=64, data_words=6):
    return Link(divisor=divisor, memory_words=memory_words, data_words=data_words,
                clock_hz=RECORD.clock_hz, fingerprint=FINGERPRINT)


class Bench:
    """A link with memory and registers, and the ends of its line."""
    def __init__(self, dut=None, *, seed=0, pause=0, latency=1, late=1, bad=(), drift=0.0,
                 gap=0):
        print(f"seed {seed}")
        self.dut = dut or make()
        self.rng = random.Random(seed)
        self.words = {i: self.rng.getrandbits(32) for i in range(self.dut.memory_words)}
        self.values, self.log = {}, []
        self.options = {"pause": pause, "latency": latency}
        self.late, self.bad = late, bad
        self.line = {"drift": drift, "gap": gap}

    def run(self, body, cycles=60_000):
        listener = Listener(self.dut)

        async def bench(ctx):
            await body(ctx, Line(ctx, self.dut, rng=self.rng, **self.line), listener)

        async def words(ctx):
            await memory(ctx, self.dut, self.words, self.rng, **self.options)

        async def writes(ctx):
            await written(ctx, self.dut, self.values, self.log, self.rng, self.late, self.bad)

        async def reads(ctx):
            await got(ctx, self.dut, self.values, self.rng, self.late, self.bad)

        simulate(self.dut, bench, cycles=cycles,
                 background=(listener.listen, words, writes, reads))


def hello(tag=0, nonce=0):
    return Frame(Op.HELLO, tag, 6, nonce).encode()


def write(number, address, words, op=Op.WRITE):
    data = b"".join(word.to_bytes(4, "little") for word in words)
    return Frame(op, number & 255, len(words), address, data).encode()


def done(op, turn, count, address, refused=False):
    return Frame(op | ANSWER, turn & 255, count, address, refused=refused)


def test_says_what_it_is():
    async def body(ctx, line, board):
        await line.send(hello(9, 0xC0DBDCDD))
        answer, = await board.answers(ctx, 1)
        assert answer == Frame(Op.HELLO | ANSWER, 0, 6, 0xC0DBDCDD, RECORD.pack())
        assert Record.unpack(answer.data) == RECORD

    Bench().run(body)


@pytest.mark.parametrize("divisor, drift", BAUDS)
def test_writes_and_reads_memory_whatever_the_pace(divisor, drift):
    bench = Bench(make(divisor), seed=divisor, drift=drift, pause=5, latency=60,
                  gap=0 if drift < 0 else 3)
    data = [0xC0C0C0C0, 0xDBDCDDC0, bench.rng.getrandbits(32), 0, 0xffffffff, 0xDBDBDBDB]

    async def body(ctx, line, board):
        await line.send(hello() + write(0, 8, data) + write(1, 252, [5]))
        await line.send(Frame(Op.READ, 77, 9, 4).encode())
        answers = await board.answers(ctx, 4)
        assert answers[1:3] == [done(Op.WRITE, 1, 6, 8), done(Op.WRITE, 2, 1, 252)]
        expected = [bench.words[1], *data, bench.words[8], bench.words[9]]
        assert answers[3] == Frame(Op.READ | ANSWER, 77, 9, 4, b"".join(
            word.to_bytes(4, "little") for word in expected))
        assert bench.words[63] == 5

    before = dict(bench.words)
    bench.run(body)
    changed = {i for i in before if before[i] != bench.words[i]}
    assert changed <= {2, 3, 4, 5, 6, 7, 63}


def test_sets_and_gets_registers_that_answer_late():
    bench = Bench(seed=3, late=200)

    async def body(ctx, line, board):
        await line.send(hello() + write(0, 0x40, [0xdeadbeef], Op.SET))
        await board.answers(ctx, 2)
        await line.send(write(1, 0x54, [1, 2, 3], Op.SET))
        await board.answers(ctx, 1)
        await line.send(Frame(Op.GET, 1, 1, 0x40).encode())
        await line.send(Frame(Op.GET, 2, 4, 0x50).encode())
        one, four = await board.answers(ctx, 2)
        assert one.data == bytes.fromhex("efbeadde")
        assert four == Frame(Op.GET | ANSWER, 2, 4, 0x50, bytes([0, 0, 0, 0, 1, 0, 0, 0,
                                                                   2, 0, 0, 0, 3, 0, 0, 0]))

    bench.run(body)
    assert bench.log == [(0x40, 0xdeadbeef), (0x54, 1), (0x58, 2), (0x5c, 3)]


def test_an_order_is_done_once_and_only_in_its_turn():
    bench = Bench(seed=4)

    async def body(ctx, line, board):
        await line.send(hello())
        await board.answers(ctx, 1)
        orders = [(0, 11), (0, 12), (2, 13), (1, 14), (0, 15), (255, 16), (1, 17), (2, 18)]
        turns = []
        for number, value in orders:
            await line.send(write(number, 0x40, [value], Op.SET))
            answer, = await board.answers(ctx, 1)
            assert (answer.op, answer.words, answer.address) == (Op.SET | ANSWER, 1, 0x40)
            turns.append(answer.sequence)
        assert turns == [1, 1, 1, 2, 2, 2, 2, 3]

    bench.run(body)
    assert [value for _, value in bench.log] == [11, 14, 18]


def test_nothing_happens_before_hello():
    bench = Bench(seed=6)
    before = dict(bench.words)

    async def body(ctx, line, board):
        await line.send(write(0, 0, [1]) + write(0, 0, [1], Op.SET)
                        + Frame(Op.READ, 0, 1, 0).encode() + Frame(Op.GET, 0, 1, 0).encode())
        await line.send(hello(1))
        answer, = await board.answers(ctx, 1)
        assert answer.op == Op.HELLO | ANSWER and answer.sequence == 0
        assert board.frames == []

    bench.run(body)
    assert bench.log == [] and bench.words == before


@pytest.mark.parametrize("frame", [
    write(0, 256, [1]), write(0, 1 << 31, [1]), write(0, 2, [1]),
    write(0, 4096, [1], Op.SET), write(0, 1, [1], Op.SET),
    Frame(0x0F, 0, 1, 0, bytes(4)).encode(), Frame(0x87, 0, 1, 0, bytes(4)).encode(),
], ids=["behind memory", "far behind", "no word", "behind the page", "no register", "unknown",
        "an answer"])
def test_refuses_orders_that_it_cannot_do(frame):
    bench = Bench(seed=7)
    before = dict(bench.words)

    async def body(ctx, line, board):
        await line.send(hello())
        await board.answers(ctx, 1)
        await line.send(frame + frame)
        answers = await board.answers(ctx, 2)
        assert [answer.refused for answer in answers] == [True, True]
        await line.send(write(1, 0, [2]))
        answer, = await board.answers(ctx, 1)
        assert answer == done(Op.WRITE, 2, 1, 0)

    bench.run(body)
    assert bench.log == [] and bench.words == {**before, 0: 2}


@pytest.mark.parametrize("question", [
    Frame(Op.READ, 9, 3, 256), Frame(Op.GET, 9, 3, 4096), Frame(0x00, 9, 3, 0),
    Frame(0x0C, 9, 3, 0), Frame(0x18, 9, 3, 0),
])
def test_refuses_questions_that_it_cannot_answer(question):
    async def body(ctx, line, board):
        await line.send(hello() + question.encode())
        answer = (await board.answers(ctx, 2))[1]
        assert answer == question._replace(op=question.op | ANSWER, refused=True)

    Bench().run(body)


def test_an_error_on_the_bus_refuses_and_a_repeat_is_answered_alike():
    bench = Bench(seed=8, bad={0x44})

    async def body(ctx, line, board):
        await line.send(hello())
        for number, offset, refused in ((0, 0x44, True), (0, 0x44, True), (1, 0x48, False)):
            await line.send(write(number, offset, [1], Op.SET))
            answers = await board.answers(ctx, 1 + (number == 0 and not bench.values.get("seen")))
            bench.values["seen"] = True
            assert answers[-1].refused == refused
        await line.send(Frame(Op.GET, 3, 2, 0x44).encode())
        answer, = await board.answers(ctx, 1)
        assert answer.refused
        await line.send(Frame(Op.GET, 4, 1, 0x48).encode())
        answer, = await board.answers(ctx, 1)
        assert not answer.refused

    bench.run(body)
    assert bench.log == [(0x44, 1), (0x48, 1)]


def checked(body):
    return bytes(body) + zlib.crc32(bytes(body)).to_bytes(4, "little")


def packed(body):
    """Bytes between two ENDs, escaped."""
    out = body.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return b"\xc0" + out + b"\xc0"


def test_what_is_no_frame_leaves_no_trace():
    bench = Bench(seed=9)
    before = dict(bench.words)
    good = Frame(Op.WRITE, 0, 2, 0, bytes(8))
    header = good.encode()[1:9]
    noise = bytes(bench.rng.randrange(256) for _ in range(60))
    rejects = [
        packed(bytes(4)), packed(b""), packed(checked(header[:4])),
        packed(checked(header + bytes(4))),       # too short for its words
        packed(checked(header + bytes(12))),      # too long
        packed(checked(header + bytes(9))),
        packed(checked(bytes([7, 0, 2, 1, 0, 0, 0, 0]) + bytes(8))),   # 258 words
        packed(checked(bytes([7, 0, 7, 0, 0, 0, 0, 0]) + bytes(28))),  # more than it takes
        packed(checked(bytes([6, 0, 1, 0, 0, 0, 0, 0]) + bytes(4))),   # a question with data
        packed(checked(bytes([7, 0, 126, 0, 0, 0, 0, 0]))),
        packed(checked(header + bytes(8) + bytes(4 * 16))),
        b"\xc0\xdb\x01" + good.encode()[1:],
        good.encode()[:-1] + b"\xdb\xc0",
        good.encode()[:-2] + bytes([good.encode()[-2] ^ 16, END]),
        good.encode()[:9],
    ]

    async def body(ctx, line, board):
        await line.send(hello() + noise)
        for reject in rejects:
            await line.send(reject)
        for cut in range(0, 16, 5):               # a byte without its stop bit
            frame = good.encode()
            await line.send(frame[:cut])
            await line.byte(frame[cut], stop=0)
            await line.level(0, 15)
            await line.level(1, 2)
            await line.send(frame[cut + 1:])
        await line.level(0, 0.3)                  # a spike
        await line.level(1, 12)
        await line.send(Frame(Op.READ, 5, 1, 0).encode())
        await board.answers(ctx, 1)
        answer, = await board.answers(ctx, 1)
        assert answer.op == Op.READ | ANSWER and board.frames == []

    bench.run(body, cycles=200_000)
    assert bench.words == before


def test_requests_without_room_are_lost_and_the_next_are_not():
    bench = Bench(seed=10, pause=0)

    async def body(ctx, line, board):
        await line.send(hello())
        await board.answers(ctx, 1)
        # The answers to these take so long that later requests find both slots full.
        for tag in range(8):
            await line.send(Frame(Op.READ, tag, 30, 0).encode())
        await line.level(1, 3000)
        tags = [answer.sequence for answer in board.frames]
        assert 2 <= len(tags) < 8 and tags == sorted(tags)
        board.frames.clear()
        # Of these orders the first waits, and those behind it may not harm it.
        await line.send(Frame(Op.READ, 99, 30, 0).encode())
        for number in range(4):
            await line.send(write(number, 16 * number, [10 + number] * 4))
        answers = await board.answers(ctx, 2)
        assert [answer.sequence for answer in answers] == [99, 1]
        await line.level(1, 300)
        assert not board.frames and not ctx.get(board.dut.busy)
        expected.update(dict.fromkeys(range(4), 10))

    expected = dict(bench.words)
    bench.run(body, cycles=200_000)
    assert bench.words == expected


def test_the_lamp_is_lit_while_something_is_done():
    async def body(ctx, line, board):
        assert not ctx.get(board.dut.busy)
        await line.send(hello())
        await ctx.tick().repeat(20)
        assert ctx.get(board.dut.busy)
        await board.answers(ctx, 1)
        await ctx.tick().repeat(20)
        assert not ctx.get(board.dut.busy)

    Bench().run(body)


@pytest.mark.parametrize("name, value, text", [
    ("divisor", 7, "divisor must be from 8 to 65536, not 7"),
    ("memory_words", 1, "memory_words must be from 2 to 1073741824, not 1"),
    ("data_words", 126, "data_words must be from 2 to 125, not 126"),
    ("clock_hz", 0, "clock_hz must be from 1 to 4294967295, not 0"),
    ("fingerprint", -1, "fingerprint must be from 0 to 18446744073709551615, not -1"),
])
def test_bad_parameters_are_refused(name, value, text):
    good = {"divisor": 8, "memory_words": 64, "clock_hz": 1, "fingerprint": 0}
    with pytest.raises(ValueError) as caught:
        Link(**{**good, name: value})
    assert str(caught.value) == text
