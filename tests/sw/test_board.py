"""A board as a device, on a simulated line with the model of the core behind it."""

import json
import os
import random
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from lines import BoardEnd, Harm, SimulatedPort
from systolith import gemm, open_device
from systolith.board import BoardDevice, SerialPort
from systolith.cli import main
from systolith.device import ModelDevice
from systolith.errors import CoreError
from systolith.frames import Record
from systolith.link import LinkError
from systolith.model import CoreModel
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ErrorCode
from systolith_hw.registers import REGISTERS, constants

CONFIG = CoreConfig.preset("tiny").updated({"control": {"traffic": True}})
MEMORY_BYTES = 1 << 16
NAMES = {register.offset: name for name, register in REGISTERS.items()}


class Board:
    """A board whose core is the model: registers that start programs on the link's memory."""
    def __init__(self, config=CONFIG, *, ends=True):
        self.config = config
        self.ends = ends  # programs end by themselves
        self.registers = constants(config)
        self.starts = 0
        record = Record(data_words=64, memory_bytes=MEMORY_BYTES, clock_hz=12_000_000,
                        fingerprint=config.fingerprint)
        self.end = BoardEnd(record, get=self.get, set=self.set)

    def get(self, offset):
        return self.registers.get(NAMES[offset], 0)

    def set(self, offset, value):
        if NAMES[offset] != "control":
            self.registers[NAMES[offset]] = value
            return
        if value & 2:
            self.registers |= {"status": 0, "error_code": 0, "error_index": 0}
        if value & 1:
            self.starts += 1
            self.run()

    def run(self):
        if not self.ends:
            self.registers["status"] = 1
            return
        memory = np.frombuffer(bytes(self.end.memory), np.uint8).copy()
        model = CoreModel(config=self.config, memory=memory)
        params = {i: self.registers.get(f"param{i}", 0) for i in range(1, 16)}
        try:
            model.run(self.registers["program_address"], self.registers["program_commands"],
                      params={i: value for i, value in params.items() if value})
            self.registers["status"] = 2
        except CoreError as error:
            self.registers |= {"status": 4, "error_code": int(error.code),
                               "error_index": error.index}
        self.registers |= {"counter_rows": model.counters["rows"], "counter_cycles": 1000}
        self.end.memory[:] = memory.tobytes()


class Bench:
    """A device on a board, and the ports that it opened."""
    def __init__(self, board=None, *, config=CONFIG, rate=0.0, seed=0, **options):
        self.board = board or Board()
        self.rng = random.Random(seed)
        self.rate = rate
        self.now = 0.0
        self.ports = []
        self.device = BoardDevice(config, port="/dev/ttyX", open_port=self.open,
                                  clock=lambda: self.ports[-1].now, **options)

    def open(self, name, *, baud):
        assert name == "/dev/ttyX"
        self.ports.append(SimulatedPort(
            self.board.end, to_board=Harm(self.rng, self.rate), to_host=Harm(self.rng, self.rate)))
        return self.ports[-1]


@pytest.mark.parametrize("rate", [0.0, 1 / 1500], ids=["clean", "faults"])
def test_a_product_on_a_board_equals_numpy(rate):
    bench = Bench(rate=rate, seed=5)
    rng = np.random.default_rng(1)
    a = rng.integers(-128, 128, (20, 30), dtype=np.int8)
    b = rng.integers(-128, 128, (30, 17), dtype=np.int8)
    with bench.device as device:
        for runs in range(1, 4):
            result = gemm(a, b, device=device)
            assert np.array_equal(result, a.astype(np.int32) @ b)
            assert bench.board.starts == runs, "a start must be done once"
        assert device.counters()["rows"] > 0
    if rate:
        assert device.link is None and sum(port.to_board.count for port in bench.ports)


def test_reads_and_writes_at_any_address():
    device = Bench().device
    model = ModelDevice(CONFIG, memory_bytes=MEMORY_BYTES)
    rng = random.Random(2)
    for _ in range(100):
        address = rng.randrange(200)
        data = rng.randbytes(rng.randrange(12))
        device.write(address, data)
        model.write(address, data)
        start, count = rng.randrange(200), rng.randrange(12)
        assert bytes(device.read(start, count)) == bytes(model.read(start, count))
    assert bytes(device.read(0, 256)) == bytes(model.read(0, 256))
    device.write(0, np.arange(4, dtype=np.int16))
    assert bytes(device.read(0, 8)) == bytes([0, 0, 1, 0, 2, 0, 3, 0])


def test_knows_the_boards_memory():
    assert Bench().device.memory_bytes == MEMORY_BYTES
    assert Bench(memory_bytes=4096).device.memory_bytes == 4096
    with pytest.raises(ValueError) as caught:
        Bench(memory_bytes=1 << 17)
    assert str(caught.value) == ("memory_bytes must be at most 65536, what /dev/ttyX has, "
                                 "not 131072")


def test_an_error_of_the_core_is_raised_and_the_device_goes_on():
    device = Bench().device
    device.write(0, bytes([0xff] * 64))
    with pytest.raises(CoreError) as caught:
        device.run(0, 1)
    assert caught.value.index == 0 and caught.value.code != ErrorCode.NONE
    device.run(0, 0)


def test_a_program_without_end_is_reset():
    bench = Bench(Board(ends=False), timeout=3.0)
    with pytest.raises(TimeoutError, match="program must end within timeout=3.0 seconds"):
        bench.device.run(0, 1)
    assert bench.board.registers["status"] == 0


def test_a_bitstream_of_another_configuration_is_one_sentence():
    other = CoreConfig.preset("demo")
    with pytest.raises(ValueError) as caught:
        Bench(config=other)
    assert str(caught.value) == (
        f"bitstream on /dev/ttyX must be of fingerprint {other.fingerprint:#018x}, that of demo, "
        f"not {CONFIG.fingerprint:#018x}")


def test_a_pulled_cable_is_one_sentence_and_the_device_works_after_reconnecting():
    bench = Bench()
    device = bench.device
    bench.ports[-1].dead = 4
    with pytest.raises(LinkError, match="^/dev/ttyX must stay connected, not fail with Input"):
        device.write(0, bytes(1 << 14))
    with pytest.raises(LinkError, match="must be connected again"):
        device.read(0, 4)
    bench.board.end.restart()  # it had no power
    device.reconnect()
    assert len(bench.ports) == 2 and bench.ports[0].closed
    a = np.eye(8, dtype=np.int8)
    assert np.array_equal(gemm(a, a, device=device), a.astype(np.int32))
    device.close()
    with pytest.raises(LinkError, match="/dev/ttyX must be connected again, not used after"):
        device.read(0, 4)


def test_the_port_is_closed_where_the_device_cannot_be_made():
    ports = []

    def opened(name, *, baud):
        ports.append(SimulatedPort(None))
        return ports[-1]

    with pytest.raises(LinkError, match="must answer hello, not say nothing"):
        BoardDevice(CONFIG, port="x", open_port=opened, clock=lambda: ports[-1].now)
    assert ports[0].closed


@pytest.mark.parametrize("options, kind, text", [
    ({"baud": 0}, ValueError, "baud must be at least 1, not 0"),
    ({"baud": 1e6}, TypeError, "baud must be an integer, not 1000000.0"),
    ({"window": 1}, ValueError, "window must be a multiple of 4096 within 17 address bits, not 1"),
])
def test_bad_parameters_are_refused(options, kind, text):
    with pytest.raises(kind) as caught:
        BoardDevice(CONFIG, port="x", open_port=lambda *_, **__: None, **options)
    assert str(caught.value) == text


def test_a_port_that_is_absent_or_busy_is_one_sentence():
    with pytest.raises(LinkError) as caught:
        open_device("board:/dev/no-such-port", CONFIG)
    assert str(caught.value).startswith("port /dev/no-such-port must be there and free, not fail")
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    first = SerialPort(name, baud=115200)
    try:
        with pytest.raises(LinkError, match=f"port {name} must be there and free"):
            SerialPort(name, baud=115200)
    finally:
        first.close()
        os.close(ours)
        os.close(theirs)


def test_bytes_pass_a_real_port_until_it_is_pulled():
    ours, theirs = os.openpty()
    port = SerialPort(os.ttyname(theirs), baud=115200)
    os.close(theirs)
    port.write(b"\xc0hello")
    assert os.read(ours, 100) == b"\xc0hello"
    os.write(ours, b"\x00\xff\n\r")
    assert b"".join(port.read(4096) for _ in range(4)) == b"\x00\xff\n\r"
    os.close(ours)
    with pytest.raises(LinkError, match="must stay connected"):
        for _ in range(10):
            port.write(b"x")
            port.read(10)
    port.close()


def test_pyserial_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(ImportError) as caught:
        open_device("board:x", CONFIG)
    assert str(caught.value) == ("device board must have its packages installed: "
                                 "pip install systolith[link]")


def test_the_command_line_says_it_in_one_sentence():
    result = CliRunner().invoke(main, ["gemm", "--device", "board:/dev/no-such-port"])
    assert result.exit_code == 2
    last = result.output.splitlines()[-1]
    assert last.startswith("systolith: port /dev/no-such-port must be there and free")


@pytest.fixture
def board_at_every_port(monkeypatch):
    """A board with rubbish in its memory behind whatever port is opened."""
    board = Board()
    ports = []

    def opened(self, *, port, baud=1_000_000, **options):
        def line(name, *, baud):
            ports.append(SimulatedPort(board.end))
            return ports[-1]
        return BoardDevice(self, port=port, baud=baud, open_port=line,
                           clock=lambda: ports[-1].now, **options)

    board.end.memory[:] = b"\xa5" * MEMORY_BYTES
    monkeypatch.setattr("systolith.board.BoardDevice", opened)
    return board


def test_the_command_line_runs_on_a_board(board_at_every_port):
    result = CliRunner().invoke(main, ["gemm", "--preset", "tiny", "--device", "board:x", "--baud",
                                       "500000", "-m", "9", "-n", "8", "-k", "7"])
    assert result.exit_code == 0, result.output
    assert "device board:x" in result.output and "bytes of memory equal" in result.output
    assert "cycles" in result.output and board_at_every_port.starts == 1


def test_the_demo_classifies_on_a_board_as_many_digits_as_its_memory_holds(
        board_at_every_port, tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn brings the digits")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["demo", "--preset", "tiny", "--device", "board:x"])
    assert result.exit_code == 0, result.output
    assert "int8, board 4 x 4" in result.output
    assert board_at_every_port.starts > 1
    report = json.loads((tmp_path / "build/demo/result.json").read_text())
    assert report["bit_exact"] and report["memory_bytes"] <= MEMORY_BYTES
    assert report["accuracy_board"] == report["accuracy_model"] >= 0.95
    assert report["cycles"] == 1000 * board_at_every_port.starts


def test_the_demo_notices_a_board_that_computes_otherwise(board_at_every_port, tmp_path,
                                                          monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn brings the digits")
    monkeypatch.chdir(tmp_path)
    run = board_at_every_port.run

    def wrongly():
        run()
        board_at_every_port.end.memory[100] ^= 1
    board_at_every_port.run = wrongly
    result = CliRunner().invoke(main, ["demo", "--preset", "tiny", "--device", "board:x",
                                       "--digits", "3"])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == (
        "systolith: bytes of the board and model must be the same, not different")
