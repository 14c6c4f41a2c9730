"""The people of one video, collected while it is tracked and added to the index at its end.

A failing index is logged and does not fail the video.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping

from motserve.base import State
from motserve.config import Config
from motserve.people.identity_store import IdentityStore
from motserve.people.identity_summaries import IdentitySummaries
from motserve.people.model_key import model_key
from motserve.types import EmbeddedCrops


class VideoIdentities:
    """Summaries of the people of one video, and its part of the index.

    Args:
        store: The index.
        config: The configuration.
        video_id: The video.
        logger: Logger for results and failures.
    """

    def __init__(self, store: IdentityStore, config: Config, video_id: str, logger: logging.Logger) -> None:
        self._index = store
        self._summaries = IdentitySummaries(config.serving.identities)
        self._config = config.reid
        self._video_id = video_id
        self._logger = logger

    def add(self, crops: EmbeddedCrops) -> None:
        """Add the embedded people of a frame."""
        self._summaries.add(crops.identities, crops.embeddings, crops.crops, crops.boxes, crops.scores, crops.timestamp)

    def state_dict(self) -> State:
        """Return the summaries so far."""
        return self._summaries.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Load the summaries of a checkpoint.

        Raises:
            ValueError: They do not fit.
        """
        self._summaries.load_state_dict(state)

    def store(self, embedder: Mapping[str, str]) -> None:
        """Add the people to the index. If it cannot be written, the tracks of the video stay.

        Args:
            embedder: Name and checksum of the embedder.
        """
        summaries = self._summaries
        extra = {"video_id": self._video_id, "identities": len(summaries), "dropped": summaries.dropped}
        try:
            self._index.put(self._video_id, model_key(embedder, self._config), summaries.summaries())
        except sqlite3.Error:
            self._logger.exception(
                "the people of this video cannot be found by search: the index was not written", extra=extra
            )
        else:
            self._logger.info("people added to the index", extra=extra)

    def remove(self) -> None:
        """Remove the people of this video from the index."""
        remove_identities(self._index, self._video_id, self._logger)


def remove_identities(store: IdentityStore, video_id: str, logger: logging.Logger) -> None:
    """Remove the people of a failed video from the index.

    Args:
        store: The index.
        video_id: The video.
        logger: Logger for a failure.
    """
    try:
        store.remove([video_id])
    except sqlite3.Error:  # a search skips and removes the people of failed videos as well
        logger.exception("the people of this video are still in the index", extra={"video_id": video_id})
