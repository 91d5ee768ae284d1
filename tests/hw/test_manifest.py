"""What lies beside the Verilog: manifest, C header, instantiation and smoke bench."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields

import pytest
from systolith_hw.config import CoreConfig
from systolith_hw.core import Core
from systolith_hw.emit import emit_verilog, module_names
from systolith_hw.header import header_text
from systolith_hw.isa import COMMANDS, Opcode
from systolith_hw.manifest import manifest, manifest_text
from systolith_hw.registers import REGISTERS
from systolith_hw.smoke import hex_text, instantiation, ports_of, smoke_files


@pytest.fixture(scope="module")
def config():
    return CoreConfig.preset("tiny")


@pytest.fixture(scope="module")
def verilog(config):
    return emit_verilog(Core(config=config), name=config.name)


def test_the_manifest_holds_every_field_of_the_configuration(config, verilog):
    data = manifest(config, verilog)
    assert CoreConfig.from_dict(data["config"]) == config
    for field in fields(config):
        assert field.name in data["config"]


def test_the_manifest_names_the_text_it_is_of(config, verilog):
    data = json.loads(manifest_text(config, verilog))
    assert data["sha256"] == hashlib.sha256(verilog.encode()).hexdigest()
    assert data["fingerprint"] == f"{config.fingerprint:016x}"
    assert data["modules"] == module_names(verilog)
    assert data["derived"]["act_row_bytes"] == config.act_row_bytes


def test_the_manifest_lists_registers_this_core_has(config, verilog):
    registers = manifest(config, verilog)["registers"]
    assert registers["status"]["offset"] == REGISTERS["status"].offset
    assert "counter_cycles" in registers
    assert "counter_load_busy" not in registers  # tiny has none


def test_the_manifest_lists_memories(config, verilog):
    memories = manifest(config, verilog)["memories"]
    assert memories
    for memory in memories:
        assert f"module {memory['module']} (" in verilog
        assert memory["width"] % memory["write_granularity"] == 0
        assert memory["instances"] >= 1


def test_the_text_of_the_core_is_plain(config, verilog):
    for word in ("assert", "$write", "$display", "initial", "always @*"):
        assert word not in verilog
    assert all(name.startswith(config.name) for name in module_names(verilog))


def test_the_text_of_the_core_does_not_depend_on_the_hash_seed(config, verilog):
    script = ("import sys; from systolith_hw.config import CoreConfig; "
              "from systolith_hw.core import Core; from systolith_hw.emit import emit_verilog; "
              "sys.stdout.write(emit_verilog(Core(config=CoreConfig.preset('tiny')), name='tiny'))")
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True,
                            text=True, env={**os.environ, "PYTHONHASHSEED": "12345"})
    assert result.stdout == verilog


def test_c_code_encodes_commands_as_the_assembler_does(config, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "tiny.h").write_text(header_text(config))
    (tmp_path / "main.c").write_text("""\
#include <stdio.h>
#include "tiny.h"
int main(void) {
  uint8_t command[TINY_COMMAND_BYTES] = {0};
  TINY_PUT(command, TINY_COMMAND_OPCODE, 0, TINY_OPCODE_LOAD);
  TINY_PUT(command, TINY_COMMAND_LEVEL0, 0, TINY_ONCE);
  TINY_PUT(command, TINY_COMMAND_LEVEL1, 0, TINY_ONCE);
  TINY_PUT(command, TINY_COMMAND_WAIT0_VALID, 0, 1);
  TINY_PUT(command, TINY_COMMAND_WAIT0, 0, 5);
  for (unsigned i = 0; i < TINY_LOAD_COUNTS_COUNT; i++)
    TINY_PUT(command, TINY_LOAD_COUNTS, i, i + 2);
  TINY_PUT(command, TINY_LOAD_RUN_BYTES, 0, 300);
  TINY_PUT(command, TINY_LOAD_ROW_BYTES, 0, 4);
  TINY_PUT(command, TINY_LOAD_ROW_STEP, 0, -1);
  TINY_PUT(command, TINY_LOAD_MEMORY_JUMPS, 1, -70000);
  TINY_PUT(command, TINY_LOAD_MEMORY, 0, TINY_MEMORY_WGT);
  if (TINY_GET(command, TINY_LOAD_RUN_BYTES, 0) != 300) return 1;
  for (unsigned i = 0; i < TINY_COMMAND_BYTES; i++) printf("%02x", command[i]);
  return 0;
}
""")
    subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "main",
                    "main.c"], cwd=tmp_path, check=True)
    output = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    assert bytes.fromhex(output) == COMMANDS[Opcode.LOAD].encode({
        "wait0_valid": 1, "wait0": 5, "counts": [2, 3, 4], "run_bytes": 300, "row_bytes": 4,
        "row_step": -1, "memory_jumps": [0, -70000], "memory": 1})


def test_the_header_has_every_register_field_and_error(config):
    text = header_text(config)
    for name, register in REGISTERS.items():
        assert f"#define TINY_REG_{name.upper()} 0x{register.offset:03x}\n" in text
    for command in COMMANDS.values():
        for field in command.body:
            name = f"TINY_{command.name}_{field.name}".upper()
            assert f"#define {name}_BIT {field.bit}\n" in text
    assert "TINY_ERROR_DEADLOCK = 9," in text
    names = re.findall(r"^#define (\w+)", text, re.M) + re.findall(r"^  (\w+) = ", text, re.M)
    assert len(names) == len(set(names))


def test_the_instantiation_connects_every_port(config, verilog):
    text = instantiation(verilog, name="tiny")
    ports = ports_of(verilog, "tiny")
    assert ("input", "clk", 1) in ports
    assert ("output", "m_axi_awaddr", config.bus.addr_bits) in ports
    for _, port, _ in ports:
        assert f".{port}({port})" in text
    with pytest.raises(ValueError, match="^name must be a module of the text, not 'other'$"):
        ports_of(verilog, "other")


def test_hexadecimal_files_state_their_address():
    assert hex_text(bytes(range(33)), address=64) == (
        "@40\n" + " ".join(f"{i:02x}" for i in range(32)) + "\n20\n")


@pytest.mark.parametrize("program_address, text", [
    (3, "program_address must be a multiple of 64, not 3"),
    (64, "program_address must leave 2 commands inside the image of 128 bytes, not 64"),
])
def test_a_program_outside_the_image_is_refused(config, verilog, program_address, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        smoke_files(config, verilog, image=bytes(128), program_address=program_address, commands=2,
                    expected=b"", expected_address=0)
