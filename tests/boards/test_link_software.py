"""The host's software and the emitted Verilog of the board's end, pin to pin."""

import ctypes
import random
from pathlib import Path

import pytest
from systolith.link import Link, LinkError
from systolith_hw.emit import emit_verilog
from systolith_sim.build import CHECKED_MAKE_VARIABLES, cached, digest, lint, run_verilator
from systolith_sim.tools import verilator_version

from ..sw.lines import Harm, transfer
from .stand_ins import MEMORY_WORDS, SmallBoard

DIVISOR = 8
CLOCK = 800_000  # Hz, so that timeouts of tenths of seconds take few cycles
MEMORY_BYTES = 4 * MEMORY_WORDS
HARNESS = Path(__file__).parent / "small_board.cpp"


@pytest.fixture(scope="module")
def library():
    """The emitted Verilog of a small board, Verilated."""
    verilog = emit_verilog(SmallBoard(divisor=DIVISOR), name="board", assertions=True)
    key = digest(verilog, HARNESS.read_bytes(), verilator_version(), CHECKED_MAKE_VARIABLES)
    with cached("boards", key) as (folder, building):
        if building is not None:
            (building / "board.v").write_text(verilog)
            run_verilator([
                "--cc", "--exe", "--build", "-O3", "--assert", "--x-initial", "unique",
                "--prefix", "Vboard", "--top-module", "board", "-Wno-fatal", "-Wno-lint",
                "--Mdir", "obj", "-o", "../libboard.so", "-CFLAGS", "-fPIC",
                "-LDFLAGS", "-shared", "-MAKEFLAGS", CHECKED_MAKE_VARIABLES, "board.v",
                str(HARNESS),
            ], building)
    found = ctypes.CDLL(str(folder / "libboard.so"))
    found.board_open.restype = ctypes.c_void_p
    found.board_run.restype = ctypes.c_size_t
    found.board_cycles.restype = ctypes.c_uint64
    return found


class PinPort:
    """A port whose line ends at the simulated pins; time is the board's."""
    def __init__(self, library, *, hertz=CLOCK, to_board=bytes, to_host=bytes):
        self.hertz = hertz
        self.library = library
        self.board = ctypes.c_void_p(library.board_open(DIVISOR))
        self.to_board, self.to_host = to_board, to_host
        self.limit = float("inf")

    def clock(self):
        return self.cycles / self.hertz

    @property
    def cycles(self):
        return self.library.board_cycles(self.board)

    def write(self, data):
        data = self.to_board(data)
        self.library.board_send(self.board, data, ctypes.c_size_t(len(data)))

    def read(self, size):
        assert self.clock() < self.limit, "a transfer must end"
        room = ctypes.create_string_buffer(size)
        count = self.library.board_run(self.board, ctypes.c_uint64(self.hertz // 50), room,
                                       ctypes.c_size_t(size))
        return self.to_host(room.raw[:count])

    def reset(self):
        self.library.board_reset(self.board)

    def close(self):
        self.library.board_close(self.board)


@pytest.fixture
def board(library):
    """A connected link and its port."""
    port = PinPort(library)
    link = Link(port, baud=CLOCK // DIVISOR, name="board", clock=port.clock)
    link.connect()
    yield link, port
    link.close()


def test_the_software_reads_what_it_wrote(board):
    link, port = board
    assert link.record.memory_bytes == MEMORY_BYTES
    assert link.record.fingerprint == 0xC0DB_DCDD_0123_4567
    rng = random.Random(0)
    # Bytes that need an escape, all of them, and any.
    for data in (bytes([0xC0, 0xDB, 0xDC, 0xDD]) * 400, bytes([0xC0]) * 1024,
                 rng.randbytes(MEMORY_BYTES)):
        link.write(MEMORY_BYTES - len(data), data)
        assert link.read(MEMORY_BYTES - len(data), len(data)) == data
    assert link.read(4, 100) == data[4:104]
    link.set(8, 0xC0DBDCDD)
    assert link.get(4, 3) == [0, 0xC0DBDCDD, 0]
    assert link.repeats == 0


def test_throughput_is_near_what_the_line_carries(library):
    port = PinPort(library, hertz=8_000_000)
    link = Link(port, baud=1_000_000, name="board", clock=port.clock)
    link.connect()
    data = random.Random(1).randbytes(MEMORY_BYTES)
    fractions = []
    for move in (lambda: link.write(0, data), lambda: link.read(0, MEMORY_BYTES)):
        before = port.cycles
        move()
        fractions.append(MEMORY_BYTES * 10 * DIVISOR / (port.cycles - before))
    print("of the line's bytes: writes {:.3f}, reads {:.3f}".format(*fractions))
    # Of random data, one byte in 128 is escaped; a frame of 256 bytes has 14 besides.
    assert 0.93 < fractions[0] < 256 / 270 and 0.97 < fractions[1] < 4000 / 4014
    link.close()


def test_numbers_go_on_after_255(board):
    link, port = board
    for i in range(600):
        link.set(0, i)
    assert link.get(0) == [600]


def test_a_board_that_was_reset_is_found_out(board):
    link, port = board
    link.set(0, 1)
    port.reset()
    with pytest.raises(LinkError, match="was it reset or loaded anew"):
        link.set(0, 1)
    link.connect()
    assert link.get(0) == [0]


@pytest.mark.parametrize("seed, rate", [(1, 1 / 2000), (2, 1 / 700), (3, 1 / 250)])
def test_nothing_is_silently_wrong_on_a_line_with_faults(board, seed, rate):
    print(f"seed {seed}")
    link, port = board
    rng = random.Random(seed)
    memory = bytearray(MEMORY_BYTES)
    link.write(0, bytes(memory))
    up, down = Harm(rng, rate), Harm(rng, rate)
    counted = errors = transfers = 0
    while up.count + down.count < 100:
        transfers += 1
        port.limit = port.clock() + 120
        port.to_board, port.to_host = up, down
        address = rng.randrange(0, MEMORY_BYTES, 4)
        count = rng.randrange(0, min(4096, MEMORY_BYTES - address) + 1, 4)
        data = rng.randbytes(count)
        action = rng.choice(("write", "read", "set", "get"))
        try:
            transfer(link, action, memory, address=address, data=data, counted=counted)
            counted += action == "set"
        except LinkError:
            errors += 1
            port.to_board = port.to_host = bytes
            link.connect()
            now = link.get(0)[0]
            assert now - counted in ((0, 1) if action == "set" else (0,))
            counted = now
            if action == "write":
                link.write(address, data)
                memory[address:address + count] = data
    port.to_board = port.to_host = bytes
    assert link.read(0, MEMORY_BYTES) == memory
    assert link.get(0) == [counted]
    print(f"{transfers} transfers, {up.count + down.count} faults, {link.repeats} repeats, "
          f"{errors} errors")
    assert link.repeats and errors < transfers / 2


def test_the_verilog_passes_verilators_lint():
    lint(emit_verilog(SmallBoard(divisor=DIVISOR), name="board"), name="board")
