from __future__ import annotations

import numpy as np
import pytest

from motserve.video.drawing.colours import colour_of, contrast, ink_on
from motserve.video.drawing.tags import render_tag

HEIGHTS = [6, 8, 16, 32, 128]


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("text", ["#1", "#1234567", "person #8? 0.55", "0:12.3  7 people"])
def test_the_whole_text_is_within_the_tag(text: str, height: int) -> None:
    colour = colour_of(5)
    tag = render_tag(text, colour, height)
    is_ink = (tag != np.array(colour, np.uint8)).any(-1)
    assert height * 1.5 < tag.shape[0] < height * 2.5
    for edge in (is_ink[0], is_ink[-1], is_ink[:, 0], is_ink[:, -1]):
        assert not edge.any(), "letters are cut off at an edge"
    rows = np.flatnonzero(is_ink.any(1))
    assert 0.8 * height <= rows[-1] - rows[0] + 1 <= 1.4 * height


@pytest.mark.parametrize("height", HEIGHTS)
def test_letters_reach_the_contrast_of_readable_text(height: int) -> None:
    for identity in range(1, 30):
        colour = colour_of(identity)
        pixels = render_tag(f"#{identity}", colour, height).reshape(-1, 3).tolist()
        best = max(contrast(colour, (blue, green, red)) for blue, green, red in pixels)
        assert best >= 0.7 * contrast(colour, ink_on(colour))
        assert best >= 4


def test_the_arrow_of_a_returned_person_follows_the_text() -> None:
    plain, marked = render_tag("#7", colour_of(7), 20), render_tag("#7", colour_of(7), 20, has_arrow=True)
    assert plain.shape[0] == marked.shape[0]
    added = marked.shape[1] - plain.shape[1]
    assert 20 <= added <= 40
    is_ink = (marked[:, -added - 4 :] != np.array(colour_of(7), np.uint8)).any(-1)
    assert 0.05 < is_ink.mean() < 0.5
    assert not is_ink[[0, -1]].any()


def test_names_of_classes_from_files_are_bounded_and_printable() -> None:
    assert render_tag("x" * 10_000, colour_of(1), 20).shape[1] < 2000
    assert np.array_equal(render_tag("Fußgänger\n", colour_of(1), 20), render_tag("Fu?g?nger?", colour_of(1), 20))
    assert render_tag("", colour_of(1), 20).size


def test_a_shared_picture_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        render_tag("#1", colour_of(1), 20)[0, 0] = 0
