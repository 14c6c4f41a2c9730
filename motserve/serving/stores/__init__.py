"""Storage of the service: rows of the videos in SQLite, and a folder of files per video."""

from motserve.serving.stores.artifacts import VIDEOS_FOLDER, ArtifactStore, attempt_of
from motserve.serving.stores.disk_space import as_disk_full, require_reserve, require_room_for
from motserve.serving.stores.jobs import ACTIVE, JOBS_FILE, JOBS_STEPS, Job, JobStore, Status
from motserve.serving.stores.store_calls import REQUEST_TIMEOUT_S, StoreCalls

__all__ = [
    "ACTIVE",
    "JOBS_FILE",
    "JOBS_STEPS",
    "REQUEST_TIMEOUT_S",
    "VIDEOS_FOLDER",
    "ArtifactStore",
    "Job",
    "JobStore",
    "Status",
    "StoreCalls",
    "as_disk_full",
    "attempt_of",
    "require_reserve",
    "require_room_for",
]
