"""cocotb bench of the whole core: programs and registers, through its own two buses."""

import random

import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster
from systolith.errors import CoreError
from systolith.gemm import plan_gemm
from systolith.model import CoreModel
from systolith.program import Program, Slot
from systolith_hw.config import CoreConfig
from systolith_hw.isa import COMMAND_BYTES, COMMANDS, ControlOp, ErrorCode, Memory, Opcode
from systolith_hw.registers import COUNTERS, REGISTERS, STATES, constants

from systolith_sim import tb
from systolith_sim.benches.bus import BusRules, memory, pauses

PAGE = 4096
SIZE = 8 * PAGE
WINDOW = 5 * PAGE


class Host:
    """The software's side: registers over AXI4-Lite, memory over AXI4, and the model beside."""
    def __init__(self, dut):
        parameters = tb.parameters()
        self.dut = dut
        self.config = CoreConfig.from_dict(parameters["config"])
        self.rng = np.random.default_rng(parameters["seed"])
        pause = parameters["pause"]
        self.ram = memory(dut, size=WINDOW + SIZE + PAGE, pause=pause, seed=parameters["seed"])
        self.rules = BusRules(dut, self.config.bus)
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        if pause:
            writes, reads = self.registers.write_if, self.registers.read_if
            for name, channel in (("aw", writes.aw_channel), ("w", writes.w_channel),
                                  ("b", writes.b_channel), ("ar", reads.ar_channel),
                                  ("r", reads.r_channel)):
                channel.set_pause_generator(pauses(pause, f"lite {name} {parameters['seed']}"))
        contents = self.rng.integers(0, 256, WINDOW + SIZE + PAGE, np.uint8)
        self.ram.write(0, contents.tobytes())
        self.outside = self._outside()
        self.memory = contents[WINDOW:WINDOW + SIZE].copy()
        self.model = CoreModel(config=self.config, memory=self.memory)

    def _outside(self):
        return bytes(self.ram.read(0, WINDOW)), bytes(self.ram.read(WINDOW + SIZE, PAGE))

    async def start(self):
        """Reset the core and tell it where its memory is."""
        await tb.start(self.dut)
        await self.prepare()

    async def prepare(self):
        """Tell the core where its memory is."""
        await self.set("window_low", WINDOW)
        await self.set("window_bytes", SIZE)

    async def get(self, name):
        """Value of a register."""
        return await self.registers.read_dword(REGISTERS[name].offset)

    async def set(self, name, value):
        """Write a register."""
        await self.registers.write_dword(REGISTERS[name].offset, value)

    async def act(self, bit):
        """Write a 1 to a bit of the control register."""
        await self.set("control", 1 << REGISTERS["control"].bits.index(bit))

    async def status(self):
        """Names of the bits set in the status register."""
        value = await self.get("status")
        return {bit for i, bit in enumerate(REGISTERS["status"].bits) if value >> i & 1}

    def put(self, address, data):
        """Write to memory, the model's too."""
        self.ram.write(WINDOW + address, bytes(data))
        self.memory[address:address + len(data)] = np.frombuffer(bytes(data), np.uint8)

    async def begin(self, program, address=PAGE):
        """Put a program into memory and start it."""
        self.put(address, program)
        await self.set("program_address", address)
        await self.set("program_commands", len(program) // COMMAND_BYTES)
        await self.act("start")

    async def end(self):
        """Wait until the core is not busy; its status."""
        while "busy" in (status := await self.status()):
            for _ in range(20):
                await RisingEdge(self.dut.clk)
        return status

    def compare(self):
        """All of memory, inside the window and outside."""
        wrong = np.flatnonzero(np.frombuffer(self.ram.read(WINDOW, SIZE), np.uint8) != self.memory)
        assert not len(wrong), f"memory differs at {wrong[:10]}"
        assert self._outside() == self.outside
        assert not self.rules.announced

    async def gemm(self, m, n, k, raw=False):
        """A matrix product; memory and counters must equal the model's."""
        rng = self.rng
        a, b = (rng.integers(-128, 128, shape, np.int8) for shape in ((m, k), (k, n)))
        image = plan_gemm(
            b, rng.integers(-1000, 1000, n), config=self.config, rows=m,
            multiplier=None if raw else rng.integers(1 << 30, (1 << 31) - 1, n),
            shift=None if raw else rng.integers(-9, -4, n))
        for segment in image.segments:
            self.put(segment.address, segment.data)
        self.put(image.inputs[0].address, image.inputs[0].to_bytes(a))
        before = self.rules.reads, self.rules.writes
        await self.begin(image.program, image.program_address)
        status = await self.end()
        assert "done" in status and "error" not in status, await self.get("error_code")
        self.model.run(image.program_address, image.commands)
        self.compare()
        for name, value in self.model.counters.items():
            assert await self.get(COUNTERS[name].name) == value, name
        counters = self.model.counters
        assert self.rules.reads - before[0] == counters["load_words"] + counters["fetch_words"]
        assert self.rules.writes - before[1] == counters["store_words"]
        # What the model wrote is the product.
        tensor = image.outputs[0]
        if raw:
            found = tensor.from_bytes(self.memory[tensor.address:][:tensor.byte_count])
            assert found.shape == (m, n)
            assert np.ptp(found - a.astype(np.int32) @ b, axis=0).max() == 0  # the bias

    async def fails(self, program, code=None):
        """A program that must stop; code and index are the model's. Then reset."""
        await self.begin(program)
        status = await self.end()
        assert "error" in status and "done" not in status
        try:
            self.model.run(PAGE, len(program) // COMMAND_BYTES)
        except CoreError as error:
            expected = error.code, error.index
        else:
            raise AssertionError("the model must stop too")
        assert code in (None, expected[0])
        found = ErrorCode(await self.get("error_code")), await self.get("error_index")
        assert found == expected
        await self.act("start")
        assert "error" in await self.status(), "no start before a reset"
        await self.reset()
        # Memories keep what they had, on both sides, where both did the same.
        self.memory[:] = np.frombuffer(self.ram.read(WINDOW, SIZE), np.uint8)

    async def reset(self):
        """Soft reset, to its end."""
        await self.act("reset")
        while {"resetting", "busy"} & await self.status():
            pass
        assert await self.status() == set()
        assert await self.get("error_code") == 0


@tb.bench(cycles=20_000)
async def registers_identify_the_core_and_hold_what_is_written(dut):
    """Constants, read-write registers, and reads of places where nothing is."""
    host = Host(dut)
    await host.start()
    for name, value in constants(host.config).items():
        assert await host.get(name) == value
        await host.set(name, 0)
        assert await host.get(name) == value, "identification is read-only"
    rng = random.Random(1)
    values = {"program_address": rng.getrandbits(32), "program_commands": rng.getrandbits(20),
              "window_low": rng.getrandbits(20) << 12, "window_bytes": rng.getrandbits(32),
              "interrupt_enable": 5,
              **{f"param{i}": rng.getrandbits(32) for i in range(1, host.config.control.params)}}
    for name, value in values.items():
        await host.set(name, value)
    for name, value in values.items():
        assert await host.get(name) == value, name
    for offset in (0x000 + 0x03c, 0x7fc, 0xffc):
        assert await host.registers.read_dword(offset) == 0
    assert await host.status() == set()


@tb.bench(cycles=60_000)
async def matrix_products_equal_the_model_in_every_byte(dut):
    """Shapes that fit the array, and such that do not; several programs after each other."""
    host = Host(dut)
    await host.start()
    for shape in ((4, 4, 4), (1, 1, 1), (9, 7, 13), (5, 6, 3), (17, 10, 33)):
        await host.gemm(*shape)
    await host.gemm(6, 9, 10, raw=True)


@tb.bench(cycles=60_000)
async def every_error_is_reported_and_leaves_after_a_reset(dut):
    """Code and index of the model, no hang, and a good program afterwards."""
    host = Host(dut)
    await host.start()
    config = host.config

    def program(*build):
        """A good load, what ``build`` adds, and a good load."""
        result = Program(config=config)
        result.load(memory=Memory.ACT, address=0, run_bytes=16, row=0, row_bytes=4)
        for add in build:
            add(result)
        result.load(memory=Memory.ACT, address=64, run_bytes=16, row=8, row_bytes=4)
        return result.encode()

    def raw(opcode=Opcode.LOAD, reserved=0, **values):
        record = bytearray(COMMANDS[Opcode.LOAD].encode(values))
        record[:2] = opcode, reserved
        return lambda result: result.records.append(bytes(record))

    def load(**values):
        return lambda result: result.load(**{
            "memory": Memory.ACT, "address": 0, "run_bytes": 4, "row": 0, **values})

    def store(**values):
        return lambda result: result.store(**{"address": 0, "run_bytes": 4, "row": 0, **values})

    cases = {
        ErrorCode.BAD_OPCODE: [program(raw(opcode=0)), program(raw(opcode=77))],
        ErrorCode.BAD_FIELD: [program(raw(reserved=1)), program(raw(index=3)),
                              program(raw(mode=2)), program(raw(level0=9))],
        ErrorCode.ZERO_COUNT: [program(raw(counts=[0])), program(raw(run_bytes=0))],
        ErrorCode.MEMORY_ADDRESS: [program(load(address=SIZE - 3)), program(store(address=SIZE)),
                                   program(store(address=0xffff_fffe))],
        ErrorCode.SCRATCHPAD_ADDRESS: [program(load(row=config.memory.act_rows)),
                                       program(store(row=config.memory.act_rows - 1,
                                                     run_bytes=8, row_bytes=4))],
        ErrorCode.DEADLOCK: [program(load(slots=[Slot(wait="never")])),
                             program(store(slots=[Slot(wait="never"), Slot(wait="nobody")]))],
        ErrorCode.SEMAPHORE_OVERFLOW: [program(lambda p: p.credit("many", 15),
                                               lambda p: p.control(ControlOp.FENCE),
                                               load(slots=[Slot(post="many")]))],
    }
    for code, programs in cases.items():
        for text in programs:
            await host.fails(text, code)
    # A program that leaves the window by itself.
    await host.set("program_address", SIZE - COMMAND_BYTES)
    host.put(SIZE - COMMAND_BYTES, COMMANDS[Opcode.CONTROL].encode({
        "operation": ControlOp.INTERRUPT}))
    await host.set("program_commands", 2)
    await host.act("start")
    assert "error" in await host.end()
    assert await host.get("error_code") == ErrorCode.MEMORY_ADDRESS
    assert await host.get("error_index") == 1
    await host.reset()
    await host.gemm(9, 7, 13)


@tb.bench(cycles=40_000)
async def a_reset_in_the_middle_leaves_the_core_ready(dut):
    """At moments all over a program: no transaction is cut off, and the next one is right."""
    host = Host(dut)
    await host.start()
    rng = random.Random(2)
    for _ in range(8):
        a = host.rng.integers(-128, 128, (9, 13), np.int8)
        image = plan_gemm(host.rng.integers(-128, 128, (13, 7), np.int8), config=host.config,
                          rows=9)
        for segment in image.segments:
            host.put(segment.address, segment.data)
        host.put(image.inputs[0].address, image.inputs[0].to_bytes(a))
        await host.begin(image.program, image.program_address)
        for _ in range(rng.randrange(300)):
            await RisingEdge(dut.clk)
        await host.reset()
        assert not host.rules.announced, "write bursts are complete"
        host.memory[:] = np.frombuffer(host.ram.read(WINDOW, SIZE), np.uint8)
        assert host._outside() == host.outside
    await host.gemm(9, 7, 13)


@tb.bench(cycles=20_000)
async def interrupts_follow_their_events_and_enables(dut):
    """Done, error and command, each by its own enable; a level until cleared."""
    host = Host(dut)
    await host.start()
    bits = REGISTERS["interrupt_enable"].bits
    good = COMMANDS[Opcode.CONTROL].encode({"operation": ControlOp.FENCE})
    calls = COMMANDS[Opcode.CONTROL].encode({"operation": ControlOp.INTERRUPT})
    bad = bytes(COMMAND_BYTES)
    for program, events in ((good, {"done"}), (bad, {"error"}), (calls, {"done", "command"})):
        for enabled in bits:
            await host.set("interrupt_enable", 1 << bits.index(enabled))
            await host.begin(program)
            status = await host.end()
            assert "interrupt" in status
            for _ in range(3):
                assert bool(dut.irq.value) == (enabled in events)
                await RisingEdge(dut.clk)
            await host.act("clear_interrupt")
            assert "interrupt" not in await host.status()
            assert not dut.irq.value
            if "error" in events:
                await host.reset()


@tb.bench(cycles=20_000)
async def commands_set_add_and_use_parameter_registers(dut):
    """Registers written by the host and by commands move a load and give its count."""
    host = Host(dut)
    await host.start()
    config = host.config
    program = Program(config=config)
    program.control(ControlOp.PARAM_SET, register=2, value=3)
    program.control(ControlOp.PARAM_ADD, register=1, value=-24)
    program.load(memory=Memory.ACT, address=8, run_bytes=4, row=0, counts=[1], strides=[9],
                 row_strides=[1], address_param=1, count_param=2,
                 slots=[Slot(post="in")])
    program.store(address=0x700, run_bytes=12, row=0, row_bytes=4, slots=[Slot(wait="in")])
    await host.set("param1", 0x234)
    await host.begin(program.encode())
    assert "done" in await host.end()
    host.model.run(PAGE, len(program), params={1: 0x234})
    host.compare()
    assert [await host.get(f"param{i}") for i in (1, 2)] == [0x21c, 3]


@tb.bench(cycles=20_000)
async def counters_count_busy_waiting_and_stalled_cycles(dut):
    """Each engine is in one state a cycle; a program of nothing but a fence leaves all idle."""
    host = Host(dut)
    await host.start()
    await host.begin(COMMANDS[Opcode.CONTROL].encode({"operation": ControlOp.FENCE}))
    await host.end()
    counters = {name: await host.get(register.name) for name, register in COUNTERS.items()}
    assert 0 < counters["cycles"] < 200
    assert all(value == (counters["cycles"] if name.endswith("_idle") else 0)
               for name, value in counters.items() if name not in ("cycles", "fetch_words"))
    await host.gemm(9, 7, 13)
    counters = {name: await host.get(register.name) for name, register in COUNTERS.items()}
    for engine, states in STATES.items():
        assert counters[f"{engine}_busy"] > 0
        assert sum(counters[f"{engine}_{state}"] for state in states) == counters["cycles"]
    assert counters["execute_busy"] == counters["rows"]
