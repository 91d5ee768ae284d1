"""Random command programs, run on the model and on the Verilog.

``steps`` draws commands that stay inside every memory; ``order`` gives them semaphores, so that
everything that meets in a memory is in order, and nothing else need be; ``run`` compares.
"""

from .run import Case, Failure, check, draw_case, random_config, reset_midway, shrink

__all__ = ["Case", "Failure", "check", "draw_case", "random_config", "reset_midway", "shrink"]
