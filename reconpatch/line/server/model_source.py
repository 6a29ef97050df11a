"""Where a served detector comes from, and which version lies there now."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconpatch.errors import ModelError, SettingsError
from reconpatch.fitted_detector import FittedDetector
from reconpatch.loading import load
from reconpatch.storage.atomic_files import sha256_file
from reconpatch.storage.detector_config import CONFIG

_SCHEME = "models:/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class ModelSource:
    """A detector folder or an MLflow URI, served under a name.

    Attributes:
        category: the name in URLs and on the page.
        source: the folder or URI.
    """

    category: str
    source: str

    def version(self) -> str:
        """What would be loaded now, such as ``reconpatch-demo-brick/3`` or ``sha256:`` of a config.

        Raises:
            ModelError: it cannot be found out.
        """
        if self.source.startswith(_SCHEME):
            from reconpatch.integrations.mlflow_uri import registered_version

            return registered_version(self.source)
        try:
            return f"sha256:{sha256_file(Path(self.source) / CONFIG)[:16]}"
        except OSError as error:
            raise ModelError(f"{self.source}: is no detector folder ({error.strerror})") from None

    def load(self, *, device: str, threads: int) -> tuple[FittedDetector, str]:
        """The detector and the version it is of.

        Raises:
            ModelError: it cannot be loaded, or was replaced while it was.
        """
        before = self.version()
        if not self.source.startswith(_SCHEME):
            detector = load(self.source, device=device, threads=threads)
            if self.version() != before:
                raise ModelError(f"{self.source}: was replaced while it was loaded; it is tried again")
            return detector, before
        from reconpatch.integrations.mlflow_uri import download_detector

        # The alias may move meanwhile; the version that it stood for may not.
        with tempfile.TemporaryDirectory(prefix="reconpatch-serve-", ignore_cleanup_errors=True) as scratch:
            folder = download_detector(f"{_SCHEME}{before}", Path(scratch))
            return load(folder, device=device, threads=threads), before


def parse_sources(models: Sequence[str]) -> list[ModelSource]:
    """Read the arguments of ``reconpatch serve``.

    Args:
        models: each ``MODEL`` or ``NAME=MODEL``. Without a name a folder's own is taken, and of a registered
            model's its name without ``reconpatch-``.

    Raises:
        SettingsError: there is none, a name is unfit for a URL, or two are alike.
    """
    sources = [_parse(model) for model in models]
    names = [source.category for source in sources]
    if not sources:
        raise SettingsError("no model is named; give at least one folder or models:/ URI")
    for name in names:
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"model name {name!r}: letters, digits and ._- only; give another as NAME=MODEL"
            )
        if names.count(name) > 1:
            raise SettingsError(f"two models are called {name!r}; tell them apart as NAME=MODEL")
    return sources


def _parse(model: str) -> ModelSource:
    name, given, rest = model.partition("=")
    if given and "/" not in name:
        return ModelSource(name, rest)
    if model.startswith(_SCHEME):
        registered = re.split("[/@]", model.removeprefix(_SCHEME))[0]
        return ModelSource(registered.removeprefix("reconpatch-"), model)
    return ModelSource(Path(model).resolve().name, model)
