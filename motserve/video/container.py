"""Opens the container of a video file, selects the video stream, and reads its declared properties."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import av
from av.format import Flags
from av.stream import Disposition

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo
from motserve.video.mp4_boxes import refuse_false_samples

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

# Video containers. FFmpeg also opens playlists, which load other files and addresses, and renders text files as video;
# an upload must do neither.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,gif,apng,ivf,h264,hevc,av1,obu,m4v,mpegvideo,mjpeg,"
    "yuv4mpegpipe,dv,rm,3gp,wtv,gxf,jpeg_pipe"
)
# Decoders of cameras, recorders, phones, editors and screen recorders. FFmpeg has some 300, most of them for old games,
# rarely tested, and open to any file.
_DECODERS = frozenset(
    {
        *("h264", "hevc", "vvc", "av1", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9", "theora", "h261", "h263"),
        *("h263i", "h263p", "apv"),
        *("mpeg1video", "mpeg2video", "mpegvideo", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2"),
        *("wmv3", "wmv3image", "vc1", "vc1image"),
        *("mjpeg", "mjpegb", "jpeg2000", "jpegls", "sp5x", "amv", "png", "apng", "gif", "bmp", "flv", "flashsv"),
        *("flashsv2", "vp3", "vp6", "vp6a", "vp6f", "vp7"),
        *("prores", "prores_raw", "dnxhd", "cfhd", "dvvideo", "hap", "aic", "hq_hqa", "hqx", "avui", "avrn", "cllc"),
        *("speedhq", "cavs", "dirac"),
        *("ffv1", "ffvhuff", "huffyuv", "utvideo", "magicyuv", "lagarith", "rawvideo", "wrapped_avframe", "v210"),
        *("v308", "v408", "v410", "yuv4", "r210", "r10k"),
        *("svq1", "svq3", "rv10", "rv20", "rv30", "rv40", "cinepak", "indeo3", "indeo4", "indeo5", "msvideo1", "rpza"),
        *("qtrle", "msrle", "zmbv", "camtasia", "camstudio", "tscc2", "fraps", "mss1", "mss2"),
    }
)
_PICTURES = ("jpeg_pipe", "mjpeg")  # concatenated images; a single one is not a video
_WITH_INDEX = ("mov", "avi")  # containers that list every sample
_LEAST_BYTES = 8  # of a frame with what the container needs for it; a length that needs more frames is false
_LOWEST_HZ, _HIGHEST_HZ = 1e-6, 1e4  # a frame every ten days; ticks of a clock are taken for frames, too
_PROBED = 64  # entries of an index
_PIXELS_AT_ONCE = 1 << 27  # in the frames that a decoder works on; it has some frames of memory for each thread
_MAX_PIXEL_ASPECT = 100  # wider or narrower pixels than any camera has are an error of the file


@dataclass(frozen=True, slots=True)
class Declared:
    """Declared properties of a video stream.

    Attributes:
        samples: Samples with data that an index lists, each of which must come; 0 where there is none.
        starts_with_key: Whether an index says that the first sample is a key frame, also if its data is damaged.
        duration_s: Length in seconds; None where it is not declared.
        rate_hz: Average frame rate in Hz; None where it is unknown.
        frame_count: Number of frames; None where it is unknown.
        pixel_aspect: Width of a pixel divided by its height; 1 for square ones.
        clock_restarts: Whether the clock may restart within the file, as in broadcast formats.
        presentation_stored: Whether presentation times are stored; AVI stores decoding order only.
    """

    samples: int
    starts_with_key: bool
    duration_s: float | None
    rate_hz: float | None
    frame_count: int | None
    pixel_aspect: Fraction
    clock_restarts: bool
    presentation_stored: bool


def open_container(path: Path, config: VideoConfig, name: str) -> InputContainer:
    """Open a video file, but no other file that it refers to.

    Args:
        path: The file.
        config: Limits; FFmpeg decodes a frame to identify a stream, within `max_pixels`.
        name: Name of the video in messages.

    Raises:
        InvalidVideo: It cannot be read, or is not a video in a known container.
    """
    try:
        refuse_false_samples(path, config, name)
        container = _open(path, config)
        if container.format.name == "avi" and _index_misleads(path, container):
            container.close()
            return _open(path, config, {"seekable": "0"})  # then FFmpeg reads from front to end without the index
        if container.format.name not in _PICTURES:
            return container
        with container:
            if sum(packet.size > 0 for packet in islice(container.demux(), 2)) < 2:
                raise InvalidVideo(f"{name} is an image, not a video")
        return _open(path, config)
    except av.FFmpegError as error:  # including "operation not permitted", which demuxers raise for broken data
        with path.open("rb") as file:
            head = file.read(12)
        if not head:
            reason = f"{name} is empty"
        elif head[4:8] == b"ftyp":
            reason = f"{name} is an MP4 file without a readable index: it is cut off, damaged or unfinished"
        else:
            reason = f"{name} is not a video in a known container"
        raise InvalidVideo(reason) from error
    except OSError as error:
        raise InvalidVideo(f"{name} cannot be read: {error.strerror}") from error


def _open(path: Path, config: VideoConfig, how: Mapping[str, str] = MappingProxyType({})) -> InputContainer:
    # The prefix keeps a file called `http:x` or `concat:x` a file.
    return av.open(
        f"file:{path.absolute()}",
        mode="r",
        options={"max_pixels": str(_decoder_pixels(config))},
        container_options={
            "format_whitelist": _CONTAINERS,
            "protocol_whitelist": "file",
            "codec_whitelist": ",".join(_DECODERS),
            "merge_pmt_versions": "1",  # joined recordings of two senders are one stream of pictures
            **how,
        },
        metadata_errors="replace",
    )


def pick_stream(container: InputContainer, config: VideoConfig, name: str) -> VideoStream:
    """Return the stream with the largest frames, with its decoder limited to the configured size.

    The cover image of a song is a video stream too, and some cameras add a small preview stream.

    Raises:
        InvalidVideo: There is no video stream, none that can be decoded, or the frames are too large.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = " and ".join(sorted({str(s.type) for s in container.streams}))
        raise InvalidVideo(f"{name} has no video stream{', only ' * bool(kinds)}{kinds}")
    stream = max(streams, key=lambda s: s.width * s.height if _has_decoder(s) else -1)
    if not _has_decoder(stream):
        raise InvalidVideo(f"{name}: there is no decoder for its video codec; convert it to H.264")
    refuse_size(stream.width, stream.height, config, name)
    stream.thread_type = "AUTO"
    if stream.width * stream.height * (os.cpu_count() or 1) > _PIXELS_AT_ONCE:  # 4 threads for a picture of 8K
        stream.thread_count = max(1, _PIXELS_AT_ONCE // (stream.width * stream.height))
    stream.codec_context.options = {"max_pixels": str(_decoder_pixels(config))}
    return stream


def refuse_size(width: int, height: int, config: VideoConfig, name: str) -> None:
    """Refuse frames that are larger than configured.

    Raises:
        InvalidVideo: The frames are too large.
    """
    if width * height > config.max_pixels:
        raise InvalidVideo(
            f"{name}: frames of {width}x{height} exceed the limit of {config.max_pixels} pixels (video.max_pixels)"
        )


def read_declared(container: InputContainer, stream: VideoStream) -> Declared:
    """Read the declared properties of a video stream, without decoding."""
    form = container.format.name
    is_avi = form == "avi"
    duration = (
        float(stream.duration * stream.time_base) if stream.duration and stream.time_base else duration_s(container)
    )
    listed = list(stream.index_entries) if form.startswith(_WITH_INDEX) else []
    if is_avi and not _covers(stream):
        listed = []
    samples = len({entry.pos for entry in listed if entry.size > 0})
    rates = (float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate)
    rate = next((rate for rate in rates if _LOWEST_HZ <= rate <= _HIGHEST_HZ), None)
    if is_avi and samples and duration:
        rate = samples / duration  # AVI counts empty samples as frames
    if samples and (is_avi or len(listed) == stream.frames):  # a fragmented file lists its first fragment
        count = sum(entry.size > 0 and not entry.is_discard for entry in listed)
    else:
        count = round(duration * rate) if duration and rate else stream.frames
    if duration and duration < 0:
        duration, count = None, 0
    if count and container.size and count * _LEAST_BYTES > container.size:
        duration, count = None, 0  # wrong because of a restarted clock
    aspect = stream.sample_aspect_ratio or Fraction(1)
    plausible = Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT
    return Declared(
        samples=samples,
        starts_with_key=bool(listed) and listed[0].is_keyframe,
        duration_s=duration,
        rate_hz=rate,
        frame_count=count or None,
        pixel_aspect=aspect if plausible else Fraction(1),
        clock_restarts=bool(container.format.flags & cast("int", Flags.ts_discont.value)),
        presentation_stored=not is_avi,
    )


def _index_misleads(path: Path, container: InputContainer) -> bool:
    """Return whether most of what the index of an AVI lists lies elsewhere: an editor or a recorder got it wrong."""
    right = wrong = 0
    with path.open("rb") as file:
        for stream in container.streams.video:
            entries = stream.index_entries
            for number in range(0, len(entries), len(entries) // _PROBED + 1):
                file.seek(max(0, entries[number].pos))
                is_right = file.read(2) == b"%02d" % stream.index  # a chunk begins with the number of its stream
                right, wrong = right + is_right, wrong + (not is_right)
    return wrong > right


def _covers(stream: VideoStream) -> bool:
    """Return whether the index of an AVI is there; FFmpeg makes up one of what it has read.

    A recorder that was cut short has not yet put the number of frames into the header either.
    """
    entries = stream.index_entries
    return len(entries) > 0 and stream.frames > 0 and 2 * entries[len(entries) - 1].timestamp >= stream.frames - 1


def duration_s(container: InputContainer) -> float | None:
    """Return the declared length of the container in seconds; None where it is not declared."""
    return container.duration / av.time_base if container.duration else None


def _decoder_pixels(config: VideoConfig) -> int:
    return 2 * config.max_pixels  # the decoder counts pixels with padding, and refuses before it allocates memory


def _has_decoder(stream: VideoStream) -> bool:
    context = cast("VideoCodecContext | None", stream.codec_context)
    return context is not None and context.codec.name in _DECODERS
