"""`reconpatch data review` and `quarantine`: what people say of images, and what waits for them to say it."""

import getpass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from reconpatch.cli.options import Images, Json, console, count, write
from reconpatch.settings import IngestSettings

_DEFAULTS = IngestSettings()
Reviews = Annotated[Path, typer.Option("--reviews", help="the review table")]


def review(
    verdict: Annotated[
        Literal["good", "bad"], typer.Argument(help="of the part: good releases, bad rejects it")
    ],
    images: Images,
    who: Annotated[str | None, typer.Option("--who", help="you; default: the name you logged in by")] = None,
    reviews: Reviews = _DEFAULTS.reviews,
) -> None:
    """Say that parts are good or bad, as the server's page does; ingest, checks and evaluation honour it."""
    from reconpatch.data.listing import expand_images, printable
    from reconpatch.data.reviews import Review, append_review
    from reconpatch.files import sha256_file

    # Hashed first: a path that is wrong leaves the table as it was.
    digests = {path: sha256_file(path) for path in expand_images(images)}
    for path, digest in digests.items():
        append_review(reviews, Review(image_sha256=digest, verdict=verdict, who=who or getpass.getuser()))
        typer.echo(f"{printable(path)}: {verdict}")
    typer.echo(f"{count(len(digests), 'verdict')} in {reviews}; the next ingest acts on them")


def quarantine(
    folder: Annotated[Path, typer.Argument(help="the quarantine")] = _DEFAULTS.quarantine,
    reviews: Reviews = _DEFAULTS.reviews,
    json_file: Json = None,
) -> None:
    """List the images that ingest put aside, why, and what people have said of them since."""
    from reconpatch.data.joining import read_record
    from reconpatch.data.reviews import read_reviews
    from reconpatch.files import sha256_file

    said = read_reviews(reviews).set_index("image_sha256")["verdict"]
    rows = []
    for record in sorted(folder.rglob("*.json")):
        file = record.with_suffix("")
        if record.name.startswith(".") or not file.is_file():
            continue
        kept = read_record(record)
        if kept is None:
            kept = {"sha256": sha256_file(file), "reason": "unknown", "detail": f"{record} cannot be read"}
        rows.append({"file": str(file), **kept, "verdict": said.get(kept["sha256"])})
    table = Table("file", "reason", "detail", "verdict", title=f"{count(len(rows), 'image')} in {folder}")
    for row in rows:
        table.add_row(row["file"], row["reason"], row["detail"], row["verdict"] or "-")
    console.print(table)
    write(json_file, rows)
