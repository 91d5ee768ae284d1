"""Cores that the end-to-end tests share: each is built once, and the default suite builds seven."""

from systolith_hw.config import PRESETS, CoreConfig
from systolith_sim.device import RtlDevice


def core(rows, cols, array=None, **tables):
    """A core of ``rows`` by ``cols``."""
    array = array or {}
    return CoreConfig.from_dict({"name": f"core_{rows}x{cols}",
                                 "array": {"rows": rows, "cols": cols, **array}, **tables})


ALL = ("int8", "int4", "ternary")
# Small memories, so that little work already goes round them; every corner of the configuration
# once. The first seven are those of the default suite, which also counts cycles on two presets.
CORES = {
    "demo": PRESETS["demo"],
    "3x5": core(3, 5, {"weights": ALL, "pairs": True},
                vector={"lanes": 4},
                memory={"act_rows": 64, "act_banks": 2, "wgt_rows": 32, "acc_rows": 32,
                        "par_rows": 16},
                bus={"data_bits": 32, "max_burst": 4, "read_words": 4, "write_bursts": 1},
                control={"queue_depth": 1, "prefetch": 1, "semaphores": 16, "params": 4,
                         "execute_loops": 5, "load_loops": 2, "vector_loops": 3}),
    "1x1": core(1, 1, vector={"lanes": 1},
                memory={"act_rows": 32, "act_banks": 1, "wgt_rows": 32, "acc_rows": 16,
                        "acc_banks": 1, "par_rows": 8}),
    "1x16": core(1, 16, {"weights": ALL, "cell": "int4"},
                 vector={"lanes": 4}, bus={"data_bits": 128, "read_words": 32},
                 memory={"act_rows": 128, "wgt_rows": 64, "acc_rows": 64, "par_rows": 32},
                 control={"queue_depth": 2, "semaphores": 8}),
    "16x1": core(16, 1, vector={"lanes": 1, "elementwise": False, "multiply": False,
                                "functions": 0, "rows": 0},
                 bus={"data_bits": 32, "addr_bits": 17, "max_burst": 1, "read_words": 2,
                      "write_bursts": 2},
                 memory={"act_rows": 64, "wgt_rows": 64, "acc_rows": 32, "acc_banks": 1,
                         "par_rows": 16},
                 control={"queue_depth": 2, "prefetch": 2, "semaphores": 8, "params": 2,
                          "execute_loops": 4, "load_loops": 1, "vector_loops": 3,
                          "counters": False, "compact": True}),
    "64x1": core(64, 1, {"weights": ALL, "cell": "ternary"},
                 vector={"lanes": 1, "elementwise": False, "functions": 256, "rows": 16},
                 bus={"data_bits": 32, "max_burst": 8},
                 memory={"act_rows": 32, "act_banks": 2, "wgt_rows": 128, "acc_rows": 16,
                         "par_rows": 8},
                 control={"queue_depth": 2, "prefetch": 1, "semaphores": 16, "params": 2,
                          "load_loops": 2}),
    "1x64": core(1, 64, {"weights": ("int4", "int8")},
                 vector={"lanes": 4, "multiply": False, "functions": 256, "rows": 0,
                         "requantiser": "serial"},
                 bus={"data_bits": 32, "addr_bits": 40},
                 memory={"act_rows": 256, "wgt_rows": 32, "acc_rows": 16, "par_rows": 32},
                 control={"queue_depth": 1, "semaphores": 16, "params": 2, "counters": False}),
    "4x4 shared": core(4, 4, vector={"lanes": 1, "elementwise": False, "multiply": False,
                                     "functions": 0, "rows": 0, "requantiser": "serial"},
                       bus={"data_bits": 32, "addr_bits": 17, "max_burst": 1},
                       memory={"act_rows": 64, "act_banks": 1, "wgt_rows": 32, "acc_rows": 32,
                               "acc_banks": 1, "par_rows": 16},
                       control={"queue_depth": 2, "prefetch": 2, "semaphores": 8, "params": 2,
                                "execute_loops": 4, "load_loops": 2, "vector_loops": 3,
                                "counters": False, "compact": True, "shared": True}),
    "16x4 shared": core(16, 4, {"strategy": "soft", "cell": "ternary", "weights": ("ternary",)},
                        vector={"lanes": 1, "elementwise": False, "multiply": False,
                                "functions": 0, "rows": 0, "requantiser": "serial"},
                        bus={"data_bits": 32, "addr_bits": 17, "max_burst": 1},
                        memory={"act_rows": 64, "act_banks": 1, "wgt_rows": 64, "acc_rows": 32,
                                "acc_banks": 1, "par_rows": 16, "par_narrow": True},
                        control={"queue_depth": 2, "prefetch": 1, "semaphores": 8, "params": 2,
                                 "execute_loops": 4, "load_loops": 1, "vector_loops": 3,
                                 "counters": False, "compact": True, "shared": True}),
    "4x4": core(4, 4, vector={"lanes": 2}, memory={"act_rows": 256, "wgt_rows": 128}),
    "5x3": core(5, 3, vector={"lanes": 2}, memory={"acc_rows": 32, "acc_banks": 1}),
    "8x8 wide": core(8, 8, vector={"lanes": 8}, bus={"data_bits": 512}),
    "bench16": PRESETS["bench16"],
    "tiny": PRESETS["tiny"],
}
# Checked builds are slower, which only the small cores can afford.
CHECKED = frozenset({"4x4 shared", "16x4 shared", "3x5", "1x1", "1x16", "16x1", "64x1", "1x64",
                     "5x3"})


def rtl(name, **options):
    """The Verilog of core ``name`` as a device, with assertions where it is a small one."""
    options.setdefault("assertions", name in CHECKED)
    options.setdefault("memory_bytes", 1 << 17)
    options.setdefault("max_cycles", 2_000_000)
    return RtlDevice(CORES[name], **options)
