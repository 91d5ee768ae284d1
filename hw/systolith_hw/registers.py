"""Control and status registers, declared once for core, C header, drivers and manual.

All registers are 32 bits wide and lie at fixed byte offsets in a 4 KiB page (AXI4-Lite).
"""

from dataclasses import dataclass
from types import MappingProxyType

from .config import COMMAND_VERSION, CoreConfig

__all__ = ["COUNTERS", "ENGINES", "MAGIC", "PARAMS_OFFSET", "REGISTERS", "STATES", "Register",
           "constants", "counted"]

MAGIC = int.from_bytes(b"SYST", "little")
ENGINES = ("load", "execute", "vector", "store")
# In every cycle of a program an engine is in exactly one of its states: the first that applies.
STATES = MappingProxyType({
    engine: ("busy", "wait", *(("weights",) if engine == "execute" else ()), "idle", "stall")
    for engine in ENGINES})
PARAMS_OFFSET = 0x080
COUNTERS_OFFSET = 0x100


@dataclass(frozen=True)
class Register:
    """One register: its name, byte offset, ``ro``/``rw``/``wo`` access, fields and meaning."""
    name: str
    offset: int
    access: str
    text: str
    bits: tuple[str, ...] = ()


def _counters() -> tuple[tuple[str, str], ...]:
    basic = (
        ("cycles", "Clock cycles from start to done or error; an engine's states add up to it."),
        ("rows", "Activation rows that entered the array (each R x C multiply-accumulates)."),
        ("load_words", "Bus words read by loads."),
        ("store_words", "Bus words written by stores."),
        ("fetch_words", "Bus words of commands read."),
    )
    per_engine = tuple(
        (f"{engine}_{state}", f"Cycles in which {engine} {text}.")
        for engine in ENGINES
        for state, text in (("busy", "made progress"),
                            ("wait", "waited for a semaphore"),
                            ("stall", "waited for the bus, a scratchpad or work under way")))
    idle = tuple((f"{engine}_idle", f"Cycles in which {engine} had no command.")
                 for engine in ENGINES)
    return (*basic, *per_engine, *idle,
            ("execute_weights", "Cycles in which execute's next row waited for weights."))


COUNTERS = MappingProxyType({
    name: Register(f"counter_{name}", COUNTERS_OFFSET + 4 * i, "ro", text)
    for i, (name, text) in enumerate(_counters())})
BASIC_COUNTERS = tuple(COUNTERS)[:5]

REGISTERS = MappingProxyType({register.name: register for register in (
    Register("magic", 0x000, "ro", "The letters SYST."),
    Register("version", 0x004, "ro", "Version of the commands and of this register map."),
    Register("fingerprint_low", 0x008, "ro", "Configuration fingerprint, bits 0 to 31."),
    Register("fingerprint_high", 0x00c, "ro", "Configuration fingerprint, bits 32 to 63."),
    Register("shape", 0x010, "ro", "Array rows (bits 0-7), columns (8-15), lanes (16-23), "
             "bytes of a bus word (24-31)."),
    Register("act_rows", 0x014, "ro", "Rows of the activation scratchpad."),
    Register("wgt_rows", 0x018, "ro", "Rows of the weight scratchpad."),
    Register("acc_rows", 0x01c, "ro", "Rows of the accumulator."),
    Register("par_rows", 0x020, "ro", "Rows of the parameter memory."),
    Register("control", 0x040, "wo", "Write 1 to act.", ("start", "reset", "clear_interrupt")),
    Register("status", 0x044, "ro", "State of the core.",
             ("busy", "done", "error", "interrupt", "resetting")),
    Register("error_code", 0x048, "ro", "Why the core stopped; see the error codes."),
    Register("error_index", 0x04c, "ro", "Position in the program of the offending command."),
    Register("interrupt_enable", 0x050, "rw", "Which events raise the interrupt line.",
             ("done", "error", "command")),
    Register("program_address", 0x054, "rw", "First command, relative to the window; a multiple "
             "of 64."),
    Register("program_commands", 0x058, "rw", "Number of commands, up to 2^20 - 1."),
    Register("window_low", 0x05c, "rw", "Bus address of the window, bits 0 to 31; a multiple of "
             "4096."),
    Register("window_high", 0x060, "rw", "Bus address of the window, bits 32 to 63."),
    Register("window_bytes", 0x064, "rw", "Size of the window; nothing outside is accessed."),
    *(Register(f"param{i}", PARAMS_OFFSET + 4 * i, "rw", f"Parameter register {i}.")
      for i in range(1, 16)),
    *COUNTERS.values(),
)})


def counted(config: CoreConfig) -> tuple[str, ...]:
    """Names of the counters that a core has; the others read 0."""
    if config.control.counters:
        return tuple(COUNTERS)
    return BASIC_COUNTERS if config.control.traffic else BASIC_COUNTERS[:1]


def constants(config: CoreConfig) -> dict[str, int]:
    """Values of the registers that identify ``config``."""
    return {
        "magic": MAGIC,
        "version": COMMAND_VERSION,
        "fingerprint_low": config.fingerprint & 0xffffffff,
        "fingerprint_high": config.fingerprint >> 32,
        "shape": (config.array.rows | config.array.cols << 8 | config.vector.lanes << 16
                  | config.bus.data_bytes << 24),
        "act_rows": config.memory.act_rows,
        "wgt_rows": config.memory.wgt_rows,
        "acc_rows": config.memory.acc_rows,
        "par_rows": config.memory.par_rows,
    }
