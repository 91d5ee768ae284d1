"""A small core: one sequencer for all engines, and a unit for each kind of work."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from .accumulator import Accumulator
from .axi import master_ports
from .config import CoreConfig
from .control import Control, slave_ports
from .dispatch import Dispatcher
from .fetch import Fetch
from .grouper import Grouper
from .isa import ErrorCode, Opcode
from .mover import Mover
from .parameters import PARTS
from .ram import Ram
from .records import NarrowParameters
from .registers import COUNTERS
from .sequencer import Sequencer, unit_ports
from .streamer import Streamer
from .wordbus import WordBus

__all__ = ["SharedCore", "core_ports"]


def core_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """Ports of a core."""
    return {
        **{f"m_axi_{name}": member for name, member in master_ports(config.bus).items()},
        **{f"s_axil_{name}": member for name, member in slave_ports().items()},
        "irq": Out(1),
        "busy": Out(1),
        "failed": Out(1),
    }


class SharedCore(wiring.Component):
    """The inside of a ``Core`` with ``control.shared``.

    The dispatcher hands commands to the sequencer's memory, the sequencer walks them and gives
    their pieces to units that read and write the scratchpads: runs of bytes to ``Mover``, tiles
    and rows to ``Streamer``, lane groups to ``Grouper``. Scratchpads answer in the cycle after.

    Members
    -------
    m_axi_*, s_axil_*, irq, busy, failed : as in ``Core``

    Parameters
    ----------
    config : CoreConfig
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__(core_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        clear  = Signal()
        halts  = Signal(3)      # in the cycles before: what was under way then has shown
        idle   = Signal()

        def add(name, component):
            """Add a part that a soft reset clears."""
            m.submodules[name] = ResetInserter(clear)(component)
            return component

        m.submodules.control = control = Control(config=config)
        bus = add("bus", WordBus(config=config))
        fetch = add("fetch", Fetch(config=config))
        dispatcher = add("dispatcher", Dispatcher(config=config))
        sequencer = add("sequencer", Sequencer(config=config))
        mover = add("mover", Mover(config=config))
        streamer = add("streamer", Streamer(config=config))
        grouper = add("grouper", Grouper(config=config))
        acc = add("acc", Accumulator(
            rows=config.memory.acc_rows, cols=config.array.sum_cols, banks=1,
            sum_bits=streamer.sum_bits, revisit=config.array.rows, late=True,
            single=True))
        self._memories(m, add, mover, streamer, grouper)

        # The bus, and registers.
        for name, member in master_ports(config.bus).items():
            outer, inner = getattr(self, f"m_axi_{name}"), getattr(bus, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        for name, member in slave_ports().items():
            outer, inner = getattr(self, f"s_axil_{name}"), getattr(control, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        wiring.connect(m, bus.commands, fetch.bursts)
        wiring.connect(m, bus.command_words, dispatcher.words)
        wiring.connect(m, bus.loads, mover.asked)
        wiring.connect(m, bus.load_words, mover.words)
        wiring.connect(m, bus.stores, mover.stored)
        m.d.comb += [
            clear.eq(control.clear),
            bus.window.eq(control.window),
            mover.answer.eq(bus.answer),
            mover.refused.eq(bus.refused),
            *(part.window_bytes.eq(control.window_bytes) for part in (mover, fetch)),
            *(part.halt.eq(halts[0])
              for part in (bus, dispatcher, sequencer, mover, streamer, grouper)),
            self.irq.eq(control.irq),
            self.busy.eq(control.busy),
            self.failed.eq(control.failed),
        ]

        # Commands.
        m.d.comb += [
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
            dispatcher.idle.eq(sequencer.idle),
            *(getattr(sequencer, name).eq(getattr(dispatcher, name))
              for name in ("write", "word", "data", "commit")),
            sequencer.engine_written.eq(dispatcher.engine),
            *(getattr(dispatcher, name).eq(getattr(sequencer, name))
              for name in ("space", "empty", "hold")),
            sequencer.credit_index.eq(dispatcher.index),
            sequencer.settled.eq(dispatcher.exhausted | dispatcher.blocked),
        ]
        wiring.connect(m, dispatcher.raise_, sequencer.credit)

        # Pieces of work.
        for number, unit in enumerate((mover, streamer, grouper)):
            m.d.comb += [getattr(unit, name).eq(
                getattr(sequencer, name)[number] if name in ("emit", "go")
                else getattr(sequencer, name)) for name in unit_ports()]
        store = mover.store
        m.d.comb += [
            sequencer.run_free.eq(mover.free),
            sequencer.tile_free.eq(streamer.tile_free),
            sequencer.rows_free.eq(streamer.rows_free),
            sequencer.group_free.eq(grouper.free),
            sequencer.numbers.result.eq(grouper.result_step),
            sequencer.numbers.param.eq(grouper.param_step),
            sequencer.numbers.tile.eq(streamer.tile_rows),
            sequencer.numbers.offset.eq(mover.offset + 3),
        ]
        for opcode, done, quiet, wrong, code in (
                (Opcode.LOAD, Mux(store, 0, mover.done), mover.free | store,
                 mover.wrong & ~store, mover.code),
                (Opcode.EXECUTE, streamer.done, streamer.quiet, streamer.wrong,
                 ErrorCode.SCRATCHPAD_ADDRESS),
                (Opcode.VECTOR, grouper.done, grouper.quiet, grouper.wrong,
                 ErrorCode.SCRATCHPAD_ADDRESS),
                (Opcode.STORE, Mux(store, mover.done, 0), mover.free | ~store,
                 mover.wrong & store, mover.code)):
            e = opcode - 1
            m.d.comb += [sequencer.done[e].eq(done), sequencer.quiet[e].eq(quiet),
                         sequencer.wrong[e].eq(wrong), sequencer.code[e].eq(code)]
        m.d.comb += [
            acc.valid.eq(streamer.acc_valid),
            acc.addr.eq(streamer.acc_row),
            acc.first.eq(streamer.acc_first),
            acc.sums.eq(streamer.acc_sums),
            streamer.acc_written.eq(acc.written),
            acc.read_valid.eq(grouper.acc_valid),
            acc.read_addr.eq(grouper.acc_row),
            acc.read_col.eq(grouper.acc_col),
            grouper.acc_ready.eq(acc.read_ready),
            grouper.acc_data.eq(acc.read_data),
        ]

        events = {"cycles": Const(1, 1), "rows": streamer.busy, "load_words": bus.load_word,
                  "store_words": bus.store_word, "fetch_words": bus.command_word}

        # The state of the whole, and the first error, a cycle later.
        finished = Signal()
        m.d.sync += [
            halts.eq(Cat(control.halt, halts)),
            idle.eq(bus.idle & halts.all() & control.halt),
            finished.eq(dispatcher.finished & ~dispatcher.raise_.valid & ~control.begin),
            control.error.eq(Mux(sequencer.error.valid, sequencer.error, dispatcher.error)),
        ]
        m.d.comb += [
            control.finished.eq(finished),
            control.bus_idle.eq(idle),
            control.events.eq(Cat(events.get(name, Const(0, 1)) for name in COUNTERS)),
        ]
        return m

    def _memories(self, m, add, mover, streamer, grouper):
        """Scratchpads: the first of two ports goes first."""
        memory = self.config.memory

        def ram(name, rows, row_bytes, reads, writes, *, busy=None):
            component = add(name, Ram(depth=rows, width=8 * row_bytes, granularity=8))
            m.d.comb += [component.read_en.eq(Cat(port.valid for port in reads).any()),
                         component.read_addr.eq(_first(reads, lambda port: port.addr, busy)),
                         component.write_addr.eq(_first(writes, lambda port: port.addr)),
                         component.write_data.eq(_first(writes, lambda port: port.data)),
                         component.write_en.eq(_first(
                             writes, lambda port: Mux(port.valid, port.mask, 0)))]
            for ports in (reads, writes):
                for i, port in enumerate(ports):
                    before = Cat(other.valid for other in ports[:i]).any()
                    m.d.comb += port.ready.eq(
                        ~busy if i and ports is reads and busy is not None else ~before)
            for port in reads:
                m.d.comb += port.data.eq(component.read_data)

        # What the array may read, it reads nearly each cycle.
        ram("act", memory.act_rows, self.config.act_row_bytes, (streamer.act, mover.read),
            (grouper.act, mover.act), busy=streamer.active)
        ram("wgt", memory.wgt_rows, self.config.wgt_row_bytes, (streamer.wgt,), (mover.wgt,))
        if memory.par_narrow:
            par = add("par", NarrowParameters(rows=memory.par_rows))
            wiring.connect(m, mover.par, par.write)
            for name in PARTS:
                wiring.connect(m, getattr(grouper, name), getattr(par, name))
            return
        for name, part in PARTS.items():
            component = add(name, Ram(depth=memory.par_rows, width=8 * len(part), granularity=8))
            port = getattr(grouper, name)
            m.d.comb += [
                component.read_en.eq(port.valid), component.read_addr.eq(port.addr),
                port.ready.eq(1), port.data.eq(component.read_data),
                component.write_addr.eq(mover.par.addr),
                component.write_data.eq(Cat(mover.par.data[8 * i:8 * i + 8] for i in part)),
                component.write_en.eq(Mux(mover.par.valid, Cat(
                    mover.par.mask[i] for i in part), 0)),
            ]
        m.d.comb += mover.par.ready.eq(1)


def _first(ports, of, busy=None):
    """A value of the first port that is valid, of the last if none is; of the first of two while it
    is ``busy``."""
    *others, last = ports
    found = of(last)
    for port in reversed(others):
        found = Mux(port.valid if busy is None else busy, of(port), found)
    return found
