"""The session of a video: its actor, its lease, its checkpoints and its restart."""
