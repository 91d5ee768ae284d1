"""From fetched commands to each engine's queue: dispatch and queues."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from .axi import word_layout
from .choose import choose
from .config import CoreConfig
from .fit import fitted
from .isa import (
    COMMANDS,
    COUNTS_BYTE,
    HEADER,
    PRIMARY_BYTE,
    ControlOp,
    ErrorCode,
    Opcode,
)
from .legal import COUNT_SLOTS, bad_credit, bad_field, words_of, zero_count
from .narrow import index_bits, length_bits
from .ram import Ram
from .record import INDEX_BITS, RECORD_BITS, Record, error_layout

__all__ = ["CommandQueues", "Dispatcher"]

ENGINES = 4  # load, execute, vector, store: opcodes 1 to 4


class CommandQueues(wiring.Component):
    """One block RAM with a queue for every engine, and the command each engine looks at, which
    counts as one of the queue.

    Timing: a command reaches its idle engine ``words + 4`` cycles after ``commit``, and the next
    one as many cycles after it was accepted; in a compact core ``words + 3``, and as many after the
    engine was ``idle``. ``words + 1`` cycles a command for all engines together.

    Members
    -------
    write : ``In(1)``
        Put ``data`` as word ``word`` of the next command of queue ``engine``.
    commit : ``In(1)``
        The cycle after the last word, in which that queue takes no other: the command counts.
    space : ``Out(ENGINES)``
        The queue has room for a command, also where the one before is yet to be committed.
    empty : ``Out(1)``
        No command is on its way to an engine.
    idle : ``In(ENGINES)``
        Nothing is inside an engine. In a compact core a command stays as it was accepted until
        then.
    command : ``Out(stream of commands)`` array
        To the engines.
    """
    def __init__(self, *, config: CoreConfig):
        self.config = config
        super().__init__({
            **{name: member.flip() for name, member in queue_ports(config).items()},
            "idle": In(ENGINES),
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
        read_end = Signal()
        # The RAM's output, and where clocks are fast a register right behind it, on the way to any
        # engine's record.
        compact = self.config.control.compact
        stages = [(Signal(name=f"loading{i}"), Signal(range(ENGINES), name=f"loading_engine{i}"),
                   Signal(range(words), name=f"loading_word{i}")) for i in range(2 - compact)]
        loading, loaded_engine, loaded_word = stages[-1]
        if compact:
            loaded = ram.read_data
        else:
            loaded = Signal(self.config.bus.data_bits, reset_less=True)
            m.d.sync += loaded.eq(ram.read_data)
        ending = Signal(ENGINES)  # the command's last word came in the cycle before

        def place(engine, slot, word):
            """Address of a command's word in the RAM."""
            return ((engine * depth) + slot) * words + word

        m.d.comb += [
            self.space.eq(Cat(count + ended < depth
                              for count, ended in zip(counts, ending, strict=True))),
            self.empty.eq(~Cat(counts).any()),
            ram.write_en.eq(self.write),
            ram.write_addr.eq(place(self.engine, tails[self.engine], self.word)),
            ram.write_data.eq(self.data),
            ram.read_en.eq(reading),
            ram.read_addr.eq(place(reader, heads[reader], read_word)),
            read_end.eq(reading & (read_word == words - 1)),
        ]
        m.d.sync += ending.eq(Mux(self.write & (self.word == words - 1), 1 << self.engine, 0))
        for tail, ended in zip(tails, ending, strict=True):
            with m.If(self.commit & ended):
                m.d.sync += tail.eq(_next(tail, depth))
        with m.If(~reading):
            for engine in reversed(range(ENGINES)):
                arriving = Cat(active & (number == engine) for active, number, _ in stages).any()
                free = self.idle[engine] if compact else 1
                with m.If((counts[engine] != 0) & ~full[engine] & ~arriving & free):
                    m.d.sync += [reading.eq(1), reader.eq(engine)]
        with m.Else():
            m.d.sync += read_word.eq(_next(read_word, words))
            with m.If(read_end):
                m.d.sync += [reading.eq(0), heads[reader].eq(_next(heads[reader], depth))]
        for stage, before in zip(stages, [(reading, reader, read_word), *stages], strict=False):
            m.d.sync += [now.eq(old) for now, old in zip(stage, before, strict=True)]
        for engine in range(ENGINES):
            record = Signal(RECORD_BITS, name=f"record{engine}", reset_less=True)
            opcode = Opcode(engine + 1)
            rings = Cat(Record(COMMANDS[opcode], record)["ring", i] for i in range(4))
            port = self.command[engine]
            m.d.comb += [port.valid.eq(full[engine]), port.payload.eq(record)]
            m.d.sync += counts[engine].eq(
                counts[engine] + (self.commit & ending[engine])
                - (port.valid & port.ready))
            with m.If(loading & (loaded_engine == engine)):
                with m.Switch(loaded_word):
                    for word in range(words):
                        with m.Case(word):
                            m.d.sync += record.word_select(word, len(loaded)).eq(
                                fitted(opcode, word, loaded, rings, self.config))
                with m.If(loaded_word == words - 1):
                    m.d.sync += full[engine].eq(1)
            with m.Elif(port.valid & port.ready):
                m.d.sync += full[engine].eq(0)
        return m


def _next(value, size: int):
    """``value + 1`` within 0 to ``size - 1``, for a power of two ``size``."""
    return (value + 1)[:exact_log2(size)] if size > 1 else Const(0)


def queue_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """What a dispatcher says to queues: members of ``CommandQueues``, from the other side."""
    return {
        "write": Out(1), "engine": Out(range(ENGINES)), "word": Out(range(words_of(config))),
        "data": Out(config.bus.data_bits), "commit": Out(1), "space": In(ENGINES),
        "empty": In(1),
    }


class Dispatcher(wiring.Component):
    """Takes the program's commands in order, checks them, applies parameter registers, and hands
    them to their queues; does control commands itself.

    A command waits only for room in its own queue, or behind a control command. Words pass three
    registers: as they came, with what parameter registers add and replace; with it applied, where
    they go to their queue; what is wrong with each, by which the command is committed.

    Timing: one bus word per cycle, and a cycle between commands; with a shared sequencer, whose bus
    is no faster, a word every other cycle.

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
    idle : ``In(ENGINES)``
        Nothing moves in an engine.
    interrupt : ``Out(1)``
        Pulse.
    exhausted, finished : ``Out(1)``
        Every command has been handed on; and every queue is empty.
    blocked : ``Out(1)``
        The next command waits for room or for a fence.
    index : ``Out(INDEX_BITS)``
        Which command is next.
    error : ``Out(error_layout)``
        The first one, until a reset.
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
            **({} if config.control.shared else {
                "command": Out(stream.Signature(RECORD_BITS)).array(ENGINES)}),
            "raise_": Out(stream.Signature(5)),
            "idle": In(ENGINES),
            **({**queue_ports(config), "hold": In(1)} if config.control.shared else {}),
            "interrupt": Out(1),
            "exhausted": Out(1, init=1),
            "finished": Out(1),
            "blocked": Out(1),
            "index": Out(INDEX_BITS),
            "error": Out(error_layout),
        })

    def elaborate(self, platform):
        m = Module()
        words = words_of(self.config)
        width = self.config.bus.data_bits
        queues = self
        if not self.config.control.shared:
            m.submodules.queues = queues = CommandQueues(config=self.config)
            for engine in range(ENGINES):
                wiring.connect(m, queues.command[engine], wiring.flipped(self.command[engine]))
            m.d.comb += queues.idle.eq(self.idle)
        left   = Signal(length_bits(self.config))   # commands of the program
        index  = Signal(index_bits(self.config))
        m.d.comb += self.index.eq(index)
        closed = Signal()                   # a control command is inside, and nothing may follow
        acting = Signal()                   # it is being done
        wrong  = Signal()
        control_bits = Signal(RECORD_BITS, reset_less=True)
        control = Record(COMMANDS[Opcode.CONTROL], control_bits)
        operation = control["operation"][:bits_for(max(ControlOp))]  # others are refused

        # First register: the word, and what parameter registers have for it; a compact core adds
        # that in the same cycle.
        compact = self.config.control.compact
        number = Signal(range(words))       # word of the command
        word   = Signal(self.words.payload.shape(), reset_less=True)
        word_number = Signal(range(words))
        word_valid = Signal()
        header = data.StructLayout({
            "opcode": 8, "address_param": 4, "count_param": 4, "count_level": 4})
        kept   = Signal(header, reset_less=True)
        addend = Signal(32, reset_less=True)
        count  = Signal(16, reset_less=True)
        replaced = Signal(-(-width // 16), reset_less=True)  # 16-bit parts of the word
        take   = Signal()
        free   = Signal()                   # the register can take a word
        forward = Signal()                  # its word moves to the second register
        source = self.words.payload.data
        now    = Signal(header)             # the header, for a word with parameters
        for field in HEADER:
            if field.name in header.members:
                here = source[field.bit % width:][:field.bits]
                same_word = field.bit // width == 8 * COUNTS_BYTE // width
                m.d.comb += now[field.name].eq(here if same_word else kept[field.name])
                with m.If(free & (number == field.bit // width)):
                    m.d.sync += kept[field.name].eq(here)
        params = [Const(0, 32), *list(self.params)[1:]]
        chosen = Mux(closed, control["register"][:4], now.address_param)
        added  = Mux(closed, operation == ControlOp.PARAM_ADD, number == 8 * PRIMARY_BYTE // width)
        replaces = [Const(0, 1)] * len(replaced)
        for slot in range(COUNT_SLOTS):
            at, first_bit = divmod(8 * COUNTS_BYTE + 16 * slot, width)
            replaces[first_bit // 16] |= (number == at) & (now.count_level == slot)
        m.d.comb += [
            free.eq(compact | ~word_valid | forward),
            self.words.ready.eq(forward if compact else free & ~closed),
            take.eq(self.words.valid & self.words.ready),
        ]
        with m.If(take):
            m.d.sync += number.eq(_next(number, words))
        arrived = [
            word.eq(self.words.payload),
            word_number.eq(number),
            addend.eq(Mux(added, choose(params, chosen), 0)),
            count.eq(choose(params, now.count_param)),
            replaced.eq(Mux(now.count_param != 0, Cat(replaces), 0)),
        ]
        if compact:
            m.d.comb += [*arrived, word_valid.eq(self.words.valid & ~closed)]
        else:
            with m.If(free):
                m.d.sync += arrived
            m.d.sync += word_valid.eq(take | (word_valid & ~forward))

        # Second register: parameters applied. From here the word goes to its queue.
        bits   = Signal(width, reset_less=True)
        bits_number = Signal(range(words))
        bits_error = Signal(reset_less=True)
        bits_valid = Signal()
        kinds  = Signal(len(Opcode), reset_less=True)  # one-hot
        engine = Signal(range(ENGINES), reset_less=True)
        room   = Signal()   # for the command
        step   = Signal()
        last   = bits_number == words - 1
        is_control = kinds[list(Opcode).index(Opcode.CONTROL)]
        known  = kinds.any()
        going  = bits_valid & room & ~wrong & ~self.halt
        applied = Signal(width)
        primary = 8 * PRIMARY_BYTE % width
        m.d.comb += [
            applied.eq(word.data),
            applied[primary:primary + 32].eq(word.data[primary:primary + 32] + addend),
            forward.eq(word_valid & (~bits_valid if self.config.control.shared
                                     else ~bits_valid | step)),
            step.eq(going & ~self.hold if self.config.control.shared else going),
        ]
        for i, replace in enumerate(replaced):
            with m.If(replace):
                m.d.comb += applied[16 * i:16 * i + 16].eq(count)
        with m.If(forward):
            m.d.sync += [
                bits.eq(applied),
                bits_number.eq(word_number),
                bits_error.eq(word.error),
            ]
        opcode = source[:len(kept.opcode)] if compact else kept.opcode
        with m.If(forward & (word_number == 0 if compact else 1)):
            m.d.sync += [kinds.eq(Cat(opcode == known for known in Opcode)), engine.eq(opcode - 1)]
        space = is_control | ~known | queues.space.bit_select(engine, 1)
        m.d.sync += [
            bits_valid.eq(forward | (bits_valid & ~step)),
            room.eq(Mux(step, ~last, room | (bits_valid & space))),
        ]
        index_field = next(field for field in HEADER if field.name == "index")
        index_at, index_bit = divmod(index_field.bit, width)
        m.d.comb += [
            queues.write.eq(step & known & ~is_control),
            queues.engine.eq(engine),
            queues.word.eq(bits_number),
            queues.data.eq(bits),
        ]
        with m.If(bits_number == index_at):
            m.d.comb += queues.data[index_bit:index_bit + 32].eq(index)
        with m.If(step):
            m.d.sync += control_bits.word_select(bits_number, width).eq(bits)

        # Third register: what is wrong with each word, or where there is little room with all that
        # came; the verdict comes behind the last.
        together = self.config.control.shared
        bad    = Signal(1 if together else words, reset_less=True)
        zero   = Signal(1 if together else words, reset_less=True)
        ended  = Signal()
        ended_control = Signal(reset_less=True)
        bad_value = Signal(reset_less=True)  # of a credit
        passed = Signal()
        done   = Signal()
        found_bad, found_zero = Signal(), Signal()
        # A small core looks at a word in two cycles.
        checks, checked, passing = Signal(), Signal.like(bits_number, reset_less=True), Signal()
        passing_control = Signal(reset_less=True)
        checked_kinds = Signal.like(kinds)
        blocked = Signal()      # the next command is that which cannot be fetched
        for i in range(words):
            of = [Const(1, 1)] * len(kinds) if together else kinds
            wrongs = [kind & bad_field(opcode, bits, i, self.config)
                      for kind, opcode in zip(of, Opcode, strict=True)]
            zeros = [kind & zero_count(opcode, bits, i)
                     for kind, opcode in zip(of, Opcode, strict=True)]
            if i == index_at:
                wrongs.append(bits[index_bit:index_bit + 32].any())
            if together:
                late_bad = self._late(m, f"bad_{i}", wrongs, checked_kinds)
                late_zero = self._late(m, f"zero_{i}", zeros, checked_kinds)
                with m.If(checked == i):
                    m.d.comb += [found_bad.eq(late_bad), found_zero.eq(late_zero)]
                continue
            with m.If(step & (bits_number == i)):
                m.d.sync += [bad[i].eq(Cat(wrongs).any()), zero[i].eq(Cat(zeros).any())]
        if together:
            with m.If(checks):
                m.d.sync += [bad.eq(found_bad | (bad & (checked != 0))),
                             zero.eq(found_zero | (zero & (checked != 0)))]
            m.d.sync += [checks.eq(step), checked.eq(bits_number), passing.eq(step & last),
                         passing_control.eq(is_control), checked_kinds.eq(kinds),
                         blocked.eq(left == self.fetch_left)]
        m.d.comb += [
            passed.eq(ended & ~bad.any() & ~zero.any() & ~wrong),
            queues.commit.eq(passed & ~ended_control),
        ]
        m.d.sync += [
            ended.eq(passing if together else step & last),
            ended_control.eq(passing_control if together else is_control),
            bad_value.eq(bad_credit(control)),
        ]
        with m.If(passed & ended_control):
            m.d.sync += acting.eq(1)
        with m.Elif(done):
            m.d.sync += acting.eq(0)
        if words == 1:
            is_control = source[:len(kept.opcode)] == Opcode.CONTROL
        elif not compact:
            is_control = kept.opcode == Opcode.CONTROL
        with m.If(take & (number == words - 1) & is_control):
            m.d.sync += closed.eq(1)
        with m.Elif(done):
            m.d.sync += closed.eq(0)
        with m.If(queues.commit | done):
            m.d.sync += [index.eq(index + 1), left.eq(left - 1),
                         self.exhausted.eq(left == 1)]
        with m.If(self.start):
            m.d.sync += [index.eq(0), left.eq(self.commands),
                         self.exhausted.eq(self.commands == 0)]

        # Errors; there is never more than one at a time.
        code = Signal(ErrorCode, reset_less=True)
        m.d.comb += [
            self.error.valid.eq(wrong),
            self.error.code.eq(code),
            self.error.index.eq(index),
        ]
        with m.If(~wrong):
            with m.If(step & (bits_error | ~known)):
                m.d.sync += [wrong.eq(1), code.eq(
                    Mux(bits_error, ErrorCode.READ_RESPONSE, ErrorCode.BAD_OPCODE))]
            with m.If(ended & ~passed):
                m.d.sync += [wrong.eq(1), code.eq(
                    Mux(bad.any(), ErrorCode.BAD_FIELD, ErrorCode.ZERO_COUNT))]
            with m.If(acting & bad_value):
                m.d.sync += [wrong.eq(1), code.eq(ErrorCode.BAD_FIELD)]
            next_ = blocked if together else left == self.fetch_left
            with m.If(self.fetch_blocked & next_ & ~self.exhausted):
                m.d.sync += [wrong.eq(1), code.eq(ErrorCode.MEMORY_ADDRESS)]

        self._act(m, acting & ~bad_value, control, operation, addend, done, queues)
        m.d.comb += [
            self.finished.eq(self.exhausted & queues.empty),
            self.blocked.eq(Mux(acting, operation == ControlOp.FENCE, bits_valid & ~room)),
        ]
        return m

    def _late(self, m, name, wrongs, kinds):
        """Whether one of ``wrongs``, of a kind each, was so for the kind of the word before; any
        beyond those count for all."""
        flags = Signal(len(wrongs), name=name, reset_less=True)
        m.d.sync += flags.eq(Cat(wrongs))
        return ((flags[:len(kinds)] & kinds).any() | flags[len(kinds):].any())

    def _act(self, m, acting, control, operation, addend, done, queues):
        """Do the control command whose record is ``control``; to ``addend`` its value is added."""
        credits = Signal(4, reset_less=True)  # to raise yet
        all_idle = Signal()     # as it was before: a command may stand in a queue yet
        quiet  = Signal()
        m.d.comb += [
            self.param_number.eq(control["register"]),
            self.param_value.eq(control["value"] + addend),
            self.raise_.payload.eq(control["register"]),
        ]
        m.d.sync += [
            all_idle.eq(self.idle.all()),
            quiet.eq(acting & all_idle & queues.empty),
            credits.eq(Mux(acting, credits - (self.raise_.valid & self.raise_.ready),
                           control["value"][:4])),
        ]
        with m.If(acting):
            with m.Switch(operation):
                with m.Case(ControlOp.PARAM_SET, ControlOp.PARAM_ADD):
                    m.d.comb += [self.param_write.eq(1), done.eq(1)]
                with m.Case(ControlOp.FENCE):
                    m.d.comb += done.eq(quiet)
                with m.Case(ControlOp.INTERRUPT):
                    m.d.comb += [self.interrupt.eq(1), done.eq(1)]
                with m.Case(ControlOp.CREDIT):
                    m.d.comb += [
                        self.raise_.valid.eq(1),
                        done.eq(self.raise_.ready & (credits == 1)),
                    ]
