"""The emitted Verilog changes only on purpose.

A refactoring leaves ``verilog_hashes.json`` untouched; a change of the hardware updates it in the
same commit: ``python tests/hw/test_verilog_hashes.py``.
"""

import hashlib
import json
from pathlib import Path

import pytest
from systolith_hw.config import PRESETS
from systolith_hw.core import Core
from systolith_hw.emit import emit_verilog

REGISTRY = Path(__file__).with_name("verilog_hashes.json")


def verilog_hash(name: str) -> str:
    """Hash of a preset's Verilog."""
    text = emit_verilog(Core(config=PRESETS[name]), name=PRESETS[name].name)
    return hashlib.sha256(text.encode()).hexdigest()


def test_every_preset_is_registered():
    assert sorted(json.loads(REGISTRY.read_text())) == sorted(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_the_verilog_of_a_preset_is_the_registered_one(name):
    assert verilog_hash(name) == json.loads(REGISTRY.read_text())[name], (
        "the Verilog changed; if on purpose: python tests/hw/test_verilog_hashes.py")


if __name__ == "__main__":
    REGISTRY.write_text(json.dumps({name: verilog_hash(name) for name in PRESETS}, indent=2) + "\n")
