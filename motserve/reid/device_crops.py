"""Cuts people out of a frame on the device, all in one call: only the frame is transferred, not the crops."""

from __future__ import annotations

import torch

from motserve.reid.crops import whole_pixels
from motserve.types import FloatArray


def sample_crops(frame: torch.Tensor, boxes: FloatArray, height: int, width: int) -> torch.Tensor:
    """Cut boxes out of a picture and resize them as `cut_crops` does, without its rounding to whole numbers.

    Interpolation is bilinear without antialiasing, as in OpenCV: pixel `i` of `n` lies at
    `(i + 0.5) * size / n - 0.5` in the box, clamped to it, so pixels outside a box do not affect its crop.

    Args:
        frame: `(H, W, 3)` uint8, on any device.
        boxes: `(n, 4)` float32 xyxy in pixels.
        height: Height of a crop in pixels.
        width: Width of a crop in pixels.

    Returns:
        `(n, 3, height, width)` float32 on the frame's device, channels and range as in the frame.
    """
    rows, columns = frame.shape[:2]
    pixels = whole_pixels(boxes, rows, columns)
    corners = torch.from_numpy(pixels).to(frame.device, torch.float32)
    across = _sample_positions(corners[:, 0], corners[:, 2], width, columns)[:, None, :].expand(-1, height, -1)
    down = _sample_positions(corners[:, 1], corners[:, 3], height, rows)[:, :, None].expand(-1, -1, width)
    # one tall picture of all crops: a batch would need a copy of the frame for each crop
    grid = torch.stack([across, down], dim=3).reshape(1, -1, width, 2)
    source = frame.permute(2, 0, 1)[None].float()
    sampled = torch.nn.functional.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True)
    crops = sampled[0].view(3, len(boxes), height, width).transpose(0, 1)
    is_inside = (corners[:, 2:] > corners[:, :2]).all(dim=1)
    return torch.as_tensor(crops * is_inside[:, None, None, None])


def _sample_positions(low: torch.Tensor, high: torch.Tensor, count: int, limit: int) -> torch.Tensor:
    """Return `(n, count)` positions between two edges in units of `grid_sample`: -1 and 1 are the outermost pixels."""
    size = (high - low)[:, None]
    steps = torch.arange(count, device=low.device, dtype=torch.float32) + 0.5
    within = torch.minimum((steps * size / count - 0.5).clamp(min=0), (size - 1).clamp(min=0))
    return (low[:, None] + within) * (2 / max(limit - 1, 1)) - 1
