"""Where the service keeps what outlives a request: rows in SQLite, files in a folder for each video."""

from motserve.serving.stores.artifacts import VIDEOS_FOLDER, ArtifactStore, attempt_of
from motserve.serving.stores.jobs import ACTIVE, JOBS_FILE, JOBS_STEPS, Job, JobStore, Status

__all__ = [
    "ACTIVE",
    "JOBS_FILE",
    "JOBS_STEPS",
    "VIDEOS_FOLDER",
    "ArtifactStore",
    "Job",
    "JobStore",
    "Status",
    "attempt_of",
]
