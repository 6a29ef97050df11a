"""Every parameter, typed, frozen and parsed once from params.yaml.

A section belongs to one room of the library or one stage of the pipeline. Unknown keys are errors
that suggest the right one. The defaults here are the ones that params.yaml states.
"""

from reconpatch.settings.all_parameters import Settings
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
from reconpatch.settings.parsing import all_parameters, load_settings, parse_settings
from reconpatch.settings.pipeline_sections import (
    HousekeepingSettings,
    IngestSettings,
    PipelineSettings,
    RegisterSettings,
    RetrainSettings,
    ValidateSettings,
)
from reconpatch.settings.presets import describe_preset, paper_figures, preset_names

__all__ = [
    "CalibrateSettings",
    "CoresetSettings",
    "DataSettings",
    "EvaluateSettings",
    "FeatureSettings",
    "HousekeepingSettings",
    "IngestSettings",
    "ModulationSettings",
    "PipelineSettings",
    "RegisterSettings",
    "RetrainSettings",
    "ScoringSettings",
    "Settings",
    "UnifiedSettings",
    "ValidateSettings",
    "all_parameters",
    "describe_preset",
    "load_settings",
    "paper_figures",
    "parse_settings",
    "preset_names",
]
