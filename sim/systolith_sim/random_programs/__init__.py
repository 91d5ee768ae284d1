"""Random command programs, run on the model and on the Verilog.

``steps`` draws commands that stay inside every memory; ``order`` gives them semaphores, so that
everything that meets in a memory is in order, and nothing else need be; ``episodes`` plays them
on the Verilog, with resets amid them; ``run`` compares; ``coverage`` counts what occurred.
"""

from .episodes import reset_midway
from .run import Case, Failure, check, draw_case, random_config, shrink

__all__ = ["Case", "Failure", "check", "draw_case", "random_config", "reset_midway", "shrink"]
