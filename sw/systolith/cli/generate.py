"""``systolith generate``."""

import hashlib
import re
from pathlib import Path

import click
import numpy as np
import tomli_w
from systolith_hw.config import CoreConfig
from systolith_hw.formats import BITS, RANGES, STRATEGIES

from ..device import ModelDevice
from ..gemm import plan_gemm
from ..image import Image
from .options import config_options, configuration, json_option
from .output import Steps, print_facts, print_json, write_files

__all__ = ["core_files", "emit_core", "generate"]

PAGE_BYTES = 4096


def emit_core(config: CoreConfig, *, vendor_cells: bool = False) -> str:
    """The core's plain Verilog; or with the cells of the FPGA that its strategy is for."""
    # Loading Amaranth takes a second, which other commands need not pay.
    from systolith_hw.core import Core
    from systolith_hw.emit import emit_verilog

    return emit_verilog(Core(config=config), name=config.name, vendor_cells=vendor_cells)


def core_files(config: CoreConfig, verilog: str) -> dict[str, str]:
    """Everything that belongs to a core, by file name, in the order in which users need it.

    The smoke test multiplies a small matrix that no size of the array divides, with bias and
    requantisation; what memory must hold afterwards comes from the bit-exact model.
    """
    from systolith_hw.header import header_text
    from systolith_hw.manifest import manifest_text
    from systolith_hw.smoke import instantiation, smoke_files

    name = config.name
    image, operand = _smoke_program(config)
    memory_bytes = -(-image.memory_bytes // PAGE_BYTES) * PAGE_BYTES
    device = ModelDevice(config, memory_bytes=memory_bytes)
    image.install(device)
    device.write(image.inputs[0].address, image.inputs[0].to_bytes(operand))
    before = device.read(0, image.memory_bytes).tobytes()
    device.run(image.program_address, image.commands)
    return {
        f"{name}.v": verilog,
        **{f"{name}_{chip}.v": emit_core(config, vendor_cells=True)
           for chip in STRATEGIES[config.array.strategy].chips},
        f"{name}_inst.v": instantiation(verilog, name=name),
        **smoke_files(config, verilog, image=before, program_address=image.program_address,
                      commands=image.commands, expected_address=0,
                      expected=device.read(0, image.memory_bytes).tobytes()),
        f"{name}.json": manifest_text(config, verilog),
        f"{name}.h": header_text(config),
        f"{name}.toml": tomli_w.dumps(config.to_dict()),
    }


def _smoke_program(config: CoreConfig) -> tuple[Image, np.ndarray]:
    rng = np.random.default_rng(1)
    m, n, k = 5, config.array.cols + 3, 2 * config.array.rows + 1
    weight_format = max(config.array.weights, key=BITS.__getitem__)
    low, high = RANGES[weight_format]
    operand = rng.integers(-128, 128, (m, k), dtype=np.int8)
    weights = rng.integers(low, high + 1, (k, n), dtype=np.int8)
    bias = rng.integers(-5000, 5000, n, dtype=np.int32)
    image = plan_gemm(weights, bias, config=config, rows=m, multiplier=1 << 30, shift=-8,
                      weight_format=weight_format)
    return image, operand


TEXTS = {
    ".v": "the core; its memories are modules of their own, for an ASIC flow to replace",
    "_ecp5.v": "the same core with multipliers and carry cells of the ECP5, for synthesis",
    "_ice40.v": "the same core with multipliers of the iCE40, for synthesis",
    "_inst.v": "an instance of it to copy into a design",
    "_smoke_tb.v": "self-checking test bench in plain Verilog",
    "_smoke_image.hex": "memory before the smoke test",
    "_smoke_expected.hex": "memory after it, from the bit-exact model",
    ".json": "manifest: every size, register and module, fingerprint, hash of the Verilog",
    ".h": "C header: registers, commands, sizes",
    ".toml": "the configuration, for --config",
}


@click.command(epilog="""
\b
Examples:
  systolith generate --preset demo -o build/demo
  systolith generate --preset tiny --set array.rows=8 --set name=npu -o build/npu
  systolith generate --config my.toml -o build/my --json
""")
@config_options
@click.option("-o", "--output", "folder", metavar="DIR", required=True,
              help="Folder for the files; made where it does not exist.")
@json_option
def generate(preset: str | None, path: str | None, assignments: tuple[str, ...], folder: str,
             as_json: bool):
    """Write the Verilog of a core, and what belongs to it."""
    config = configuration(preset, path, assignments)
    steps = Steps(quiet=as_json)
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(20, "is no folder", str(target))
    verilog = steps.run(f"Emitting {config.name}.v", lambda: emit_core(config))
    texts = core_files(config, verilog)
    files = write_files(target, texts)
    sha256 = hashlib.sha256(verilog.encode()).hexdigest()
    if as_json:
        print_json({"name": config.name, "fingerprint": f"{config.fingerprint:016x}",
                    "sha256": sha256, "macs_per_cycle": config.macs_per_cycle,
                    "files": {TEXT_KEYS[file.name.removeprefix(config.name)]: str(file)
                              for file in files}})
        return
    modules = len(re.findall(r"^module ", verilog, re.M))
    click.echo(f"{config.name}: {config.array.rows} x {config.array.cols} "
               f"{config.array.cell}, "
               f"{config.macs_per_cycle} MAC per cycle, {config.bus.kind} with "
               f"{config.bus.data_bits} data bits, {modules} modules, "
               f"{len(verilog.splitlines()):,} lines\n")
    print_facts({str(file): TEXTS[file.name.removeprefix(config.name)] for file in files})
    name = config.name
    click.echo(f"""
Next, in any Verilog simulator, from the folder of the files:
  cd {target} && iverilog -o smoke {name}_smoke_tb.v {name}.v && vvp smoke
or with what comes with `pip install systolith[sim]`:
  systolith gemm -m 100 -n 70 -k 300 --config {target / f"{name}.toml"} --device rtl""")


TEXT_KEYS = {".v": "verilog", "_ecp5.v": "verilog_ecp5", "_ice40.v": "verilog_ice40",
             "_inst.v": "instantiation", "_smoke_tb.v": "smoke_testbench",
             "_smoke_image.hex": "smoke_image", "_smoke_expected.hex": "smoke_expected",
             ".json": "manifest", ".h": "header", ".toml": "config"}
