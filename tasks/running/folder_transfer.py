"""Folders on their way between machines that share no file system: by content, through the shared store.

Hidden files stay where they are: no stage reads them, and a `.git/config` would be commands of a stranger.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from reconpatch.errors import DataError
from reconpatch.storage.atomic_files import atomic_folder, dump_json, sha256_file, sha256_json
from reconpatch.storage.object_store import Store
from tasks.running.content_hashes import Hasher, hasher_of
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import Job


def publish(folder: Path, store: Store, hasher: Hasher) -> str:
    """Put a folder's files into the store; what lies there already is not sent again.

    Returns:
        The tree's digest, by which `fetch` finds it.
    """
    tree = _visible(folder, hasher)
    for name, digest in tree.items():
        if _file(digest) not in store:
            store.put(_file(digest), (folder / name).read_bytes())
    digest = sha256_json(tree)
    if _tree(digest) not in store:
        store.put(_tree(digest), dump_json(tree).encode())
    return digest


def fetch(digest: str, folder: Path, store: Store, hasher: Hasher) -> None:
    """Make ``folder`` the tree of this digest: complete or as it was; what it has is not fetched.

    Raises:
        DataError: the store lacks a part of the tree, or holds a damaged one.
    """
    before = _visible(folder, hasher) if folder.is_dir() else {}
    if sha256_json(before) == digest:
        return
    there = {content: name for name, content in before.items()}
    listing = _listing(digest, store, folder)
    with atomic_folder(folder) as temporary:
        for name, content in listing.items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if content in there:
                _link(folder / there[content], target)
            else:
                target.write_bytes(_get(_file(content), store, folder))
            if sha256_file(target) != content:
                raise DataError(f"{store.url}: {_file(content)} is damaged; remove it and run this again")


def send_images(job: Job) -> str | None:
    """Publish the images of a job's category where machines share a store; returns the tree's digest."""
    store = job.shared
    return None if store is None else publish(job.images, store, hasher_of(job.project))


def send(finished: Finished) -> Finished:
    """Publish what a stage has finished, where machines share a store."""
    store = finished.job.shared
    if store is None:
        return finished
    return replace(finished, tree=publish(finished.folder, store, hasher_of(finished.job.project)))


def bring(finished: Sequence[Finished]) -> None:
    """Make these stages' folders here what they were where they ran."""
    for item in finished:
        store = item.job.shared
        if store is not None and item.tree is not None:
            fetch(item.tree, item.folder, store, hasher_of(item.job.project))


def bring_images(job: Job, digest: str | None) -> None:
    """Have the images of the flow's machine here. Images that did not come this way are never replaced.

    Raises:
        DataError: there are others here.
    """
    store, hasher = job.shared, hasher_of(job.project)
    if store is None or digest is None:
        return
    marker = job.project / ".cache" / "fetched" / f"{job.settings.pipeline.dataset}-{job.category}"
    if job.images.is_dir() and not marker.is_file():
        if sha256_json(_visible(job.images, hasher)) != digest:
            raise DataError(f"{job.images}: differs from the flow's images; remove it to have it fetched")
        return
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    fetch(digest, job.images, store, hasher)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _get(key: str, store: Store, folder: Path) -> bytes:
    content = store.get(key)
    if content is None:
        raise DataError(f"{store.url}: lacks {key} of {folder}; run the flow again")
    return content


def _listing(digest: str, store: Store, folder: Path) -> dict[str, str]:
    """The tree of this digest, as `publish` wrote it."""
    content = _get(_tree(digest), store, folder)
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{store.url}: {_tree(digest)} is damaged; remove it and run this again")
    listing: dict[str, str] = json.loads(content)
    # The digest says that nothing was lost, not who made the tree.
    for name in listing:
        outside = not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
        if outside or _is_hidden(name):
            raise DataError(
                f"{store.url}: {_tree(digest)} names {name!r}, which "
                f"{f'lies outside {folder}' if outside else 'is hidden'}; find out who writes to the store"
            )
    return listing


def _visible(folder: Path, hasher: Hasher) -> dict[str, str]:
    return {name: digest for name, digest in hasher.tree(folder).items() if not _is_hidden(name)}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _file(digest: str) -> str:
    return f"files/{digest[:2]}/{digest}"


def _tree(digest: str) -> str:
    return f"trees/{digest}"
