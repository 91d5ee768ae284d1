"""What a design is made of, counted in the time it takes to elaborate it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Const, Fragment, Instance, MemoryInstance, Shape, Signal, Value
from amaranth.hdl import _ast as ast  # what expressions are made of has no public name
from amaranth.lib import wiring
from systolith_hw.cells import EmitPlatform, flat_ports

__all__ = ["KINDS", "Design", "count"]

KINDS = ("registers", "adders", "comparers", "equals", "gates", "choices", "shifts", "assigned")


@dataclass(frozen=True)
class Design:
    """A design before synthesis.

    Parameters
    ----------
    bits : Counter of str
        Bits of what each of ``KINDS`` is: flip-flops, sums, operands of comparisons, operands of
        tests for equality (once where one is constant), results of gates, what a choice has to
        choose from beyond its first, what shifts move times the bits of the distance, and what is
        assigned to a signal beyond its first assignment.
    products : Counter of (int, int)
        Multiplications of two unknown numbers, by their bits.
    cells : Counter of str
        A vendor's cells by type.
    rams : Counter of (int, int, int)
        Memories that are written and read, by rows, bits of a row, and bits that share a write
        enable.
    """
    bits: Counter[str] = field(default_factory=Counter)
    products: Counter[tuple[int, int]] = field(default_factory=Counter)
    cells: Counter[str] = field(default_factory=Counter)
    rams: Counter[tuple[int, int, int]] = field(default_factory=Counter)

    def add(self, other: "Design") -> None:
        """Count ``other`` too."""
        self.bits.update(other.bits)
        self.products.update(other.products)
        self.cells.update(other.cells)
        self.rams.update(other.rams)


def count(component: wiring.Component) -> Design:
    """What ``component`` and all below it are made of, with the vendor's cells."""
    return _count(component, _CountingPlatform(top="top", vendor_cells=True))


class _CountingPlatform(EmitPlatform):
    """An emission without text: cells that are alike are counted once and added up."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.designs: dict[str, Design] = {}

    def convert(self, component: wiring.Component, *, name: str) -> str:
        self.designs[name] = _count(component, self)
        return f"module \\{name}\n\nend\n"


def _count(component: wiring.Component, platform: _CountingPlatform) -> Design:
    design = Design()
    fragments = list(_fragments(Fragment.get(component, platform)))
    drivers = _Drivers(fragments, (value for value, is_input in flat_ports(component).values()
                                   if is_input))
    rams = {ram.name: shape for shape, ram in platform.rams.items()}
    for fragment in fragments:
        if isinstance(fragment, MemoryInstance):    # of constants: the others are instances
            bits = Shape.cast(fragment._data.shape).width
            design.rams[fragment._data.depth, bits, bits] += 1
        elif not isinstance(fragment, Instance):
            _Operators(design).fragment(fragment)
        elif fragment.type in platform.designs:
            design.add(platform.designs[fragment.type])
        elif fragment.type not in rams:
            design.cells[fragment.type] += 1
        elif not any(drivers.idle(fragment.ports[name][0]) for name in ("write_en", "read_en")):
            design.rams[rams[fragment.type]] += 1
    return design


def _fragments(fragment: Fragment) -> Iterator[Fragment]:
    yield fragment
    for inner, *_ in fragment.subfragments:
        yield from _fragments(inner)


class _Drivers:
    """What drives signals, as far as it takes to find those that nothing ever raises."""

    def __init__(self, fragments: Iterable[Fragment], inputs: Iterable[Value]):
        self.values: dict[int, list[Value | None]] = defaultdict(list)  # None is not known
        self.known: dict[int, bool] = {}
        for value in inputs:
            self._add(value, None)
        for fragment in fragments:
            if isinstance(fragment, Instance):
                for value, kind in fragment.ports.values():
                    if kind == "o":
                        self._add(value, None)
            for statements in fragment.statements.values():
                self._statements(statements)

    def _statements(self, statements: Iterable[ast.Statement]) -> None:
        for statement in statements:
            if isinstance(statement, ast.Assign):
                self._add(statement.lhs, statement.rhs)
            elif isinstance(statement, ast.Switch):
                for _, inner, _ in statement.cases:
                    self._statements(inner)

    def _add(self, target: Any, value: Value | None) -> None:
        for signal in target._lhs_signals():
            self.values[id(signal)].append(value)

    def idle(self, value: Value | None) -> bool:
        """Whether ``value`` is 0 and only ever gets what is idle."""
        match value:
            case Const():
                return value.value == 0
            case Signal():
                if id(value) not in self.known:
                    self.known[id(value)] = True  # as far as it drives itself
                    self.known[id(value)] = value.init == 0 and all(
                        map(self.idle, self.values.get(id(value), ())))
                return self.known[id(value)]
            case _:
                return False


class _Operators:
    """Counts the operators of a fragment; a value that is used twice is built once."""

    def __init__(self, design: Design):
        self.bits = design.bits
        self.products = design.products
        self.seen: dict[int, Any] = {}  # by identity; holding them keeps it theirs

    def fragment(self, fragment: Fragment) -> None:
        for domain, statements in fragment.statements.items():
            assigned: Counter[int] = Counter()
            signals: dict[int, Signal] = {}
            for statement in statements:
                self._statement(statement, assigned, signals)
            if domain != "comb":
                self.bits["registers"] += sum(map(len, signals.values()))
            for key, bits in assigned.items():
                self.bits["assigned"] += max(bits - len(signals[key]), 0)

    def _statement(self, statement: ast.Statement, assigned: Counter[int],
                   signals: dict[int, Signal]) -> None:
        if isinstance(statement, ast.Assign):
            self._value(statement.rhs)
            for signal in statement._lhs_signals():
                signals[id(signal)] = signal
                assigned[id(signal)] += min(len(statement.lhs), len(signal))
        elif isinstance(statement, ast.Switch):
            self._value(statement.test)
            for patterns, inner, _ in statement.cases:
                self._patterns(patterns)
                for each in inner:
                    self._statement(each, assigned, signals)

    def _patterns(self, patterns) -> None:
        for pattern in patterns or ():
            self.bits["equals"] += len(pattern.replace("-", ""))

    def _value(self, value: Value) -> None:
        if id(value) in self.seen or isinstance(value, (Const, Signal)):
            return
        self.seen[id(value)] = value
        self._operator(value)

    def _operator(self, value: Value) -> None:
        match value:
            case ast.Operator(operator=operator, operands=operands):
                self._count(operator, operands, len(value))
            case ast.Slice(value=inner):
                operands = (inner,)
            case ast.Concat(parts=operands):
                pass
            case ast.Part(value=inner, offset=offset):
                self.bits["shifts"] += len(value) * len(offset)
                operands = (inner, offset)
            case ast.SwitchValue(test=test, cases=cases):
                self.bits["choices"] += len(value) * (len(cases) - 1)
                for patterns, _ in cases:
                    self._patterns(patterns)
                operands = (test, *(each for _, each in cases))
            case _:
                operands = ()
        for operand in operands:
            self._value(operand)

    def _count(self, operator: str, operands: tuple[Value, ...], bits: int) -> None:
        widths = [len(operand) for operand in operands]
        fixed = any(isinstance(operand, Const) for operand in operands)
        match operator:
            case "+" | "-":
                self.bits["adders"] += max(widths)
            case "<" | "<=" | ">" | ">=":
                self.bits["comparers"] += max(widths)
            case "==" | "!=":
                self.bits["equals"] += max(widths) * (1 if fixed else 2)
            case "&" | "|" | "^":
                self.bits["gates"] += 0 if fixed else bits
            case "r|" | "r&" | "r^" | "b":
                self.bits["equals"] += widths[0]
            case "<<" | ">>" if not fixed:
                self.bits["shifts"] += min(bits, 64) * widths[1]
            case "*" if not fixed:
                self.products[max(widths), min(widths)] += 1
            case _:  # a sign or an inversion costs nothing
                pass
