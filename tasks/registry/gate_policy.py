"""The gate's policy, from mlflow/gate.yaml: declarative, checked when it is read."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconpatch.errors import SettingsError
from reconpatch.evaluation.comparison import MARGIN
from reconpatch.storage.atomic_files import sha256_json

POLICY = Path("mlflow") / "gate.yaml"

Compared = Literal["image_auroc", "pixel_auroc", "aupro"]


def _image_auroc_alone() -> dict[Compared, float]:
    return {"image_auroc": MARGIN}


class Rules(BaseModel):
    """What a candidate must show.

    Attributes:
        minimum: metric -> smallest value that is accepted.
        maximum: metric -> largest.
        not_worse: metric -> loss against the champion, and the best former one, that is accepted.
        latency_ratio: seconds an image over the champion's; None: not measured.
        model_mib: size of the detector folder; None: any.
        data_checks: whether the data checks must have passed.
        lineage: tags of the version that must be known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum: dict[str, float] = Field(default_factory=dict)
    maximum: dict[str, float] = Field(default_factory=dict)
    not_worse: dict[Compared, float] = Field(default_factory=_image_auroc_alone)
    latency_ratio: float | None = Field(None, gt=0)
    model_mib: float | None = Field(None, gt=0)
    data_checks: bool = True
    lineage: tuple[str, ...] = ()


class Policy(Rules):
    """The whole file: the rules, who promotes, and categories with rules of their own.

    Attributes:
        promotion: ``person``, or ``automatic`` for candidates that passed every rule.
        broken_gate: what happens when a refused version is made champion: ``undo`` or ``keep``.
        categories: category -> rules that go before the general ones, metric by metric.
    """

    promotion: Literal["person", "automatic"] = "person"
    broken_gate: Literal["undo", "keep"] = "undo"
    categories: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def rules(self, category: str) -> Rules:
        """The rules for one category."""
        general = self.model_dump(include=set(Rules.model_fields))
        return Rules.model_validate(_merged(general, self.categories.get(category, {})))

    @property
    def digest(self) -> str:
        """Hash of the policy, kept with every verdict."""
        return sha256_json(self.model_dump(mode="json"))


def load_policy(project: Path) -> Policy:
    """Read ``mlflow/gate.yaml`` of a project.

    Raises:
        SettingsError: the file is missing, no YAML mapping, or a key or value in it is wrong; without a
            policy nothing passes.
    """
    path = project / POLICY
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); without a policy no candidate passes: put it back"
        ) from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is not valid YAML: {error}") from None
    try:
        policy = Policy.model_validate(values)
        for category in policy.categories:
            policy.rules(category)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise SettingsError(f"{path}: {told}") from None
    return policy


def _merged(general: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {key: general[key] | own[key] for key in own if isinstance(general.get(key), dict)}
    return general | own | both
