"""Keeps user names and passwords out of what is passed around."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# up to the last @ of the host, or a password with a slash, which databases put up with; no port, no other address
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/\s]+|[^/:@\s]*:(?!\d+/)(?:(?!//)[^@\s])*)@")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
# cameras and buckets take them as parameters
_SECRET = re.compile(r"(?i)(?<=[?&])([\w.-]*(?:pass|passwd|password|pwd|token|secret|key|signature|auth)=)[^&#\s]+")


def without_credentials(value: Any) -> Any:
    """Take names, passwords and tokens out of the addresses in a text or a tree of texts; results are passed around."""
    if isinstance(value, Mapping):
        return {key: without_credentials(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_credentials(item) for item in value]
    return _ADDRESS.sub(_without_secrets, _CREDENTIALS.sub("", value)) if isinstance(value, str) else value


def _without_secrets(address: re.Match[str]) -> str:
    return _SECRET.sub(r"\1***", address[0])
