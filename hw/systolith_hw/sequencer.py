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
    If,
    Routine,
    microprogram,
    word_layout,
)
from .narrow import index_bits
from .ram import Ram, Rom
from .record import INDEX_BITS, error_layout

__all__ = ["UNITS", "Sequencer", "unit_ports"]

LOAD, EXECUTE, VECTOR, STORE = (Opcode[name] - 1 for name in ("LOAD", "EXECUTE", "VECTOR", "STORE"))
UNITS = ((LOAD, STORE), (EXECUTE,), (VECTOR,))  # engines of each unit
SUM_BITS = 32
WORDS = 16  # of a record


def unit_ports() -> dict[str, wiring.Member]:
    """What a unit hears from the sequencer."""
    return {
        "stores": In(1),    # it is the store engine, not that of loads
        "emit": In(1),      # ``value`` is the ``field``
        "field": In(4),
        "value": In(SUM_BITS),  # in the cycle after
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

    Timing: a word of microcode a cycle, and four between routines, five if both are of one engine.

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
    stores, emit, field, value, go, event : ``Out``
        To all units, see ``unit_ports``; ``emit`` and ``go`` with a bit for each of ``UNITS``.
    run_free, tile_free, rows_free, group_free : ``In(1)``
        A unit can take another piece; a unit that is given one is not free when the routine ends.
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
            "emit": Out(len(UNITS)),
            "go": Out(len(UNITS)),
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

        # Which routine, and its words: one that leaves the ROM, and the one that is done.
        running = Signal()
        chosen = Signal()       # the engine that is served is known
        placed = Signal()       # and the routine
        coming = Signal()       # its first word leaves the ROM
        goes_on = Signal()      # in the next cycle a word is done
        engine = Signal(range(ENGINES))
        cleared = Signal()      # the semaphores are
        at     = Signal(range(len(program)))
        next_  = Signal(word_layout)
        now    = Signal(word_layout, reset_less=True)
        page   = Signal(range(len(program) // PAGE))
        entry  = Signal.like(page, reset_less=True)
        jumps  = Signal()
        ends   = Signal()
        following = Signal.like(at)
        m.d.comb += [
            following.eq(Mux(jumps, Cat(Const(0, exact_log2(PAGE)), now.addr, now.half), at + 1)),
            rom.read_addr.eq(following),
            next_.as_value().eq(rom.read_data),
            goes_on.eq(coming | (running & ~ends)),
        ]
        with m.If(placed):
            m.d.comb += following.eq(Cat(Const(0, exact_log2(PAGE)), entry))
        m.d.sync += [at.eq(following), now.eq(next_), coming.eq(placed), running.eq(goes_on)]
        with m.If(ends):
            m.d.sync += cleared.eq(1)

        def decoded(name, operation, *arguments):
            """Register: the word that is done is such a one."""
            found = Signal(name=name)
            right = Cat(next_.argument == each for each in arguments).any() if arguments else 1
            m.d.sync += found.eq(goes_on & (next_.do == operation) & right)
            return found

        m.d.comb += ends.eq(decoded("is_end", Do.END))
        goes = decoded("is_go", Do.GO)

        # Queues: the command under way is the first of its engine's.
        active = Signal(ENGINES)
        empty  = Signal(ENGINES)
        finish = Signal(ENGINES)
        ended  = Signal(ENGINES)    # the command's last word came in the cycle before
        ending = Signal(ENGINES)    # and before that
        heads = [Signal(range(slots), name=f"head{e}") for e in range(ENGINES)]
        tails = [Signal(range(slots), name=f"tail{e}") for e in range(ENGINES)]
        counts = [Signal(range(slots + 1), name=f"count{e}") for e in range(ENGINES)]
        m.d.sync += [ending.eq(ended), ended.eq(Mux(self.write & (self.word == WORDS - 1),
                                                    1 << self.engine_written, 0))]
        for e in range(ENGINES):
            comes = self.commit & ending[e]
            m.d.comb += [self.space[e].eq(counts[e] + (ended[e] | ending[e]) < slots),
                         empty[e].eq(counts[e] == 0)]
            m.d.sync += counts[e].eq(counts[e] + comes - finish[e])
            for place, moves in ((tails[e], comes), (heads[e], finish[e])):
                with m.If(moves):
                    m.d.sync += place.eq(Mux(place == slots - 1, 0, place + 1))
        m.d.comb += [self.empty.eq(empty.all()), self.idle.eq(~active)]

        # The memory.
        total  = Signal(SUM_BITS)
        number = Signal(range(self.config.control.semaphores))
        writes, reads = Signal(), Signal()
        place  = Signal.like(ram.read_addr, reset_less=True)    # unless it is a semaphore's
        head   = Signal(range(slots), reset_less=True)
        chosen_number = Signal(reset_less=True)
        address = Signal.like(place)
        own    = Cat(next_.addr[:3], engine, Const(1, 1), ~Const(0, slot_bits))
        m.d.sync += [
            head.eq(choose(heads, engine)),
            place.eq(Mux(next_.addr[4], own, Cat(next_.addr[:4], engine, head))),
            chosen_number.eq(next_.addr == SEMAPHORE),
            writes.eq(goes_on & next_.write),
            reads.eq(goes_on & ~next_.write & (next_.do != Do.JUMP)),
        ]
        m.d.comb += [
            address.eq(Mux(chosen_number, Cat(number, Const(0, 6 - len(number)),
                                              ~Const(0, slot_bits)), place)),
            self.hold.eq(writes | ending.any()),    # a tail moves
            ram.read_en.eq(reads),
            ram.read_addr.eq(address),
            ram.write_en.eq(writes | self.write),
            ram.write_addr.eq(Mux(writes, address, Cat(
                self.word, self.engine_written, choose(tails, self.engine_written)))),
            ram.write_data.eq(Mux(writes, total, self.data)),
        ]

        # What counts of the word that was read, or another number, in its place.
        is_all, is_high, is_byte = (Signal(name=name, reset_less=True)
                                    for name in ("is_all", "is_high", "is_byte"))
        operand = Signal(32)    # 0 behind a reset: the sum is then
        low, upper = ram.read_data[:16], ram.read_data[16:]
        plus   = next_.do == Do.PLUS
        steps  = next_.do == Do.STEP    # behind a word that loads
        more   = Signal()       # the loop was not at its last iteration
        last   = Signal(reset_less=True)    # the word that is loaded is 1
        own_number = Signal(7, reset_less=True)     # the word before has named it
        negative = Signal(reset_less=True)          # it is -1
        minus  = (plus & negative) | (steps & ~last)
        numbers = {Add.MINUS: Const(0, 1), Add.ONE: Const(1, 1), **{
            Add[name.upper()]: self.numbers[name]
            for name in ("result", "param", "tile", "offset")}}
        m.d.sync += [own_number.eq(choose([numbers[each] for each in Add], next_.argument[:3])),
                     negative.eq(next_.argument == Add.MINUS)]
        given  = minus | plus | is_byte     # the low half's bits are given: each is that
        sign   = minus | (is_byte & ~plus & upper[7])
        m.d.sync += [is_all.eq(now.half == Half.ALL), is_high.eq(now.half == Half.HIGH),
                     is_byte.eq(now.half == Half.BYTE),
                     last.eq(ram.read_data[:self.config.count_bits] == 1)]
        used   = goes_on & next_.do[3]  # else it is 0, and the sum stays
        for i in range(16):
            bit = sign if i >= len(own_number) else minus | Mux(plus, own_number[i], upper[i])
            m.d.sync += operand[i].eq(
                used & Mux(given, bit, Mux(is_high, upper[i], low[i])))
        m.d.sync += operand[16:].eq(
            Mux(is_all & ~plus & ~minus, upper, sign.replicate(16)) & used.replicate(16))

        # The sum; a cell of it has no input left for an enable.
        loads  = Signal(reset_less=True)
        m.d.sync += [loads.eq((next_.do[1:] == Do.LOAD >> 1) | (steps & last)),
                     total.eq(Mux(loads, operand, total + operand))]
        with m.If(steps):
            m.d.sync += more.eq(~last)

        # Semaphores.
        needs = [Signal(2, name=f"needs{e}") for e in range(ENGINES)]   # tokens, in slot 0, 1
        owes  = [Signal(2, name=f"owes{e}") for e in range(ENGINES)]    # raises
        stuck = Signal(ENGINES)     # no token was there, and none has been raised since
        over  = Signal(ENGINES)     # the last piece has been given out
        free  = Signal()            # the slot is not used
        raising = Signal()          # in this routine
        second = Signal(reset_less=True)    # its slot is the second
        first_slots = Cat(each[0] for each in needs), Cat(each[0] for each in owes)
        with m.If(placed):
            m.d.sync += second.eq(~choose(list(Mux(raising, first_slots[1], first_slots[0])),
                                          engine))
        found = choose([operand[8 * i:8 * i + 8] for i in range(4)], Cat(second, raising))
        with m.If(decoded("is_slot", Do.SLOT)):
            m.d.sync += [number.eq(found), free.eq(~found[7])]
        with m.If(decoded("is_next", Do.NEXT)):
            m.d.sync += number.eq(number + 1)
        m.d.comb += jumps.eq(Cat(
            decoded(f"jumps_{condition.name.lower()}", Do.JUMP, condition) & holds
            for condition, holds in (
                (If.MORE, more), (If.FREE, free), (If.NONE, total[:4] == 0),
                (If.FULL, total[:4].all()), (If.OTHER, number != 0), (If.ALWAYS, 1))).any())

        # What a loop's advance, or the end of all, raises and waits for.
        final = now.argument.all()
        hits  = Cat(operand[bit:bit + 4] <= now.argument for bit in (16, 20))
        tile  = Signal()        # the tile that is walked is known
        unit  = Cat(Cat(engine == e for e in engines).any() for engines in UNITS)
        emits = decoded("is_emit", Do.EMIT) | decoded("is_say", Do.SAY)
        m.d.sync += [
            self.value.eq(total),
            self.stores.eq(engine == STORE),
            self.emit.eq(Mux(emits, unit, 0)),
            self.field.eq(now.argument),
            self.go.eq(Mux(goes, unit, 0)),
            self.event.eq(hits),
        ]

        def ended_with(*what):
            return decoded(f"ends_{what[0].name.lower()}", Do.END, *what)

        begun, taken, got_stuck, raised, seen, tiled, failed, flooded = (
            ended_with(end) for end in (End.BEGUN, End.TAKEN, End.STUCK, End.RAISED, End.SEEN,
                                        End.TILE, End.FAILED, End.FLOODED))
        credited = ended_with(End.CREDITED)
        overflowed = ended_with(End.OVERFLOWED)

        for e in range(ENGINES):
            mine = engine == e
            m.d.comb += finish[e].eq(active[e] & over[e] & self.quiet[e] & (owes[e] == 0))
            with m.If(finish[e]):
                m.d.sync += active[e].eq(0)
            with m.If(mine & begun):
                m.d.sync += [active[e].eq(1), over[e].eq(0), needs[e].eq(0b11)]
            with m.If(mine & goes):
                m.d.sync += [over[e].eq(final), needs[e].eq(hits)]
            with m.If(mine & taken):
                m.d.sync += needs[e].eq(needs[e] & Cat(Const(0, 1), ~second))
            lacked = Signal.like(number, name=f"lacked{e}", reset_less=True)
            with m.If(mine & got_stuck):
                m.d.sync += [stuck[e].eq(1), lacked.eq(number)]
            with m.If(((raised | credited) & (lacked == number))
                      | (mine & seen)):
                m.d.sync += stuck[e].eq(0)
            m.d.sync += owes[e].eq(
                (owes[e] & ~Mux(mine & raised, Cat(1, second), 0)) | self.done[e])
        advanced = Signal(range(LOOPS), reset_less=True)    # loop of execute, 0: none yet
        with m.If(engine == EXECUTE):
            with m.If(goes):
                m.d.sync += [tile.eq(now.argument == 1), advanced.eq(now.argument)]
            with m.If(begun):
                m.d.sync += advanced.eq(0)
            with m.If(tiled):
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
        with m.If(seen & (index < first)):
            m.d.sync += first.eq(index)
        with m.If(~dead):
            m.d.sync += first.eq(~0)

        # Whose turn it is, and what is to be done.
        run_free, rows_free, tile_free, group_free = (Signal(name=name) for name in (
            "run_free_before", "rows_free_before", "tile_free_before", "group_free_before"))
        m.d.sync += [run_free.eq(self.run_free), rows_free.eq(self.rows_free),
                     tile_free.eq(self.tile_free), group_free.eq(self.group_free)]
        units = [run_free, Mux(tile, rows_free, tile_free), group_free, run_free]
        waits, ready = Signal(ENGINES), Signal(ENGINES)
        asks, waiting, owing, wrong = (Signal(ENGINES, name=name) for name in (
            "asks", "waiting", "owing", "wrong_before"))
        for e in range(ENGINES):
            walks = active[e] & ~over[e] & (owes[e] == 0)
            m.d.comb += [
                waits[e].eq(walks & needs[e].any() & ~stuck[e]),
                ready[e].eq(walks & ~needs[e].any() & units[e]),
            ]
            m.d.sync += [
                asks[e].eq(waits[e] | ready[e] | owes[e].any() | (~active[e] & ~empty[e])
                           | self.wrong[e] | (dead & stuck[e])),
                waiting[e].eq(waits[e]), owing[e].eq(owes[e].any()), wrong[e].eq(self.wrong[e]),
            ]
        # What an engine asks was so a cycle before: not what it asked when its routine ended.
        fresh  = Signal()
        asking = asks & ~Mux(fresh, Cat(engine == e for e in range(ENGINES)), 0)
        chooses = ~running & ~chosen & ~placed & ~coming & ~self.halt & ~broken
        crediting = Signal()
        m.d.sync += [fresh.eq(ends), crediting.eq(chooses & self.credit.valid), chosen.eq(
            chooses & (asking.any() | self.credit.valid | ~cleared))]
        with m.If(chooses):
            with m.Switch(engine):
                for e in range(ENGINES):
                    with m.Case(e):
                        for i in reversed(range(e + 1, e + 1 + ENGINES)):
                            with m.If(asking[i % ENGINES]):
                                m.d.sync += engine.eq(i % ENGINES)

        def of(flags):
            return choose(list(flags), engine)

        def by_engine(transfer, execute, vector):
            return choose([Const(pages[routine], len(page)) for routine in (
                transfer, execute, vector, transfer)], engine)

        with m.If(~of(active)):
            m.d.comb += page.eq(by_engine(Routine.BEGIN_TRANSFER, Routine.BEGIN_EXECUTE,
                                          Routine.BEGIN_VECTOR))
        with m.Elif(of(waiting)):
            m.d.comb += page.eq(pages[Routine.WAIT])
        with m.Else():
            m.d.comb += page.eq(by_engine(Routine.NEXT_TRANSFER, Routine.NEXT_TILE,
                                          Routine.NEXT_GROUP))
            with m.If((engine == EXECUTE) & tile):
                m.d.comb += page.eq(pages[Routine.NEXT_ROWS] | advanced * LOOP_PAGES)
        for condition, routine in ((of(owing), Routine.RAISE), (dead, Routine.LOOK),
                                   (of(wrong), Routine.FAIL), (crediting, Routine.CREDIT),
                                   (~cleared, Routine.CLEAR)):
            with m.If(condition):
                m.d.comb += page.eq(pages[routine])
        m.d.sync += [placed.eq(chosen), entry.eq(page)]
        with m.If(chosen):
            m.d.sync += raising.eq(of(owing))
            with m.If(crediting):
                m.d.sync += number.eq(self.credit.payload)
        m.d.comb += self.credit.ready.eq(credited | flooded)

        # Errors.
        lost = dead & ~stuck.any()
        m.d.comb += [
            self.error.valid.eq(~broken & (lost | failed | overflowed | flooded)),
            self.error.code.eq(Mux(lost, ErrorCode.DEADLOCK, Mux(
                failed, choose(list(self.code), engine),
                ErrorCode.SEMAPHORE_OVERFLOW))),
            self.error.index.eq(Mux(lost, first, Mux(
                flooded, self.credit_index, index))),
        ]
        with m.If(self.error.valid):
            m.d.sync += broken.eq(1)
        return m
