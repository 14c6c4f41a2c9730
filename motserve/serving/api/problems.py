"""Turns errors into HTTP statuses and problem bodies (RFC 9457)."""

from __future__ import annotations

import logging
import re
import sqlite3
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError
from starlette.exceptions import HTTPException

from motserve import errors
from motserve.files.disk import is_full, unusable
from motserve.files.names import readable
from motserve.serving.api.head_routes import allowed_methods
from motserve.serving.api.openapi.headers import OF_STATUS, reference
from motserve.serving.api.schemas import Problem

logger = logging.getLogger("motserve.ingress")

_STATUS: dict[type[errors.MotserveError], int] = {
    errors.BadRequest: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TooSlow: 408,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.UnsatisfiableRange: 416,
    errors.InvalidVideo: 422,
    errors.InvalidPicture: 422,
    errors.NotReady: 503,
    errors.WeightsUnavailable: 503,
    errors.Overloaded: 503,
    errors.DiskFull: 507,
}
_MEDIA_TYPE = "application/problem+json"


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI documentation of the error responses of a route."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {_MEDIA_TYPE: {"schema": reference(Problem)}},
            "headers": OF_STATUS.get(status, {}),
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Install the handlers of all errors in an application."""

    @app.exception_handler(errors.MotserveError)
    async def _ours(request: Request, error: errors.MotserveError) -> JSONResponse:
        if isinstance(error, RayTaskError):  # it is an instance of both, and its text is a traceback
            error = error.cause
        status = errors.nearest(_STATUS, type(error), 500)
        if status >= 500:
            logger.error("%s", error, extra={"path": request.url.path, "status": status})
        headers = None
        if isinstance(error, errors.Overloaded):
            headers = {"Retry-After": str(error.retry_after_s)}
        elif isinstance(error, errors.Unauthorized):
            headers = {"WWW-Authenticate": "Bearer"}
        elif isinstance(error, errors.UnsatisfiableRange):
            headers = {"Content-Range": f"bytes */{error.size}"}
        return _problem(type(error).__name__, status, str(error), headers=headers)

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.OperationalError)
    async def _disk(request: Request, error: Exception) -> JSONResponse:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if is_full(cause):
            logger.error("the disk is full: %s", cause, extra={"path": request.url.path, "status": 507})
            return _problem("DiskFull", 507, "the disk of the service is full (serving.storage_dir); try again later")
        state = unusable(cause)
        if state is None:
            raise error  # handled by `_unexpected`
        logger.error("the storage cannot be used: %s", cause, extra={"path": request.url.path, "status": 503})
        retry_after_s = request.app.state.service.config.serving.retry_after_s
        return _problem(
            "StorageUnavailable",
            503,
            f"the storage of the service (serving.storage_dir) {state}; try again later",
            headers={"Retry-After": str(retry_after_s)},
        )

    @app.exception_handler(RequestValidationError)
    async def _fields(request: Request, error: RequestValidationError) -> JSONResponse:
        fields = [
            {"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in jsonable_encoder(error.errors())
        ]
        detail = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
        return _problem("InvalidRequest", 422, detail, fields=fields)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = {"Allow": allowed_methods(request)} if error.status_code == 405 else error.headers
        return _problem("HttpError", error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, BackPressureError):
            raise error  # Ray Serve turns it into a response with the configured status and Retry-After
        logger.error("unexpected error", exc_info=error, extra={"path": request.url.path})
        return _problem("InternalError", 500, f"{type(error).__name__}; see the log of the service")


def _problem(
    kind: str,
    status: int,
    detail: str,
    fields: list[dict[str, Any]] | None = None,
    headers: Any = None,
) -> JSONResponse:
    words = re.findall(r"[A-Z][a-z]*", kind)
    body = Problem(
        type="urn:motserve:problem:" + "-".join(words).lower(),
        title=" ".join(words).capitalize(),
        status=status,
        detail=readable(detail),
        errors=fields,
    )
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, media_type=_MEDIA_TYPE)
