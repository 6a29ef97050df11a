"""What every section of the parameters has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen section of params.yaml; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
