"""The server's answers, one function a route."""

import asyncio
from typing import Any, Literal

import matplotlib as mpl
from fastapi import APIRouter, HTTPException, Request, Response

from reconpatch.data.reviews import Review, append_review
from reconpatch.errors import DataError
from reconpatch.evaluation.report.heatmaps import COLOURS
from reconpatch.line.server.image_intake import TooLargeError, Upload
from reconpatch.line.server.multipart_form import read_form
from reconpatch.line.server.prediction_queue import OverloadedError
from reconpatch.line.server.recent_images import RecentImage
from reconpatch.line.server.schemas import (
    Categories,
    Category,
    ImageResult,
    Paths,
    Results,
    ReviewRequest,
    Status,
)
from reconpatch.line.server.served_category import Slot
from reconpatch.line.server.server_state import ServerState

_COLOURS_SHOWN = 33
# A batch that takes so long hangs: the process should be started anew.
_STUCK_SECONDS = 300.0
_MULTIPART: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            }
        },
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "no image, a damaged one, or a request that cannot be read"},
    403: {"description": "sent by another site's page, to a server without a key"},
    404: {"description": "no such category or image"},
    413: {"description": "too many pixels, images or bytes (of JSON 64 KiB)"},
    503: {"description": "too many images or bytes are in work; come again"},
}


def make_router(state: ServerState) -> APIRouter:
    """All routes but the page's files."""
    router = APIRouter(responses=_REFUSALS)

    @router.post("/api/categories/{category}/predict", openapi_extra=_MULTIPART)
    async def predict(category: str, request: Request) -> Results:
        """Score the images of a multipart form, in its order; when one is refused, all are."""
        slot = _slot(state, category)
        uploads = await read_form(request, state.options.limits)
        return await _score(state, slot, uploads)

    @router.post("/api/categories/{category}/predict-paths")
    async def predict_paths(category: str, named: Paths) -> Results:
        """Score images that lie under the server's allowed root."""
        slot, most = _slot(state, category), state.options.limits.images
        if len(named.paths) > most:
            raise HTTPException(413, f"{len(named.paths)} paths; at most {most} are taken")
        with state.bytes.share() as share:
            try:
                uploads = [
                    await asyncio.to_thread(state.intake.read_path, path, share) for path in named.paths
                ]
            except DataError as error:
                raise _refused(error) from None
            except OverloadedError:
                raise _busy() from None
            return await _score(state, slot, uploads)

    @router.get("/api/categories")
    async def categories() -> Categories:
        """The categories and the detectors in use."""
        listed = mpl.colormaps[COLOURS]([i / (_COLOURS_SHOWN - 1) for i in range(_COLOURS_SHOWN)])
        return Categories(
            categories=[_category(slot) for slot in state.slots.values()],
            colours=[mpl.colors.to_hex(colour) for colour in listed],
        )

    @router.get("/api/images")
    async def images(category: str | None = None, count: int = 24) -> Results:
        """The images scored last, newest first."""
        newest = state.recent.newest(max(0, min(count, state.options.recent)), category)
        return Results(results=[image.result for image in newest])

    @router.get("/api/images/{identifier}")
    async def image(identifier: str) -> ImageResult:
        """One of them."""
        return _recent(state, identifier).result

    @router.get("/api/images/{identifier}/{what}", response_class=Response)
    async def view(identifier: str, what: Literal["picture.jpg", "map.png", "map.npy"]) -> Response:
        """The image, or its map as colours or as values."""
        found = _recent(state, identifier)
        if what == "picture.jpg":
            return _file(found.jpeg, "image/jpeg")
        if what == "map.png":
            return _file(await asyncio.to_thread(found.map_png), "image/png")
        return _file(await asyncio.to_thread(found.map_npy), "application/octet-stream")

    @router.post("/api/images/{identifier}/review")
    async def review(identifier: str, request: ReviewRequest) -> ImageResult:
        """Append a person's review to the review table."""
        result = _recent(state, identifier).result
        row = Review(
            image_sha256=result.sha256,
            verdict=request.verdict,
            who=request.who.strip(),
            model_version=result.model_version,
        )
        try:
            await asyncio.to_thread(append_review, state.options.reviews, row)
        except DataError as error:
            raise HTTPException(507, str(error)) from None
        state.recent.review(identifier, request.verdict)
        state.metrics.reviews.labels(result.category, request.verdict).inc()
        return result.model_copy(update={"review": request.verdict})

    @router.get("/health")
    async def health(response: Response) -> Status:
        """Whether the process works; where it fails, start it anew."""
        if state.batcher.busy_seconds > _STUCK_SECONDS:
            response.status_code = 503
            return Status(status="failed", reason="a batch hangs")
        if state.intake.is_overdue:
            response.status_code = 503
            return Status(status="failed", reason="decoding an image hangs")
        return Status(status="ok")

    @router.get("/ready")
    async def ready(response: Response) -> Status:
        """Whether images that come now will be scored."""
        if not state.batcher.alive:
            response.status_code = 503
            return Status(status="failed", reason="starting or shutting down")
        if state.intake.is_overdue:
            response.status_code = 503
            return Status(status="failed", reason="decoding an image hangs")
        return Status(status="ok")

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def _score(state: ServerState, slot: Slot, uploads: list[Upload]) -> Results:
    if not uploads:
        raise HTTPException(400, "the form holds no image; send files in fields called `images`")
    tasks = [asyncio.create_task(state.score(slot, upload)) for upload in uploads]
    try:
        return Results(results=await asyncio.gather(*tasks))
    except DataError as error:
        raise _refused(error) from None
    except OverloadedError:
        raise _busy() from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _busy() -> HTTPException:
    return HTTPException(503, "the server has too much to do; come again", headers={"Retry-After": "1"})


def _refused(error: DataError) -> HTTPException:
    return HTTPException(413 if isinstance(error, TooLargeError) else 400, str(error))


def _slot(state: ServerState, category: str) -> Slot:
    slot = state.slots.get(category)
    if slot is None:
        raise HTTPException(404, f"no such category; there are: {', '.join(state.slots)}")
    return slot


def _recent(state: ServerState, identifier: str) -> RecentImage:
    image = state.recent.get(identifier)
    if image is None:
        raise HTTPException(404, "the image is not kept any longer; --recent keeps more")
    return image


def _file(content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})


def _category(slot: Slot) -> Category:
    served, calibration = slot.served, slot.served.detector.calibration
    scale = served.scale
    return Category(
        name=slot.source.category,
        model_version=served.version,
        model_since=served.since.isoformat(timespec="seconds"),
        problem=slot.problem,
        threshold=None if calibration is None else calibration.threshold.value,
        review_threshold=None if calibration is None else calibration.review.value,
        nominal_score=None if calibration is None else calibration.scores.median,
        false_reject_rate=None if calibration is None else calibration.threshold.false_reject_rate,
        scale_low=None if scale is None else scale.low,
        scale_high=None if scale is None else scale.high,
        pixel_threshold=None if calibration is None else calibration.pixel_threshold.value,
    )
