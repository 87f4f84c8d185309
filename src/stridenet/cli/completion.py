"""`stridenet completion`: the Tab key completes commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

_EPILOG = """\b
Examples:
  stridenet completion bash >> ~/.bashrc
  stridenet completion zsh >> ~/.zshrc
  stridenet completion fish > ~/.config/fish/completions/stridenet.fish
"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete words.

    With it the Tab key completes commands, options, recipes and data sets.
    """
    kind = get_completion_class(shell) or ShellComplete
    complete = kind(context.find_root().command, {}, "stridenet", "_STRIDENET_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())  # `source` would start a shell to ask its version
