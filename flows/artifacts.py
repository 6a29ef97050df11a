"""How the artifacts of flow runs are called."""

import re


def artifact_key(*parts: str) -> str:
    """The parts joined by dashes, as Prefect takes a key: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]", "-", "-".join(parts).lower())
