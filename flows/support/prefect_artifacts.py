"""The artifacts of flow runs: how they are called, and pictures among them."""

import base64
import re
from pathlib import Path

from prefect.artifacts import create_image_artifact

from reconpatch.evaluation.report.picture_size import bounded_picture
from reconpatch.text.markdown import plain_markdown

MOST_BYTES = 512 << 10  # of a picture: it is kept in Prefect's database and sent whole to every viewer


def artifact_key(*parts: str) -> str:
    """The parts joined by dashes, as Prefect takes a key: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]", "-", "-".join(parts).lower())


def publish_picture(key: str, picture: Path, description: str) -> None:
    """Keep a PNG file as an artifact of the run, in itself: it is seen wherever Prefect's UI is opened.

    Args:
        key: of the artifact.
        picture: the file.
        description: in plain text.
    """
    kind, data = bounded_picture(picture, MOST_BYTES)
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    create_image_artifact(image_url=url, key=key, description=plain_markdown(description))
