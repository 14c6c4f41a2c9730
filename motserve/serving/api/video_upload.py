"""Receives a posted video: a form streamed to disk up to a size limit, or a URL of a file in an allowed folder.

It also holds the parser of forms, which posted pictures use too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from fastapi import Request
from pydantic import ValidationError
from python_multipart.exceptions import FileError, FormParserError
from python_multipart.multipart import Field, File, FormParser, MultipartParser, parse_options_header

from motserve.config import ServingConfig
from motserve.errors import BadRequest, Forbidden, NotFound
from motserve.files.names import readable
from motserve.models.credentials import without_credentials
from motserve.serving.api.bodies import FORM_OVERHEAD, capped, read_json
from motserve.serving.api.schemas import VideoUrl

_MAX_NAME_CHARACTERS = 255
_PLAIN = (b"binary", b"8bit", b"7bit", b"")  # encodings that change nothing


async def receive_form(request: Request, folder: Path, target: Path, config: ServingConfig) -> str:
    """Write the file of a multipart form to disk as it arrives.

    Args:
        request: The request, its body not read yet.
        folder: Folder for the incomplete file, on the same file system as the target.
        target: Path of the complete file.
        config: Size of the largest accepted file, and least speed of an upload.

    Returns:
        The file's name as the client gave it.

    Raises:
        TooLarge: The file is larger; the rest of the body is not read.
        TooSlow: The body does not arrive.
        BadRequest: The form is malformed or empty, does not hold exactly one file, or its other fields are too large.
    """
    files: list[File] = []
    settings = {"UPLOAD_DIR": str(folder), "UPLOAD_DELETE_TMP": False, "MAX_MEMORY_FILE_SIZE": 0}
    parser = form_parser(request, settings, on_file=files.append)
    try:
        async for block in capped(request, config.uploads, config.max_upload_bytes, "serving.max_upload_bytes"):
            await asyncio.to_thread(parser.write, block)
        parser.finalize()
        if len(files) != 1:
            raise BadRequest(f"the form must hold exactly one file, it holds {len(files)}")
    except FileError as error:  # an error of the disk, not of the form
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
    except FormParserError as error:
        raise BadRequest(f"the form is malformed: {error}") from error
    finally:
        parser.close()
        for file in files:
            file.close()
    name = display_name(files[0].file_name, "video")
    if not files[0].size:
        raise BadRequest(f"the posted file {name} is empty")
    if files[0].actual_file_name is None:
        raise BadRequest(f"the posted file {name} is incomplete")
    upload = Path(os.fsdecode(files[0].actual_file_name))
    target.touch()
    # the parser creates files that only its own user can read; a backup may be restored by another user
    shutil.copymode(target, upload)
    upload.replace(target)
    return name


async def receive_url(request: Request, config: ServingConfig) -> Path:
    """Read a JSON body with the URL of a video and check that the service may read that file.

    Returns:
        The path of the video, symbolic links resolved.

    Raises:
        BadRequest: The body is not `{"url": …}`, or the URL's scheme is not supported.
        Forbidden: The path is not in one of the folders of `serving.allowed_roots`.
        NotFound: There is no such file.
    """
    try:
        url = VideoUrl.model_validate_json(await read_json(request, config.uploads)).url
    except ValidationError as error:
        raise BadRequest(f'the body must be {{"url": "file:///…"}}: {error.errors()[0]["msg"]}') from error
    try:
        # resolved before the comparison, so that neither `..` nor a symbolic link leads out of the root
        path = _path_of(url).resolve()
        roots = [root.resolve() for root in config.allowed_roots]
        if not _is_below(path, roots):
            raise Forbidden(f"{url} is not in a folder that the service may read (serving.allowed_roots)")
        # a folder of pictures must not lead out of the roots either
        if path.is_dir() and not await asyncio.to_thread(_stays_below, path, roots):
            raise Forbidden(f"{url} holds a link out of the folders that the service may read (serving.allowed_roots)")
        if not (path.is_file() or path.is_dir()):  # a pipe or a device is none either
            raise NotFound(f"there is no video at {url}")
    except (OSError, RuntimeError) as error:  # a name that is too long, a cycle of symbolic links
        raise NotFound(f"there is no video at {url}") from error
    return path


def _is_below(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _stays_below(folder: Path, roots: Sequence[Path]) -> bool:
    """Return whether no symbolic link in a folder or in its subfolders leads out of some roots."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                try:
                    target = Path(entry.path).resolve()
                except (OSError, RuntimeError):  # a cycle of links
                    return False
                if not _is_below(target, roots):
                    return False
            elif entry.is_dir() and not _stays_below(Path(entry.path), roots):
                return False
    return True


def display_name(name: bytes | str | None, default: str) -> str:
    """Return the printable name of a video or picture for responses and logs.

    Args:
        name: File name or path from the client; any bytes.
        default: The name to use if that is empty.
    """
    text = os.fsdecode(name or b"").replace("\\", "/").rstrip("/").rpartition("/")[2]
    return readable(text[:_MAX_NAME_CHARACTERS]) or default


def _path_of(url: str) -> Path:
    """Return the path in a `file://` URL; percent-encoded bytes need not be UTF-8.

    Raises:
        BadRequest: It is not such a URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadRequest(f"{url} is not a valid URL: {error}") from error
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        supported = "only file:// URLs of the service's own disk are supported"
        raise BadRequest(f"{without_credentials(url)}: {supported}; live streams are not")
    if parts.query or parts.fragment:
        raise BadRequest(f"{url}: write ? and # in the path of a file as %3F and %23")
    decoded = unquote_to_bytes(parts.path)
    if b"\0" in decoded:
        raise BadRequest("the URL contains a zero byte")
    return Path(os.fsdecode(decoded))


def form_parser(
    request: Request,
    settings: dict[str, Any],
    on_file: Callable[[File], None],
    on_field: Callable[[Field], None] | None = None,
) -> FormParser:
    """Return a parser for a multipart form with one file.

    The parser raises BadRequest at a second file, and if the rest of the form has more than 64 KiB, because the parser
    keeps that in memory.

    Args:
        request: The request.
        settings: Settings of python-multipart, such as the folder of uploads.
        on_file: Called with each complete file.
        on_field: Called with each other field; None ignores them.

    Raises:
        BadRequest: The content type has no boundary, or a longer one than RFC 2046 allows.
    """
    kind, options = parse_options_header(request.headers["content-type"])
    if b"boundary" not in options:
        raise BadRequest("the form has no boundary in its Content-Type")
    try:
        return _LimitedForm(kind.decode(), on_field, on_file, boundary=options[b"boundary"], config=settings)
    except FormParserError as error:
        raise BadRequest(f"the form is malformed: {error}") from error


class _LimitedForm(FormParser):
    """A parser of forms with limits, which also gives away a file that is not complete, so that it can be closed."""

    def __init__(self, *values: Any, **settings: Any) -> None:
        super().__init__(*values, **settings)
        self._limits = _FormLimits()
        if isinstance(self.parser, MultipartParser):
            self._limits.attach(self.parser)

    def close(self) -> None:
        """End the form; a file that is not complete goes to `on_file`."""
        if isinstance(self.parser, MultipartParser) and self._limits.has_open_file:
            self.parser.callback("part_end")
        super().close()


class _FormLimits:
    """Counts the files and bytes of a form as they arrive; the parser's own events come only after a complete part.

    Attributes:
        has_open_file: Whether data of a file has arrived, and the file is not complete.
    """

    def __init__(self) -> None:
        self._files = 0
        self._in_file = False
        self.has_open_file = False
        self._other_bytes = 0
        self._name = b""
        self._value = b""
        self._disposition = b""

    def attach(self, parser: MultipartParser) -> None:
        """Register the counters so that they are called before the callbacks that the parser already has."""
        counters: dict[str, Callable[..., None]] = {
            "part_begin": self._begin,
            "header_field": self._header_name,
            "header_value": self._header_value,
            "header_end": self._header_end,
            "headers_finished": self._headers_finished,
            "part_data": self._data,
            "part_end": self._end,
        }
        callbacks: Mapping[str, Any] = dict(parser.callbacks)
        for name, counter in counters.items():
            parser.set_callback(name, _in_sequence(counter, callbacks[f"on_{name}"]))  # type: ignore[arg-type]

    def _begin(self) -> None:
        self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        # RFC 7578 deprecates it; browsers send none, libraries binary or 8bit
        if self._name.lower() == b"content-transfer-encoding" and self._value.strip().lower() not in _PLAIN:
            raise BadRequest("the form has a Content-Transfer-Encoding other than binary; send the file as it is")
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        self._in_file = b"filename" in parse_options_header(self._disposition)[1]
        self._files += self._in_file
        if self._files > 1:
            raise BadRequest(f"the form must hold exactly one file, it holds {self._files} or more")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.has_open_file = self._in_file
        if not self._in_file:
            self._count(end - start)

    def _end(self) -> None:
        self.has_open_file = False

    def _count(self, size: int) -> None:
        self._other_bytes += size
        if self._other_bytes > FORM_OVERHEAD:
            raise BadRequest(f"the form holds more than {FORM_OVERHEAD} bytes besides its file")


def _in_sequence(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def both(*values: Any) -> None:
        first(*values)
        second(*values)

    return both
