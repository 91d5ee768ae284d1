"""The core: every part, wired."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2

from .accumulator import Accumulator
from .axi import AxiReader, AxiWriter, read_ports, write_ports
from .choose import choose
from .config import CoreConfig
from .control import Control, slave_ports
from .dispatch import Dispatcher
from .execute import ExecuteEngine
from .fetch import Fetch
from .isa import ErrorCode, Memory
from .load import LoadEngine
from .narrow import index_bits
from .parameters import Parameters
from .record import error_layout
from .registers import COUNTERS, ENGINES, STATES
from .scratchpad import Scratchpad
from .semaphore import Semaphores, SerialSemaphores
from .shared import SharedCore, core_ports
from .store import StoreEngine
from .transfer import pad_shapes
from .vector import VectorEngine

__all__ = ["Core", "accumulator_of", "scratchpad_of", "semaphores_of"]


def scratchpad_of(config: CoreConfig, memory: Memory) -> Scratchpad:
    """The activation or weight scratchpad of a core."""
    rows, row_bytes, _ = pad_shapes(config)[memory]
    if memory == Memory.WGT:
        return Scratchpad(rows=rows, row_bytes=row_bytes, banks=1, readers=1, writers=1,
                          late=config.control.compact)
    return Scratchpad(rows=rows, row_bytes=row_bytes, banks=config.memory.act_banks,
                      readers=4 if config.vector.elementwise else 2, writers=2,
                      late=config.control.compact)


def accumulator_of(config: CoreConfig, *, sum_bits: int) -> Accumulator:
    """The accumulator of a core, for sums of so many bits."""
    return Accumulator(rows=config.memory.acc_rows, cols=config.array.sum_cols,
                       banks=config.memory.acc_banks, sum_bits=sum_bits,
                       revisit=config.array.rows, late=config.control.compact)


def semaphores_of(config: CoreConfig) -> Semaphores | SerialSemaphores:
    """What the engines wait at and raise, and the dispatcher raises."""
    kind = SerialSemaphores if config.control.compact else Semaphores
    return kind(count=config.control.semaphores, waiters=4, raisers=5)


class Core(wiring.Component):
    """One accelerator: a bus master for data and commands, a bus slave for control.

    Commands are fetched from system memory and handed to four engines that run side by side::

        memory -> load -> act, wgt, par -> execute -> acc -> vector -> act -> store -> memory

    Members
    -------
    m_axi_* : AXI4 master
        Data and commands. Read id 0 are loads, 1 are commands; all writes are id 0.
    s_axil_* : AXI4-Lite slave
        Control and status, see ``registers``.
    irq : ``Out(1)``
        Interrupt, level.
    busy, failed : ``Out(1)``
        For lamps: a program runs, the core has stopped at an error.

    Parameters
    ----------
    config : CoreConfig
    """
    SETTLE = 32  # cycles of standstill that prove a deadlock; longer than any pipeline between
    # parts that do not say they are busy

    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__(core_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        if config.control.shared:
            m.submodules.shared = shared = SharedCore(config=config)
            for name, member in self.signature.members.items():
                outer, inner = getattr(self, name), getattr(shared, name)
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
            return m
        clear = Signal()

        def add(name, component):
            """Add a part that a soft reset clears."""
            m.submodules[name] = ResetInserter(clear)(component)
            return component

        m.submodules.control = control = Control(config=config)
        reader = add("reader", AxiReader(
            config=config.bus, prefetch=config.control.prefetch,
            compact=config.control.compact))
        writer = add("writer", AxiWriter(
            config=config.bus, compact=config.control.compact))
        fetch = add("fetch", Fetch(config=config))
        dispatcher = add("dispatcher", Dispatcher(config=config))
        semaphores = add("semaphores", semaphores_of(config))
        load = add("load", LoadEngine(config=config))
        execute = add("execute", ExecuteEngine(config=config))
        vector = add("vector", VectorEngine(config=config))
        store = add("store", StoreEngine(config=config))
        engines = (load, execute, vector, store)

        # Memories. Ports stand in the order of their priority.
        act_readers = [execute.act, store.act]
        if config.vector.elementwise:
            act_readers[1:1] = vector.source, vector.stream
        for memory, readers, writers in ((Memory.ACT, act_readers, (vector.act, load.act)),
                                         (Memory.WGT, (execute.wgt,), (load.wgt,))):
            pad = add(memory.name.lower(), scratchpad_of(config, memory))
            for port, engine in zip((*pad.read, *pad.write), (*readers, *writers), strict=True):
                wiring.connect(m, port, engine)
        par = add("par", Parameters(config=config))
        wiring.connect(m, load.par, par.write)
        wiring.connect(m, vector.bias, par.bias)
        wiring.connect(m, vector.scale, par.scale)
        if config.vector.functions:
            wiring.connect(m, load.fun, vector.fun)
        acc = add("acc", accumulator_of(config, sum_bits=execute.sum_bits))
        m.d.comb += [
            acc.valid.eq(execute.acc_valid),
            acc.addr.eq(execute.acc_row),
            acc.first.eq(execute.acc_first),
            acc.sums.eq(execute.acc_sums),
            execute.acc_written.eq(acc.written),
            acc.read_valid.eq(vector.acc_valid),
            acc.read_addr.eq(vector.acc_row),
            vector.acc_ready.eq(acc.read_ready),
            vector.acc_data.eq(acc.read_data),
        ]

        # The bus.
        for part, ports in ((reader, read_ports(config.bus)), (writer, write_ports(config.bus))):
            for name, member in ports.items():
                outer, inner = getattr(self, f"m_axi_{name}"), getattr(part, name)
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        for name, member in slave_ports().items():
            outer, inner = getattr(self, f"s_axil_{name}"), getattr(control, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        wiring.connect(m, reader.loads, load.bursts)
        wiring.connect(m, reader.load_words, load.words)
        wiring.connect(m, reader.commands, fetch.bursts)
        wiring.connect(m, reader.command_words, dispatcher.words)
        wiring.connect(m, writer.bursts, store.bursts)
        wiring.connect(m, writer.words, store.words)
        wiring.connect(m, writer.done, store.done)
        m.d.comb += [
            reader.window.eq(control.window),
            writer.window.eq(control.window),
            *(part.window_bytes.eq(control.window_bytes) for part in (load, store, fetch)),
        ]

        # Commands and semaphores.
        for i, engine in enumerate(engines):
            wiring.connect(m, dispatcher.command[i], engine.command)
            wiring.connect(m, engine.wait, semaphores.wait[i])
            wiring.connect(m, engine.raise_, semaphores.raise_[i])
        wiring.connect(m, dispatcher.raise_, semaphores.raise_[4])
        m.d.comb += [
            clear.eq(control.clear),
            fetch.start.eq(control.begin),
            fetch.address.eq(control.program_address),
            fetch.commands.eq(control.program_commands),
            dispatcher.start.eq(control.begin),
            dispatcher.commands.eq(control.program_commands),
            dispatcher.fetch_blocked.eq(fetch.blocked),
            dispatcher.fetch_left.eq(fetch.left),
            *(dispatcher.params[i].eq(control.params[i]) for i in range(config.control.params)),
            control.param_write.eq(dispatcher.param_write),
            control.param_number.eq(dispatcher.param_number),
            control.param_value.eq(dispatcher.param_value),
            control.command_interrupt.eq(dispatcher.interrupt),
            *(part.halt.eq(control.halt)
              for part in (reader, writer, dispatcher, load, execute, vector, store)),
            self.irq.eq(control.irq),
            self.busy.eq(control.busy),
            self.failed.eq(control.failed),
        ]

        # The state of the whole, as it was in the cycle before: an engine that a command has come
        # to is not idle while that stands in its queue.
        all_idle = Signal()
        finished = Signal()
        m.d.sync += [
            all_idle.eq(Cat(engine.idle for engine in engines).all()),
            finished.eq(dispatcher.finished & all_idle & ~dispatcher.raise_.valid
                        & ~control.begin),
        ]
        m.d.comb += [
            dispatcher.idle.eq(Cat(engine.idle for engine in engines)),
            control.finished.eq(finished),
            control.bus_idle.eq(reader.idle & writer.idle),
        ]
        deadlock = self._deadlock(m, control, dispatcher, engines)
        self._errors(m, control, dispatcher, semaphores, engines, deadlock)

        events = {
            "cycles": 1,
            "rows": execute.busy,
            "load_words": reader.load_word,
            "store_words": writer.word,
            "fetch_words": reader.command_word,
        }
        for name, engine in zip(ENGINES, engines, strict=True):
            applies = {"busy": engine.busy, "wait": engine.blocked, "weights": execute.starved,
                       "idle": engine.idle, "stall": 1}
            none = Const(1, 1)  # of the states before
            for state in STATES[name]:
                events[f"{name}_{state}"] = none & applies[state]
                none = none & ~applies[state]
        m.d.comb += control.events.eq(Cat(events[name] for name in COUNTERS))
        return m

    def _deadlock(self, m, control, dispatcher, engines):
        """A standstill in which at least one engine waits for a semaphore; while it lasts, the
        engines are looked through for the first command that waits."""
        # Of the engines in the cycle before: which wait, whether none does anything else, and
        # whether one of them was granted what it waits for.
        waits = Signal(len(engines))
        held, granted = Signal(), Signal()
        still = Signal()
        cycles = Signal(range(self.SETTLE))
        number = cycles[:exact_log2(len(engines))]
        # The engine that is looked at, a cycle after its number.
        waiting = Signal()
        index = Signal(index_bits(self.config), reset_less=True)
        first = Signal(index_bits(self.config), reset_less=True)
        error = Signal(error_layout)
        m.d.sync += [
            waits.eq(Cat(engine.waiting for engine in engines)),
            held.eq(Cat(engine.waiting | engine.idle for engine in engines).all()),
            granted.eq(Cat(engine.wait.valid & engine.wait.ready for engine in engines).any()),
            still.eq(waits.any() & held & ~granted & (dispatcher.exhausted | dispatcher.blocked)),
            cycles.eq(Mux(still & ~control.clear, cycles + 1, 0)),
            waiting.eq(waits.bit_select(number, 1)),
            index.eq(choose([engine.waiting_index[:len(index)] for engine in engines], number)),
        ]
        with m.If((cycles == 0) | (waiting & (index < first))):
            m.d.sync += first.eq(index | (~waiting).replicate(len(first)))
        m.d.comb += [
            error.valid.eq(cycles == self.SETTLE - 1),
            error.code.eq(ErrorCode.DEADLOCK),
            error.index.eq(first),
        ]
        return error

    def _errors(self, m, control, dispatcher, semaphores, engines, deadlock):
        """Report the first error, two cycles later, a compact core one; of several at once, the
        one nearest to the data. An overflow is found late: the core may be done in the next
        cycle."""
        first = Signal(error_layout)
        overflow = Signal(error_layout)
        # The command that raised in the cycle before.
        raised = Signal(index_bits(self.config), reset_less=True)
        m.d.comb += overflow.code.eq(ErrorCode.SEMAPHORE_OVERFLOW)
        m.d.sync += [
            overflow.valid.eq(semaphores.overflow.any()),
            overflow.index.eq(raised),
            raised.eq(dispatcher.index),
        ]
        for engine in reversed(engines):   # the first of them is granted
            with m.If(engine.raise_.valid):
                m.d.sync += raised.eq(engine.raise_index)
        m.d.comb += control.error.eq(Mux(first.valid, first, overflow))
        found = []
        for source in (deadlock, dispatcher.error, *(engine.error for engine in reversed(engines))):
            if not self.config.control.compact:
                later = Signal(error_layout)
                m.d.sync += later.eq(source)
                source = later
            found.append(source)
        m.d.sync += first.eq(found[0])
        for source in found[1:]:
            with m.If(source.valid):
                m.d.sync += first.eq(source)
