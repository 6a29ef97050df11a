"""`reconpatch serve`: detectors behind HTTP, with a page for the person at the line."""

import os
from pathlib import Path
from typing import Annotated

import typer

from reconpatch.cli.shared_options import Device, Log
from reconpatch.settings import IngestSettings, describe


def serve(
    models: Annotated[
        list[str], typer.Argument(help="detector folders or MLflow URIs, each MODEL or NAME=MODEL")
    ],
    host: Annotated[str, typer.Option(help="address; others than loopback need an API key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    allow_root: Annotated[
        Path | None, typer.Option(help="folder that requests may name images in; default: none")
    ] = None,
    reviews: Annotated[
        Path | None, typer.Option(help="review table that verdicts go to; default: the one that ingest reads")
    ] = None,
    log: Log = None,
    recent: Annotated[int, typer.Option(min=1, max=10_000, help="images kept to be looked at")] = 100,
    max_mib: Annotated[int, typer.Option(min=1, help="largest request, in MiB")] = 64,
    max_total_mib: Annotated[
        int | None,
        typer.Option(min=1, help="all requests under way together, in MiB; default: 8 times --max-mib"),
    ] = None,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="largest image")] = 50.0,
    max_images: Annotated[int, typer.Option(min=1, help="most images in one request")] = 64,
    max_connections: Annotated[int, typer.Option(min=1, help="most connections at the same time")] = 256,
    max_per_address: Annotated[
        int,
        typer.Option(
            min=0, help="most of one address but loopback; 0: no limit, for a server behind a proxy elsewhere"
        ),
    ] = 64,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds that a request may take")] = 60.0,
    decode_seconds: Annotated[
        float | None, typer.Option(min=0.1, help=describe("data.decode_seconds"))
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: every core")] = 0,
    device: Device = "auto",
) -> None:
    """Serve detectors over HTTP; the key that requests must carry is read from RECONPATCH_API_KEY.

    A model named by an alias (models:/NAME@champion) is followed: another version takes over while the server
    runs, once it has passed its self-test.
    """
    from reconpatch.integrations.optional_packages import import_extra
    from reconpatch.line.server.model_source import parse_sources
    from reconpatch.line.server.server_options import API_KEY, ServerLimits, ServerOptions

    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "fastapi_offline"):
        import_extra(package, "reconpatch serve", extra="serve")
    from reconpatch.line.server.app import serve as run

    limits = ServerLimits(
        request_bytes=max_mib << 20,
        image_pixels=int(max_megapixels * 1e6),
        images=max_images,
        seconds=timeout,
        head_seconds=min(timeout, 10.0),
        unread_seconds=min(timeout / 2, 30.0),
        total_bytes=(8 * max_mib if max_total_mib is None else max_total_mib) << 20,
        connections=max_connections,
        address_connections=max_per_address,
        decode_seconds=decode_seconds or ServerLimits.decode_seconds,
    )
    options = ServerOptions(
        host=host,
        port=port,
        api_key=os.environ.get(API_KEY) or None,
        allowed_root=allow_root,
        reviews=reviews or IngestSettings().reviews,
        log=log,
        recent=recent,
        device=device,
        threads=threads,
        limits=limits,
    )
    run(parse_sources(models), options)
