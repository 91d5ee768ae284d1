"""Commands as text: one per line, ``name field=value field=value,value``.

Fields at their default are left out. Values are decimal or ``0x`` numbers or, where the field has
them, names; ``#`` starts a comment.
``wait0=3`` also means that the slot is used. What is no command reads ``raw`` and 128 digits.
"""

import re

from systolith_hw.isa import COMMAND_BYTES, COMMANDS, Field, Opcode

__all__ = ["assemble", "disassemble"]

SLOTS = ("wait0", "wait1", "raise0", "raise1")
BY_NAME = {command.name: command for command in COMMANDS.values()}
RAW = re.compile(rf"[0-9a-fA-F]{{{2 * COMMAND_BYTES}}}")


def assemble(text: str) -> bytes:
    """Command records from text.

    Raises
    ------
    ValueError
        Names the line and the rule it breaks.
    """
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                records.append(_record(words))
            except (TypeError, ValueError) as error:
                raise ValueError(f"line {number}: {error}") from None
    return b"".join(records)


def disassemble(records: bytes) -> str:
    """Text that ``assemble`` turns back into exactly these records.

    Raises
    ------
    ValueError
        The length is no multiple of 64.
    """
    if len(records) % COMMAND_BYTES:
        raise ValueError(f"length of records must be a multiple of {COMMAND_BYTES}, "
                         f"not {len(records)!r}")
    return "".join(_line(records[start:start + COMMAND_BYTES]) + "\n"
                   for start in range(0, len(records), COMMAND_BYTES))


def _record(words: list[str]) -> bytes:
    name, *assignments = words
    if name == "raw":
        if len(assignments) != 1 or not RAW.fullmatch(assignments[0]):
            raise ValueError(f"raw must be followed by {2 * COMMAND_BYTES} hexadecimal digits, "
                             f"not {' '.join(assignments)!r}")
        return bytes.fromhex(assignments[0])
    if name not in BY_NAME:
        raise ValueError(f"command must be one of {', '.join(BY_NAME)}, raw, not {name!r}")
    command = BY_NAME[name]
    values: dict[str, int | list[int] | tuple[int, ...]] = {}
    for assignment in assignments:
        field_name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"field must be written name=value, not {assignment!r}")
        if field_name == "opcode":
            raise ValueError(f"opcode must be given by the command's name, not {assignment!r}")
        if field_name in values:
            raise ValueError(f"{field_name} must be given once, not again as {value!r}")
        field = command.field(field_name)
        entries = [_value(field, entry) for entry in value.split(",")]
        values[field_name] = entries if field.count > 1 or len(entries) > 1 else entries[0]
    for slot in SLOTS:
        if slot in values:
            values.setdefault(f"{slot}_valid", 1)
    return command.encode(values)


def _value(field: Field, text: str) -> int:
    if field.values is not None and text.upper() in field.values.__members__:
        return int(field.values[text.upper()])
    try:
        return int(text, 0)
    except ValueError:
        names = "" if field.values is None else "".join(
            f"{name.lower()}, " for name in field.values.__members__)
        raise ValueError(f"{field.name} must be {'one of ' if names else ''}{names}"
                         f"{'or ' if names else ''}a number, not {text!r}") from None


def _line(record: bytes) -> str:
    command = COMMANDS[Opcode(record[0])] if record[0] in set(Opcode) else None
    if command is None or int.from_bytes(record, "little") & command.reserved_mask:
        return f"raw {record.hex()}"
    decoded = command.decode(record)
    words = [command.name]
    for field in command.fields:
        if field.name == "opcode" or field.name.endswith("_valid"):
            continue
        value = decoded[field.name]
        if isinstance(value, tuple):
            entries = list(value)
            while entries and entries[-1] == field.default:
                entries.pop()
            if entries:
                words.append(f"{field.name}={','.join(_text(field, v) for v in entries)}")
        elif field.name in SLOTS:
            words += _slot_words(field.name, value, decoded[f"{field.name}_valid"])
        elif value != field.default:
            words.append(f"{field.name}={_text(field, value)}")
    return " ".join(words)


def _slot_words(name: str, value: int, valid: object) -> list[str]:
    if valid:
        return [f"{name}={value}"]
    return [f"{name}={value}", f"{name}_valid=0"] if value else []


def _text(field: Field, value: int) -> str:
    if field.values is not None and value in set(field.values):
        return field.values(value).name.lower()
    return f"{value:#x}" if field.bits == 32 and not field.signed and value > 9 else str(value)
