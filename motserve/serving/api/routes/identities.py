"""Routes of the resource identity: the people of all finished videos, and the search for similar ones."""

from __future__ import annotations

import hashlib
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.convertors import IntegerConvertor, register_url_convertor

from motserve.errors import BadRequest, Conflict
from motserve.serving.api.bodies import body_kind, describe_body, read_json
from motserve.serving.api.conditional import NOT_MODIFIED, etag_of, unless_known
from motserve.serving.api.identity_search import identity_with_video, search_identity, search_picture
from motserve.serving.api.openapi import links
from motserve.serving.api.openapi.headers import ETAG, IF_NONE_MATCH
from motserve.serving.api.picture_upload import receive_picture
from motserve.serving.api.problems import problem_responses
from motserve.serving.api.schemas import (
    IDENTITIES,
    MAX_NUMBER,
    IdentityDetails,
    IdentityMatches,
    IdentitySearch,
    PictureSearch,
)
from motserve.serving.api.service import ServiceDependency

Body = TypeVar("Body", bound=BaseModel)


def _enabled(service: ServiceDependency) -> None:
    if not service.config.serving.identities.enabled:
        raise Conflict("the identity index is disabled in this service (serving.identities.enabled)")


router = APIRouter(
    prefix=IDENTITIES, tags=["identities"], dependencies=[Depends(_enabled)], responses=problem_responses(503)
)


class _ShortNumber(IntegerConvertor):
    """A number of a path; Python refuses to read one of thousands of digits."""

    regex = "[0-9]{1,20}"


register_url_convertor("number", _ShortNumber())

IdentityId = Annotated[int, Path(ge=1, le=MAX_NUMBER, description="ID of the identity across all videos.")]

_BODY = describe_body(
    "JPEG or PNG of one person, cropped tightly from head to feet.",
    "image/jpeg, image/png",
    IdentitySearch,
    PictureSearch,
)


@router.post(
    "/search",
    summary="Search for a person",
    openapi_extra=_BODY,
    responses={200: {"links": links.MATCHES}, **problem_responses(400, 404, 408, 409, 413, 415, 422, 503)},
)
async def search(request: Request, service: ServiceDependency) -> IdentityMatches:
    """Return the people who are most similar to the person in a picture or a video, with distances and thumbnails.

    The matches are candidates: identities of different videos are never merged.
    """
    if body_kind(request) == "form":
        serving = service.config.serving
        with service.uploads.slot(request):
            picture, fields = await receive_picture(request, serving.identities, serving.uploads)
        return await search_picture(service, picture, _validated(PictureSearch, fields))
    try:
        body = await read_json(request, service.config.serving.uploads)
        search = IdentitySearch.model_validate_json(body)
    except ValidationError as error:
        raise _bad_request(error) from error
    return await search_identity(service, search)


@router.get(
    "/{identity_id:number}",
    summary="Get an identity",
    responses={200: {"links": links.IDENTITY}, **problem_responses(404, 409, 422)},
)
async def get_identity(identity_id: IdentityId, service: ServiceDependency) -> IdentityDetails:
    """Return the video of an identity, its times in the video, and the path of its thumbnail."""
    return IdentityDetails.of(*await service.stores.run(identity_with_video, service, identity_id))


@router.get(
    "/{identity_id:number}/thumbnail.jpg",
    summary="Get the thumbnail of an identity",
    response_class=Response,
    openapi_extra={"parameters": [IF_NONE_MATCH]},
    responses={
        200: {"content": {"image/jpeg": {}}, "headers": ETAG},
        304: {**NOT_MODIFIED, "headers": ETAG},
        **problem_responses(404, 409, 422),
    },
)
async def get_thumbnail(request: Request, identity_id: IdentityId, service: ServiceDependency) -> Response:
    """Return the best crop of the person, in the size of the embedder's input."""
    await service.stores.run(identity_with_video, service, identity_id)
    thumbnail = await service.stores.run(service.identities.thumbnail, identity_id)
    headers = {"ETag": etag_of(hashlib.sha256(thumbnail).hexdigest())}
    return unless_known(request, Response(thumbnail, media_type="image/jpeg", headers=headers))


def _validated(kind: type[Body], fields: dict[str, str]) -> Body:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise _bad_request(error) from error


def _bad_request(error: ValidationError) -> BadRequest:
    lines = (f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
    return BadRequest(f"the search is invalid: {'; '.join(lines)}")
