"""The champion of a category, as the registry has it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconpatch.errors import ModelError
from reconpatch.settings import Settings
from reconpatch.storage.detector_config import ENSEMBLE
from tasks.registry.finished_evaluation import registered_name
from tasks.registry.mlflow_store import CHAMPION, OUTPUT_DIGEST, fetch_detector, mlflow_errors, open_client


@dataclass(frozen=True)
class Champion:
    """A registered version that is in use.

    Attributes:
        model: name of the registered model.
        version: its number.
        category: what it inspects.
        backbone: timm model name.
        is_ensemble: whether it is made of several detectors.
        output_digest: of the detector and its figures.
        training_set_sha256: digest of the images that it knows.
        created: when it was registered, in seconds since 1970; None: not known.
    """

    model: str
    version: str
    category: str
    backbone: str
    is_ensemble: bool
    output_digest: str
    training_set_sha256: str
    created: float | None = None


def find_champion(settings: Settings, project: Path, category: str) -> Champion | None:
    """The category's champion; None before the first.

    Raises:
        ReConPatchError: MLflow cannot be asked.
        ModelError: the champion was not registered by this pipeline.
    """
    model = registered_name(settings.pipeline.dataset, category)
    with mlflow_errors(f"a look for the champion of {model}"):
        client = open_client(settings, project)
        found = client.search_registered_models(f"name = '{model}'")
        number = found[0].aliases.get(CHAMPION) if found else None
        if number is None:
            return None
        version = client.get_model_version(model, str(number))
    try:
        return Champion(
            model,
            str(version.version),
            category,
            version.tags["backbone"],
            version.tags["kind"] == ENSEMBLE,
            version.tags[OUTPUT_DIGEST],
            version.tags["training_set_sha256"],
            version.creation_timestamp / 1000,
        )
    except KeyError as error:
        raise ModelError(
            f"{model}, version {version.version}: is champion and has no tag {error}: it was registered "
            "by other means; make another version the champion with `python -m flows.promote`"
        ) from None


def fetch_champion(champion: Champion, target: Path, settings: Settings, project: Path) -> None:
    """Copy the champion's detector folder to ``target``, which is complete or absent.

    Raises:
        ReConPatchError: MLflow cannot be asked.
        ModelError: the version holds no detector.
    """
    fetch_detector(champion.model, champion.version, target, settings, project)


@contextmanager
def champion_folder(champion: Champion, settings: Settings, project: Path) -> Iterator[Path]:
    """The champion's detector folder, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
        folder = Path(scratch) / "detector"
        fetch_champion(champion, folder, settings, project)
        yield folder
