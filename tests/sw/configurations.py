"""Cores that the tests run on: odd shapes and the least that each part can have."""

import random

from systolith_hw.config import PRESETS, CoreConfig

LEAST = {"queue_depth": 1, "semaphores": 8, "params": 2, "execute_loops": 4, "load_loops": 1,
         "vector_loops": 3}
SMALL = {"act_rows": 16, "act_banks": 1, "wgt_rows": 16, "acc_rows": 16, "acc_banks": 1,
         "par_rows": 4}


def core(rows, cols, lanes=1, memory=None, control=None, bits=32):
    """A core of ``rows`` by ``cols``."""
    return CoreConfig.from_dict({
        "name": f"core_{rows}x{cols}_{lanes}", "array": {"rows": rows, "cols": cols},
        "vector": {"lanes": lanes}, "bus": {"data_bits": bits}, "memory": memory or {},
        "control": control or {}})


CONFIGURATIONS = {
    **PRESETS,
    "1x1": core(1, 1),
    "1x1 least": core(1, 1, 1, SMALL, LEAST),
    "3x5": core(3, 5, 4),
    "3x5 one lane, five loops": core(3, 5, 1, {"act_rows": 64, "act_banks": 2, "wgt_rows": 32},
                                     {"execute_loops": 5}),
    "1x16": core(1, 16, 4, bits=128),
    "16x1": core(16, 1),
    "16x1 least": core(16, 1, 1, SMALL, LEAST),
    "5x3": core(5, 3, 2, {"acc_rows": 32, "acc_banks": 1}),
    "8x8 least": core(8, 8, 2, SMALL, LEAST),
    "4x64 pieces": core(4, 64, 1, SMALL),
    "64x4 short tiles": core(64, 4, 4, SMALL, {"execute_loops": 4}),
    "64x64 wide bus": core(64, 64, 16, bits=512),
}


def random_core(seed):
    """Any core at all, small memories more often than large ones."""
    choice = random.Random(seed)
    while True:
        try:
            return CoreConfig.from_dict({
                "array": {"rows": choice.randint(1, 24), "cols": choice.randint(1, 24)},
                "memory": {"act_rows": 1 << choice.randint(4, 10),
                           "act_banks": choice.choice([1, 2, 4]),
                           "wgt_rows": 1 << choice.randint(4, 10),
                           "acc_rows": 1 << choice.randint(4, 9),
                           "acc_banks": choice.choice([1, 2]),
                           "par_rows": 1 << choice.randint(2, 8)},
                "bus": {"data_bits": choice.choice([32, 64, 128])},
                "vector": {"lanes": 1 << choice.randint(0, 4)},
                "control": {"queue_depth": choice.choice([1, 2, 4]),
                            "semaphores": choice.choice([8, 32]),
                            "execute_loops": choice.randint(4, 6),
                            "load_loops": choice.randint(1, 3),
                            "vector_loops": choice.randint(3, 4)}})
        except ValueError:
            continue
