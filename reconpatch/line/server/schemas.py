"""What goes over the wire, as the OpenAPI page shows it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, model_validator

from reconpatch.calibration.calibration import Band
from reconpatch.data.file_listing import has_control_characters

_MOST_FIELDS = 20
_MOST_PATHS = 4096


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class _Request(_Message):
    """What strangers send: it is refused before each of many wrong parts makes an error of its own."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_many_fields(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > _MOST_FIELDS:
            raise ValueError(f"has {len(given)} fields; at most {_MOST_FIELDS} are read")
        return given


class ImageResult(_Message):
    """What the detector says of one image."""

    id: str = Field(description="names the image until it makes room for newer ones")
    name: str
    category: str
    sha256: str = Field(description="of the image file's bytes")
    model_version: str
    received: str = Field(description="ISO 8601, UTC")
    score: float
    is_anomalous: bool | None = Field(description="null: the detector is not calibrated")
    band: Band | None
    false_reject_probability: float | None = Field(
        description="how probable a score as large is for a good image"
    )
    threshold: float | None
    review_threshold: float | None
    picture: str = Field(description="URL of the image as JPEG, at most 800 pixels a side")
    map_png: str = Field(description="URL of the map's colours on the category's scale, RGBA")
    map_npy: str = Field(description="URL of the map's values, float32, at three digits")
    map_area: tuple[float, float, float, float] = Field(
        description="left, top, width and height of the map within the image, as shares of it"
    )
    review: Literal["good", "bad"] | None = Field(None, description="what a person said since")


class Results(_Message):
    """Answers in the order of the images."""

    results: list[ImageResult]


class Paths(_Request):
    """Images by path."""

    paths: Annotated[
        list[str],
        Field(min_length=1, max_length=_MOST_PATHS, description="under the server's allowed root"),
        FailFast(),
    ]


class Category(_Message):
    """A category and the detector in use."""

    name: str
    model_version: str
    model_since: str
    problem: str | None = Field(description="why a newer detector is not in use")
    threshold: float | None
    review_threshold: float | None
    nominal_score: float | None = Field(description="median score of good images")
    false_reject_rate: float | None = Field(description="share of good images that the threshold may reject")
    scale_low: float | None = Field(description="map value of the first colour")
    scale_high: float | None = Field(description="map value of the last colour")
    pixel_threshold: float | None


class Categories(_Message):
    """All of them."""

    categories: list[Category]
    colours: list[str] = Field(description="of the scale, from low to high")


def _check_name(who: str) -> str:
    if has_control_characters(who):
        raise ValueError("holds a line end or another control character; give a name without")
    return who


class ReviewRequest(_Request):
    """A person's review of an image."""

    verdict: Literal["good", "bad"] = Field(description="of the part, not of the picture")
    who: Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S"), AfterValidator(_check_name)]


class Status(_Message):
    """Whether a probe succeeded, and why not."""

    status: Literal["ok", "failed"]
    reason: str | None = None
