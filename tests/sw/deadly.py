"""A worker of ``systolith.models.mutate`` that dies, hangs and goes on."""

import os
import time

from systolith.models.mutate import Outcome


def work(pipe, paths, memory_bytes, preset):
    while (seed := pipe.recv()) is not None:
        if seed == 3:
            os._exit(7)
        if seed == 5:
            time.sleep(1000)
        pipe.send(Outcome(seed=seed, kind="graph"))
