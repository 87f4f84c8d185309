"""`stridenet recipes`: what can be trained."""

from __future__ import annotations

import click

from stridenet.cli.shared import complete_recipe, echo_json, json_option
from stridenet.errors import ConfigError, printable

_EPILOG = """\b
Examples:
  stridenet recipes
  stridenet recipes --show lenet5-mnist > mine.toml
  stridenet recipes --show mine.toml --json     every key that is set, with the defaults
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--show",
    metavar="NAME",
    help="Print the TOML file of this recipe, to begin one of your own.",
    shell_complete=complete_recipe,
)
@json_option()
def recipes(show: str | None, as_json: bool) -> None:
    """List the recipes that come with stridenet."""
    from stridenet.zoo import recipes

    if show is not None:
        recipe = recipes.load(show)
        if as_json:
            echo_json(recipe)
        elif show in recipes.names():
            click.echo(recipes.source(show), nl=False)
        else:
            raise ConfigError(f"recipes --show: expected a name, got the file {printable(show)!r}; add --json")
        return
    titles = {name: recipes.load(name)["about"]["title"] for name in recipes.names()}
    if as_json:
        echo_json([{"name": name, "title": title} for name, title in titles.items()])
        return
    width = max(map(len, titles)) + 3
    for name, title in titles.items():
        click.echo(f"{name:<{width}}{title}")
