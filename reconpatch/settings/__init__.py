"""Every parameter, typed, frozen and parsed once from params.yaml.

A section belongs to one package of the library or one stage of the pipeline. Unknown keys are errors
that suggest the right one. Each parameter is declared and described once, in its section; params.yaml,
docs/parameters.md and `reconpatch params` show that text.
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
from reconpatch.settings.parameter_table import describe, list_sections, parameter_names
from reconpatch.settings.parsing import load_settings, parse_settings
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
    "describe",
    "describe_preset",
    "list_sections",
    "load_settings",
    "paper_figures",
    "parameter_names",
    "parse_settings",
    "preset_names",
]
