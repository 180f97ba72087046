"""The `mmlearn` command.

Chapters: start/setup, preprocessing/batching.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmlearn.datasets.folder.dataset import VideoFolder

app = typer.Typer(
    help="Multimodal deep learning for video understanding: the course's command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="The course's data.", no_args_is_help=True)
app.add_typer(data, name="data")

Home = Annotated[
    Path | None, typer.Option(help="Folder of the course's data; $MMLEARN_HOME or the user's cache by default.")
]
Source = Annotated[Path, typer.Argument(help="A folder with a folder per class, or a table (.csv).")]
Split = Annotated[str | None, typer.Option(help="Only this split, such as train.")]


@app.command()
def check() -> None:
    """Say what is installed, and what is wrong. The exit status is 1 if something is."""
    from mmlearn.checkup import check as check_machine

    if not check_machine():
        raise typer.Exit(1)


@data.command()
def hanzi(home: Home = None) -> None:
    """Fetch and verify what HanziClips is made of: strokes and voices. Does nothing where they are already there."""
    from mmlearn.datasets.hanzi.download import fetch_hanzi

    with _one_line_errors():
        sources = fetch_hanzi(home)
    typer.echo(f"strokes  {sources.strokes}")
    typer.echo(f"voices   {sources.voices or 'synthetic (eSpeak NG): no apt-get on this machine'}")


@data.command()
def film(home: Home = None) -> None:
    """Fetch and verify a real film of five seconds, Big Buck Bunny. Does nothing where it is already there."""
    from mmlearn.datasets.big_buck_bunny import fetch_film

    with _one_line_errors():
        typer.echo(f"film     {fetch_film(home)}")


@data.command()
def faces(home: Home = None) -> None:
    """Fetch and verify the networks that find faces, MTCNN's (2 MB). Does nothing where they are already there."""
    from mmlearn.preprocessing.faces.mtcnn import fetch_faces

    with _one_line_errors():
        typer.echo(f"faces    {fetch_faces(home)}")


@data.command()
def folder(
    source: Source,
    split: Split = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a file that cannot be used.")] = False,
) -> None:
    """Read every file of a folder once, and say what there is and what cannot be used."""
    with _one_line_errors():
        typer.echo(_open_folder(source, split, strict).report())


@data.command()
def shard(
    source: Source,
    out: Annotated[Path, typer.Argument(help="A new folder for the shards.")],
    split: Split = None,
    max_mb: Annotated[float, typer.Option(help="Largest size of a shard in 10⁶ bytes.")] = 256,
    shuffle_seed: Annotated[
        int | None, typer.Option(help="Seed of a random order; by default that of the folder.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a file that cannot be used.")] = False,
) -> None:
    """Write a folder's clips into shards, large archives that are quick to stream (WebDataset)."""
    from mmlearn.datasets.shards import write_shards

    with _one_line_errors():
        clips = _open_folder(source, split, strict)
        shards = write_shards(clips, out, max_mb=max_mb, shuffle_seed=shuffle_seed)
    for name, reason in clips.skipped.items():
        typer.echo(f"left out {name}: {reason}", err=True)
    typer.echo(f"{len(clips)} clips in {len(shards)} shards: {out}")


@data.command()
def size(home: Home = None) -> None:
    """Print how much room the course's data take, and where."""
    from mmlearn.datasets.stored import sizes

    for name, path, taken in sizes(home):
        typer.echo(f"{name:10} {taken / 1e6:10.1f} MB  {path}")


@data.command()
def verify(home: Home = None) -> None:
    """Compare all that is kept with its checksums. The exit status is 1 if something is damaged."""
    from mmlearn.datasets.stored import damaged

    with _one_line_errors():
        found = damaged(home)
    for path, what in found:
        typer.echo(f"damaged  {path}: {what}")
    if found:
        typer.echo("What was made is made again when it is next needed; what was fetched, by `mmlearn data hanzi`.")
        raise typer.Exit(1)
    typer.echo("All is whole.")


@data.command()
def clear(
    home: Home = None,
    fetched: Annotated[
        bool, typer.Option("--fetched", help="Also what was fetched: strokes, voices, film, faces.")
    ] = False,
) -> None:
    """Remove what was made (clips, arrays, a dictionary); it is made again when it is next needed."""
    from mmlearn.datasets.stored import clear as clear_data

    with _one_line_errors():
        freed = clear_data(home, fetched)
    typer.echo(f"{freed / 1e6:.1f} MB are free again.")


def _open_folder(source: Path, split: str | None, strict: bool) -> "VideoFolder":
    from mmlearn.datasets.folder.dataset import VideoFolder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is left out is printed by those who call this
        return VideoFolder(source, split=split, strict=strict)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Print one line instead of a traceback, and exit with status 1, where the course's code says what is wrong."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # a FetchError is a RuntimeError
        typer.echo(f"mmlearn: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":  # python -m mmlearn.cli
    app()
