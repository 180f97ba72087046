"""The `mmlearn` command.

Chapter: start/setup.
"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Multimodal deep learning for video understanding: the course's command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="The course's data.", no_args_is_help=True)
app.add_typer(data, name="data")


@app.command()
def check() -> None:
    """Say what is installed, and what is wrong. The exit status is 1 if something is."""
    from mmlearn.checkup import check as check_machine

    if not check_machine():
        raise typer.Exit(1)


@data.command()
def hanzi(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the course's data; $MMLEARN_HOME or the user's cache by default.")
    ] = None,
) -> None:
    """Fetch and verify what HanziClips is made of: strokes and voices. Does nothing where they are already there."""
    from mmlearn.datasets.fetch import FetchError, fetch_hanzi

    try:
        sources = fetch_hanzi(home)
    except (FetchError, OSError) as error:
        typer.echo(f"mmlearn: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"strokes  {sources.strokes}")
    typer.echo(f"voices   {sources.voices or 'synthetic (eSpeak NG): no apt-get on this machine'}")


if __name__ == "__main__":  # python -m mmlearn.cli
    app()
