"""Decodes the packets of one video stream; empty and damaged samples are skipped, damaged ones are counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, cast

import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_MOST_DELAYED = 64  # FFmpeg decodes up to 16 frames at a time, and codecs delay up to 16 frames
_MOST_BYTES = 64 << 20  # a long group of pictures in high quality


class PacketReader:
    """Reads the packets of one stream of an open container, and records the time reached in the container.

    Attributes:
        packets: Packets of the stream with data, so far.
        reached_s: Latest end of a packet of picture or sound in seconds, so far.
        is_partial: Whether the end has shown that there are streams that begin later than the container was searched
            through for streams; these are not read.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.packets = 0
        self.reached_s = 0.0
        self.is_partial = False
        self._container = container
        self._stream = stream

    def read(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets with data.

        Cameras write empty packets for dropped frames; a decoder would take them for the end of the stream.

        Raises:
            FFmpegError: The container is broken.
        """
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # PyAV flushes streams at the end that came up late and that it does not know
                self.is_partial = True
                return
            if packet is None:
                return
            last = packet.pts if packet.pts is not None else packet.dts
            if last is not None and packet.time_base and packet.stream.type in ("video", "audio"):
                self.reached_s = max(self.reached_s, float((last + (packet.duration or 0)) * packet.time_base))
            if packet.size and packet.stream.index == self._stream.index:
                self.packets += 1
                yield cast("Packet[VideoStream]", packet)


class PacketDecoder:
    """Decodes packets to frames in display order.

    FFmpeg decodes one frame per thread, and reports a damaged sample when its frame is due. At the end of a file PyAV
    loses the frames after a damaged one; they are decoded a second time on one thread, from the key frame before
    them.

    Args:
        context: Decoder of the stream.
        single: Makes another decoder of the same stream that works on one thread.
        starts_with_key: Whether the container says that its first sample is a key frame. A parser takes that mark from
            a damaged one.

    Attributes:
        decoded: Number of frames so far.
        lost: Number of samples so far that could not be decoded, including those after them up to the next key frame
            without a frame from the decoder. Samples before the first key frame do not count: a recording cut out of a
            broadcast begins with some.
        damaged: Number of frames so far that were decoded with damage.
        out_of_memory: Whether the decoder had not enough memory for a frame.
    """

    def __init__(
        self, context: VideoCodecContext, single: Callable[[], VideoCodecContext], starts_with_key: bool
    ) -> None:
        self.decoded = 0
        self.lost = 0
        self.damaged = 0
        self.out_of_memory = False
        self._context = context
        self._single = single
        self._key_seen = starts_with_key
        self._recent = _RecentPackets()
        context.copy_opaque = True

    def decode(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """Yield the frames of all packets.

        Raises:
            FFmpegError: The packets cannot be read; all earlier frames were yielded.
        """
        failure: av.FFmpegError | None = None
        packets = iter(packets)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                failure, packet = error, None
            if packet is None:
                break
            self._key_seen |= packet.is_keyframe
            self.lost += self._recent.add(packet)
            yield from self._pictures(packet)
        yield from self._finish()
        if failure is not None:
            raise failure

    def largest_size(self, max_pixels: int) -> tuple[int, int]:
        """Return width and height of the largest recent frame, including frames that were refused for their size.

        A decoder that refuses a size only reports invalid data.

        Args:
            max_pixels: Frames with more pixels are ignored.
        """
        decoder, headers = self._single(), self._single()
        headers.skip_frame = "ALL"  # reads headers only, except for H.264
        headers.options = {"max_pixels": str(max_pixels)}
        sizes = [(0, 0)]
        for packet in self._recent.packets:
            for context in (decoder, headers):
                with suppress(av.FFmpegError):
                    context.decode(packet)
                sizes.append((context.width, context.height))
        return max(sizes, key=prod)

    def _pictures(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        try:
            pictures = self._context.decode(packet)
        except av.FFmpegError as error:
            self.out_of_memory |= isinstance(error, MemoryError)
            # frames are delayed by one packet per additional thread
            self._note_damage(self._recent.number - self._context.delay)
            return
        yield from map(self._counted, pictures)

    def _note_damage(self, number: int) -> None:
        if self._key_seen:
            self.lost += 1
            self._recent.note_damage(number)

    def _finish(self) -> Iterator[VideoFrame]:
        failed = False
        try:
            yield from map(self._counted, self._context.decode(None))
        except av.FFmpegError:
            failed = True
        if failed and len(self._recent.missing) <= 1:
            self.lost += 1
        elif self._recent.missing:
            yield from self._decode_again()

    def _decode_again(self) -> Iterator[VideoFrame]:
        context = self._single()
        context.copy_opaque = True
        missing = set(self._recent.missing)
        for packet in (*self._recent.packets, None):
            try:
                pictures = context.decode(packet)
            except av.FFmpegError:
                if packet is not None and _number_of(packet) in missing:
                    self._note_damage(_number_of(packet))
                continue
            yield from (self._counted(picture) for picture in pictures if _number_of(picture) in missing)
        self.lost += sum(self._recent.missing.values())

    def _counted(self, picture: VideoFrame) -> VideoFrame:
        self._recent.remove(_number_of(picture))
        self.decoded += 1
        self.damaged += picture.is_corrupt
        return picture


class _RecentPackets:
    """The latest packets since a key frame, and which of them have no frame yet.

    Attributes:
        packets: The packets, numbered in `opaque`; empty if a group of pictures is too large to store.
        number: Number of the latest packet.
        missing: Numbers of the latest packets without a frame, in order, and whether a damaged packet lies between
            them and the previous key frame.
    """

    def __init__(self) -> None:
        self.packets: deque[Packet[VideoStream]] = deque()
        self.number = -1
        self.missing: dict[int, bool] = {}
        self._keys: deque[int] = deque()
        self._bytes = 0
        self._behind_damage = False

    def add(self, packet: Packet[VideoStream]) -> bool:
        """Number a packet and store it, with the key frame that it needs.

        Returns:
            Whether an earlier packet is dropped that has no frame because of damage before it.
        """
        self.number += 1
        # A new object each time: PyAV identifies it by its address, in one table for all videos of the process.
        packet.opaque = (self.number,)
        if packet.is_keyframe:
            self._keys.append(self.number)
            self._behind_damage = False
        self.missing[self.number] = self._behind_damage
        if self._keys:
            self.packets.append(packet)
            self._bytes += packet.size
        while len(self._keys) > 1 and (self.number - self._keys[1] > _MOST_DELAYED or self._bytes > _MOST_BYTES):
            self._drop_group()
        if self._bytes > _MOST_BYTES:
            self._drop_group()
        return len(self.missing) > _MOST_DELAYED and self.missing.pop(next(iter(self.missing)))

    def remove(self, number: int) -> None:
        """Record that a packet has its frame."""
        self.missing.pop(number, None)

    def note_damage(self, number: int) -> None:
        """Record that a packet is damaged, and with it those up to the next key frame."""
        self.remove(number)
        following = next((key for key in self._keys if key > number), None)
        for behind in self.missing:
            if behind > number and (following is None or behind < following):
                self.missing[behind] = True
        self._behind_damage |= following is None

    def _drop_group(self) -> None:
        self._keys.popleft()
        while self.packets and (not self._keys or _number_of(self.packets[0]) != self._keys[0]):
            self._bytes -= self.packets.popleft().size


def _number_of(data: Packet[VideoStream] | VideoFrame) -> int:
    """Return the number of a packet, or of the packet of a frame; -1 if the decoder does not give it."""
    return cast("tuple[int]", data.opaque or (-1,))[0]
