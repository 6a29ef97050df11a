"""`reconpatch bench`: how fast a detector is on this machine."""

from typing import Annotated

import typer

from reconpatch.cli.shared_options import Device, Images, Json, Model, write


def bench(
    model: Model,
    images: Images,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: every core")] = 0,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Time predictions on this machine: latency of single images, images per second of many."""
    from reconpatch.data.file_listing import expand_images
    from reconpatch.evaluation.speed import measure_speed
    from reconpatch.loading import load

    detector = load(model, device=device, threads=threads)
    speed = measure_speed(detector, expand_images(images))
    typer.echo(f"{speed.hardware}, {speed.threads} threads, torch {speed.torch}")
    typer.echo(
        f"one image: p50 {speed.latency_p50_ms:.1f} ms, p95 {speed.latency_p95_ms:.1f} ms; "
        f"many: {speed.images_per_second:.1f} images/s; peak memory {speed.peak_rss_mib:.0f} MiB"
    )
    write(json_file, speed.to_dict())
