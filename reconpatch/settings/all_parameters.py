"""All parameters, section by section."""

from typing import Any

from pydantic import Field, model_validator

from reconpatch.settings.library_sections import (
    CalibrateSettings,
    CoresetSettings,
    DataSettings,
    EvaluateSettings,
    FeatureSettings,
    ModulationSettings,
    ScoringSettings,
    UnifiedSettings,
)
from reconpatch.settings.pipeline_sections import (
    HousekeepingSettings,
    IngestSettings,
    MonitorSettings,
    PipelineSettings,
    RegisterSettings,
    RetrainSettings,
    ValidateSettings,
)
from reconpatch.settings.section import Section

_SECRET = {"register_": {"tracking_uri"}, "retrain": {"webhook"}}


class Settings(Section):
    """All parameters of the library and the pipeline."""

    seed: int = Field(0, ge=0, lt=2**31, description="seed of every random choice")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (CUDA if there is one), cpu, cuda or cuda:N",
    )
    threads: int = Field(
        0,
        ge=0,
        description="CPU threads of one fit or stage; 0: every core; results depend on it in their last bits",
    )
    data: DataSettings = DataSettings()
    validate_: ValidateSettings = Field(ValidateSettings(), alias="validate")
    features: FeatureSettings = FeatureSettings()
    modulation: ModulationSettings = ModulationSettings()
    coreset: CoresetSettings = CoresetSettings()
    scoring: ScoringSettings = ScoringSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    unified: UnifiedSettings = UnifiedSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    register_: RegisterSettings = Field(RegisterSettings(), alias="register")
    retrain: RetrainSettings = RetrainSettings()
    ingest: IngestSettings = IngestSettings()
    monitor: MonitorSettings = MonitorSettings()
    housekeeping: HousekeepingSettings = HousekeepingSettings()
    pipeline: PipelineSettings = PipelineSettings()

    def without_secrets(self) -> dict[str, Any]:
        """All values as JSON by full name, but for URLs that may carry a secret and change no result."""
        return self.model_dump(mode="json", by_alias=True, exclude=_SECRET)

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        # What several detectors calibrate together needs images that all of them held out.
        asked = [name for name in ("fuse", "unify") if getattr(self.pipeline, name)]
        if asked and self.calibrate.calibration == "crossfit":
            raise ValueError(f"calibrate.calibration: pipeline.{asked[0]} needs holdout, not crossfit")
        if self.pipeline.fuse and self.calibrate.holdout == 0:
            raise ValueError("calibrate.holdout: pipeline.fuse needs held-out images; take more than 0")
        return self
