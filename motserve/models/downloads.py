"""Downloads published weights from their publishers by the publishers' names, and checks them.

Libraries for downloads are imported at the download, so that looking up a name is fast.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from motserve.errors import WeightsUnavailable

logger = logging.getLogger("motserve.models.weights")

Download: TypeAlias = Callable[[Path], None]
"""Stores weights at a path that does not exist yet: a file, or a folder for a model of the Hub."""

IMAGENET = {
    f"{name}-imagenet": name
    for name in ("resnet50", "vit_b_16", "efficientnet_b4", "mobilenet_v3_large", "mobilenet_v3_small")
}
"""Backbones of embedders trained on ImageNet by torchvision, with their names in torchvision."""

HUB = "hf://"
TORCHVISION = (
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
"""Detectors of torchvision, by the names of its model registry."""

EFFICIENTDET = (
    *(f"tf_efficientdet_d{size}" for size in ("0", "1", "2", "3", "4", "5", "6", "7", "7x")),
    *(f"tf_efficientdet_d{size}_ap" for size in range(6)),
    *(f"tf_efficientdet_lite{size}" for size in ("0", "1", "2", "3", "3x", "4")),
    *(f"efficientdet_d{size}" for size in range(6)),
    *(f"efficientdetv2_d{size}" for size in "ts"),
)
"""Detectors of effdet, by its names; not all of them are published with weights."""

_HUB_NAME = re.compile(r"hf://[\w.-]+/[\w.-]+")
_HUB_FILES = ("*.json", "*.safetensors")
"""Files that may be downloaded from the Hub: neither pickles nor code."""


def detector_download(name: str) -> Download | None:
    """Return the download of a detector, None for an unknown name.

    Args:
        name: A release of Ultralytics (`.pt`), a detector of torchvision or effdet, or `hf://owner/name`.
    """
    if _HUB_NAME.fullmatch(name):
        return partial(_download_hub, name.removeprefix(HUB))
    if name in TORCHVISION:
        return partial(_download_torchvision, name)
    if name in EFFICIENTDET:
        return partial(_download_efficientdet, name)
    return _download_ultralytics if Path(name).suffix == ".pt" and not name.startswith(HUB) else None


def embedder_download(name: str) -> Download | None:
    """Return the download of an embedder, None for an unknown name."""
    return partial(_download_torchvision, IMAGENET[name]) if name in IMAGENET else None


def cached_name(name: str) -> str:
    """Return the file or folder name of weights in the models folder and in the cache.

    >>> cached_name("fasterrcnn_resnet50_fpn_v2"), cached_name("hf://facebook/detr-resnet-50")
    ('fasterrcnn_resnet50_fpn_v2.pth', 'facebook--detr-resnet-50')
    >>> cached_name("yolov8s.pt")
    'yolov8s.pt'
    >>> cached_name("vit_b_16-imagenet")
    'vit_b_16_imagenet.pth'
    """
    if name in IMAGENET:
        return f"{IMAGENET[name]}_imagenet.pth"
    if name.startswith(HUB):
        return name.removeprefix(HUB).replace("/", "--")
    return f"{name}.pth" if name in TORCHVISION or name in EFFICIENTDET else name


def fetch(name: str, download: Download, target: Path) -> Path:
    """Download to a temporary folder and move the finished weights, so that incomplete ones are never found.

    Args:
        name: Name of the weights, for messages.
        download: The download.
        target: Path of the finished weights.

    Returns:
        The target.

    Raises:
        WeightsUnavailable: They cannot be downloaded or stored.
    """
    logger.info("downloading %s to %s", name, target, extra={"weights": name})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            partial_file = Path(folder) / target.name
            download(partial_file)
            if not partial_file.exists():
                raise FileNotFoundError("the publisher has no such file")
            # a folder cannot replace one that another process has finished in the meantime
            if not target.is_dir():
                partial_file.replace(target)
    except Exception as error:
        # the reason goes into results, which contain no paths of this machine
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WeightsUnavailable(f"{name} cannot be downloaded ({type(error).__name__}: {reason})") from error
    return target


def _download_ultralytics(target: Path) -> None:
    from motserve.models.libraries import import_ultralytics

    import_ultralytics()
    from ultralytics.utils import is_online
    from ultralytics.utils.downloads import attempt_download_asset

    if not is_online():
        raise ConnectionError("this machine is offline")
    attempt_download_asset(target)


def _download_torchvision(name: str, target: Path) -> None:
    from torchvision.models import get_model_weights

    _download_checked(get_model_weights(name).DEFAULT.url, target)


def _download_efficientdet(name: str, target: Path) -> None:
    from motserve.models.extras import import_extra

    url = import_extra("effdet").get_efficientdet_config(name).url
    if url:
        _download_checked(url, target)


def _download_hub(repository: str, target: Path) -> None:
    from motserve.models.extras import import_extra

    hub, errors = import_extra("huggingface_hub"), import_extra("huggingface_hub.errors")
    try:
        hub.snapshot_download(repository, local_dir=target, allow_patterns=list(_HUB_FILES))
    except errors.LocalEntryNotFoundError as error:
        raise ConnectionError("the Hugging Face Hub cannot be reached") from error
    if not any(target.glob("*.safetensors")):
        raise FileNotFoundError("the publisher has no .safetensors of it")
    # files of the library with times in them; the checksum of the folder must be the same everywhere
    shutil.rmtree(target / ".cache", ignore_errors=True)


def _download_checked(url: str, target: Path) -> None:
    """Download a file whose name ends with the first digits of its SHA-256, and check them."""
    from torch.hub import download_url_to_file

    download_url_to_file(url, str(target), hash_prefix=Path(url).stem.rpartition("-")[2], progress=False)
