"""The `motserve` command."""

from motserve.cli.main import app

__all__ = ["app"]
