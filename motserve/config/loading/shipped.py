"""Finds the configuration files that motserve ships, by name: `tracker/botsort`.

They are in `config/shipped/` of the package; in a checkout these are links to `configs/` and `serve_config.yaml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from motserve.errors import InvalidConfig

_SHIPPED: Final = Path(__file__).parents[1] / "shipped"
CONFIGS: Final = _SHIPPED / "configs"
"""Folder of the shipped configuration files."""

SERVE_CONFIG: Final = _SHIPPED / "serve_config.yaml"
"""The Serve configuration of the whole service."""

_SUFFIX: Final = ".yaml"


def config_file(path: Path) -> Path:
    """Return the file that a path or a name stands for.

    A file wins over a name. A name has no suffix, so that a missing file of the user is not replaced silently.

    >>> config_file(Path("tracker/botsort")).name
    'botsort.yaml'

    Args:
        path: A path, or the name of a shipped file.

    Returns:
        The shipped file if it is the name of one, else the path.

    Raises:
        InvalidConfig: It is neither; the message lists the names.
    """
    try:
        is_path = path.is_absolute() or path.suffix in (_SUFFIX, ".yml") or (path.exists() and not path.is_dir())
    except OSError:  # such as a name that is too long; reading it gives the reason
        is_path = True
    if is_path:
        return path
    names = shipped_names()
    if str(path) in names:
        return CONFIGS / f"{path}{_SUFFIX}"
    near = [name for name in names if name.startswith(f"{path.parts[0]}/")] if path.parts else []
    raise InvalidConfig(
        f"{path} is neither a file nor the name of a configuration of motserve; names are {', '.join(near or names)}"
    )


def shipped_names() -> list[str]:
    """Return the names of all shipped configuration files, sorted."""
    return sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob(f"*{_SUFFIX}"))


def serve_config_file(path: Path | None) -> Path:
    """Return a Serve configuration: that of the user, else `serve_config.yaml` of this folder, else the shipped one."""
    here = Path("serve_config.yaml")
    return path or (here if here.exists() else SERVE_CONFIG)
