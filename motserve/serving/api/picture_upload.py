"""Receives a posted picture: a form read into memory up to a size limit, decoded after a check of its dimensions."""

from __future__ import annotations

import asyncio
import struct
from io import BytesIO

import numpy as np
from fastapi import Request
from PIL import ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File

from motserve.config import IdentitiesConfig
from motserve.config.serving import UploadsConfig
from motserve.errors import BadRequest, InvalidPicture, TooLarge
from motserve.serving.api.bodies import capped
from motserve.serving.api.video_upload import display_name, form_parser
from motserve.types import Image

_READERS: dict[bytes, type[ImageFile]] = {b"\xff\xd8\xff": JpegImageFile, b"\x89PNG\r\n\x1a\n": PngImageFile}
"""Decoder of a file by its first bytes."""


async def receive_picture(
    request: Request, config: IdentitiesConfig, uploads: UploadsConfig
) -> tuple[Image, dict[str, str]]:
    """Read a multipart form with one picture and other fields.

    Args:
        request: The request, its body not read yet.
        config: Size limits.
        uploads: Least speed.

    Returns:
        The picture, and the other fields by name.

    Raises:
        TooLarge: The picture has too many bytes or pixels.
        TooSlow: The body does not arrive.
        BadRequest: The form is malformed, empty, or does not hold exactly one file.
        InvalidPicture: The file cannot be decoded as a picture.
    """
    files: list[File] = []
    fields: list[Field] = []
    # the body is cut off far below twice the limit, so the parser never writes to disk
    settings = {"MAX_MEMORY_FILE_SIZE": 2 * config.max_picture_bytes + 1}
    parser = form_parser(request, settings, on_file=files.append, on_field=fields.append)
    try:
        async for block in capped(request, uploads, config.max_picture_bytes, "serving.identities.max_picture_bytes"):
            parser.write(block)
        parser.finalize()
        if len(files) != 1:
            raise BadRequest(f"the form must hold exactly one file, it holds {len(files)}")
        name = display_name(files[0].file_name, "picture")
        files[0].file_object.seek(0)
        data = files[0].file_object.read()
    except FormParserError as error:
        raise BadRequest(f"the form is malformed: {error}") from error
    finally:
        parser.close()
        for file in files:
            file.close()
    values = {_text(field.field_name): _text(field.value) for field in fields}
    return await asyncio.to_thread(decode_picture, data, name, config.max_picture_pixels), values


def decode_picture(data: bytes, name: str, max_pixels: int) -> Image:
    """Decode a JPEG or PNG and rotate it as its EXIF orientation says.

    Pillow reads the dimensions before it allocates the pixels, and refuses a truncated file, which OpenCV would fill up
    with grey.

    Args:
        data: The file.
        name: Name of the file in error messages.
        max_pixels: Most pixels of an accepted picture.

    Raises:
        TooLarge: The picture has more pixels.
        InvalidPicture: The file is neither JPEG nor PNG, or damaged.
    """
    if not data:
        raise InvalidPicture(f"the posted file {name} is empty")
    reader = next((reader for start, reader in _READERS.items() if data.startswith(start)), None)
    if reader is None:
        raise InvalidPicture(f"{name} is neither JPEG nor PNG; post a picture of one person")
    try:
        # not `PIL.Image.open`, which Ultralytics replaces in every process that imports it
        with reader(BytesIO(data)) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise _too_many(name, max_pixels)
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise InvalidPicture(f"{name} cannot be decoded: {error}") from error
    return np.ascontiguousarray(np.asarray(upright)[..., ::-1])


def _too_many(name: str, max_pixels: int) -> TooLarge:
    return TooLarge(
        f"{name} has more than {max_pixels} pixels, the limit of this service (serving.identities.max_picture_pixels)"
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
