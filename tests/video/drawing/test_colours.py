from __future__ import annotations

import numpy as np
import pytest

from motserve.video.drawing.colours import BLACK, WHITE, colour_of, contrast, ink_on


def test_colours_are_stable_and_distinct() -> None:
    assert colour_of(1) == (255, 165, 128)
    colours = np.array([colour_of(i) for i in range(1, 51)], int)
    distance = np.abs(colours[:, None] - colours[None]).max(-1)
    assert distance[~np.eye(50, dtype=bool)].min() >= 20


def test_text_is_readable_on_the_colour_of_every_identity() -> None:
    assert min(contrast(colour, ink_on(colour)) for colour in map(colour_of, range(1, 2001))) >= 4.5


@pytest.mark.parametrize(
    ("colour", "ratio"), [((255, 255, 255), 21.0), ((0, 0, 255), 5.25), ((128, 128, 128), 5.32), ((10, 10, 10), 1.06)]
)
def test_contrast_with_black_equals_that_of_wcag(colour: tuple[int, int, int], ratio: float) -> None:
    assert contrast(colour, BLACK) == contrast(BLACK, colour) == pytest.approx(ratio, abs=0.01)
    assert contrast(colour, BLACK) * contrast(colour, WHITE) == pytest.approx(21.0)
