"""Tracks one video for Python users: frame by frame, or as a whole. The command line prints what this returns."""

from __future__ import annotations

import inspect
import logging
import os
import tempfile
import time
import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from motserve.config import Config, change_config, choose_config
from motserve.config.tree import Layer
from motserve.errors import Conflict, InvalidConfig, InvalidVideo
from motserve.files.atomic import replacing
from motserve.files.disk import translate_disk_full
from motserve.models.provenance import stamp
from motserve.pipeline.detections.cache import CachedDetections, open_cached_detections
from motserve.pipeline.detections.given import Given, GivenDetections
from motserve.pipeline.frame_stream import FrameStream
from motserve.pipeline.local_models import LocalModels
from motserve.pipeline.movement import SILENCE, MovementWatch, watch_bundled
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.progress import OnProgress, showing_progress
from motserve.pipeline.source_file import SourceFile, describe_data
from motserve.pipeline.video_frame import VideoFrame
from motserve.pipeline.video_result import LinesFile, VideoResult
from motserve.postprocessing import EmbeddingHistory, PostProcessor
from motserve.results import ResultWriter, read_results
from motserve.video import AnnotationState, open_video

logger = logging.getLogger("motserve.pipeline")


def track(
    source: str | os.PathLike[str],
    *,
    model: str | Path | Sequence[str | Path] | None = None,
    tracker: str | Path | None = None,
    config: Config | Layer | Sequence[Layer] | None = None,
    overrides: str | Sequence[str] = (),
    detections: Given | None = None,
) -> VideoRun:
    """Track every person in a video.

    ```python
    for frame in motserve.track("people.mp4"):
        print(frame.timestamp, frame.identities, frame.boxes)

    result = motserve.track("people.mp4").run()
    result.save("tracks.csv")
    ```

    Nothing is loaded until the first frame is asked for.

    Args:
        source: A video file, a folder of pictures, or the HTTP address of a video file, which is downloaded first.
        model: Weights of the detector, short for `detector.weights`.
        tracker: Name of a tracker, such as `botsort`, or a YAML file with its section.
        config: A configuration, or YAML files or mappings with parts of it, later ones win; None for the defaults.
        overrides: Settings as on the command line, such as `["reid.policy=off"]`; they win over everything else.
        detections: Detections to use in place of the detector: the path of a MOTChallenge file, whose rows are all
            people, or a list with the detections of each frame, each as in `Tracker.update`. Frames behind the last
            one have none. Those below `detector.confidence` are dropped.

    Returns:
        The run: iterate over it, or call `run`.

    Raises:
        NotFound: There is no such video, or no such file of detections.
        InvalidVideo: It is neither a file nor a folder.
        InvalidConfig: An argument or a setting is not valid.
        InvalidData: The detections are malformed.
    """
    if not isinstance(source, str | os.PathLike):
        raise InvalidConfig(f"source must be the path of a video file or a folder, not {source!r:.80}")
    settings = choose_config(config, model=model, tracker=tracker, overrides=overrides)
    given = None if detections is None else GivenDetections(detections, settings.detector.confidence)
    return VideoRun(source, settings, given)


class VideoRun:
    """A video that is tracked on demand. Each object has its own tracker, models and thread.

    Iterating yields the frames in order. Leaving the loop, by `break` or an error, stops the work and closes the
    video; so does `close`, or the end of a `with` block. A later loop begins at the first frame again, with the models
    that are loaded.

    Args:
        source: Path or HTTP address of the video.
        config: The configuration.
        detections: Detections to use in place of the detector; None for the detector.
        shared_with: Another run with the same configuration, whose models this one uses; None for its own.

    Attributes:
        source: The path, or the address without user name, password and tokens.
        file: The file there.
        config: The configuration.

    Raises:
        NotFound: There is no such video.
        InvalidVideo: It is neither a file nor a folder.
        InvalidConfig: It is an address that is not supported.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        config: Config,
        detections: GivenDetections | None = None,
        shared_with: VideoRun | None = None,
    ) -> None:
        if detections is not None:  # they are there for all frames
            config = change_config(config, {"detector": {"every": 1}})
        self.file, self.config = SourceFile(source, config), config
        self.source = self.file.given
        self._given = detections
        self._loader: _Loader = _Loader(config, detections is None) if shared_with is None else shared_with._loader
        self._streams: weakref.WeakSet[FrameStream] = weakref.WeakSet()
        # weak, so that a loop which is left takes its frames with it
        self._current: weakref.ref[Generator[VideoFrame, None, None]] | None = None
        self._begun: Generator[VideoFrame, None, None] | None = None

    def __repr__(self) -> str:
        return f"<VideoRun of {str(self.source)!r}: iterate over it, or call run()>"

    def __iter__(self) -> Generator[VideoFrame, None, None]:
        """Iterate over the frames, each with its picture.

        Raises:
            InvalidVideo: The video is broken; the frames before that were yielded.
            InvalidConfig: `regrouping`, `linking` or `interpolation` are configured, which need the whole video.
            WeightsUnavailable: The weights cannot be loaded.
        """
        frames = self._current() if self._current is not None else None
        if frames is None or inspect.getgeneratorstate(frames) == inspect.GEN_CLOSED:  # none, or it has ended
            frames = _frames(self.file, self.config, self._loader, self._given, self._streams)
            self._current = weakref.ref(frames)
        return frames

    def __next__(self) -> VideoFrame:
        """Return the next frame; the first call begins. Raises as `__iter__` does."""
        self._begun = iter(self)
        try:
            return next(self._begun)
        except BaseException:
            self._begun = None
            raise

    def run(self, progress: bool | OnProgress | None = None) -> VideoResult:
        """Track the whole video.

        Args:
            progress: None to show a bar in a terminal or a notebook, True or False to show it anywhere or nowhere, or a
                function that is called with the number of frames done and the expected total.

        Returns:
            The tracks. If the video turns out to be broken, those before that, with the reason in `error`.

        Raises:
            InvalidVideo: The video has no frame that can be tracked.
            WeightsUnavailable: The weights cannot be loaded.
            Conflict: Another thread has closed the run.
            DiskFull: The disk of temporary files has no free space.
        """
        with translate_disk_full(Path(tempfile.gettempdir())):
            return self.run_to(LinesFile(), progress)

    def run_to(self, lines: LinesFile, progress: bool | OnProgress | None = None) -> VideoResult:
        """Track as `run` does and store the tracks in a given file."""
        if self.file.is_remote and not callable(progress):
            with showing_progress(f"downloading {self.file.name} (kB)", progress) as notify:
                self.file.path(notify)
        source = open_video(self.file.path(), self.config.video, self.file.name)
        with (
            closing(source),
            showing_progress(f"tracking {self.file.name}", progress) as notify,
            closing(self._detections()) as known,
        ):
            data = describe_data(self.file, self._detections_file)  # now, because the file may change or go later
            models, postprocessor = self._loader.load(), PostProcessor(self.config)
            class_names = known.class_names or models.class_names
            known.begin(class_names)
            info, stats = source.info, PipelineStats()
            history = postprocessor.new_history((info.width, info.height))
            started, failure = time.monotonic(), None
            on_embedded = history.add if history else None
            warnings: list[str] = []
            watch = _watch(self.file, self.config, models, warnings)
            with (
                ResultWriter(lines.path, class_names) as results,
                closing(
                    FrameStream(source, models, self.config, stats, on_embedded, known=known, watch=watch)
                ) as stream,
            ):
                self._streams.add(stream)
                notify(0, info.frame_count)
                try:
                    for chunk in stream:
                        results.append(frame for frame, _ in chunk)
                        notify(stats.frames, info.frame_count)
                except InvalidVideo as error:
                    if not stats.frames:
                        raise
                    failure = error.with_traceback(None)  # its frames hold pictures
                if failure is None and not stream.is_whole:
                    raise Conflict(f"{self.file.name}: the run was closed after {stats.frames} frames")
            seconds = time.monotonic() - started
            if postprocessor:
                stats = replace(stats, identities=_postprocess(lines.path, class_names, postprocessor, history))
            notify(stats.frames, stats.frames)
            return VideoResult(
                self.file,
                self.config,
                info,
                dict(class_names),
                {**models.models, **postprocessor.weights},
                stats,
                seconds,
                source.frames_damaged,
                known.frames_reused,
                tuple(warnings),
                failure,
                data,
                lines,
            )

    def describe(self) -> dict[str, Any]:
        """Return the provenance that the tracks will have; the video is read to compute its checksum.

        Raises:
            WeightsUnavailable: The weights are not available.
            InvalidVideo: The video cannot be downloaded.
        """
        data = describe_data(self.file, self._detections_file)
        return stamp(self.config, weights=self._loader.load().models, data=data)

    @property
    def _detections_file(self) -> Path | None:
        return self._given.path if self._given is not None else None

    def _detections(self) -> GivenDetections | CachedDetections:
        """Return the detections that need no detector."""
        if self._given is not None:
            return self._given
        models = self._loader.load()
        assert models.detector_weights is not None
        return open_cached_detections(self.config, models.detector_weights, self.file, lambda: models.detector_backend)

    def close(self) -> None:
        """Stop the work and close the video; a loop over it ends. The models are released."""
        for stream in list(self._streams):
            stream.close()
        self._begun = self._current = None
        self._loader = _Loader(self.config, self._given is None)

    def __enter__(self) -> VideoRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Loader:
    """Loads the models of a configuration once, in whichever thread needs them first."""

    def __init__(self, config: Config, has_detector: bool) -> None:
        self._config, self._has_detector = config, has_detector
        self._models: LocalModels | None = None
        self._lock = Lock()

    def load(self) -> LocalModels:
        with self._lock:
            if self._models is None:
                self._models = LocalModels(self._config, self._has_detector)
            return self._models


def _frames(
    file: SourceFile,
    config: Config,
    loader: _Loader,
    given: GivenDetections | None,
    streams: weakref.WeakSet[FrameStream],
) -> Generator[VideoFrame, None, None]:
    """Yield the frames. It does not refer to the run, so that a run which is forgotten is freed at once."""
    _refuse_postprocessing(config)
    with closing(open_video(file.path(), config.video, file.name)) as source:
        models = loader.load()
        names = dict(models.class_names if given is None else given.class_names)
        stats, watch = PipelineStats(), _watch(file, config, models, [])
        with closing(FrameStream(source, models, config, stats, keep_images=True, known=given, watch=watch)) as stream:
            streams.add(stream)
            state = AnnotationState()
            for chunk in stream:
                chunk.reverse()
                while chunk and not stream.is_over:  # each picture is forgotten here once its frame is yielded
                    tracked, image = chunk.pop()
                    assert image is not None
                    state = state.advance(tracked, config.video.annotation)
                    frame = VideoFrame(
                        tracked.index, tracked.timestamp, tracked.tracks, tracked.identities, tracked.links,
                        image=image, class_names=names, annotation=config.video.annotation, state=state,
                    )  # fmt: skip
                    del tracked, image
                    yield frame
                    del frame


def _watch(file: SourceFile, config: Config, models: LocalModels, warnings: list[str]) -> MovementWatch | None:
    """Return a watch that logs its warning and appends it to a list; None where the detector needs none."""

    def warn(frame: int, seconds: float) -> None:
        warnings.append(SILENCE % seconds)
        logger.warning(SILENCE, seconds, extra={"video": file.name, "frame": frame})

    return watch_bundled(models.models["detector"], config.pipeline, warn)


def _refuse_postprocessing(config: Config) -> None:
    """Refuse steps that change frames which were yielded already, instead of leaving them out.

    Raises:
        InvalidConfig: Such a step is configured.
    """
    names = [name for name in ("regrouping", "linking", "interpolation") if getattr(config, name) is not None]
    if names:
        raise InvalidConfig(
            f"{' and '.join(names)} of the configuration need the whole video: call run() instead of iterating, or set "
            "them to null"
        )


def _postprocess(
    lines: Path, class_names: Mapping[int, str], postprocessor: PostProcessor, history: EmbeddingHistory | None
) -> int:
    """Postprocess a file of results in place, and return its number of identities."""
    frames = postprocessor(list(read_results(lines, class_names)), history)
    with replacing(lines) as partial, ResultWriter(partial, class_names) as results:
        results.append(frames)
    return len({identity for frame in frames for identity in frame.identities.tolist()})
