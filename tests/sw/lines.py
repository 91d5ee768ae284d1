"""Serial lines that harm what they carry, and the board's end of the link in Python."""

from collections import deque

from systolith.frames import ANSWER, Decoder, Frame, Op

KINDS = ("lost", "doubled", "swapped", "changed", "burst", "noise", "frame lost",
         "frame doubled", "frame late")


class Harm:
    """Faults at random places of a stream of bytes.

    Parameters
    ----------
    rng : random.Random
    rate : float
        Faults per byte.
    """
    def __init__(self, rng, rate):
        self.rng, self.rate = rng, rate
        self.counts = dict.fromkeys(KINDS, 0)
        self.late = b""

    def __call__(self, data):
        """What arrives of ``data``."""
        out = bytearray()
        i = 0
        rng = self.rng
        while i < len(data):
            # Bytes up to the next fault go as they are.
            clean = len(data) if not self.rate else int(rng.expovariate(self.rate))
            out += data[i:i + clean]
            i += clean
            if i >= len(data):
                break
            kind = rng.choice(KINDS)
            self.counts[kind] += 1
            byte = data[i]
            i += 1
            if kind == "doubled":
                out += bytes([byte, byte])
            elif kind == "swapped":
                out += bytes([*data[i:i + 1], byte])
                i += 1
            elif kind == "changed":
                out.append(byte ^ 1 << rng.randrange(8))
            elif kind == "burst":
                count = rng.randrange(2, 40)
                out += rng.randbytes(count)
                i += count
            elif kind == "noise":
                out += bytes([byte]) + rng.randbytes(rng.randrange(1, 20))
            elif kind.startswith("frame"):
                end = data.find(b"\xc0\xc0", i) + 1 or len(data)
                start = max(data.rfind(b"\xc0\xc0", 0, i) + 1, 0)
                frame = bytes(data[start:end])
                if kind == "frame doubled":
                    out += data[i - 1:end] + frame
                elif kind == "frame late":
                    self.late = frame
                i = end
        if self.late and rng.random() < 0.3:
            out += self.late
            self.late = b""
        return bytes(out)

    @property
    def count(self):
        return sum(self.counts.values())


class BoardEnd:
    """The board's end, as ``docs/link.md`` says.

    Parameters
    ----------
    record : Record
    get, set : callable
        Registers; each may return None for an error of the bus.
    """
    def __init__(self, record, *, get, set):
        self.record = record
        self.memory = bytearray(record.memory_bytes)
        self.get, self.set = get, set
        self.restart()

    def restart(self):
        """What a reset of the board does; memory stays."""
        self.decoder = Decoder(self.record.data_words)
        self.turn, self.greeted, self.failed = 0, False, False

    def hear(self, data):
        """What the board answers to these bytes."""
        return b"".join(answer.encode() for frame in self.decoder.feed(data)
                        if (answer := self.answer(frame)) is not None)

    def answer(self, frame):
        op, number, words, address, data, complemented = frame
        order, memory = op & 1, op & 2
        if complemented or len(data) != 4 * (words if order else 0):
            return None
        known = op in list(Op)
        if op == Op.HELLO:
            self.greeted = True
        if not self.greeted:
            return None
        size = self.record.memory_bytes if memory else 4096
        fits = op == Op.HELLO or (address < size and address % 4 == 0)
        refused = not known or not fits
        found = b""
        if order:
            if number == self.turn:
                self.turn = (self.turn + 1) & 255
                self.failed = False
                if not refused:
                    self.do(op, address, data)
            refused = refused or self.failed
        elif not refused:
            if op == Op.HELLO:
                found = self.record.pack()
            elif op == Op.READ:
                found = bytes(self.memory[address:address + 4 * words])
            else:
                values = [self.get(address + 4 * i) for i in range(words)]
                refused = None in values
                found = b"".join((value or 0).to_bytes(4, "little") for value in values)
        sequence = self.turn if order or op == Op.HELLO else number
        return Frame(op | ANSWER, sequence, words, address, found, refused)

    def do(self, op, address, data):
        if op == Op.WRITE:
            self.memory[address:address + len(data)] = data
            return
        for i in range(0, len(data), 4):
            if self.set(address + i, int.from_bytes(data[i:i + 4], "little")) is False:
                self.failed = True


class SimulatedPort:
    """A port with time of its own: what is written arrives harmed, and so do answers.

    Parameters
    ----------
    board : BoardEnd or None
        None: nobody is there.
    to_board, to_host : callable
        What arrives of bytes.
    latency : float
        Seconds until answers arrive.
    """
    def __init__(self, board, *, to_board=bytes, to_host=bytes, latency=0.016):
        self.board = board
        self.to_board, self.to_host = to_board, to_host
        self.latency = latency
        self.now = 0.0
        self.coming = deque()  # time and bytes
        self.dead = None       # writes until the cable is cut; None: it is not
        self.closed = False
        self.limit = float("inf")

    def clock(self):
        return self.now

    def write(self, data):
        self.alive()
        self.now += 1e-6
        if self.board is not None:
            answer = self.to_host(self.board.hear(self.to_board(data)))
            if answer:
                self.coming.append((self.now + self.latency, answer))

    def read(self, size):
        self.alive()
        if self.coming and self.coming[0][0] <= self.now + 0.02:
            when, data = self.coming.popleft()
            self.now = max(self.now, when)
            if len(data) > size:
                self.coming.appendleft((when, data[size:]))
            return data[:size]
        self.now += 0.02
        return b""

    def alive(self):
        assert self.now < self.limit, "a transfer must end"
        if self.closed:
            raise OSError(9, "Bad file descriptor")
        if self.dead is not None:
            self.dead -= 1
            if self.dead < 0:
                raise OSError(5, "Input/output error")

    def close(self):
        self.closed = True


def transfer(link, action, memory, *, address, data, counted):
    """One ``write``, ``read`` of as many bytes, ``set`` or ``get``, and what it must find.

    ``memory`` is what the board's holds, and learns what is written; register 0 was set
    ``counted`` times.
    """
    if action == "write":
        link.write(address, data)
        memory[address:address + len(data)] = data
    elif action == "read":
        assert link.read(address, len(data)) == memory[address:address + len(data)]
    elif action == "set":
        link.set(0, 1)
    else:
        assert link.get(0, 2) == [counted, 0]
