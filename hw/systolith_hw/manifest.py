"""What lies beside the Verilog for other programs to read: one JSON document."""

import hashlib
import inspect
import json
import re
from importlib import metadata
from typing import Any

from .config import COMMAND_VERSION, CoreConfig
from .emit import module_names
from .registers import REGISTERS, constants, counted

__all__ = ["manifest", "manifest_text"]


def _derived(config: CoreConfig) -> dict[str, int]:
    """Every size that the configuration derives from its fields."""
    return {name: getattr(config, name)
            for name, member in inspect.getmembers(CoreConfig)
            if isinstance(member, property) and name != "fingerprint"}


def _memories(verilog: str, names: list[str]) -> list[dict[str, Any]]:
    """The memory modules: what an ASIC flow replaces by macros."""
    memories = []
    for name in names:
        match = re.search(r"_ram_(\d+)x(\d+)(?:_(\d+))?$", name)
        if match:
            depth, width, granularity = (int(group) if group else None for group in match.groups())
            memories.append({
                "module": name, "depth": depth, "width": width,
                "write_granularity": granularity or width,
                "instances": len(re.findall(rf"^  {name} ", verilog, re.M))})
    return memories


def manifest(config: CoreConfig, verilog: str) -> dict[str, Any]:
    """Describe the core of ``config`` that was emitted as ``verilog``.

    Parameters
    ----------
    config : CoreConfig
    verilog : str
        Its plain text.

    Returns
    -------
    dict
        ``config`` (every field), ``derived`` (sizes), ``fingerprint`` (hexadecimal),
        ``registers`` (offset and access by name), ``constants`` (what the identification registers
        read), ``modules``, ``memories`` (with how often each module's text instantiates them) and
        ``sha256`` of the text.
    """
    names = module_names(verilog)
    counters = counted(config)
    present = {name: register for name, register in REGISTERS.items()
               if not name.startswith("counter_") or name.removeprefix("counter_") in counters}
    return {
        "generator": f"systolith {metadata.version('systolith')}",
        "command_version": COMMAND_VERSION,
        "top": config.name,
        "fingerprint": f"{config.fingerprint:016x}",
        "sha256": hashlib.sha256(verilog.encode()).hexdigest(),
        "config": config.to_dict(),
        "derived": _derived(config),
        "constants": constants(config),
        "registers": {name: {"offset": register.offset, "access": register.access,
                             "bits": list(register.bits)}
                      for name, register in present.items()},
        "modules": names,
        "memories": _memories(verilog, names),
    }


def manifest_text(config: CoreConfig, verilog: str) -> str:
    """``manifest`` as JSON text, the same bytes every time."""
    return json.dumps(manifest(config, verilog), indent=2) + "\n"
