"""A detector that a person names: a folder, or a version in the project's own registry."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from reconpatch.errors import ModelError
from reconpatch.fitted_detector import FittedDetector
from reconpatch.integrations.mlflow_uri import find_version
from reconpatch.line.server.model_source import ModelSource, parse_sources
from reconpatch.loading import load
from reconpatch.settings import Settings
from tasks.registry.mlflow_store import fetch_detector, mlflow_errors, open_client

_URI = "models:/"


@dataclass(frozen=True)
class NamedModel:
    """A detector and the version that its name stood for when it was looked up; an alias may move later.

    Attributes:
        source: folder or URI, and what it is known as.
        version: such as ``reconpatch-demo-brick/3`` or ``sha256:`` of a folder's config.
    """

    source: ModelSource
    version: str

    def load(self, settings: Settings, project: Path) -> FittedDetector:
        """The detector of that version, on the parameters' device.

        Raises:
            ReConPatchError: MLflow cannot be asked.
            ModelError: it cannot be loaded, or the folder was replaced since.
        """
        if not self.source.source.startswith(_URI):
            detector, version = self.source.load(device=settings.device, threads=settings.threads)
            if version != self.version:
                raise ModelError(f"{self.source.source}: was replaced meanwhile; run it again")
            return detector
        name, _, number = self.version.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
            folder = Path(scratch) / "detector"
            fetch_detector(name, number, folder, settings, project)
            return load(folder, device=settings.device, threads=settings.threads)


def look_up(model: str, settings: Settings, project: Path) -> NamedModel:
    """Which version a name stands for now.

    Args:
        model: folder (relative: to the project), ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``; as
            ``NAME=MODEL`` known under another name.
        settings: which registry.
        project: root of the project.

    Raises:
        SettingsError: it is known under no fit name.
        ModelError: there is no such folder, or the URI is none.
        ReConPatchError: MLflow cannot be asked, or has no such model.
    """
    (source,) = parse_sources([model])
    if not source.source.startswith(_URI):
        source = replace(source, source=str(project / source.source))
        return NamedModel(source, source.version())
    with mlflow_errors(f"a look for {source.source}"):
        found = find_version(open_client(settings, project), source.source)
    return NamedModel(source, f"{found.name}/{found.version}")
