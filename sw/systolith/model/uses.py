"""What a vector command uses, from its fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from systolith_hw.isa import ElementType, Function, Operand, ResultType, Scale, VectorOp

__all__ = ["Fields", "Uses"]

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Uses:
    """Which of its streams and memories a vector command uses.

    Parameters
    ----------
    fields : mapping
        Of the command.
    """
    fields: Fields

    @property
    def source(self) -> bool:
        """The source's addresses."""
        return self.fields["source_type"] <= ElementType.ACC

    @property
    def stream(self) -> bool:
        """The second walk through the activation scratchpad."""
        fields = self.fields
        return bool(fields["second"] == Operand.STREAM or fields["masked"]
                    or fields["operation"] == VectorOp.SELECT
                    or fields["function"] in (Function.PRODUCT, Function.WEIGHTED))

    @property
    def scratchpad(self) -> bool:
        """Operands from the activation scratchpad, or folds."""
        return (self.stream or self.fields["source_type"] < ElementType.ACC
                or bool(self.fields["fold"]))

    @property
    def param(self) -> bool:
        """The parameter row."""
        return Operand.CHANNEL == self.fields["second"] or Scale.CHANNEL == self.fields["scale"]

    @property
    def record(self) -> bool:
        """The record of the row."""
        fields = self.fields
        return bool(fields["source_type"] > ElementType.ACC or fields["second"] == Operand.ROW
                    or fields["scale"] == Scale.ROW or fields["sum_results"]
                    or (fields["reduce"] and not fields["fold"]))

    @property
    def row_file(self) -> bool:
        """Any record."""
        return self.record or self.fields["result_type"] >= ResultType.ROW_VALUE

    @property
    def table(self) -> bool:
        """The function tables."""
        return self.fields["function"] in (Function.TABLE, Function.LINEAR, Function.CHANNEL)
