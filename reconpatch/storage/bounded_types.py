"""Types with the bounds that a value read from a file must keep, since the file may come from a stranger.

They are pydantic's: `reconpatch.storage.detector_schema` checks them where it reads a file.
"""

from typing import Annotated

from pydantic import Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Count = Annotated[int, Field(ge=0, le=1 << 50)]
CountFromOne = Annotated[int, Field(ge=1, le=1 << 50)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
