"""Adds people of videos to the index and removes them. A failing index is logged and does not fail the video."""

from __future__ import annotations

import logging
import sqlite3

from motserve.people.identity_store import IdentityStore
from motserve.people.identity_summaries import IdentitySummaries


def remember(
    store: IdentityStore, video_id: str, model: str, summaries: IdentitySummaries, logger: logging.Logger
) -> None:
    """Add the people of a video to the index. If it cannot be written, the tracks of the video stay.

    Args:
        store: The index.
        video_id: The video.
        model: Key of the model that embedded them.
        summaries: The people.
        logger: Logger for the result.
    """
    extra = {"video_id": video_id, "identities": len(summaries), "dropped": summaries.dropped}
    try:
        store.remember(video_id, model, summaries.summaries())
    except sqlite3.Error:
        logger.exception("the people of this video cannot be found by search: the index was not written", extra=extra)
    else:
        logger.info("people remembered", extra=extra)


def forget(store: IdentityStore, video_id: str, logger: logging.Logger) -> None:
    """Remove the people of a failed video from the index.

    Args:
        store: The index.
        video_id: The video.
        logger: Logger for a failure.
    """
    try:
        store.forget([video_id])
    except sqlite3.Error:  # a search skips and removes the people of failed videos as well
        logger.exception("the people of this video are still in the index", extra={"video_id": video_id})
