"""Turns a downloaded data set into what training and evaluation read."""

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
from motserve.lab.datasets.pictures import some
from motserve.lab.datasets.survey import Survey

_MOST_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How to prepare a data set.

    Attributes:
        links: How pictures get into the output.
        sequences: The only sequences to take, of MOT17 and MOT20; empty for all.
        allow_missing: Go on with what is complete when the source lacks something.
        seed: Chooses the people of the validation part of a Re-ID data set.
        held_out_share: Share of the training people that go into the validation part, in [0, 1).
        checksum_pictures: Read every picture for its checksum; otherwise their sizes must do.
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
    """Check a downloaded data set and write what training and evaluation read.

    Args:
        kind: Which data set it is.
        source: The folder that was downloaded and unpacked.
        output: The folder to write; it appears when everything is written, or not at all.
        options: How.
        progress: Called with the number of pictures done and their total.

    Returns:
        The manifest, which the output holds as `manifest.json`.

    Raises:
        NotFound: There is no such source, or no sequence of a requested name.
        InvalidData: The source is something else, incomplete or malformed, or the output cannot be written.
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
    missing = some(survey.left_out, _MOST_COMPLAINTS, "; ")
    if not survey.pictures:
        raise InvalidData(f"nothing of {source} can be used as {title}: {missing}. Download it again")
    if survey.left_out and not allow_missing:
        raise InvalidData(
            f"{source} is no complete copy of {title}: {missing}. Download what is missing, or go on with what is "
            "complete by --allow-missing"
        )
