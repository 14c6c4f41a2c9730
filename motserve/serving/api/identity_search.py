"""The search for a person: find the query embeddings, search the index, and add the videos of the matches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection

import numpy as np
import orjson
from ray.exceptions import RayActorError

from motserve.errors import Conflict, InvalidPicture, NotFound, NotReady
from motserve.people.identity_store import Identity
from motserve.people.model_key import model_key
from motserve.reid.crops import cut_crops
from motserve.results import read_lines
from motserve.serving.api.schemas import IdentityDetails, IdentityMatch, IdentityMatches, IdentitySearch, PictureSearch
from motserve.serving.api.service import Service
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.stores import Job
from motserve.types import FloatArray, Image


async def search_picture(service: Service, picture: Image, search: PictureSearch) -> IdentityMatches:
    """Return the identities that are most similar to the person in a picture.

    Args:
        service: The service.
        picture: `(height, width, 3)` uint8 BGR, one person, cropped like the box of a track.
        search: Limits of number and distance of the matches.

    Raises:
        InvalidPicture: The picture is too small.
        NotReady: The embedder does not answer.
        Conflict: All embeddings in the index were made with other weights than those of the service.
    """
    model, embeddings = await _embed(service, picture)
    matches = await service.stores.run(_matches, service, model, embeddings, search, (), limit_s=None)
    if not matches:
        indexed = await service.stores.run(service.identities.counts)
        if indexed and model not in indexed:
            raise Conflict(
                "embeddings of different weights cannot be compared: the index holds embeddings of "
                f"{', '.join(sorted(indexed))}, and the service has {model} now; post the videos again, or configure "
                "those weights"
            )
    return IdentityMatches(matches=matches, query=None, model=model)


async def search_identity(service: Service, search: IdentitySearch) -> IdentityMatches:
    """Return the identities of other videos that are most similar to an identity of a video.

    Raises:
        NotFound: There is no such video or identity, or the identity is not in the index.
        Conflict: The video is not done.
    """
    return await service.stores.run(_search_identity, service, search, limit_s=None)


def identity_with_video(service: Service, identity_id: int) -> tuple[Identity, Job]:
    """Return an identity and its video.

    Raises:
        NotFound: One of them does not exist or was deleted.
    """
    identity = service.identities.get(identity_id)
    return identity, service.jobs.get(identity.video_id)


def _search_identity(service: Service, search: IdentitySearch) -> IdentityMatches:
    job = service.jobs.get(search.video_id)
    if job.status != "done":
        raise Conflict(f"video {job.id} is {job.status}; its identities can be searched for once it is done")
    number = search.identity if search.track is None else _identity_of_track(service, job, search.track)
    query = service.identities.find(job.id, number or 0)
    excluded = {query.id} if search.include_same_video else service.identities.of_video(job.id)
    matches = _matches(service, query.model, service.identities.embeddings(query.id), search, excluded)
    return IdentityMatches(matches=matches, query=IdentityDetails.of(query, job), model=query.model)


def _matches(
    service: Service, model: str, embeddings: FloatArray, search: PictureSearch, excluded: Collection[int]
) -> list[IdentityMatch]:
    limit = min(search.limit, service.config.serving.identities.max_results)
    index = service.indexes.of(model)
    while True:
        matches = index.search(embeddings, limit, excluded, search.max_distance)
        identities = service.identities.get_many([match.id for match in matches])
        videos = {identity.video_id for identity in identities.values()}
        jobs = service.jobs.get_many(videos)
        lost = {video for video in videos if video not in jobs or jobs[video].status == "failed"}
        if not lost:
            break
        # a session stopped during its last write may have left identities of a video that was deleted or has failed
        service.identities.remove(lost)
    return [
        IdentityMatch.near(identities[match.id], jobs[identities[match.id].video_id], match.distance)
        for match in matches
        if match.id in identities
    ]


async def _embed(service: Service, picture: Image) -> tuple[str, FloatArray]:
    reid, limits = service.config.reid, service.config.serving.identities
    min_height = reid.trust.min_height
    height, width = picture.shape[:2]
    if height < min_height:
        raise InvalidPicture(
            f"the picture is {height} pixels high; re-identification needs at least {min_height:g} "
            "(reid.trust.min_height)"
        )
    whole = np.array([[0, 0, width, height]], np.float32)
    crops = cut_crops(picture, whole, reid.crop_height, reid.crop_width)
    try:
        names = await asyncio.to_thread(service.reloader.names, "reid")
        info = await asyncio.wait_for(service.backends.embedder.info.remote(names), limits.embed_timeout_s)
        with service.tracing.span("embed", "client"):
            context = RequestContext.current(service.tracing.headers())
            answer = service.backends.embedder.infer.remote(crops, names, context)
            embeddings = await asyncio.wait_for(answer, limits.embed_timeout_s)
    except asyncio.TimeoutError as error:
        raise NotReady(f"the embedder did not answer within {limits.embed_timeout_s:g} s") from error
    except RayActorError as error:
        raise NotReady(f"the embedder died during the request ({type(error).__name__}); try again") from error
    return model_key(info.weights, reid), embeddings


def _identity_of_track(service: Service, job: Job, track: int) -> int:
    """Return the identity of a track of a video; if it changed, the identity of most frames."""
    identities: Counter[int] = Counter()
    for line in read_lines(service.artifacts.results(job.id)):
        identities.update(row["id"] for row in orjson.loads(line)["tracks"] if row["track"] == track)
    if not identities:
        raise NotFound(f"video {job.id} has no track {track}")
    return identities.most_common(1)[0][0]
