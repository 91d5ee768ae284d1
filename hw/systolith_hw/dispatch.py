"""From a program in memory to each engine's queue: fetch, dispatch and queues."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import word_layout
from .bursts import burst_layout
from .choose import choose
from .config import CoreConfig
from .isa import (
    COMMAND_BYTES,
    COMMANDS,
    COUNTS_BYTE,
    HEADER,
    PRIMARY_BYTE,
    ControlOp,
    ErrorCode,
    Opcode,
)
from .legal import COUNT_SLOTS, bad_credit, bad_field, words_of, zero_count
from .ram import Ram
from .record import INDEX_BITS, RECORD_BITS, Record, error_layout

__all__ = ["CommandQueues", "Dispatcher", "Fetch"]

ENGINES = 4  # load, execute, vector, store: opcodes 1 to 4


class Fetch(wiring.Component):
    """Asks for a program's commands, one burst or more each, as far ahead as there is room.

    Members
    -------
    start : ``In(1)``
        Begin at ``address`` and fetch ``commands`` of them.
    window_bytes : ``In(32)``
        Size of the window.
    bursts : ``Out(stream)``
        To ``AxiReader``.
    blocked : ``Out(1)``
        The next command lies outside the window.
    left : ``Out(INDEX_BITS + 1)``
        Commands not asked for yet.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "start": In(1),
            "address": In(32),
            "commands": In(INDEX_BITS),
            "window_bytes": In(32),
            "bursts": Out(stream.Signature(burst_layout(config.bus.data_bytes))),
            "blocked": Out(1),
            "left": Out(INDEX_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        words = words_of(self.config)
        burst_words = min(words, self.config.bus.max_burst)
        offset_bits = exact_log2(self.config.bus.data_bytes)
        word = Signal(32 - offset_bits, reset_less=True)
        part = Signal(range(words // burst_words))
        m.d.comb += [
            self.blocked.eq((self.left != 0) & (part == 0)
                            & (Cat(Const(0, offset_bits), word) + COMMAND_BYTES
                               > self.window_bytes)),
            self.bursts.valid.eq((self.left != 0) & ~self.blocked),
            self.bursts.payload.word.eq(word),
            self.bursts.payload.words.eq(burst_words - 1),
            self.bursts.payload.last.eq(1),
        ]
        with m.If(self.start):
            m.d.sync += [
                word.eq(self.address[offset_bits:]),
                self.left.eq(self.commands),
                part.eq(0),
            ]
        with m.Elif(self.bursts.valid & self.bursts.ready):
            m.d.sync += word.eq(word + burst_words)
            m.d.sync += part.eq(part + 1)
            with m.If(part == words // burst_words - 1):
                m.d.sync += [self.left.eq(self.left - 1), part.eq(0)]
        return m


class CommandQueues(wiring.Component):
    """One block RAM with a queue for every engine, and the command each engine looks at, which
    counts as one of the queue.

    Timing: a command reaches its idle engine ``words + 3`` cycles after ``commit``, and the next
    one as many cycles after it was accepted; ``words + 1`` cycles a command for all engines
    together.

    Members
    -------
    write : ``In(1)``
        Put ``data`` as word ``word`` of the next command of queue ``engine``.
    commit : ``In(1)``
        With the last word: the command is complete.
    space : ``Out(ENGINES)``
        The queue has room for a command.
    empty : ``Out(1)``
        No command is on its way to an engine.
    command : ``Out(stream of commands)`` array
        To the engines.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "write": In(1),
            "engine": In(range(ENGINES)),
            "word": In(range(words_of(config))),
            "data": In(config.bus.data_bits),
            "commit": In(1),
            "space": Out(ENGINES),
            "empty": Out(1),
            "command": Out(stream.Signature(RECORD_BITS)).array(ENGINES),
        })

    def elaborate(self, platform):
        m = Module()
        words = words_of(self.config)
        depth = self.config.control.queue_depth
        m.submodules.ram = ram = Ram(depth=ENGINES * depth * words,
                                     width=self.config.bus.data_bits)
        # Commands in the RAM and before the engine.
        counts = [Signal(range(depth + 1), name=f"count{e}") for e in range(ENGINES)]
        tails = Array(Signal(range(depth), name=f"tail{e}") for e in range(ENGINES))
        heads = Array(Signal(range(depth), name=f"head{e}") for e in range(ENGINES))
        full  = Signal(ENGINES)
        reading = Signal()
        reader = Signal(range(ENGINES))
        read_word = Signal(range(words))
        loading = Signal()
        loaded_engine = Signal(range(ENGINES))
        loaded_word = Signal(range(words))
        read_end = Signal()

        def place(engine, slot, word):
            """Address of a command's word in the RAM."""
            return ((engine * depth) + slot) * words + word

        m.d.comb += [
            self.space.eq(Cat(count != depth for count in counts)),
            self.empty.eq(~Cat(counts).any()),
            ram.write_en.eq(self.write),
            ram.write_addr.eq(place(self.engine, tails[self.engine], self.word)),
            ram.write_data.eq(self.data),
            ram.read_en.eq(reading),
            ram.read_addr.eq(place(reader, heads[reader], read_word)),
            read_end.eq(reading & (read_word == words - 1)),
        ]
        with m.If(self.commit):
            m.d.sync += tails[self.engine].eq(_next(tails[self.engine], depth))
        with m.If(~reading):
            for engine in reversed(range(ENGINES)):
                arriving = loading & (loaded_engine == engine)
                with m.If((counts[engine] != 0) & ~full[engine] & ~arriving):
                    m.d.sync += [reading.eq(1), reader.eq(engine)]
        with m.Else():
            m.d.sync += read_word.eq(_next(read_word, words))
            with m.If(read_end):
                m.d.sync += [reading.eq(0), heads[reader].eq(_next(heads[reader], depth))]
        m.d.sync += [
            loading.eq(reading),
            loaded_engine.eq(reader),
            loaded_word.eq(read_word),
        ]
        for engine in range(ENGINES):
            record = Signal(RECORD_BITS, name=f"record{engine}", reset_less=True)
            port = self.command[engine]
            m.d.comb += [port.valid.eq(full[engine]), port.payload.eq(record)]
            m.d.sync += counts[engine].eq(
                counts[engine] + (self.commit & (self.engine == engine))
                - (port.valid & port.ready))
            with m.If(loading & (loaded_engine == engine)):
                m.d.sync += record.word_select(loaded_word, len(self.data)).eq(ram.read_data)
                with m.If(loaded_word == words - 1):
                    m.d.sync += full[engine].eq(1)
            with m.Elif(port.valid & port.ready):
                m.d.sync += full[engine].eq(0)
        return m


def _next(value, size: int):
    """``value + 1`` within 0 to ``size - 1``, for a power of two ``size``."""
    return (value + 1)[:exact_log2(size)] if size > 1 else Const(0)


class Dispatcher(wiring.Component):
    """Takes the program's commands in order, checks them, applies parameter registers, and hands
    them to their queues; does control commands itself.

    A command waits only for room in its own queue, or behind a fence.

    Timing: one bus word per cycle.

    Members
    -------
    start, commands : ``In``
        A program of so many commands begins.
    fetch_blocked, fetch_left : ``In``
        From ``Fetch``.
    halt : ``In(1)``
        Stop.
    words : ``In(stream of word_layout)``
        The program's words.
    params : ``In(32)`` array
        Parameter registers; register 0 reads 0.
    param_write, param_number, param_value : ``Out``
        Writes one.
    command : ``Out(stream of commands)`` array
        To the engines.
    raise_ : ``Out(stream of number)``
        Credits.
    engines_idle : ``In(1)``
        Nothing moves in any engine or on the bus.
    interrupt : ``Out(1)``
        Pulse.
    exhausted, finished : ``Out(1)``
        Every command has been handed on; and every queue is empty.
    blocked : ``Out(1)``
        The next command waits for room or for a fence.
    index : ``Out(INDEX_BITS)``
        Which command is next.
    error : ``Out(error_layout)``
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            "start": In(1),
            "commands": In(INDEX_BITS),
            "fetch_blocked": In(1),
            "fetch_left": In(INDEX_BITS),
            "halt": In(1),
            "words": In(stream.Signature(word_layout(config.bus))),
            "params": In(32).array(config.control.params),
            "param_write": Out(1),
            "param_number": Out(range(config.control.params)),
            "param_value": Out(32),
            "command": Out(stream.Signature(RECORD_BITS)).array(ENGINES),
            "raise_": Out(stream.Signature(5)),
            "engines_idle": In(1),
            "interrupt": Out(1),
            "exhausted": Out(1),
            "finished": Out(1),
            "blocked": Out(1),
            "index": Out(INDEX_BITS),
            "error": Out(error_layout),
        })

    def elaborate(self, platform):
        m = Module()
        words = words_of(self.config)
        width = self.config.bus.data_bits
        m.submodules.queues = queues = CommandQueues(config=self.config)
        for engine in range(ENGINES):
            wiring.connect(m, queues.command[engine], wiring.flipped(self.command[engine]))
        number = Signal(range(words))       # word of the command
        left   = Signal(INDEX_BITS)         # commands of the program
        bits   = Signal(width)              # the word, parameters applied
        header = data.StructLayout({
            "opcode": 8, "address_param": 4, "count_param": 4, "count_level": 4})
        kept   = Signal(header, reset_less=True)
        now    = Signal(header)             # header fields as far as known at this word
        m.d.comb += now.eq(kept)
        source = self.words.payload.data
        for field in HEADER:
            if field.name in header.members:
                with m.If(number == field.bit // width):
                    m.d.comb += now[field.name].eq(source[field.bit % width:][:field.bits])

        # Apply parameter registers, and note the command's position.
        params = [Const(0, 32), *list(self.params)[1:]]
        address_param = choose(params, now.address_param)
        count_param = choose(params, now.count_param)
        m.d.comb += bits.eq(source)
        with m.If(number == 8 * PRIMARY_BYTE // width):
            primary = bits[8 * PRIMARY_BYTE % width:][:32]
            m.d.comb += primary.eq(source[8 * PRIMARY_BYTE % width:][:32] + address_param)
        for slot in range(COUNT_SLOTS):
            first_bit = 8 * COUNTS_BYTE + 16 * slot
            with m.If((number == first_bit // width) & (now.count_param != 0)
                      & (now.count_level == slot)):
                m.d.comb += bits[first_bit % width:][:16].eq(count_param)
        index_field = next(field for field in HEADER if field.name == "index")
        index_given = Signal()
        with m.If(number == index_field.bit // width):
            m.d.comb += [
                index_given.eq(source[index_field.bit % width:][:32].any()),
                bits[index_field.bit % width:][:32].eq(self.index),
            ]

        # Check the word.
        bad, zero = Signal(), Signal()
        was_bad, was_zero = Signal(), Signal()
        known = Signal()
        with m.Switch(now.opcode):
            for opcode in Opcode:
                with m.Case(opcode):
                    m.d.comb += known.eq(1)
                    with m.Switch(number):
                        for i in range(words):
                            with m.Case(i):
                                m.d.comb += [
                                    bad.eq(bad_field(opcode, _but_index(bits, i), i, self.config)
                                           | index_given),
                                    zero.eq(zero_count(opcode, bits, i)),
                                ]

        is_control = now.opcode == Opcode.CONTROL
        room   = Signal()
        take   = Signal()
        last   = number == words - 1
        acting = Signal()     # a control command is being done
        control_bits = Signal(RECORD_BITS, reset_less=True)
        complete = Record(COMMANDS[Opcode.CONTROL], Cat(
            bits if i == words - 1 else control_bits.word_select(i, width)
            for i in range(words)))
        engine = Signal(range(ENGINES))
        now_bad = Signal()
        refused = Signal()
        m.d.comb += [
            engine.eq(now.opcode - 1),
            room.eq(is_control | ~known | queues.space.bit_select(engine, 1)),
            take.eq(self.words.valid & (left != 0) & ~acting & room & ~self.halt),
            self.words.ready.eq(take),
            now_bad.eq(bad | was_bad | (is_control & bad_credit(complete))),
            refused.eq(take & last & known & (now_bad | zero | was_zero)),
            queues.write.eq(take & ~is_control),
            queues.engine.eq(engine),
            queues.word.eq(number),
            queues.data.eq(bits),
            queues.commit.eq(take & last & ~is_control & known & ~refused),
        ]
        with m.If(take):
            m.d.sync += [
                kept.eq(now),
                control_bits.word_select(number, width).eq(bits),
                number.eq(_next(number, words)),
                was_bad.eq(Mux(last, 0, bad | was_bad)),
                was_zero.eq(Mux(last, 0, zero | was_zero)),
            ]
            with m.If(last):
                m.d.sync += acting.eq(is_control & ~refused)
                with m.If(~is_control):
                    m.d.sync += [self.index.eq(self.index + 1), left.eq(left - 1)]
        with m.If(self.start):
            m.d.sync += [self.index.eq(0), left.eq(self.commands)]

        # Errors, the earliest in the program first.
        m.d.comb += self.error.index.eq(self.index)
        with m.If(take & self.words.payload.error):
            m.d.comb += [self.error.valid.eq(1), self.error.code.eq(ErrorCode.READ_RESPONSE)]
        with m.Elif(take & ~known):
            m.d.comb += [self.error.valid.eq(1), self.error.code.eq(ErrorCode.BAD_OPCODE)]
        with m.Elif(refused):
            m.d.comb += [
                self.error.valid.eq(1),
                self.error.code.eq(Mux(now_bad, ErrorCode.BAD_FIELD, ErrorCode.ZERO_COUNT)),
            ]
        with m.Elif(self.fetch_blocked & (left == self.fetch_left) & (left != 0) & ~acting):
            m.d.comb += [self.error.valid.eq(1), self.error.code.eq(ErrorCode.MEMORY_ADDRESS)]

        self._act(m, acting, control_bits, left, queues)
        m.d.comb += [
            self.exhausted.eq(left == 0),
            self.finished.eq(self.exhausted & queues.empty),
            self.blocked.eq(Mux(acting, Record(COMMANDS[Opcode.CONTROL], control_bits)["operation"]
                                == ControlOp.FENCE, self.words.valid & ~room)),
        ]
        return m

    def _act(self, m, acting, control_bits, left, queues):
        """Do the control command in ``control_bits``."""
        record = Record(COMMANDS[Opcode.CONTROL], control_bits)
        operation, register = record["operation"], record["register"]
        credit = Signal(4)
        done   = Signal()
        params = [Const(0, 32), *list(self.params)[1:]]
        m.d.comb += [
            self.param_number.eq(register),
            self.param_value.eq(record["value"]),
            self.raise_.payload.eq(register),
        ]
        with m.If(acting):
            with m.Switch(operation):
                with m.Case(ControlOp.PARAM_SET):
                    m.d.comb += [self.param_write.eq(1), done.eq(1)]
                with m.Case(ControlOp.PARAM_ADD):
                    m.d.comb += [
                        self.param_write.eq(1),
                        self.param_value.eq(record["value"] + choose(params, register[:4])),
                        done.eq(1),
                    ]
                with m.Case(ControlOp.FENCE):
                    m.d.comb += done.eq(self.engines_idle & queues.empty)
                with m.Case(ControlOp.INTERRUPT):
                    m.d.comb += [self.interrupt.eq(1), done.eq(1)]
                with m.Case(ControlOp.CREDIT):
                    m.d.comb += [
                        self.raise_.valid.eq(1),
                        done.eq(self.raise_.ready & (credit + 1 >= record["value"][:4])),
                    ]
                    with m.If(self.raise_.ready):
                        m.d.sync += credit.eq(Mux(done, 0, credit + 1))
        with m.If(done):
            m.d.sync += [acting.eq(0), self.index.eq(self.index + 1), left.eq(left - 1)]


def _but_index(bits, word: int):
    """``bits`` of word ``word`` with the index field, which the dispatcher wrote, as 0."""
    width = len(bits)
    index = next(field for field in HEADER if field.name == "index")
    if word != index.bit // width:
        return bits
    start = index.bit % width
    return Cat(bits[:start], Const(0, 32), bits[start + 32:])
