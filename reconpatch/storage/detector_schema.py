"""The JSON files of a detector folder: read with their types and bounds, since a stranger may have made it.

The types are those that the detector works with where there is one (`Calibration`, `TrainingSet`), else those
below. Whatever a file holds, reading it gives a value of its type or one `ModelError` that names the file.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, JsonValue, TypeAdapter, ValidationError

from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import open_regular
from reconpatch.storage.bounded_types import Count, Digest, Name

# 470,000 training images in groups; a config is far smaller.
_MOST_BYTES = 64 << 20
_MOST_CONFIG_BYTES = 4 << 20
_MOST_SIDE = 1 << 14  # of a region: 256 MiB in memory
_PLACE = 200  # characters of a wrong value's place that a message shows

_T = TypeVar("_T")


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class BackboneReference:
    """Which weights the patch features came from.

    Attributes:
        name: timm model name.
        weights_sha256: digest of the weights; loading with other weights is refused.
        weights_source: where they came from, for people (a package, a file's name, the hub).
    """

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
    backbone: BackboneReference
    training_set_sha256: Digest
    n_train: Count
    files: dict[Name, Digest]
    members: list[Name] | None = None
    categories: list[Name] | None = None


class StoredRegion(_Stored):
    """region.json."""

    side: Annotated[int, Field(ge=1, le=_MOST_SIDE)]
    runs: Annotated[list[Annotated[int, Field(ge=0, le=_MOST_SIDE**2)]], FailFast()]


def json_values(value: Any) -> Any:
    """The JSON object of a calibration, a training set or a backbone reference; `read_stored` reads it."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def read_stored(path: Path, content: type[_T]) -> _T:
    """Parse a file of a detector folder.

    Args:
        path: of the file.
        content: the class of what it holds.

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
        return TypeAdapter(content).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        raise ModelError(f"{path}: is not valid JSON ({first['msg']}); fit or copy the detector again")
    place = repr(".".join(map(str, first["loc"])))[1:-1][:_PLACE]
    what = ": ".join(filter(None, (place, first["msg"].removeprefix("Value error, "))))
    raise ModelError(f"{path}: does not describe a detector ({what}); fit or copy the detector again")
