from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from motserve.video.drawing.placement import Rectangle, place_labels

WIDTH, HEIGHT = 320, 240

numbers = st.integers(-400, 700)
boxes = st.tuples(numbers, numbers, st.integers(0, 300), st.integers(0, 300)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
labels = st.lists(st.tuples(boxes, st.tuples(st.integers(1, 90), st.integers(1, 30))), max_size=40)


def overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@given(labels, st.lists(st.just((0, 0, 150, 20)), max_size=1))
def test_labels_stay_inside_the_picture_and_never_cover_one_another(
    labels: list[tuple[Rectangle, tuple[int, int]]], taken: list[Rectangle]
) -> None:
    sizes = [size for _, size in labels]
    places = place_labels([box for box, _ in labels], sizes, WIDTH, HEIGHT, taken)
    assert len(places) == len(labels)
    for place, (width, height) in zip(places, sizes, strict=True):
        if place is not None:
            left, top, right, bottom = place
            assert (right - left, bottom - top) == (width, height)
            assert left >= 0 <= top
            assert right <= WIDTH
            assert bottom <= HEIGHT
    placed = [*taken, *(place for place in places if place is not None)]
    assert not any(overlap(*pair) for pair in combinations(placed, 2))


def test_a_label_alone_is_above_its_box() -> None:
    assert place_labels([(100, 100, 140, 200)], [(30, 12)], WIDTH, HEIGHT) == [(100, 88, 130, 100)]


def test_a_label_at_the_edge_is_moved_into_the_picture() -> None:
    boxes = [(-20, -50, 40, 60), (310, 100, 400, 300)]
    assert place_labels(boxes, [(30, 12)] * 2, WIDTH, HEIGHT) == [(0, 0, 30, 12), (290, 88, 320, 100)]


def test_many_people_at_one_place_all_get_labels_near_it() -> None:
    places = place_labels([(150, 100, 170, 140)] * 20, [(30, 12)] * 20, WIDTH, HEIGHT)
    assert all(place is not None and 50 < place[0] < 250 for place in places)


def test_earlier_labels_keep_their_places() -> None:
    boxes = [(150, 100, 170, 140), (152, 101, 171, 141), (148, 99, 173, 139)]
    sizes = [(30, 12)] * 3
    for count in (1, 2, 3):
        fewer = place_labels(boxes[:count], sizes[:count], WIDTH, HEIGHT)
        assert fewer == place_labels(boxes, sizes, WIDTH, HEIGHT)[:count]


def test_a_label_without_a_place_is_left_out() -> None:
    assert place_labels([(0, 0, 9, 9)] * 2, [(20, 10)] * 2, 20, 10) == [(0, 0, 20, 10), None]
    assert place_labels([(0, 0, 9, 9)], [(21, 10)], 20, 10) == [None]
    outside = [(-50, 10, 0, 90), (10, -50, 90, 0), (WIDTH, 10, 400, 90), (10, HEIGHT, 90, 400)]
    assert place_labels(outside, [(20, 10)] * 4, WIDTH, HEIGHT) == [None] * 4
