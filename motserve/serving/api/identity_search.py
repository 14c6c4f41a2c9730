"""What a search for a person does around the index: who is meant, what they look like, which videos matches are in."""

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


async def search_picture(service: Service, picture: Image, wanted: PictureSearch) -> IdentityMatches:
    """Return who looks like the person on a picture.

    Args:
        service: The service.
        picture: `(height, width, 3)` uint8 BGR, one person, cut out as a box of a track would be.
        wanted: How many matches, how close.

    Raises:
        InvalidPicture: The picture is too small.
        NotReady: The embedder does not answer.
        Conflict: Everybody in the index was embedded by other weights than those of the service.
    """
    model, embeddings = await _embed(service, picture)
    matches = await asyncio.to_thread(_matches, service, model, embeddings, wanted, ())
    if not matches:
        others = await asyncio.to_thread(service.identities.counts)
        if others and model not in others:
            raise Conflict(
                "the index holds people embedded by other weights than the service has now, and these cannot be "
                f"compared: {', '.join(sorted(others))} against {model}; post the videos again, or serve those weights"
            )
    return IdentityMatches(matches=matches, query=None, model=model)


async def search_identity(service: Service, wanted: IdentitySearch) -> IdentityMatches:
    """Return who in other videos looks like a person of a video.

    Raises:
        NotFound: There is no such video or person, or the person is not in the index.
        Conflict: The video is not done.
    """
    return await asyncio.to_thread(_search_identity, service, wanted)


def remembered(service: Service, identity_id: int) -> tuple[Identity, Job]:
    """Return an identity and its video.

    Raises:
        NotFound: Either is not there, or not any more.
    """
    identity = service.identities.get(identity_id)
    return identity, service.jobs.get(identity.video_id)


def _search_identity(service: Service, wanted: IdentitySearch) -> IdentityMatches:
    job = service.jobs.get(wanted.video_id)
    if job.status != "done":
        raise Conflict(f"video {job.id} is {job.status}; its people can be searched for once it is done")
    number = wanted.identity if wanted.track is None else _identity_of_track(service, job, wanted.track)
    person = service.identities.find(job.id, number or 0)
    excluded = {person.id} if wanted.include_same_video else service.identities.of_video(job.id)
    matches = _matches(service, person.model, service.identities.embeddings(person.id), wanted, excluded)
    return IdentityMatches(matches=matches, query=IdentityDetails.of(person, job), model=person.model)


def _matches(
    service: Service, model: str, embeddings: FloatArray, wanted: PictureSearch, excluded: Collection[int]
) -> list[IdentityMatch]:
    limit = min(wanted.limit, service.config.serving.identities.max_results)
    index = service.indexes.of(model)
    while True:
        matches = index.search(embeddings, limit, excluded, wanted.max_distance)
        people = service.identities.several([match.id for match in matches])
        videos = {person.video_id for person in people.values()}
        jobs = service.jobs.several(videos)
        lost = {video for video in videos if video not in jobs or jobs[video].status == "failed"}
        if not lost:
            break
        # a session that was stopped while it wrote may have left people of a video that is not there any more
        service.identities.forget(lost)
    return [
        IdentityMatch.near(people[match.id], jobs[people[match.id].video_id], match.distance)
        for match in matches
        if match.id in people
    ]


async def _embed(service: Service, picture: Image) -> tuple[str, FloatArray]:
    reid, limits = service.config.reid, service.config.serving.identities
    least = reid.trust.min_height
    height, width = picture.shape[:2]
    if height < least:
        raise InvalidPicture(
            f"the picture is {height} pixels high; people of less than {least:g} are not told apart "
            "(reid.trust.min_height)"
        )
    whole = np.array([[0, 0, width, height]], np.float32)
    crops = cut_crops(picture, whole, reid.crop_height, reid.crop_width)
    try:
        names = await asyncio.to_thread(service.reloader.names, "reid")
        info = await asyncio.wait_for(service.embedder.info.remote(names), limits.embed_timeout_s)
        with service.tracing.span("embed", "client"):
            origin = RequestContext.current(service.tracing.headers())
            answer = service.embedder.embed.remote(crops, names, origin)
            embeddings = await asyncio.wait_for(answer, limits.embed_timeout_s)
    except asyncio.TimeoutError as error:
        raise NotReady(f"the embedder did not answer within {limits.embed_timeout_s:g} s") from error
    except RayActorError as error:
        raise NotReady(f"the embedder died while it was asked ({type(error).__name__}); try again") from error
    return model_key(info.weights, reid), embeddings


def _identity_of_track(service: Service, job: Job, track: int) -> int:
    """Return the identity that a track of a video had, that of most frames where it changed."""
    identities: Counter[int] = Counter()
    for line in read_lines(service.artifacts.results(job.id)):
        identities.update(row["id"] for row in orjson.loads(line)["tracks"] if row["track"] == track)
    if not identities:
        raise NotFound(f"video {job.id} has no track {track}")
    return identities.most_common(1)[0][0]
