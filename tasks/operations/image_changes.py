"""What changed among a category's nominal images since its champion was made."""

from dataclasses import dataclass
from pathlib import Path

from reconpatch.data.training_images import training_images
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import sha256_json
from reconpatch.storage.detector_folder import read_training_set
from tasks.registry.champion import Champion, champion_folder, find_champion
from tasks.running.content_hashes import hasher_of
from tasks.running.stage_folders import Job


@dataclass(frozen=True)
class ImageChanges:
    """Nominal images against those that the champion knows.

    Attributes:
        category: whose images.
        champion: None before the first.
        new: how many the champion does not know.
        gone: how many it knows that are no longer there; only a full fit forgets them.
    """

    category: str
    champion: Champion | None
    new: int
    gone: int

    @property
    def any(self) -> bool:
        """Whether there is anything to learn or to forget."""
        return self.champion is None or self.new + self.gone > 0


def find_image_changes(settings: Settings, project: Path, category: str) -> ImageChanges:
    """Compare by content; files that were hashed before are not read again.

    Raises:
        DataError: the category's images cannot be listed.
        ReConPatchError: MLflow cannot be asked.
    """
    champion, hasher = find_champion(settings, project, category), hasher_of(project)
    images = Job(settings, category, None, project, project).images
    digests = [hasher.file(path) for path in training_images(images, settings.data).paths]
    hasher.remember()
    if champion is None:
        return ImageChanges(category, None, len(set(digests)), 0)
    if sha256_json(sorted(digests)) == champion.training_set_sha256:
        return ImageChanges(category, champion, 0, 0)
    with champion_folder(champion, settings, project) as folder:
        known = read_training_set(folder)
    before, now = {*known.fit, *known.holdout}, set(digests)
    return ImageChanges(category, champion, len(now - before), len(before - now))
