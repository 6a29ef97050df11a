"""What tests of images share."""

from pathlib import Path

import pytest

from reconpatch.data.decoding.decoding_pool import DecodingPool


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that processes were asked to read, in the order of asking."""
    paths: list[Path] = []

    def recorded(real):
        return lambda pool, path, *more: paths.append(path) or real(pool, path, *more)

    monkeypatch.setattr(DecodingPool, "probe_image", recorded(DecodingPool.probe_image))
    monkeypatch.setattr(DecodingPool, "probe_mask", recorded(DecodingPool.probe_mask))
    return paths
