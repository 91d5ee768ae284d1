"""How commands fail: one sentence on stderr and exit code 2."""

import os
import sys
from typing import Any

import click

from ..errors import CoreError
from .output import INTERRUPTED

__all__ = ["Commands", "sentence"]

# RuntimeError: a tool failed (ToolError), or the simulated core broke a rule of its bus.
REFUSALS = (ValueError, TypeError, CoreError, OSError, ImportError, RuntimeError, MemoryError,
            EOFError)


def sentence(error: BaseException) -> str:
    """What a user needs to know of ``error``."""
    if isinstance(error, click.ClickException):
        text = error.format_message()
        context = getattr(error, "ctx", None)
        if context is not None:
            text = f"{text.rstrip('.')} (see {context.command_path} -h)"
        return text
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename is not None else ""
        return f"{file}{error.strerror[0].lower()}{error.strerror[1:]}"
    if isinstance(error, MemoryError):
        return f"memory of this computer must suffice: {error}" if str(error) else \
            "memory of this computer must suffice"
    return str(error) or type(error).__name__


class Commands(click.Group):
    """A group of commands that turns what users can mend into one sentence.

    Set ``SYSTOLITH_TRACEBACK=1`` to see where it came from.
    """

    def main(self, args=None, prog_name=None, complete_var=None, standalone_mode=True,
             **extra: Any) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, False, **extra)
        except (click.Abort, KeyboardInterrupt):
            code = self._say("interrupted", INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output has gone; do not complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except click.ClickException as error:
            code = self._say(sentence(error), 2)
        except REFUSALS as error:
            if os.environ.get("SYSTOLITH_TRACEBACK"):
                raise
            code = self._say(sentence(error), 2)
        sys.exit(code if isinstance(code, int) else 0)

    def _say(self, text: str, code: int) -> int:
        click.echo(f"systolith: {text}", err=True)
        return code

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they were added
