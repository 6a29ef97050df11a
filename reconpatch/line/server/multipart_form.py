"""The images of a multipart form.

Why not `Request.form`: it writes files of more than 1 MiB to the disk, and takes no other limit.
"""

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from reconpatch.line.server.image_decoder import Upload, upload_name
from reconpatch.line.server.server_options import ServerLimits

_MOST_FIELD_BYTES = 4096


async def read_form(request: Request, limits: ServerLimits) -> list[Upload]:
    """All images of a request, in the form's order.

    Raises:
        HTTPException: 415 of another kind of body; 400 of a damaged form, of more fields than
            ``limits.images``, and of a field that is no file called ``images``.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, "send the images as multipart/form-data, in fields called `images`")
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=limits.images,
        max_fields=limits.images,
        max_part_size=_MOST_FIELD_BYTES,
    )
    # The images are read into memory whole: a detour over the disk would fail where that is full.
    parser.spool_max_size = limits.request_bytes
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    try:
        if any(name != "images" or not isinstance(part, UploadFile) for name, part in form.multi_items()):
            raise HTTPException(400, "every field must be a file called `images`")
        uploads = []
        for part in form.getlist("images"):
            if isinstance(part, UploadFile):
                uploads.append(Upload(upload_name(part.filename), await part.read()))
                await part.close()  # else every image would be held twice
        return uploads
    finally:
        await form.close()
