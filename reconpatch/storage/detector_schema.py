"""The JSON files of a detector folder with their types and bounds, since a folder may come from a stranger.

Whatever a file holds, parsing it gives values of these types or one `ModelError` that names the file.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, JsonValue, ValidationError

from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import open_regular

# 470,000 training images in groups; a config is far smaller.
_MOST_BYTES = 64 << 20
_MOST_CONFIG_BYTES = 4 << 20
_MOST_SIDE = 1 << 14  # of a region: 256 MiB in memory
_PLACE = 200  # characters of a wrong value's place that a message shows

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Count = Annotated[int, Field(ge=0, le=1 << 50)]
Rate = Annotated[float, Field(ge=0, le=1)]


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _Backbone(_Stored):
    name: Name
    weights_sha256: Digest
    weights_source: Name


class StoredVersion(_Stored):
    """What every version's config.json has."""

    schema_version: Annotated[int, Field(ge=0, le=1_000_000)]


class StoredConfig(StoredVersion):
    """config.json; `settings` is parsed as a params file is."""

    kind: Literal["single", "unified", "ensemble"]
    settings: dict[str, JsonValue]
    backbone: _Backbone
    training_set_sha256: Digest
    n_train: Count
    files: dict[Name, Digest]
    members: list[Name] | None = None
    categories: list[Name] | None = None


class StoredTrainingSet(_Stored):
    """training_set.json."""

    fit: Annotated[list[Digest], FailFast()]
    holdout: Annotated[list[Digest], FailFast()]
    updates: Count
    fit_groups: Annotated[list[Name], FailFast()]
    holdout_groups: Annotated[list[Name], FailFast()]


class _Statistics(_Stored):
    median: float
    mad: Annotated[float, Field(ge=0)]
    mean_deviation: Annotated[float, Field(ge=0)]
    n: Annotated[Count, Field(ge=1)]


class _Threshold(_Stored):
    value: float
    false_reject_rate: Rate
    n: Annotated[Count, Field(ge=1)]
    interval: tuple[Rate, Rate]


class _Nominal(_Stored):
    values: Annotated[list[float], Field(min_length=1), FailFast()]
    weights: Annotated[list[float], Field(min_length=1), FailFast()]


class StoredCalibration(_Stored):
    """calibration.json."""

    scores: _Statistics
    pixels: _Statistics
    threshold: _Threshold
    review: _Threshold
    pixel_threshold: _Threshold
    nominal: _Nominal
    method: Literal["holdout", "crossfit"]
    carried_over: bool


class StoredRegion(_Stored):
    """region.json."""

    side: Annotated[int, Field(ge=1, le=_MOST_SIDE)]
    runs: Annotated[list[Annotated[int, Field(ge=0, le=_MOST_SIDE**2)]], FailFast()]


_T = TypeVar("_T", bound=_Stored)


def read_stored(path: Path, content: type[_T]) -> _T:
    """Parse a file of a detector folder.

    Raises:
        ModelError: the file is missing, unreadable or too large, or does not hold such values.
    """
    most = _MOST_CONFIG_BYTES if issubclass(content, StoredVersion) else _MOST_BYTES
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            text = stream.read(size) if size <= most else b""
    except (OSError, ValueError):
        raise ModelError(f"{path}: is missing or unreadable; this is no complete detector folder") from None
    if size > most:
        raise ModelError(f"{path}: has {size} bytes, at most {most} are read; fit or copy the detector again")
    try:
        return content.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        raise ModelError(f"{path}: is not valid JSON ({first['msg']}); fit or copy the detector again")
    place = repr(".".join(map(str, first["loc"])))[1:-1][:_PLACE]
    raise ModelError(
        f"{path}: does not describe a detector ({place}: {first['msg']}); fit or copy the detector again"
    )
