"""motserve: multi-object tracking and person re-identification as a service.

```python
import motserve

for frame in motserve.track("people.mp4"):
    print(frame.timestamp, frame.identities, frame.boxes)
```

Names are loaded at their first use, so that the import is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motserve import errors
    from motserve.config import Config, load_config
    from motserve.pipeline.own_detections import Tracker
    from motserve.pipeline.video_run import track
    from motserve.tracking import build_tracker
    from motserve.types import Detections, TrackedFrame, Tracks

    __version__: str
else:
    _PLACES = {
        "Config": "motserve.config",
        "Detections": "motserve.types",
        "TrackedFrame": "motserve.types",
        "Tracker": "motserve.pipeline.own_detections",
        "Tracks": "motserve.types",
        "build_tracker": "motserve.tracking",
        "load_config": "motserve.config",
        "track": "motserve.pipeline.video_run",
    }

    def __getattr__(name: str) -> object:
        """Load a public name at its first use."""
        import importlib

        if name == "__version__":
            from importlib import metadata

            value = metadata.version("motserve")
        elif name == "errors":
            value = importlib.import_module("motserve.errors")
        elif name in _PLACES:
            value = getattr(importlib.import_module(_PLACES[name]), name)
        else:
            raise AttributeError(f"module 'motserve' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """List the public names too, loaded or not."""
        return sorted({*globals(), *__all__})


__all__ = [
    "Config",
    "Detections",
    "TrackedFrame",
    "Tracker",
    "Tracks",
    "__version__",
    "build_tracker",
    "errors",
    "load_config",
    "track",
]
