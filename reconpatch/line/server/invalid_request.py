"""The answer to a body or parameter that does not fit its schema."""

import json

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

_LONGEST = 200
_MOST_PROBLEMS = 20


async def answer_invalid(_: Request, error: Exception) -> Response:
    """422 with place and reason of the first problems, as the API's description has it.

    FastAPI's own answer repeats the input, which may be what no JSON can hold: half a surrogate pair, NaN.
    """
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    detail = [
        {
            "loc": [part if isinstance(part, int) else str(part)[:_LONGEST] for part in problem["loc"]],
            "msg": problem["msg"],
            "type": problem["type"],
        }
        for problem in problems[:_MOST_PROBLEMS]
    ]
    return Response(json.dumps({"detail": detail}), status_code=422, media_type="application/json")
