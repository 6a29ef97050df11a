"""`reconpatch embedding`: a picture of what training does to the patches."""

from pathlib import Path
from typing import Annotated

import typer

from reconpatch.cli.shared_options import Overrides, Params, Preset


def embedding(
    category: Annotated[Path, typer.Argument(help="folder of one category with test images")],
    out: Annotated[Path, typer.Option("--out", help="PNG to write")],
    count: Annotated[
        int, typer.Option(min=10, help="patches shown, a third of them defective at most")
    ] = 3000,
    params: Params = None,
    preset: Preset = None,
    overrides: Overrides = None,
    cache: Annotated[Path | None, typer.Option(help="folder of the feature cache")] = None,
) -> None:
    """Draw patch embeddings before, during and after training, by position and by nominal or defect."""
    import tempfile

    from reconpatch.data.manifest import build_manifest
    from reconpatch.evaluation.embedding_figure import embedding_figure
    from reconpatch.evaluation.patch_embedding import embed_category
    from reconpatch.evaluation.report.figure_style import png_bytes
    from reconpatch.features.feature_cache import FeatureCache
    from reconpatch.settings import load_settings
    from reconpatch.storage.atomic_files import atomic_file

    settings = load_settings(params, overrides or (), preset=preset)
    table = build_manifest(category, settings.data)
    with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
        patches, stages = embed_category(table, settings, FeatureCache(cache or Path(scratch)), count=count)
    with atomic_file(out) as temporary:
        temporary.write_bytes(png_bytes(embedding_figure(patches, stages, str(table["category"].iloc[0]))))
    typer.echo(f"{out}: {len(patches.features)} patches, {int(patches.defective.sum())} of them defective")
