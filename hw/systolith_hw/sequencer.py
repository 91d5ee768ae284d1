"""One sequencer for all engines' commands, which stay in block RAM while they are walked."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .choose import choose
from .config import CoreConfig
from .dispatch import ENGINES
from .isa import ErrorCode, Opcode
from .microcode import (
    LOOP_PAGES,
    LOOPS,
    PAGE,
    SEMAPHORE,
    Add,
    Do,
    End,
    Half,
    Routine,
    microprogram,
    word_layout,
)
from .narrow import index_bits
from .ram import Ram, Rom
from .record import INDEX_BITS, error_layout

__all__ = ["Sequencer", "unit_ports"]

LOAD, EXECUTE, VECTOR, STORE = (Opcode[name] - 1 for name in ("LOAD", "EXECUTE", "VECTOR", "STORE"))
SUM_BITS = 32
WORDS = 16  # of a record


def unit_ports() -> dict[str, wiring.Member]:
    """What a unit hears from the sequencer, as it is said to the unit of ``engine``."""
    return {
        "engine": In(range(ENGINES)),
        "emit": In(1),      # ``value`` is the ``field``
        "field": In(4),
        "value": In(SUM_BITS),
        "go": In(1),        # the loop ``field`` advances, 15: the command ends
        "event": In(2),     # raises that follow
    }


class Sequencer(wiring.Component):
    """Keeps the commands of all engines in one block RAM, where it walks them, and the semaphores.

    An engine's unit is given one piece of work after the other: a run of bytes, a tile of weights,
    the rows of loop 0, a lane group. Of each, the sequencer takes the tokens that it waits for,
    reads what it needs from the command's record, finds the loop that advances, and adds its jumps
    to the addresses; when a unit has done a piece, it raises what follows. One of these is done at
    a time, by ``microcode``; raises go first, then loads, execute, vector and store.

    Timing: a word of microcode a cycle, and three between routines.

    Members
    -------
    write, engine_written, word, data, commit, space, empty : to and from the dispatcher
        As in ``CommandQueues``.
    hold : ``Out(1)``
        No word can be written in this cycle.
    credit : ``In(stream of number)``
        The dispatcher raises a semaphore.
    credit_index : ``In(INDEX_BITS)``
        The command that does.
    settled : ``In(1)``
        The dispatcher has no more to hand on, or cannot.
    halt : ``In(1)``
        Stop.
    engine, emit, field, value, go, event : ``Out``
        To all units, see ``unit_ports``.
    run_free, tile_free, rows_free, group_free : ``In(1)``
        A unit can take another piece.
    done : ``In(2)`` array
        Pulses: of each engine, what can be raised.
    quiet : ``In(ENGINES)``
        Nothing is inside an engine's unit.
    wrong : ``In(ENGINES)``
        Its unit has found something wrong.
    code : ``In(ErrorCode)`` array
        Namely this.
    numbers : ``In``
        ``result``, ``param``, ``tile`` and ``offset`` of ``Add``.
    idle : ``Out(ENGINES)``
        An engine has no command.
    error : ``Out(error_layout)``
        Pulse.
    """
    SETTLE = 16     # cycles of standstill that prove a deadlock

    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "write": In(1),
            "engine_written": In(range(ENGINES)),
            "word": In(range(WORDS)),
            "data": In(32),
            "commit": In(1),
            "space": Out(ENGINES),
            "empty": Out(1),
            "hold": Out(1),
            "credit": In(stream.Signature(5)),
            "credit_index": In(INDEX_BITS),
            "settled": In(1),
            "halt": In(1),
            **{name: member.flip() for name, member in unit_ports().items()},
            "run_free": In(1),
            "tile_free": In(1),
            "rows_free": In(1),
            "group_free": In(1),
            "done": In(2).array(ENGINES),
            "quiet": In(ENGINES),
            "wrong": In(ENGINES),
            "code": In(ErrorCode).array(ENGINES),
            "numbers": In(data.StructLayout({"result": 3, "param": 1, "tile": 7, "offset": 3})),
            "idle": Out(ENGINES),
            "error": Out(error_layout),
        })

    def elaborate(self, platform):
        m = Module()
        slots = self.config.control.queue_depth + 1     # the command under way, and the queue
        slot_bits = bits_for(slots)     # the highest number has what engines and semaphores keep
        m.submodules.ram = ram = Ram(depth=WORDS * ENGINES << slot_bits, width=32)
        program, pages = microprogram(self.config)

        m.submodules.rom = rom = Rom(rows=program, width=word_layout.size)

        # Which routine, and its words.
        running = Signal()
        chosen = Signal()       # the engine that is served is known
        placed = Signal()       # and the routine
        engine = Signal(range(ENGINES))
        cleared = Signal()      # the semaphores are
        at     = Signal(range(len(program)))
        now    = Signal(word_layout)
        page   = Signal(range(len(program) // PAGE))
        entry  = Signal.like(page, reset_less=True)
        jumps  = Signal()
        ends   = Signal()
        following = Signal.like(at)
        m.d.comb += [
            ends.eq(running & (now.do == Do.END)),
            following.eq(Mux(jumps, Cat(Const(0, exact_log2(PAGE)), now.addr, now.half), at + 1)),
        ]
        with m.If(~running):
            m.d.comb += following.eq(Cat(Const(0, exact_log2(PAGE)), entry))
        m.d.comb += [rom.read_addr.eq(following), now.as_value().eq(rom.read_data)]
        m.d.sync += at.eq(following)

        def does(operation):
            return running & (now.do == operation)

        # Queues: the command under way is the first of its engine's.
        active = Signal(ENGINES)
        empty  = Signal(ENGINES)
        finish = Signal(ENGINES)
        ending = Signal(ENGINES)    # the command's last word came in the cycle before
        heads = [Signal(range(slots), name=f"head{e}") for e in range(ENGINES)]
        tails = [Signal(range(slots), name=f"tail{e}") for e in range(ENGINES)]
        counts = [Signal(range(slots + 1), name=f"count{e}") for e in range(ENGINES)]
        m.d.sync += ending.eq(Mux(self.write & (self.word == WORDS - 1),
                                  1 << self.engine_written, 0))
        for e in range(ENGINES):
            comes = self.commit & ending[e]
            m.d.comb += [self.space[e].eq(counts[e] + ending[e] < slots),
                         empty[e].eq(counts[e] == 0)]
            m.d.sync += counts[e].eq(counts[e] + comes - finish[e])
            for place, moves in ((tails[e], comes), (heads[e], finish[e])):
                with m.If(moves):
                    m.d.sync += place.eq(Mux(place == slots - 1, 0, place + 1))
        m.d.comb += [self.empty.eq(empty.all()), self.idle.eq(~active)]

        # The memory, and what of the word that was read counts.
        total  = Signal(SUM_BITS)
        number = Signal(range(self.config.control.semaphores))
        half   = Signal(Half, reset_less=True)
        value  = Signal(32, reset_less=True)
        writes = Signal()
        own    = now.addr[4]
        kept   = Mux(now.addr == SEMAPHORE, number, Cat(now.addr[:3], engine, Const(1, 1)))
        inner  = Mux(own, kept, Cat(now.addr[:4], engine))
        slot   = Mux(own, ~0, choose(heads, engine))[:slot_bits]
        address = Signal.like(ram.read_addr)
        m.d.comb += [
            address.eq(Cat(inner[:6], slot)),
            writes.eq(running & now.write),
            self.hold.eq(writes),
            ram.read_en.eq(running & ~now.write & (now.do != Do.JUMP)),
            ram.read_addr.eq(address),
            ram.write_en.eq(writes | self.write),
            ram.write_addr.eq(Mux(writes, address, Cat(
                self.word, self.engine_written, choose(tails, self.engine_written)))),
            ram.write_data.eq(Mux(writes, total, self.data)),
        ]
        upper = ram.read_data[16:]
        m.d.sync += [half.eq(now.half), value.eq(ram.read_data)]
        with m.If(half == Half.HIGH):
            m.d.sync += value.eq(upper)
        with m.Elif(half == Half.LOW):
            m.d.sync += value.eq(ram.read_data[:16])
        with m.Elif(half == Half.BYTE):
            m.d.sync += value.eq(Cat(upper[:8], upper[7].replicate(24)))

        # The sum.
        one    = total[:self.config.count_bits] == 1
        more   = Signal()       # the loop was not at its last iteration
        addend = Signal(32)
        m.d.comb += addend.eq(value)
        with m.If(does(Do.PLUS)):
            with m.Switch(now.argument):
                with m.Case(Add.ONE):
                    m.d.comb += addend.eq(1)
                with m.Case(Add.MINUS):
                    m.d.comb += addend.eq(~0)
                for name in ("result", "param", "tile", "offset"):
                    with m.Case(Add[name.upper()]):
                        m.d.comb += addend.eq(self.numbers[name])
        with m.If(does(Do.STEP) & ~one):
            m.d.comb += addend.eq(~0)
        loads = does(Do.LOAD) | does(Do.EMIT) | (does(Do.STEP) & one)
        with m.If(loads | does(Do.ADD) | does(Do.PLUS) | does(Do.STEP)):
            m.d.sync += total.eq(Mux(loads, addend, total + addend))
        with m.If(does(Do.STEP)):
            m.d.sync += more.eq(~one)

        # Semaphores.
        needs = [Signal(2, name=f"needs{e}") for e in range(ENGINES)]   # tokens, in slot 0, 1
        owes  = [Signal(2, name=f"owes{e}") for e in range(ENGINES)]    # raises
        stuck = Signal(ENGINES)     # no token was there, and none has been raised since
        over  = Signal(ENGINES)     # the last piece has been given out
        free  = Signal()            # the slot is not used
        raising = Signal()          # in this routine
        of_slots = Mux(raising, choose(owes, engine), choose(needs, engine))
        second = ~of_slots[0]
        slots_ = [value[8 * i:8 * i + 8] for i in range(4)]
        found = choose(slots_, Cat(second, raising))
        with m.If(does(Do.SLOT)):
            m.d.sync += [number.eq(found), free.eq(~found[7])]
        with m.If(does(Do.NEXT)):
            m.d.sync += number.eq(number + 1)
        m.d.comb += jumps.eq(does(Do.JUMP) & choose([
            more, free, total[:4] == 0, total[:4].all(), number != 0, Const(1, 1)],
            now.argument[:3]))

        # What a loop's advance, or the end of all, raises and waits for.
        final = now.argument.all()
        hits  = Cat(value[bit:bit + 4] <= now.argument for bit in (16, 20))
        goes  = does(Do.GO)
        tile  = Signal()        # the tile that is walked is known
        m.d.comb += [
            self.engine.eq(engine),
            self.value.eq(total),
        ]
        m.d.sync += [
            self.emit.eq(does(Do.EMIT) | does(Do.SAY)),
            self.field.eq(now.argument),
            self.go.eq(goes),
            self.event.eq(hits),
        ]

        def ended(*what):
            return ends & Cat(now.argument == each for each in what).any()

        for e in range(ENGINES):
            mine = engine == e
            m.d.comb += finish[e].eq(active[e] & over[e] & self.quiet[e] & (owes[e] == 0))
            with m.If(finish[e]):
                m.d.sync += active[e].eq(0)
            with m.If(mine & ended(End.BEGUN)):
                m.d.sync += [active[e].eq(1), over[e].eq(0), needs[e].eq(0b11)]
            with m.If(mine & goes):
                m.d.sync += [over[e].eq(final), needs[e].eq(hits)]
            with m.If(mine & ended(End.TAKEN)):
                m.d.sync += needs[e].eq(needs[e] & Cat(Const(0, 1), ~second))
            lacked = Signal.like(number, name=f"lacked{e}", reset_less=True)
            with m.If(mine & ended(End.STUCK)):
                m.d.sync += [stuck[e].eq(1), lacked.eq(number)]
            with m.If((ended(End.RAISED, End.CREDITED) & (lacked == number))
                      | (mine & ended(End.SEEN))):
                m.d.sync += stuck[e].eq(0)
            m.d.sync += owes[e].eq(
                (owes[e] & ~Mux(mine & ended(End.RAISED), Cat(1, second), 0)) | self.done[e])
        advanced = Signal(range(LOOPS), reset_less=True)    # loop of execute, 0: none yet
        with m.If(engine == EXECUTE):
            with m.If(goes):
                m.d.sync += [tile.eq(now.argument == 1), advanced.eq(now.argument)]
            with m.If(ended(End.BEGUN)):
                m.d.sync += advanced.eq(0)
            with m.If(ended(End.TILE)):
                m.d.sync += tile.eq(1)

        # A standstill: nothing but engines without tokens.
        dead   = Signal()
        cycles = Signal(range(self.SETTLE))
        still  = Signal()
        broken = Signal()       # something is wrong
        first  = Signal(index_bits(self.config), reset_less=True)   # command that waits
        m.d.sync += [
            still.eq(stuck.any() & (stuck | empty).all() & self.quiet.all() & self.settled
                     & ~Cat(owes).any() & ~self.credit.valid),
            cycles.eq(Mux(still, cycles + 1, 0)),
        ]
        with m.If(cycles == self.SETTLE - 1):
            m.d.sync += dead.eq(1)
        index = total[:len(first)]
        with m.If(ended(End.SEEN) & (index < first)):
            m.d.sync += first.eq(index)
        with m.If(~dead):
            m.d.sync += first.eq(~0)

        # Whose turn it is, and what is to be done.
        units = [self.run_free, Mux(tile, self.rows_free, self.tile_free), self.group_free,
                 self.run_free]
        waits = Signal(ENGINES)
        ready = Signal(ENGINES)
        asks  = Signal(ENGINES)
        for e in range(ENGINES):
            walks = active[e] & ~over[e] & (owes[e] == 0)
            m.d.comb += [
                waits[e].eq(walks & needs[e].any() & ~stuck[e]),
                ready[e].eq(walks & ~needs[e].any() & units[e]),
                asks[e].eq(waits[e] | ready[e] | owes[e].any() | (~active[e] & ~empty[e])
                           | self.wrong[e] | (dead & stuck[e])),
            ]
        chooses = ~running & ~chosen & ~placed & ~self.halt & ~broken
        crediting = Signal()
        m.d.sync += [crediting.eq(chooses & self.credit.valid), chosen.eq(
            chooses & (asks.any() | self.credit.valid | ~cleared))]
        with m.If(chooses):
            with m.Switch(engine):
                for e in range(ENGINES):
                    with m.Case(e):
                        for i in reversed(range(e + 1, e + 1 + ENGINES)):
                            with m.If(asks[i % ENGINES]):
                                m.d.sync += engine.eq(i % ENGINES)

        def of(flags):
            return flags.bit_select(engine, 1)

        def by_engine(transfer, execute, vector):
            return choose([Const(pages[routine], len(page)) for routine in (
                transfer, execute, vector, transfer)], engine)

        with m.If(~of(active)):
            m.d.comb += page.eq(by_engine(Routine.BEGIN_TRANSFER, Routine.BEGIN_EXECUTE,
                                          Routine.BEGIN_VECTOR))
        with m.Elif(of(waits)):
            m.d.comb += page.eq(pages[Routine.WAIT])
        with m.Else():
            m.d.comb += page.eq(by_engine(Routine.NEXT_TRANSFER, Routine.NEXT_TILE,
                                          Routine.NEXT_GROUP))
            with m.If((engine == EXECUTE) & tile):
                m.d.comb += page.eq(pages[Routine.NEXT_ROWS] | advanced * LOOP_PAGES)
        for condition, routine in ((choose(owes, engine).any(), Routine.RAISE),
                                   (dead, Routine.LOOK), (of(self.wrong), Routine.FAIL),
                                   (crediting, Routine.CREDIT), (~cleared, Routine.CLEAR)):
            with m.If(condition):
                m.d.comb += page.eq(pages[routine])
        m.d.sync += [placed.eq(chosen), entry.eq(page)]
        with m.If(chosen):
            m.d.sync += raising.eq(choose(owes, engine).any())
            with m.If(crediting):
                m.d.sync += number.eq(self.credit.payload)
        with m.If(placed):
            m.d.sync += running.eq(1)
        with m.Elif(ends):
            m.d.sync += [running.eq(0), cleared.eq(1)]
        m.d.comb += self.credit.ready.eq(ended(End.CREDITED, End.FLOODED))

        # Errors.
        lost = dead & ~stuck.any()
        m.d.comb += [
            self.error.valid.eq(~broken & (lost | ended(End.FAILED, End.OVERFLOWED, End.FLOODED))),
            self.error.code.eq(Mux(lost, ErrorCode.DEADLOCK, Mux(
                now.argument == End.FAILED, choose(list(self.code), engine),
                ErrorCode.SEMAPHORE_OVERFLOW))),
            self.error.index.eq(Mux(lost, first, Mux(
                now.argument == End.FLOODED, self.credit_index, index))),
        ]
        with m.If(self.error.valid):
            m.d.sync += broken.eq(1)
        return m
