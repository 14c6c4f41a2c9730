"""Reads and augments the crops of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from motserve.lab.evaluation.reid_data import read_crops
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD
from motserve.types import Image, IntArray
from training.color_jitter import jitter_colors
from training.reid.config import CropConfig
from training.reid.sampler import Draw, PKBatches


class CropDataset(Dataset[tuple[torch.Tensor, int]]):
    """Augmented crops; the seed of each draw determines its augmentation.

    Args:
        paths: n image files.
        labels: `(n,)` int64, their classes.
        settings: Size and augmentation.
    """

    def __init__(self, paths: Sequence[Path], labels: IntArray, settings: CropConfig) -> None:
        self._paths = paths
        self._labels = labels
        self._settings = settings
        self._vary = augmentation(settings)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, draw: Draw) -> tuple[torch.Tensor, int]:
        """Return `(3, height, width)` uint8 RGB and the class."""
        settings = self._settings
        crop: Image = read_crops([self._paths[draw.row]], settings.height, settings.width)[0]
        if settings.color_jitter:
            rng = np.random.default_rng(draw.seed)
            crop = (
                jitter_colors(crop, rng, settings.color_jitter_strength)
                if rng.random() < settings.color_jitter
                else crop
            )
        pixels = torch.from_numpy(np.ascontiguousarray(crop[..., ::-1].transpose(2, 0, 1)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw.seed)
            return self._vary(pixels), int(self._labels[draw.row])


def augmentation(settings: CropConfig) -> v2.Transform:
    """Return the augmentation of a crop `(3, height, width)` uint8 RGB; it uses torch's random generator.

    Mirroring, padding with random cropping, and random erasing (Zhong et al., AAAI 2020), in the order of the strong
    baseline. Erased pixels get ImageNet's mean, which is zero after normalisation.
    """
    steps: list[v2.Transform] = [v2.RandomHorizontalFlip(settings.flip)]
    if settings.pad:
        steps.append(v2.RandomCrop((settings.height, settings.width), padding=settings.pad))
    if settings.jitter:
        steps.append(v2.ColorJitter(settings.jitter, settings.jitter, settings.jitter))
    mean = [float(round(255 * value)) for value in IMAGENET_MEAN]
    steps.append(v2.RandomErasing(settings.erasing, settings.erased_area, settings.erased_ratio, value=mean))
    return v2.Compose(steps)


def load_batches(
    dataset: CropDataset, batches: PKBatches, loaders: int, pin: bool
) -> DataLoader[tuple[torch.Tensor, int]]:
    """Return a loader of the batches of an epoch, `(b, 3, height, width)` uint8 and `(b,)` int64.

    Args:
        dataset: The crops.
        batches: The batches.
        loaders: Processes that read crops; 0 to read in this process.
        pin: Whether the batches go to a GPU.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=loaders,
        pin_memory=pin,
        persistent_workers=loaders > 0,
        worker_init_fn=_one_thread if loaders else None,
    )


class Normaliser:
    """Normalises crops for the network.

    Args:
        device: Device of the network.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        mean, deviation = (torch.from_numpy(255 * values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self._mean, self._deviation = mean.to(device), deviation.to(device)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise `(n, 3, height, width)` uint8 RGB to float32, channels last, which is faster for convolutions."""
        moved = pixels.to(self._device, non_blocking=True).float()
        return ((moved - self._mean) / self._deviation).contiguous(memory_format=torch.channels_last)


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)  # the number of processes already uses the CPUs
