"""Objects under keys: in a folder and in an S3 bucket alike."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reconpatch.errors import DataError, SettingsError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.storage.object_store import Store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of moto's S3 server on loopback."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import fsspec
    from s3fs import S3FileSystem

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    patch = pytest.MonkeyPatch()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    S3FileSystem.clear_instance_cache()
    fsspec.filesystem("s3").mkdir("line")
    try:
        yield "s3://line/shared"
    finally:
        S3FileSystem.clear_instance_cache()
        patch.undo()
        server.stop()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place to share."""
    return (tmp_path / "share").as_uri() if request.param == "file" else request.getfixturevalue("bucket")


def test_an_object_is_what_was_put_last_and_absent_before(url: str) -> None:
    store = Store(url)
    assert store.get("a/b") is None
    assert "a/b" not in store
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    assert "a/b" in Store(url)
    assert Store(url).get("a/b") == b"two"


def test_features_of_one_machine_are_found_by_another(url: str, tmp_path: Path) -> None:
    block = np.arange(12, dtype=np.float16).reshape(4, 3)
    FeatureCache(tmp_path / "one", shared=Store(url)).put("ab" * 32, block)
    other = FeatureCache(tmp_path / "other", shared=Store(url))
    assert "ab" * 32 in other
    np.testing.assert_array_equal(other.get("ab" * 32), block)
    # It lies here now, whatever becomes of the shared one.
    np.testing.assert_array_equal(FeatureCache(tmp_path / "other").get("ab" * 32), block)
    Store(url).put(f"features/ab/{'ab' * 32}", b"damaged")
    assert FeatureCache(tmp_path / "third", shared=Store(url)).get("ab" * 32) is None


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="file"):
        Store((tmp_path / "file").as_uri()).put("a/b", b"x")
    with pytest.raises(SettingsError, match="nosuch://x"):
        Store("nosuch://x")
