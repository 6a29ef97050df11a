"""Bytes under keys at a place that every machine of a cluster reaches: a folder or an object store.

fsspec does the transport. What it leaves open is added here: an object in a folder is complete or absent.
"""

import uuid
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from reconpatch.errors import DataError, SettingsError


class Store:
    """Objects by key; one is complete or absent, and of several writers of a key the last one stays.

    Attributes:
        url: fsspec URL of the place, such as ``file:///mnt/share/line`` or ``s3://bucket/line``.

    Raises:
        SettingsError: nothing that is installed reads such URLs.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"{url}: no such place can be reached ({error}); s3:// needs pip install 'reconpatch[s3]'"
            ) from None

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.url,)

    def __contains__(self, key: str) -> bool:
        """Whether an object lies under ``key``."""
        return bool(self._tell(self._files.exists, self._path(key)))

    def get(self, key: str) -> bytes | None:
        """The object under ``key``; None where there is none.

        Raises:
            DataError: the place cannot be read.
        """
        try:
            return bytes(self._tell(self._files.cat_file, self._path(key)))
        except FileNotFoundError:
            return None

    def put(self, key: str, content: bytes) -> None:
        """Write an object.

        Raises:
            DataError: the place cannot be written.
        """
        path = self._path(key)
        if not isinstance(self._files, LocalFileSystem):
            self._tell(self._files.pipe_file, path, content)  # object stores show whole objects alone
            return
        beside = f"{path}.{uuid.uuid4().hex}"
        self._tell(self._files.makedirs, self._files._parent(path), exist_ok=True)
        try:
            self._tell(self._files.pipe_file, beside, content)
            self._tell(self._files.mv, beside, path)
        finally:
            if self._files.exists(beside):
                self._files.rm_file(beside)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _tell(self, action: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return action(*arguments, **named)
        except FileNotFoundError:
            raise
        # Each kind of place has exceptions of its own.
        except Exception as error:
            raise DataError(f"{self.url}: cannot be used ({type(error).__name__}: {error})") from error
