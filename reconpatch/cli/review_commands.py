"""`reconpatch data review` and `quarantine`: what people say of images, and what waits for them to say it."""

import getpass
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from reconpatch.cli.shared_options import Images, Json, console, count, write
from reconpatch.settings import IngestSettings, describe

_DEFAULTS = IngestSettings()
Reviews = Annotated[Path, typer.Option("--reviews", help=describe("ingest.reviews"))]


def review(
    verdict: Annotated[
        Literal["good", "bad"], typer.Argument(help="of the part: good releases, bad rejects it")
    ],
    images: Images,
    who: Annotated[str | None, typer.Option("--who", help="you; default: the name you logged in by")] = None,
    reviews: Reviews = _DEFAULTS.reviews,
) -> None:
    """Say that parts are good or bad, as the server's page does; ingest, checks and evaluation honour it."""
    from reconpatch.data.file_listing import expand_images, printable
    from reconpatch.data.reviews import Review, append_review
    from reconpatch.storage.atomic_files import sha256_file

    # Hashed first: a path that is wrong leaves the table as it was.
    digests = {path: sha256_file(path) for path in expand_images(images)}
    for path, digest in digests.items():
        append_review(reviews, Review(image_sha256=digest, verdict=verdict, who=who or getpass.getuser()))
        typer.echo(f"{printable(path)}: {verdict}")
    typer.echo(f"{count(len(digests), 'review')} in {reviews}; the next ingest acts on them")


def quarantine(
    folder: Annotated[
        Path, typer.Argument(help="the quarantine, or a category's part of it")
    ] = _DEFAULTS.quarantine,
    verdict: Annotated[
        Literal["good", "bad"] | None,
        typer.Option("--judge", help="say this of every listed image that waits, after one look at all"),
    ] = None,
    but: Annotated[
        list[Path] | None, typer.Option("--but", help="with --judge: not of this image; repeatable")
    ] = None,
    who: Annotated[str | None, typer.Option("--who", help="you; default: the name you logged in by")] = None,
    reviews: Reviews = _DEFAULTS.reviews,
    json_file: Json = None,
) -> None:
    """List the images that ingest put aside, why, and what people said since; --judge judges all that wait.

    Images that are unreadable, duplicates or kept for another purpose wait for no review, and an image
    that was reviewed keeps its review.
    """
    from reconpatch.data.reviews import read_reviews
    from reconpatch.line.inbox.arrivals import AWAITS_REVIEW
    from reconpatch.line.inbox.quarantine import read_record
    from reconpatch.storage.atomic_files import sha256_file

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
    waiting = [row for row in rows if row["reason"] in AWAITS_REVIEW and row["verdict"] is None]
    if verdict is None:
        if waiting:
            typer.echo(
                f"{len(waiting)} of them wait for a review. Look at them and their heat maps, then: "
                "reconpatch data quarantine FOLDER --judge good [--but IMAGE]"
            )
        return
    left_out = {path.resolve() for path in but or ()}
    if unknown := left_out - {Path(row["file"]).resolve() for row in rows}:
        raise typer.BadParameter(f"{min(unknown)} is not in the list", param_hint="--but")
    _judge([row for row in waiting if Path(row["file"]).resolve() not in left_out], verdict, who, reviews)


def _judge(
    rows: Sequence[Mapping[str, Any]], verdict: Literal["good", "bad"], who: str | None, table: Path
) -> None:
    """Append a review for each image, with who said it and when."""
    from reconpatch.data.reviews import Review, append_review

    who = who or getpass.getuser()
    for row in rows:
        review = Review(image_sha256=row["sha256"], verdict=verdict, who=who, model_version=row.get("judge"))
        append_review(table, review)
        typer.echo(f"{row['file']}: {verdict}")
    typer.echo(f"{count(len(rows), 'review')} by {who} in {table}; the next ingest acts on them")
