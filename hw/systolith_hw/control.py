"""Control and status: the AXI4-Lite slave, the core's state, errors, interrupt and counters."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import CoreConfig
from .isa import ErrorCode
from .narrow import index_bits, length_bits, memory_bits
from .record import INDEX_BITS, error_layout
from .registers import COUNTERS, REGISTERS, constants, counted

__all__ = ["Control", "slave_ports"]

PAGE_BITS = 12


def slave_ports() -> dict[str, wiring.Member]:
    """AXI4-Lite (ARM IHI 0022, part B) with 32-bit data, flat, seen from the slave."""
    return {
        "awvalid": In(1), "awready": Out(1), "awaddr": In(PAGE_BITS), "awprot": In(3),
        "wvalid": In(1), "wready": Out(1), "wdata": In(32), "wstrb": In(4),
        "bvalid": Out(1), "bready": In(1), "bresp": Out(2),
        "arvalid": In(1), "arready": Out(1), "araddr": In(PAGE_BITS), "arprot": In(3),
        "rvalid": Out(1), "rready": In(1), "rdata": Out(32), "rresp": Out(2),
    }


class Control(wiring.Component):
    """Registers of ``registers.REGISTERS`` behind AXI4-Lite, and the state they show.

    A program runs from ``start`` until all commands are done or something is wrong. Then, or by
    the host's reset, ``halt`` holds every engine; a reset completes when the bus is quiet, and a
    start written beside it is ignored.

    Timing: a write takes effect three cycles after its address and data came, a read answers after
    two. Configuration registers may be written only while the core is not busy: a parameter that
    the host writes in the cycle in which a command writes one takes the command's value.

    Members
    -------
    begin : ``Out(1)``
        Pulse: a program begins (the cycle after ``clear``).
    clear : ``Out(1)``
        Pulse: everything but the bus and these registers returns to its initial state.
    halt : ``Out(1)``
        Stop.
    program_address, program_commands, window, window_bytes, params : ``Out``
        As set by the host, and by commands.
    param_write, param_number, param_value : ``In``
        A command writes a parameter register.
    finished : ``In(1)``
        All commands are done and nothing moves.
    bus_idle : ``In(1)``
        No bus transaction is under way.
    command_interrupt : ``In(1)``
        Pulse of a command.
    error : ``In(error_layout)``
        Something is wrong.
    events : ``In(len(COUNTERS))``
        What each counter counts this cycle.
    irq : ``Out(1)``
        Level, until cleared.
    busy, failed : ``Out(1)``
        Bits ``busy`` and ``error`` of the register ``status``.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            **slave_ports(),
            "begin": Out(1),
            "clear": Out(1),
            "halt": Out(1),
            "program_address": Out(32),
            "program_commands": Out(INDEX_BITS),
            "window": Out(config.bus.addr_bits),
            "window_bytes": Out(32),
            "params": Out(32).array(config.control.params),
            "param_write": In(1),
            "param_number": In(range(config.control.params)),
            "param_value": In(32),
            "finished": In(1),
            "bus_idle": In(1),
            "command_interrupt": In(1),
            "error": In(error_layout),
            "events": In(len(COUNTERS)),
            "irq": Out(1),
            "busy": Out(1),
            "failed": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        compact = self.config.control.compact
        busy, done, failed = Signal(), Signal(), Signal()
        m.d.comb += [self.busy.eq(busy), self.failed.eq(failed)]
        resetting, starting = Signal(), Signal()
        interrupt = Signal(3)  # done, error, command
        interrupt_enable = Signal(3)
        code  = Signal(ErrorCode)
        index = Signal(index_bits(self.config))

        # Writes.
        address = Signal(PAGE_BITS, reset_less=True)
        word    = Signal(32, reset_less=True)
        has_address, has_word = Signal(), Signal()
        write = Signal()
        due   = Signal()    # which register it is stands in a register by then
        m.d.sync += due.eq(has_address & has_word & ~write)
        m.d.comb += [
            self.awready.eq(~has_address),
            self.wready.eq(~has_word),
            write.eq(due & ~self.bvalid),
        ]
        with m.If(self.awvalid & self.awready):
            m.d.sync += [has_address.eq(1), address.eq(self.awaddr)]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [has_word.eq(1), word.eq(self.wdata)]
        with m.If(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [has_address.eq(0), has_word.eq(0), self.bvalid.eq(1)]

        named: dict[str, Signal] = {}

        def written(name):
            """Register ``name`` is written this cycle."""
            if name not in named:
                named[name] = Signal(name=f"write_{name}", reset_less=True)
                m.d.sync += named[name].eq(address[2:] == REGISTERS[name].offset >> 2)
            return write & named[name]

        fields = {
            "program_address": self.program_address,
            "program_commands": self.program_commands,
            "window_bytes": self.window_bytes,
            "interrupt_enable": interrupt_enable,
            "window_low": self.window[12:32],
        }
        low_bits = {"window_low": 12}
        # In a compact core, what is more than memory has becomes a little more than it has.
        narrow = {"program_address": memory_bits(self.config),
                  "window_bytes": memory_bits(self.config),
                  "program_commands": length_bits(self.config)} if compact else {}
        if self.config.bus.addr_bits > 32:
            fields["window_high"] = self.window[32:]
        for i in range(1, self.config.control.params):
            with m.If((self.param_write & (self.param_number == i)) | written(f"param{i}")):
                m.d.sync += self.params[i].eq(Mux(self.param_write, self.param_value, word))
        for name, signal in fields.items():
            value = word[low_bits.get(name, 0):]
            if name in narrow:
                most = narrow[name] - 1
                beyond = value[most:].any()
                value = Cat(value[:most] & ~beyond.replicate(most), beyond)
            with m.If(written(name)):
                m.d.sync += signal.eq(value)

        # State.
        start = written("control") & word[0] & ~busy & ~failed & ~resetting & ~word[1]
        reset = written("control") & word[1]
        with m.If(start):
            m.d.sync += [starting.eq(1), busy.eq(1), done.eq(0)]
        # Registers of their own: much hangs on them.
        clearing = Signal()
        halting  = Signal()     # failed, resetting or starting
        m.d.comb += [
            self.clear.eq(clearing),
            self.halt.eq(halting),
        ]
        m.d.sync += [
            clearing.eq(~clearing & (starting | (resetting & self.bus_idle))),
            self.begin.eq(starting & clearing),
        ]
        running = Signal()  # the program has begun
        with m.If(clearing):
            m.d.sync += starting.eq(0)
        with m.If(self.begin):
            m.d.sync += running.eq(1)
        fails = running & ~resetting & self.error.valid
        with m.If(start | reset | fails):
            m.d.sync += halting.eq(1)
        with m.Elif(clearing):      # ends each of the three
            m.d.sync += halting.eq(0)
        with m.If(fails):
            m.d.sync += [
                failed.eq(1), busy.eq(0), running.eq(0), code.eq(self.error.code),
                index.eq(self.error.index), interrupt[1].eq(1),
            ]
        with m.Elif(running & ~resetting & self.finished):
            m.d.sync += [done.eq(1), busy.eq(0), running.eq(0), interrupt[0].eq(1)]
        with m.If(self.command_interrupt):
            m.d.sync += interrupt[2].eq(1)
        with m.If(written("control") & word[2]):
            m.d.sync += interrupt.eq(0)
        with m.If(reset):
            m.d.sync += resetting.eq(1)
        with m.Elif(resetting & clearing):
            m.d.sync += [
                resetting.eq(0), busy.eq(0), done.eq(0), failed.eq(0), running.eq(0),
                starting.eq(0), code.eq(ErrorCode.NONE), index.eq(0), interrupt.eq(0),
            ]
        m.d.comb += self.irq.eq((interrupt & interrupt_enable).any())

        # Counters.
        counters = {}
        names = counted(self.config)
        counts = Signal(len(self.events))   # a cycle later, where clocks are fast
        m.d["comb" if compact else "sync"] += counts.eq(Mux(running, self.events, 0))
        for i, name in enumerate(COUNTERS):
            if name in names:
                counter = Signal(32, name=f"count_{name}")
                with m.If(start):
                    m.d.sync += counter.eq(0)
                with m.Elif(counts[i]):
                    m.d.sync += counter.eq(counter + 1)
                counters[name] = counter

        # Reads.
        status = Cat(busy, done, failed, interrupt.any(), resetting)
        values = {
            **{name: Const(value, 32) for name, value in constants(self.config).items()},
            "status": status, "error_code": code, "error_index": index,
            "program_address": self.program_address, "program_commands": self.program_commands,
            "window_low": self.window[:32], "window_bytes": self.window_bytes,
            "window_high": self.window[32:], "interrupt_enable": interrupt_enable,
            **{f"param{i}": self.params[i] for i in range(1, self.config.control.params)},
            **{COUNTERS[name].name: counter for name, counter in counters.items()},
        }
        # Each register has a bit that says it is the one.
        reading = Signal()
        m.d.comb += self.arready.eq(~reading & ~self.rvalid)
        with m.If(self.arvalid & self.arready):
            m.d.sync += reading.eq(1)
        with m.If(self.rvalid & self.rready):
            m.d.sync += self.rvalid.eq(0)
        with m.If(reading):
            m.d.sync += [reading.eq(0), self.rvalid.eq(1)]
        read = Const(0, 32)
        for name, value in values.items():
            chosen = Signal(name=f"read_{name}", reset_less=True)
            m.d.sync += chosen.eq(self.araddr[2:] == REGISTERS[name].offset >> 2)
            value = Value.cast(value)
            read = read | (value & chosen.replicate(len(value)))
        with m.If(reading):
            m.d.sync += self.rdata.eq(read)
        return m
