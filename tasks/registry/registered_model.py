"""A registered version as a pipeline run leaves it."""

from dataclasses import dataclass
from pathlib import Path

from tasks.registry.gate_rules import GateReport


@dataclass(frozen=True)
class RegisteredModel:
    """A version in the registry.

    Attributes:
        name: of the registered model, such as ``reconpatch-demo-brick``.
        version: its number.
        category: what the detector inspects.
        backbone: timm model name.
        run_id: the MLflow run that explains it.
        created: False when an equal detector with equal figures was registered before.
        aliases: what this run named it: ``challenger``, ``champion``, both or neither.
        gate: the gate's verdict on the run's candidate; None for other versions.
        heat_maps: the picture of its evaluation; None without test images.
    """

    name: str
    version: str
    category: str
    backbone: str
    run_id: str
    created: bool
    aliases: tuple[str, ...] = ()
    gate: GateReport | None = None
    heat_maps: Path | None = None

    @property
    def uri(self) -> str:
        """``models:/NAME/VERSION``."""
        return f"models:/{self.name}/{self.version}"
