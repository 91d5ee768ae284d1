"""The program of a shared sequencer: how commands are begun and walked, word by word.

A routine begins at a page of ``PAGE`` words and goes on to the next word until it ends. What a word
reads of the command memory is there for the operation of the next word but one. The word behind a
jump is done in any case.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from amaranth.lib import data

from .config import CoreConfig
from .isa import COMMANDS, Opcode

__all__ = ["LOOPS", "LOOP_PAGES", "PAGE", "SEMAPHORE", "STATE", "Add", "Do", "End", "Field", "Half",
           "If", "Routine", "microprogram", "word_layout"]

PAGE = 4    # words
PAGES = 128
SEMAPHORE = 0x1f    # address of the semaphore whose number was chosen
STATE = 0x10        # of the engine's own words; below are those of the command's record


class Half(IntEnum):
    """What of a word that is read counts."""
    ALL  = 0
    LOW  = 1
    HIGH = 2
    BYTE = 3    # the lowest of the high half, with its sign


class Do(IntEnum):
    """What is done with the word that was read two cycles before, and the sum. The high bit is set
    of what changes the sum."""
    NOTHING = 0
    JUMP = 1    # to the page of the address, if
    NEXT = 2    # semaphore
    END  = 3
    SAY  = 4    # the sum goes to ``Field``
    LOAD = 8    # the sum becomes the word
    EMIT = 9    # the sum becomes the word, and goes to ``Field``
    ADD  = 10   # the word is added to it
    STEP = 11   # behind a load, of 1 the sum becomes the word, of more, one less
    PLUS = 12   # a number, ``Add``, is added to the sum: the argument of the word before
    GO   = 13   # the word's levels decide what the advance of a loop raises and waits for
    SLOT = 14   # a semaphore is chosen from the word: to wait for, or to raise


class Add(IntEnum):
    """Numbers to add: some that engines know."""
    RESULT = 0  # lane groups of a result
    PARAM  = 1  # parameter rows from one group to the next
    MINUS  = 2  # 1 less, also behind ``If.NONE``
    ONE    = 3  # also behind ``If.FULL``
    TILE   = 4  # weight rows of the tile
    OFFSET = 5  # of a run in its first bus word, and 3; also behind ``Field.RUN``


class If(IntEnum):
    """When to jump."""
    MORE  = 0   # the loop was not at its last iteration
    FREE  = 1   # the slot is not used
    NONE  = 2   # the sum is 0
    FULL  = 3   # the sum is 15
    OTHER = 4   # the semaphore is not the first
    ALWAYS = 5


class End(IntEnum):
    """With what a routine ends."""
    DONE  = 0
    BEGUN = 1   # with a command
    TAKEN = 2   # a token, or nothing to take
    STUCK = 3   # no token is there
    RAISED = 4
    CREDITED = 5
    FAILED = 6  # the sum is the command at which an engine found something wrong
    OVERFLOWED = 7
    FLOODED = 8     # the same, by a credit
    SEEN  = 9   # the sum is a command that waits
    TILE  = 10  # a tile's weights are known


class Routine(IntEnum):
    """What the sequencer is asked to do."""
    CLEAR = 0
    WAIT  = 1
    RAISE = 2
    CREDIT = 3
    LOOK  = 4   # which command it is
    FAIL  = 5
    BEGIN_TRANSFER = 6
    BEGIN_EXECUTE = 7
    BEGIN_VECTOR = 8
    NEXT_TRANSFER = 9
    NEXT_TILE = 10
    NEXT_ROWS = 11
    NEXT_GROUP = 12


class Field(IntEnum):
    """What is said to the unit of the engine that is served."""
    # Of a run.
    KIND  = 0
    RING  = 1
    ROWS  = 2
    BASE  = 3
    PAD   = 4
    RUN   = 5
    ADDRESS = 6
    LIMIT = 7
    WORDS = 8
    # Of rows.
    ACT_BASE = 0
    ACC_BASE = 2
    WGT_BASE = 3
    COUNT = 4
    ACT_STEP = 5    # from one row to the next
    ACC_STEP = 6
    LAST  = 7
    ACT   = 8       # from the last row to the next
    ACC   = 9
    WGT   = 10
    START = 11
    LEFT  = 12      # iterations of loop 2
    # Of groups.
    SOURCE_BASE = 0
    RESULT_BASE = 2
    PARAM_BASE = 3
    SETTINGS = 4
    IMMEDIATE = 5
    CLAMPS = 6
    SOURCE = 8
    RESULT = 9
    PARAM = 10


word_layout = data.StructLayout(
    {"addr": 5, "half": 2, "write": 1, "do": 4, "argument": 4})


@dataclass(frozen=True)
class _Word:
    """One word; ``jump`` names the page whose number its address and half are."""
    addr: int = STATE
    half: Half = Half.ALL
    write: bool = False
    do: Do = Do.NOTHING
    argument: int = 0
    jump: str = ""


def _of(opcode: Opcode, name: str, entry: int = 0) -> tuple[int, Half]:
    """Where a field of 16 or 32 bits lies in a record."""
    field = COMMANDS[opcode].field(name)
    word, bit = divmod(field.bit + entry * field.bits, 32)
    return word, Half.ALL if field.bits == 32 else (Half.HIGH if bit else Half.LOW)


class _Code:
    """Words of a routine; what an operation reads is read as long before it as it takes to come."""
    AHEAD = 2   # words

    def __init__(self):
        self.words: list[_Word] = []
        self.free: list[bool] = []      # of the words: the address is
        self.wanted: tuple[int, Half] | None = None
        self.first = 0      # where the next read may stand: behind jumps and writes
        self.at = 0         # where the next operation may

    def _word(self, at: int, **fields) -> None:
        while len(self.words) <= at:
            self.words.append(_Word())
            self.free.append(True)
        self.words[at] = replace(self.words[at], **fields)
        self.free[at] = self.free[at] and not {"addr", "jump"} & fields.keys()

    def read(self, place: tuple[int, Half]) -> "_Code":
        """What the next operation reads."""
        self.wanted = place
        return self

    def do(self, operation: Do, argument: int = 0, *, then: tuple[int, Half] | None = None
           ) -> "_Code":
        """An operation; the one after it reads what comes ``then``."""
        if self.wanted is not None:
            at = max(self.at, self.first + self.AHEAD)
            while at - self.AHEAD < len(self.free) and not self.free[at - self.AHEAD]:
                at += 1
            addr, half = self.wanted
            self._word(at - self.AHEAD, addr=addr, half=half)
        else:
            at = self.at
        if operation == Do.PLUS:
            before = self.words[at - 1]
            assert before.argument == argument or (
                before.do == Do.LOAD and before.argument == 0)
            self.words[at - 1] = replace(before, argument=argument)
            argument = 0
        self._word(at, do=operation, argument=argument)
        self.at, self.wanted = at + 1, then
        return self

    def _alone(self, **fields) -> int:
        """A word whose address is its own, behind all operations; where it stands."""
        at = self.at
        while at < len(self.free) and not self.free[at]:
            at += 1
        self._word(at, **fields)
        self.first = self.at = at + 1
        return at

    def put(self, addr: int, operation: Do = Do.NOTHING, argument: int = 0) -> "_Code":
        """Write the sum."""
        self._alone(addr=addr, write=True, do=operation, argument=argument)
        return self

    def jump(self, condition: If, page: str, *, beside: bool = False) -> "_Code":
        """Go on at a page, behind the next word, which does nothing unless what comes ``beside``
        the jump belongs to both ways."""
        at = self._alone(do=Do.JUMP, argument=condition, jump=page)
        self._word(at + 1)
        if not beside:
            self.first = self.at = at + 2
        return self

    def jump_beside(self, condition: If, page: str, operation: Do, argument: int) -> "_Code":
        """The same, and the operation on what is read stands behind the jump."""
        at = self.at
        while not (at == len(self.free) and self.free[at - 1]):
            at += 1
            self._word(at - 1)
        assert self.wanted is not None
        addr, half = self.wanted
        self._word(at - 1, addr=addr, half=half)
        self.wanted = None
        self._alone(do=Do.JUMP, argument=condition, jump=page)
        return self.do(operation, argument)

    def copy(self, place: tuple[int, Half], *states: int, field: int | None = None) -> "_Code":
        """Keep a word in the engine's own, and say it to its unit."""
        self.read(place)
        self.do(Do.LOAD if field is None else Do.EMIT, field or 0)
        for state in states:
            self.put(STATE + state)
        return self

    def advance(self, state: int, jump: tuple[int, Half], *, last: bool = False) -> "_Code":
        """Add a jump to an address."""
        self.read((STATE + state, Half.ALL)).do(Do.LOAD, then=jump).do(Do.ADD)
        return self.put(STATE + state, *((Do.END, End.DONE) if last else ()))

    def plus(self, states: Sequence[int], number: Add) -> "_Code":
        """Add a number to the first of ``states``, for all of them."""
        self.read((STATE + states[0], Half.ALL)).do(Do.LOAD).do(Do.PLUS, number)
        for state in states:
            self.put(STATE + state)
        return self

    def end(self, with_: End = End.DONE) -> "_Code":
        return self.do(Do.END, with_)


LEVELS = (0, Half.ALL)
SLOTS = (1, Half.ALL)
RINGS = (2, Half.ALL)
INDEX = (3, Half.ALL)
SETTINGS = (6, Half.ALL)
CLAMPS = (15, Half.ALL)
STEP = (14, Half.BYTE)
ADDRESS, PAD = 4, 5                         # state of a transfer, behind its loops
SOURCE, RESULT, PARAM, PARAM_TILE = 4, 5, 6, 7     # of a vector command
WGT = 7                                     # of an execute command
LOOPS = 8       # as many routines begin at ``NEXT_ROWS``, by the loop that advances,
LOOP_PAGES = 2  # each of so many pages


def _semaphore(code: _Code, full: bool, failed: str, end: End) -> _Code:
    """Take or raise the chosen semaphore."""
    code.read((SEMAPHORE, Half.ALL)).do(Do.LOAD)
    code.jump(If.FULL if full else If.NONE, failed, beside=True)
    return code.do(Do.PLUS, Add.ONE if full else Add.MINUS).put(SEMAPHORE, Do.END, end)


def _loops(code: _Code, opcode: Opcode, loops: range, name: str) -> None:
    """Find the loop that advances; behind the last, the command ends."""
    for loop in loops:
        code.read((STATE + loop, Half.ALL)).do(Do.LOAD, then=_of(opcode, "counts", loop))
        code.do(Do.STEP).jump(If.MORE, f"{name}{loop}", beside=True)
        code.put(STATE + loop)
    code.read(LEVELS).do(Do.GO, 15).end()


def _transfers(config: CoreConfig) -> Iterator[tuple[str, _Code]]:
    opcode, loops = Opcode.LOAD, range(config.control.load_loops)
    begin = _Code()
    for loop in loops:
        begin.copy(_of(opcode, "counts", loop), loop)
    begin.copy(_of(opcode, "memory_base"), ADDRESS).copy(_of(opcode, "pad_base"), PAD)
    yield Routine.BEGIN_TRANSFER.name, begin.end(End.BEGUN)
    run = _of(opcode, "run_bytes")
    step = _Code().read(CLAMPS)
    for field, then in ((Field.KIND, RINGS), (Field.RING, SETTINGS),
                        (Field.ROWS, (STATE + ADDRESS, Half.ALL)), (Field.ADDRESS, run)):
        step.do(Do.EMIT, field, then=then)
    step.do(Do.ADD).do(Do.SAY, Field.LIMIT, then=_of(opcode, "pad_base"))
    for field, then in ((Field.BASE, (STATE + PAD, Half.ALL)), (Field.PAD, run),
                        (Field.RUN, None)):
        step.do(Do.EMIT, field, then=then)
    step.do(Do.PLUS, Add.OFFSET).do(Do.SAY, Field.WORDS)
    _loops(step, opcode, loops, "transfer")
    yield Routine.NEXT_TRANSFER.name, step
    for loop in loops:
        code = _Code().read(LEVELS).do(Do.GO, loop)
        code.advance(ADDRESS, _of(opcode, "memory_jumps", loop))
        yield f"transfer{loop}", code.advance(PAD, _of(opcode, "pad_jumps", loop), last=True)


def _groups(config: CoreConfig) -> Iterator[tuple[str, _Code]]:
    opcode, loops = Opcode.VECTOR, range(config.control.vector_loops)
    begin = _Code().read(RINGS).do(Do.EMIT, Field.RING, then=SETTINGS)
    begin.do(Do.EMIT, Field.SETTINGS, then=_of(opcode, "immediate"))
    begin.do(Do.EMIT, Field.IMMEDIATE, then=CLAMPS).do(Do.EMIT, Field.CLAMPS)
    for loop in loops:
        begin.copy(_of(opcode, "counts", loop), loop)
    begin.copy(_of(opcode, "source_base"), SOURCE, field=Field.SOURCE_BASE)
    begin.copy(_of(opcode, "result_base"), RESULT, field=Field.RESULT_BASE)
    begin.copy(_of(opcode, "param_base"), PARAM, PARAM_TILE)
    yield Routine.BEGIN_VECTOR.name, begin.end(End.BEGUN)
    step = _Code().read((STATE + SOURCE, Half.ALL))
    step.do(Do.EMIT, Field.SOURCE, then=(STATE + RESULT, Half.ALL))
    step.do(Do.EMIT, Field.RESULT, then=(STATE + PARAM, Half.ALL)).do(Do.EMIT, Field.PARAM)
    _loops(step, opcode, loops, "group")
    yield Routine.NEXT_GROUP.name, step
    for loop in loops:
        code = _Code().read(LEVELS).do(Do.GO, loop)
        if loop == 0:
            code.advance(SOURCE, STEP).plus([RESULT], Add.RESULT).plus([PARAM], Add.PARAM)
        else:
            code.advance(SOURCE, _of(opcode, "source_jumps", loop - 1))
            code.advance(RESULT, _of(opcode, "result_jumps", loop - 1))
        if loop == 1:
            code.copy((STATE + PARAM_TILE, Half.ALL), PARAM)
        if loop == 2:
            code.plus([PARAM, PARAM_TILE], Add.PARAM)
        if loop == 3:
            code.copy(_of(opcode, "param_base"), PARAM, PARAM_TILE)
        yield f"group{loop}", code.end()


def _rows(config: CoreConfig) -> Iterator[tuple[str, _Code]]:
    opcode, loops = Opcode.EXECUTE, range(1, config.control.execute_loops)
    begin = _Code().read(_of(opcode, "counts", 0))
    for field, then in ((Field.COUNT, _of(opcode, "act_jumps", 0)),
                        (Field.ACT_STEP, _of(opcode, "acc_jumps", 0)),
                        (Field.ACC_STEP, RINGS), (Field.RING, CLAMPS),
                        (Field.LAST, _of(opcode, "act_base")),
                        (Field.ACT_BASE, _of(opcode, "acc_base"))):
        begin.do(Do.EMIT, field, then=then)
    begin.do(Do.EMIT, Field.ACC_BASE)
    for loop in loops:
        begin.copy(_of(opcode, "counts", loop), loop)
    begin.copy(_of(opcode, "wgt_base"), WGT, field=Field.WGT_BASE)
    yield Routine.BEGIN_EXECUTE.name, begin.end(End.BEGUN)
    tile = _Code().read((STATE + 2, Half.ALL))
    tile.do(Do.EMIT, Field.LEFT, then=(STATE + WGT, Half.ALL)).do(Do.EMIT, Field.WGT)
    yield Routine.NEXT_TILE.name, tile.end(End.TILE)
    # The jumps of the loop that advanced, or the first rows of all.
    yield Routine.NEXT_ROWS.name, _Code().jump(If.ALWAYS, "ROWS")
    for loop in loops:
        code = _Code().read(_of(opcode, "act_jumps", loop))
        code.do(Do.EMIT, Field.ACT, then=_of(opcode, "acc_jumps", loop))
        yield f"ROWS_{loop}", code.jump_beside(If.ALWAYS, "ROWS", Do.EMIT, Field.ACC)
    step = _Code().do(Do.SAY, Field.START)
    _loops(step, opcode, loops, "rows")
    yield "ROWS", step
    for loop in loops:
        code = _Code().read(LEVELS).do(Do.GO, loop)
        if loop > 1:
            code.read((STATE + WGT, Half.ALL)).do(Do.LOAD)
            if loop == loops[-1]:
                code.do(Do.PLUS, Add.TILE, then=_of(opcode, "wgt_rewind")).do(Do.ADD)
            else:
                code.do(Do.PLUS, Add.TILE)
            code.put(STATE + WGT)
        yield f"rows{loop}", code.end()


def _common() -> Iterator[tuple[str, _Code]]:
    yield Routine.CLEAR.name, (
        _Code().put(SEMAPHORE, Do.NEXT).jump(If.OTHER, Routine.CLEAR.name).end())
    for routine, full, free in ((Routine.WAIT, False, End.TAKEN),
                                (Routine.RAISE, True, End.RAISED)):
        code = _Code().read(SLOTS).do(Do.SLOT, full)
        code.jump(If.FREE, f"{routine.name}_NOTHING", beside=True)
        yield routine.name, _semaphore(code, full, f"{routine.name}_FAILS", free)
        yield f"{routine.name}_NOTHING", _Code().end(free)
    yield "WAIT_FAILS", _Code().end(End.STUCK)
    yield "RAISE_FAILS", _Code().read(INDEX).do(Do.LOAD).end(End.OVERFLOWED)
    yield Routine.CREDIT.name, _semaphore(_Code(), True, "CREDIT_FAILS", End.CREDITED)
    yield "CREDIT_FAILS", _Code().end(End.FLOODED)
    yield Routine.LOOK.name, _Code().read(INDEX).do(Do.LOAD).end(End.SEEN)
    yield Routine.FAIL.name, _Code().read(INDEX).do(Do.LOAD).end(End.FAILED)


def microprogram(config: CoreConfig) -> tuple[list[int], dict[Routine, int]]:
    """The words, and the pages of its routines."""
    routines = [*_common(), *_transfers(config), *_groups(config), *_rows(config)]
    pages, at = {}, 0
    for name, code in routines:
        if name == Routine.NEXT_ROWS.name:
            at += -at % (LOOPS * LOOP_PAGES)
        pages[name] = at
        at += -(-len(code.words) // PAGE)
        if name.startswith((Routine.NEXT_ROWS.name, "ROWS_")):
            at += -at % LOOP_PAGES
    if at > PAGES:
        raise ValueError(f"microprogram must have at most {PAGES} pages, not {at!r}")
    words = [0] * (PAGE * at)
    for name, code in routines:
        for i, word in enumerate(code.words):
            page = pages[word.jump] if word.jump else 0
            addr, half = (page % 32, page // 32) if word.jump else (word.addr, word.half)
            words[PAGE * pages[name] + i] = (
                addr | half << 5 | word.write << 7 | word.do << 8 | word.argument << 12)
    return words, {routine: pages[routine.name] for routine in Routine}
