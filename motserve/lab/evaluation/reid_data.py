"""Reads person re-identification data sets: identity and camera of each crop, and its pixels."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.choices import Protocol as Protocol
from motserve.errors import InvalidData, NotFound
from motserve.files.folders import is_hidden, visible_files
from motserve.lab.evaluation.reid_names import JUNK, parse_reid_name
from motserve.types import BoolArray, Image, IntArray
from motserve.video.images.image_header import IMAGE_SUFFIXES, image_size

_QUERY, _GALLERY, _TRAIN = "query", "bounding_box_test", "bounding_box_train"
_MSMT_LISTS, _MSMT_TRAIN = ("list_query.txt", "list_gallery.txt"), "list_train.txt"
_MSMT_FOLDERS, _MSMT_TRAIN_FOLDERS = ("test", "mask_test_v2"), ("train", "mask_train_v2")
# picture, whose name has the camera in the third place, and person
_MSMT_LINE = re.compile(r"((?:.*/)?\d+_\d+_(\d{1,9})_[^/]+)\s+(\d{1,9})")
_SHOWN_NAMES = 8  # of a wrong folder, enough to recognise it

_Row = tuple[Path, int, int]


@dataclass(frozen=True, slots=True)
class CropTable:
    """Labelled crops of a data set.

    Attributes:
        paths: n image files.
        identities: `(n,)` int64; people from 1, 0 for distractors, -1 for junk.
        cameras: `(n,)` int64, the number of the camera in the data set.
    """

    paths: tuple[Path, ...]
    identities: IntArray
    cameras: IntArray

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        n = len(self.paths)
        if self.identities.shape != (n,) or self.cameras.shape != (n,):
            raise ValueError(
                f"{n} crops need identities (n,) and cameras (n,); got {self.identities.shape} and {self.cameras.shape}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def without_junk(self) -> CropTable:
        """Return the crops that are ranked; junk need not be embedded."""
        return self.rows(self.identities != JUNK)

    def of_people(self, people: Collection[int]) -> CropTable:
        """Return the crops of some people."""
        return self.rows(np.isin(self.identities, np.fromiter(people, np.int64, len(people))))

    def rows(self, mask: BoolArray) -> CropTable:
        """Return the crops of the rows in a mask, `(n,)` bool."""
        paths = tuple(self.paths[row] for row in np.flatnonzero(mask))
        return CropTable(paths, self.identities[mask], self.cameras[mask])


def read_protocol(root: str | Path, protocol: Protocol) -> tuple[CropTable, CropTable]:
    """Read the queries and the gallery of a data set.

    - `market1501`, `dukemtmc`: `query/` and `bounding_box_test/` of Market-1501 (Zheng et al., ICCV 2015) or
      DukeMTMC-reID (Zheng et al., ICCV 2017), labelled by file names such as `0002_c1s1_000451_03.jpg` and
      `0005_c2_f0046985.jpg`.
    - `msmt17`: MSMT17 (Wei et al., CVPR 2018), labelled by `list_query.txt` and `list_gallery.txt`, pictures in
      `test/` or, in its second version, `mask_test_v2/`. It counts people from 0; here they start at 1.
    - `cross-camera`: all crops of `query/` and `bounding_box_test/`, or of the folder itself if it has neither, named
      as above. Crops of people from the camera with the lowest number are the queries, all crops of the other cameras
      the gallery: each query has to be matched across cameras.

    Hidden files and files that are not images are skipped. The crops are in order of their names, or of the list.

    Args:
        root: Folder of the data set.
        protocol: Its layout and query/gallery protocol.

    Returns:
        Queries and gallery, neither empty. Junk and distractors are among the rows.

    Raises:
        NotFound: There is no such folder, or it has another layout.
        InvalidData: A file name or a line of a list is malformed, a listed picture is missing, or there are no
            queries or no gallery.
    """
    root = Path(root)
    if not root.is_dir():
        raise NotFound(f"there is no folder {root}")
    if protocol == "cross-camera":
        query, gallery = _across_cameras(root)
    else:
        listed = protocol == "msmt17"
        parts = _MSMT_LISTS if listed else (_QUERY, _GALLERY)
        missing = [part for part in parts if not ((root / part).is_file() if listed else (root / part).is_dir())]
        if missing:
            raise NotFound(f"{root} is not laid out as {protocol}: it has no {' and no '.join(missing)}; {_has(root)}")
        query, gallery = (_table(_read_list(root / part) if listed else _read_folder(root / part)) for part in parts)
        for table, part in zip((query, gallery), parts, strict=True):
            if not len(table):
                raise InvalidData(f"{root / part} has no crops; {protocol} needs queries and a gallery")
    return query, gallery


def read_training(root: str | Path, protocol: Literal["market1501", "dukemtmc", "msmt17"]) -> CropTable:
    """Read the training crops of a data set; their people are not in its queries or gallery.

    - `market1501`, `dukemtmc`: `bounding_box_train/`.
    - `msmt17`: `list_train.txt`, pictures in `train/` or, in its second version, `mask_train_v2/`. Its `list_val.txt`
      is not used, as in published results.

    Args:
        root: Folder of the data set.
        protocol: Its layout.

    Returns:
        Crops of people, in order of their names or of the list.

    Raises:
        NotFound: There is no such folder, or it has another layout.
        InvalidData: A file name or a line of the list is malformed, a listed picture is missing, or no people exist.
    """
    root = Path(root)
    place = root / (_MSMT_TRAIN if protocol == "msmt17" else _TRAIN)
    if not place.exists():
        raise NotFound(
            f"{root} has no {place.name} to train on; {_has(root) if root.is_dir() else 'there is no such folder'}"
        )
    table = _table(_read_list(place, _MSMT_TRAIN_FOLDERS) if protocol == "msmt17" else _read_folder(place))
    people = table.rows(table.identities > 0)
    if not len(people):
        raise InvalidData(f"{place} has no crops of people ({', '.join(IMAGE_SUFFIXES)}); download it again")
    return people


def read_labelled(root: str | Path) -> CropTable:
    """Read all crops of a data set: those of `query/` and `bounding_box_*/`, or of the folder itself.

    Args:
        root: Folder of crops named as in Market-1501 or DukeMTMC-reID.

    Returns:
        The crops in order of identity, camera and name; names are in order of time.

    Raises:
        NotFound: There is no such folder.
        InvalidData: It holds no crops of people, or a file name is malformed.
    """
    root = Path(root)
    if not root.is_dir():
        raise NotFound(f"there is no folder {root}")
    folders = [root / name for name in (_QUERY, _GALLERY, _TRAIN) if (root / name).is_dir()] or [root]
    rows = sorted((row for folder in folders for row in _read_folder(folder)), key=lambda row: (row[1:], row[0].name))
    if not any(identity > 0 for _, identity, _ in rows):
        raise InvalidData(
            f"no crops of people ({', '.join(IMAGE_SUFFIXES)}) in {' or '.join(map(str, folders))}; {_has(folders[0])}"
        )
    return _table(rows)


def read_ids(file: Path) -> frozenset[int]:
    """Read a file with one ID per line.

    Raises:
        NotFound: There is no such file.
        InvalidData: A line is not an ID.
    """
    try:
        lines = file.read_bytes().split()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}") from error
    try:
        return frozenset(int(line.decode()) for line in lines)
    except ValueError as error:  # UnicodeDecodeError is one
        raise InvalidData(f"{file} must hold one ID per line: {error}") from error


def read_crops(paths: Sequence[Path], height: int, width: int) -> NDArray[np.uint8]:
    """Read image files at the input size of an embedder.

    Args:
        paths: n JPEG or PNG files.
        height: Height of a crop in pixels.
        width: Width of a crop in pixels.

    Returns:
        `(n, height, width, 3)` uint8 BGR, stretched to the size.

    Raises:
        NotFound: There is no such file.
        InvalidData: A file is not a complete JPEG or PNG image; the message names it.
    """
    crops = np.empty((len(paths), height, width, 3), np.uint8)
    for crop, path in zip(crops, paths, strict=True):
        cv2.resize(read_image(path), (width, height), dst=crop, interpolation=cv2.INTER_LINEAR)
    return crops


def read_image(path: Path) -> Image:
    """Read an image file, `(height, width, 3)` uint8 BGR.

    Raises:
        NotFound: There is no such file.
        InvalidData: It is not a complete JPEG or PNG image.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error
    if image_size(data) is None:
        raise InvalidData(f"{path} is not a complete JPEG or PNG image; replace it or remove it from the data set")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InvalidData(f"{path} cannot be decoded; replace it or remove it from the data set")
    return np.asarray(image, np.uint8)


def _read_folder(folder: Path) -> Iterator[_Row]:
    for path in visible_files(folder, IMAGE_SUFFIXES):
        label = parse_reid_name(path.stem)
        if label is None:
            raise InvalidData(
                f"{path}: the name must give identity and camera, such as 0002_c1s1_000451_03.jpg or "
                "0005_c2_f0046985.jpg; rename the file or remove it"
            )
        yield path, *label


def _read_list(file: Path, folders: Sequence[str] = _MSMT_FOLDERS) -> Iterator[_Row]:
    folder = next((file.parent / name for name in folders if (file.parent / name).is_dir()), None)
    if folder is None:
        raise NotFound(f"{file.parent} has no folder {' or '.join(folders)} of pictures; {_has(file.parent)}")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidData(f"{file} is not a text file") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = _MSMT_LINE.fullmatch(line.strip())
        if entry is None:
            raise InvalidData(
                f"{file}, line {number}: expected a picture and its person, as in "
                f"`0000/0000_000_01_0303morning_0008_0.jpg 0`, got {line.strip()[:80]!r}"
            )
        path = folder / entry[1]
        if not path.is_file():
            raise InvalidData(f"{file}, line {number}: there is no picture {path}; unpack the whole data set")
        yield path, int(entry[3]) + 1, int(entry[2])


def _across_cameras(root: Path) -> tuple[CropTable, CropTable]:
    folders = [root / name for name in (_QUERY, _GALLERY) if (root / name).is_dir()] or [root]
    crops = _table(row for folder in folders for row in _read_folder(folder))
    people = crops.identities > 0
    if not people.any():
        raise InvalidData(
            f"no crops of people ({', '.join(IMAGE_SUFFIXES)}) in {' or '.join(map(str, folders))}; {_has(folders[0])}"
        )
    first = crops.cameras[people].min()
    is_first = crops.cameras == first
    if is_first.all():
        raise InvalidData(f"{root}: all {len(crops)} crops are of camera {first}; the cross-camera protocol needs two")
    return crops.rows(is_first & people), crops.rows(~is_first)


def _table(rows: Iterable[_Row]) -> CropTable:
    rows = list(rows)
    labels = np.array([row[1:] for row in rows], np.int64).reshape(-1, 2)
    return CropTable(tuple(path for path, _, _ in rows), labels[:, 0], labels[:, 1])


def _has(folder: Path) -> str:
    """Describe the content of a folder, for messages."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not is_hidden(path.name))
    if not names:
        return "it is empty"
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"it has {', '.join(names[:_SHOWN_NAMES])}{more}"
