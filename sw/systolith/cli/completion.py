"""``systolith completion``."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print what makes a shell complete commands.", epilog="""
\b
Example:
  systolith completion bash >> ~/.bashrc
  systolith completion zsh >> ~/.zshrc
  systolith completion fish > ~/.config/fish/completions/systolith.fish
""")
@click.argument("shell", metavar="[bash|zsh|fish]",
                shell_complete=lambda ctx, param, text: [s for s in SHELLS if s.startswith(text)])
@click.pass_context
def completion(ctx: click.Context, shell: str):
    """Print what makes a shell complete commands, options and presets."""
    found = get_completion_class(shell) if shell in SHELLS else None
    if found is None:
        raise ValueError(f"shell must be one of {', '.join(SHELLS)}, not {shell!r}")
    # Not through source(): that asks bash for its version and would print a warning.
    maker = found(ctx.find_root().command, {}, "systolith", "_SYSTOLITH_COMPLETE")
    click.echo(maker.source_template % maker.source_vars())
