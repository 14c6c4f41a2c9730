"""Converts a downloaded data set to the layout that training and evaluation read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from motserve import __version__
from motserve.errors import InvalidData, NotFound
from motserve.lab.datasets import crowdhuman, mot, reid
from motserve.lab.datasets.catalogue import CATALOGUE, CrowdHumanContents, Kind, MotContents
from motserve.lab.datasets.manifest import MANIFEST, Manifest, digest
from motserve.lab.datasets.output import Links, Output, building, check_target
from motserve.lab.datasets.pictures import list_some
from motserve.lab.datasets.survey import Survey

_MOST_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How to prepare a data set.

    Attributes:
        links: Whether pictures are linked or copied into the output.
        sequences: With MOT17 and MOT20, the only sequences to use; empty for all.
        allow_missing: If the source is incomplete, prepare the complete parts.
        seed: Seed that selects the people of the validation split of a Re-ID data set.
        held_out_share: Share of the training people in the validation split, in [0, 1).
        checksum_pictures: Read every picture for its checksum; otherwise only sizes are recorded.
        overwrite: Replace an earlier output.
    """

    links: Links = "symlink"
    sequences: tuple[str, ...] = ()
    allow_missing: bool = False
    seed: int = 0
    held_out_share: float = 0.1
    checksum_pictures: bool = True
    overwrite: bool = False


def prepare(
    kind: Kind,
    source: str | Path,
    output: str | Path,
    options: PrepareOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Check a downloaded data set and write it in the layout that training and evaluation read.

    Args:
        kind: Which data set it is.
        source: Folder of the unpacked download.
        output: The folder to write; it appears only when it is complete.
        options: Options; None for the defaults.
        progress: Called with the number of pictures done and their total.

    Returns:
        The manifest, also written as `manifest.json`.

    Raises:
        NotFound: The source does not exist, or the data set has no sequence of a given name.
        InvalidData: The source is another data set, incomplete or malformed, or the output cannot be written.
    """
    options = options or PrepareOptions()
    source, target = Path(source).resolve(), Path(output).resolve()
    if not source.is_dir():
        raise NotFound(f"there is no folder {source}")
    try:
        check_target(target, source, options.overwrite)
        survey = _survey(kind, source, options)
        _check_complete(survey, source, CATALOGUE[kind].title, options.allow_missing)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, survey.pictures)

        with building(target) as folder:
            out = Output(folder, target, survey.root, options.links, options.checksum_pictures, step)
            counts = survey.write(out)
            manifest = Manifest(
                kind,
                __version__,
                str(survey.root),
                {
                    **survey.options,
                    "links": options.links,
                    "allow_missing": options.allow_missing,
                    "checksum_pictures": options.checksum_pictures,
                },
                survey.left_out,
                counts,
                {
                    "annotations": digest(out.read_annotations),
                    "pictures": digest(out.read_pictures),
                    "folders": survey.folders,
                },
                survey.pictures_in,
                out.pictures,
                out.files,
            )
            (folder / MANIFEST).write_bytes(manifest.to_json())
    except OSError as error:
        raise InvalidData(f"{error.filename or target}: {error.strerror or error}") from error
    return manifest


def _survey(kind: Kind, source: Path, options: PrepareOptions) -> Survey:
    contents = CATALOGUE[kind]
    if isinstance(contents, MotContents):
        return mot.survey(source, contents, options.sequences)
    if isinstance(contents, CrowdHumanContents):
        return crowdhuman.survey(source, contents)
    return reid.survey(source, contents, kind, options.seed, options.held_out_share)


def _check_complete(survey: Survey, source: Path, title: str, allow_missing: bool) -> None:
    missing = list_some(survey.left_out, _MOST_COMPLAINTS, "; ")
    if not survey.pictures:
        raise InvalidData(f"nothing in {source} can be used as {title}: {missing}. Download it again")
    if survey.left_out and not allow_missing:
        raise InvalidData(
            f"{source} is not a complete copy of {title}: {missing}. Download what is missing, or prepare the complete "
            "parts with --allow-missing"
        )
