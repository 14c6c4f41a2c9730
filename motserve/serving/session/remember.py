"""Puts people of videos into the index and takes them out, where a store that fails must not undo the rest."""

from __future__ import annotations

import logging
import sqlite3

from motserve.people.identity_store import IdentityStore
from motserve.people.identity_summaries import IdentitySummaries


def remember(store: IdentityStore, video_id: str, model: str, book: IdentitySummaries, logger: logging.Logger) -> None:
    """Put the people of a video into the index. That it cannot be written to does not undo the tracks.

    Args:
        store: The index.
        video_id: The video.
        model: Key of the model that embedded them.
        book: The people.
        logger: Where it is told.
    """
    extra = {"video_id": video_id, "identities": len(book), "dropped": book.dropped}
    try:
        store.remember(video_id, model, book.summaries())
    except sqlite3.Error:
        logger.exception("the people of this video cannot be searched for: the index was not written", extra=extra)
    else:
        logger.info("people remembered", extra=extra)


def forget(store: IdentityStore, video_id: str, logger: logging.Logger) -> None:
    """Take the people of a video that failed out of the index.

    Args:
        store: The index.
        video_id: The video.
        logger: Where it is told that this could not be done.
    """
    try:
        store.forget([video_id])
    except sqlite3.Error:  # a search forgets the people of failed videos as well
        logger.exception("the people of this video are still in the index", extra={"video_id": video_id})
