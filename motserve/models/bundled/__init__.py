"""Small weights shipped with the package, for machines without better ones."""

from collections.abc import Mapping
from typing import Final

CHECKSUMS: Final[Mapping[str, str]] = {
    "aflink.safetensors": "7f3f58adf776490b5f93b9a340615ae5676e3abe4966bdb2155e5162f2fa0eb6",
    "detector-free.safetensors": "4cea4f042b52b1b956dca87eb25b7d63781335a54f0dee6ec8fa3b5715bf4e55",
    "detector.safetensors": "5f020a6aa95604c4e2015727152313011f6ddff8cff579ed3b3145f25dd0bc24",
    "embedder-free.safetensors": "af03c6dedd17a46fdd7336f4d460b3ba34abd8a3aef1287fa0f1b9d9b33f452b",
    "embedder.safetensors": "941fec21214ecdd6ceb4d7a4fe55e90cda2e574559dcab37e1ec3010ddea8c65",
}
"""SHA-256 of each file, to recognise a damaged installation."""
