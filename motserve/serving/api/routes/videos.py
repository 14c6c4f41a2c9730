"""Routes of the resource video: post, list, status, tracks, annotated video, delete."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from ray.exceptions import RayActorError

import motserve
from motserve.errors import Conflict, NotFound, Overloaded
from motserve.files.disk import is_full
from motserve.results import MEDIA_TYPES, SUFFIXES, Format, export, read_lines
from motserve.serving.api.annotated_video import annotated_file
from motserve.serving.api.bodies import body_kind, declared_length, describe_body
from motserve.serving.api.conditional import NOT_MODIFIED, RangedFile, etag_of, headers_only, http_date, unless_known
from motserve.serving.api.openapi import links
from motserve.serving.api.openapi.headers import (
    DISPOSITION,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    LOCATION,
    RANGE,
    VALIDATORS,
    reference,
)
from motserve.serving.api.openapi.tracks import TrackedVideo
from motserve.serving.api.problems import problem_responses
from motserve.serving.api.result_tail import ResultTail
from motserve.serving.api.run_to_completion import run_to_completion
from motserve.serving.api.schemas import VIDEOS, Links, VideoCreated, VideoList, VideoStatus, VideoUrl, summary_of
from motserve.serving.api.service import Service, ServiceDependency
from motserve.serving.api.video_upload import display_name, receive_form, receive_url
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.stores import ACTIVE, Job
from motserve.serving.stores.disk_space import require_room_for

logger = logging.getLogger("motserve.ingress")
router = APIRouter(prefix=VIDEOS, tags=["videos"], responses=problem_responses(503))

_TRACKS = reference(TrackedVideo)
_POLL_S = 0.5
_DELETE_ATTEMPTS = 6  # of a row in a store on a full disk

_BODY = describe_body("The video file.", "video/*", VideoUrl)


@router.post(
    "",
    status_code=202,
    response_model=VideoCreated,
    summary="Post a video",
    openapi_extra=_BODY,
    responses={
        200: {
            "content": {"application/x-ndjson": {}},
            "description": "With `wait`: one JSON line of tracks per frame.",
            "headers": LOCATION,
        },
        202: {"headers": LOCATION, "links": links.VIDEO},
        **problem_responses(400, 403, 404, 408, 413, 415, 422, 503, 507),
    },
)
async def post_video(
    request: Request,
    response: Response,
    service: ServiceDependency,
    wait: Annotated[
        bool,
        Query(description="Stream the tracks while the video is tracked. A client that disconnects does not stop it."),
    ] = False,
) -> Any:
    """Post a video to be tracked. The response comes once the video is checked and accepted; tracking runs after it."""
    job = await _accept(request, service)
    paths = Links.of(job.id)
    headers = {"Location": paths.self}
    if wait:
        return StreamingResponse(_stream_tracks(service, job.id), media_type=MEDIA_TYPES["ndjson"], headers=headers)
    response.headers.update(headers)
    return VideoCreated(id=job.id, links=paths)


@router.get("", summary="List videos", responses={200: {"links": links.VIDEOS}, **problem_responses(404, 422)})
async def list_videos(
    service: ServiceDependency,
    limit: Annotated[
        int, Query(ge=1, description="Most videos per page; capped by `serving.max_page_size` of the service.")
    ] = 20,
    after: Annotated[
        str | None, Query(description="Start after the video with this ID: `next` of the previous page.")
    ] = None,
) -> VideoList:
    """Return a page of videos, newest first."""
    limit = min(limit, service.config.serving.max_page_size)
    jobs = await service.stores.run(service.jobs.page, limit + 1, after)
    page = [VideoStatus.of(job) for job in jobs[:limit]]
    return VideoList(videos=page, next=page[-1].id if len(jobs) > limit else None)


@router.get(
    "/{video_id}",
    summary="Get the status of a video",
    responses={200: {"links": links.VIDEO}, **problem_responses(404, 422)},
)
async def get_video(video_id: str, service: ServiceDependency) -> VideoStatus:
    """Return status, progress, speed, models and error of a video."""
    return VideoStatus.of(await service.stores.run(service.jobs.get, video_id))


@router.get(
    "/{video_id}/tracks",
    summary="Get the tracks of a video",
    response_class=StreamingResponse,
    openapi_extra={"parameters": [IF_NONE_MATCH, IF_MODIFIED_SINCE]},
    responses={
        200: {
            "content": {**{kind: {} for kind in MEDIA_TYPES.values()}, "application/json": {"schema": _TRACKS}},
            "headers": {**VALIDATORS, **DISPOSITION},
        },
        304: {**NOT_MODIFIED, "headers": VALIDATORS},
        **problem_responses(404, 409, 422),
    },
)
async def get_tracks(
    request: Request,
    video_id: str,
    service: ServiceDependency,
    format: Annotated[  # noqa: A002
        Format, Query(description="`mot` counts frames and pixels from 1, the other formats from 0.")
    ] = "json",
    partial: Annotated[
        bool, Query(description="Whether to return the tracks of a failed video up to the failure; otherwise 409.")
    ] = False,
) -> Response:
    """Return the tracks of a video, or those so far if it is running. Tracks of a finished video have an `ETag`."""
    job = await service.stores.run(service.jobs.get, video_id)
    if job.status == "failed" and not partial:
        raise Conflict(
            f"video {video_id} failed after {job.frames_done} frames: {(job.error or {}).get('message', '')}; "
            "?partial=true returns the tracks of those frames"
        )
    path = service.artifacts.results(video_id)
    head: dict[str, Any] = {
        "video": {"name": job.name, **(job.video or {})},
        "models": job.models,
        "summary": summary_of(job),
    }
    headers = {"Content-Disposition": f'inline; filename="{video_id}{SUFFIXES[format]}"'}
    if job.status == "done":
        headers |= await asyncio.to_thread(_validators, path, format, head)
    if request.method == "HEAD":
        return unless_known(request, headers_only(MEDIA_TYPES[format], headers))
    content = export(read_lines(path) if path.exists() else (), format, **head, name=video_id)
    return unless_known(request, StreamingResponse(content, media_type=MEDIA_TYPES[format], headers=headers))


@router.get(
    "/{video_id}/annotated.mp4",
    summary="Get the annotated video",
    response_class=FileResponse,
    openapi_extra={"parameters": [IF_NONE_MATCH, IF_MODIFIED_SINCE, *RANGE]},
    responses={
        200: {"content": {"video/mp4": {}}, "headers": VALIDATORS},
        206: {
            "content": {"video/mp4": {}, "multipart/byteranges": {}},
            "description": "With `Range`: one part of the file, or several.",
            "headers": VALIDATORS,
        },
        304: {**NOT_MODIFIED, "headers": VALIDATORS},
        **problem_responses(404, 409, 416, 422, 507),
    },
)
async def get_annotated(request: Request, video_id: str, service: ServiceDependency) -> Response:
    """Return the video with a box around every person in the colour of the identity. The first GET renders it.

    HEAD does not render it: before the first GET, its response has neither `Content-Length` nor `ETag`.
    """
    job = await service.stores.run(service.jobs.get, video_id)
    if job.status != "done":
        raise Conflict(f"video {video_id} is {job.status}; the annotated video is available once it is done")
    if request.method == "HEAD" and not service.artifacts.annotated(video_id).exists():
        return headers_only("video/mp4", {"Accept-Ranges": "bytes"})
    path = await annotated_file(service, job)
    try:
        stat = await asyncio.to_thread(path.stat)
    except FileNotFoundError as error:  # the video was deleted in the meantime
        raise NotFound(f"there is no video {video_id}") from error
    return unless_known(request, RangedFile(path, media_type="video/mp4", stat_result=stat))


@router.delete("/{video_id}", status_code=204, summary="Delete a video", responses=problem_responses(404, 422, 507))
async def delete_video(video_id: str, service: ServiceDependency) -> None:
    """Stop tracking a video and delete its files, its results and its identities in the index."""
    await run_to_completion(partial(_delete, service, video_id), service.stores.threads)


@router.post(
    "/{video_id}/retry",
    status_code=202,
    summary="Track a failed video again",
    responses={202: {"links": links.VIDEO}, **problem_responses(404, 409, 422, 503, 507)},
)
async def retry_video(video_id: str, service: ServiceDependency) -> VideoStatus:
    """Track a failed video again, from its first frame; its tracks so far are replaced."""
    job = await service.stores.run(service.jobs.get, video_id)
    if not await asyncio.to_thread(Path(job.source).exists):
        raise Conflict(f"the file of video {video_id} is no longer there; post it again")
    context = RequestContext.current(service.tracing.headers(), video_id)
    return VideoStatus.of(
        await run_to_completion(partial(service.sessions.retry, job, context), service.stores.threads)
    )


async def _accept(request: Request, service: Service) -> Job:
    """Receive a video, check it and start its session. A refused video leaves no files.

    If the client disconnects before the session starts, the video is removed; if it disconnects during the start, the
    video stays and is in the list.
    """
    kind = body_kind(request)
    length = declared_length(request)
    if length <= service.config.serving.max_upload_bytes:  # a larger one is refused as too large, not as out of space
        await require_room_for(service.config, length)
    video_id = uuid.uuid4().hex
    folder = service.artifacts.create(video_id)
    try:
        if kind == "form":
            source = service.artifacts.source(video_id)
            with service.uploads.slot(request):
                name = await receive_form(request, folder, source, service.config.serving)
        else:
            source = await receive_url(request, service.config.serving)
            name = display_name(source.name, "video")
        await service.probes.check(source, name)
    except BaseException:
        await run_to_completion(partial(service.artifacts.delete, video_id))
        raise
    job = Job(video_id, name, str(source), time.time())
    context = RequestContext.current(service.tracing.headers(), video_id)
    await run_to_completion(partial(_start, service, job, context), service.stores.threads)
    logger.info("video accepted", extra={"video_id": video_id, "source": name})
    return job


def _validators(path: Path, format: Format, head: Mapping[str, Any]) -> dict[str, str]:  # noqa: A002
    """Return `ETag` and `Last-Modified` of the tracks of a finished video."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return {}
    etag = etag_of(motserve.__version__, format, head, stat.st_size, stat.st_mtime_ns)
    return {"ETag": etag, "Last-Modified": http_date(stat.st_mtime)}


def _delete(service: Service, video_id: str) -> None:
    """Delete a video completely, in one call: once its row is deleted, its files can no longer be found by ID."""
    job = service.jobs.get(video_id)
    try:
        service.jobs.delete(video_id)
    except sqlite3.OperationalError as error:
        if not is_full(error):
            raise
        service.sessions.stop(job)
        service.artifacts.delete(video_id)  # frees the space that SQLite needs for its journal
        _delete_row(service, video_id)
    service.sessions.stop(job)
    service.artifacts.delete(video_id)
    service.identities.remove([video_id])


def _delete_row(service: Service, video_id: str) -> None:
    """Delete the row of a video; retry, because the session holds the space of the deleted files until it stops."""
    for _ in range(_DELETE_ATTEMPTS - 1):
        try:
            service.jobs.delete(video_id)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            time.sleep(_POLL_S)
        else:
            return
    service.jobs.delete(video_id)


def _start(service: Service, job: Job, context: RequestContext) -> None:
    """Start the session of a video; delete its files if that fails, even if the client has disconnected by then."""
    try:
        service.sessions.start(job, context)
    except BaseException:
        service.artifacts.delete(job.id)
        raise


async def _stream_tracks(service: Service, video_id: str) -> AsyncIterator[bytes]:
    """Yield the lines of the result file as they are appended; if the video fails, the last line is its error."""
    tail = ResultTail(service.artifacts.results(video_id))
    last = False
    while True:
        lines = await asyncio.to_thread(tail.read)
        if lines:
            yield lines
        elif last:
            break
        else:
            last = await _wait_for_more(service, video_id, tail.frames)
    job = await _present_job(service, video_id)
    if job is not None and job.error:
        yield orjson.dumps({"error": job.error}, option=orjson.OPT_APPEND_NEWLINE)


async def _present_job(service: Service, video_id: str) -> Job | None:
    """Return the job of a video, None if it was deleted; wait while the store does not answer."""
    while True:
        try:
            return await service.stores.run(service.jobs.get, video_id)
        except NotFound:
            return None
        except (sqlite3.OperationalError, Overloaded) as error:
            logger.warning("a stream of tracks waits for the job store: %s", error, extra={"video_id": video_id})
            await asyncio.sleep(_POLL_S)


async def _wait_for_more(service: Service, video_id: str, frames: int) -> bool:
    """Wait until the session has written more than `frames` frames; return whether the video has ended."""
    job = await _present_job(service, video_id)
    if job is None or job.status not in ACTIVE:
        return True
    session = service.sessions.find(job)
    if session is not None:
        with suppress(RayActorError):
            return bool(await session.wait_for_frames.remote(frames))
    # the session has ended, another session is about to resume the video, or it runs in another cluster
    await asyncio.sleep(_POLL_S)
    return False
