"""``systolith presets``."""

import click
from systolith_hw.config import PRESETS

from .options import json_option
from .output import print_json, print_table

__all__ = ["presets"]


@click.command(epilog="""
\b
Example:
  systolith presets
  systolith generate --preset tiny -o build/tiny
""")
@json_option
def presets(as_json: bool):
    """List the ready-made configurations."""
    if as_json:
        print_json({name: {**config.to_dict(), "fingerprint": f"{config.fingerprint:016x}",
                           "macs_per_cycle": config.macs_per_cycle}
                    for name, config in PRESETS.items()})
        return
    rows = []
    for name, config in PRESETS.items():
        memory = config.memory
        sizes = (memory.act_rows * config.act_row_bytes, memory.wgt_rows * config.wgt_row_bytes,
                 memory.acc_rows * config.array.cols * 4)
        rows.append([name, f"{config.array.rows} x {config.array.cols}",
                     str(config.macs_per_cycle), f"{config.bus.kind} {config.bus.data_bits} bit",
                     *(f"{size / 1024:g} KiB" for size in sizes), str(config.vector.lanes),
                     f"{config.fingerprint:016x}"])
    print_table(["preset", "array", "MAC/cycle", "bus", "activations", "weights", "accumulator",
                 "lanes", "fingerprint"], rows)
    click.echo("Change any field with --set, for instance --set array.rows=4; --json lists them.")
