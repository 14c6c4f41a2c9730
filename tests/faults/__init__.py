"""Programs that break a running service, load it for an hour, and say what became of its videos."""
