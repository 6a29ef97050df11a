"""What the champion says of arriving images: which are suspicious, and which of these wait for a person."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.threshold import Threshold, groups_needed
from reconpatch.line.inbox.arrivals import SUSPICIOUS, Refusal
from reconpatch.settings import IngestSettings, Settings
from reconpatch.storage.atomic_files import sha256_file

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArrivalScores:
    """What the champion says of arrivals.

    Attributes:
        champion: its name; None when there is none.
        held_out: content hashes that it was calibrated with.
        suspicions: by content hash, why an image is suspicious.
        heatmaps: by content hash, the file of every image's heat map.
        puts_aside: content hashes of the suspicious that wait for a person unless they are of the calibration
            lot; the others join, and a person is asked to look at them. None: all of them wait.
    """

    champion: str | None
    held_out: frozenset[str]
    suspicions: dict[str, Refusal]
    heatmaps: dict[str, str] = field(default_factory=dict)
    puts_aside: frozenset[str] | None = None

    @property
    def waiting(self) -> dict[str, Refusal]:
        """The suspicions that keep an image outside the calibration lot waiting."""
        if self.puts_aside is None:
            return self.suspicions
        return {digest: found for digest, found in self.suspicions.items() if digest in self.puts_aside}


NO_CHAMPION = ArrivalScores(None, frozenset(), {})
Scorer = Callable[[Settings, str, Path, list[Path], Path], ArrivalScores]


def score_by_champion(
    settings: Settings, category: str, project: Path, images: list[Path], folder: Path
) -> ArrivalScores:
    """Score images with the champion, each with a heat map in ``folder``: any of them may be put aside."""
    from reconpatch.detector import ReConPatch
    from reconpatch.evaluation.report.heatmaps import write_heatmap
    from tasks.registry.champion import champion_folder, find_champion

    champion = find_champion(settings, project, category)
    if champion is None:
        _LOG.warning("%s: no champion yet, so nobody looked for defects among the arrivals", category)
        return ArrivalScores(None, frozenset(), {})
    name = f"{champion.model}/{champion.version}"
    with champion_folder(champion, settings, project) as model:
        detector = ReConPatch.load(model, device=settings.device, threads=settings.threads)
        suspicions: dict[str, Refusal] = {}
        heatmaps: dict[str, str] = {}
        puts_aside: set[str] = set()
        calibration = detector.calibration
        limit = aside = None
        if calibration is not None:
            limit = calibration.review if settings.ingest.suspicious == "review" else calibration.threshold
            aside = limit_to_wait(calibration, settings.ingest)
        for prediction in detector.stream(images) if images else ():
            digest = sha256_file(Path(str(prediction.path)))
            if digest not in heatmaps:
                heatmaps[digest] = write_heatmap(folder, prediction, detector).name
            if limit is not None and prediction.score > limit.value:
                detail = (
                    f"score {prediction.score:.4g} above the nominal limit {limit.value:.4g} of "
                    f"{name} (ingest.suspicious: {settings.ingest.suspicious})"
                )
                suspicions[digest] = Refusal(SUSPICIOUS, detail)
            if aside is not None and prediction.score > aside.value:
                puts_aside.add(digest)
        if limit is not None and aside != limit and suspicions:
            _LOG.warning("%s: %s", category, _too_coarse(name, limit, aside, settings.ingest))
        held_out = frozenset(detector.training_set.holdout)
        return ArrivalScores(name, held_out, suspicions, heatmaps, frozenset(puts_aside))


def limit_to_wait(calibration: Calibration, ingest: IngestSettings) -> Threshold | None:
    """The score above which an arrival waits for a person; None: no score is reason enough.

    That of ``ingest.suspicious`` where at most ``ingest.most_false_rejects`` of the good images exceed it, or
    else the threshold, if that holds for it.
    """
    limits = [calibration.review, calibration.threshold][ingest.suspicious == "reject" :]
    return next((one for one in limits if one.false_reject_rate <= ingest.most_false_rejects), None)


def _too_coarse(name: str, limit: Threshold, aside: Threshold | None, ingest: IngestSettings) -> str:
    """Why fewer arrivals wait than ``ingest.suspicious`` says."""
    # The limit for review is that of twice the smallest rate which the groups can promise.
    rate = ingest.most_false_rejects / (1 if ingest.suspicious == "reject" else 2)
    wait = "no arrival waits for its score" if aside is None else "only arrivals above its threshold wait"
    return (
        f"{name} is calibrated on {limit.n} groups, and {100 * limit.false_reject_rate:.2g} % of good images "
        f"exceed its limit (ingest.suspicious: {ingest.suspicious}), more than ingest.most_false_rejects: "
        f"{wait}, and the others above the limit join. Look at them with `reconpatch data quarantine`; "
        f"{groups_needed(rate)} groups would do, so give more good images or raise calibrate.holdout"
    )
