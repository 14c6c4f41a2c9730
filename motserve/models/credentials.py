"""Removes user names and passwords from texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# up to the last @ of the host, or a password with a slash, which databases accept; not a port or another address
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/\s]+|[^/:@\s]*:(?!\d+/)(?:(?!//)[^@\s])*)@")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
# cameras and buckets take secrets as parameters
_SECRET = re.compile(
    r"(?i)(?<=[?&])([\w.-]*(?:pass|passwd|password|pwd|token|secret|key|sig|signature|credential|auth|jwt)=)[^&#\s]+"
)


def without_credentials(value: Any) -> Any:
    """Remove user names, passwords and tokens from the addresses in a text or a tree of texts."""
    if isinstance(value, Mapping):
        return {key: without_credentials(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_credentials(item) for item in value]
    return _ADDRESS.sub(_without_secrets, _CREDENTIALS.sub("", value)) if isinstance(value, str) else value


def _without_secrets(address: re.Match[str]) -> str:
    return _SECRET.sub(r"\1***", address[0])
