"""`stridenet recipes`: what can be trained."""

from __future__ import annotations

import click


@click.command(epilog="\b\nExamples:\n  stridenet recipes\n  stridenet recipes --show lenet5-mnist > mine.toml\n")
@click.option("--show", metavar="NAME", help="Print the TOML file of this recipe, to begin one of your own.")
def recipes(show: str | None) -> None:
    """List the recipes that come with stridenet."""
    from stridenet.zoo import recipes

    if show is not None:
        recipes.load(show)
        click.echo(recipes.source(show), nl=False)
        return
    for name in recipes.names():
        click.echo(f"{name:<16}{recipes.load(name)['about']['title']}")
