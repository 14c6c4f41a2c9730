"""Rows: files that are damaged, cut off, or state what is not so."""

from __future__ import annotations

from itertools import product

from corpus.edits import cut_front, drop_chunk, empty_samples, garble, patch, prefix, suffix, truncate, zero
from corpus.formats import BFRAMES, FFV1, MPEG2, X264
from corpus.row import Row, every, unchanged

SAMPLE = "frames behind the damage differ between releases of FFmpeg"
CUT = "a file that was cut off is refused at its end"
LONG = "-f lavfi -i testsrc2=size=96x64:rate=25:duration=4"
THREADS = (1, 2, 4, 8)
FIRST_LOST = {
    "h264": "12 of 30 frames cannot be decoded",
    **dict.fromkeys(("hevc", "vp9", "vp8", "av1"), "no frame that can be decoded"),
}

DAMAGE = [
    *(
        Row(
            f"sample{number}-{codec}.{form}",
            args,
            edit=garble(number),
            threads=THREADS,
            times=unchanged if codec == "mpeg2" else None,  # its decoder then shows the last two in the wrong order
            pixels=None,
            why=SAMPLE,
            refused=FIRST_LOST.get(codec) if number == 0 else None,
        )
        for (codec, form, args), number in product(
            [
                ("h264", "mp4", BFRAMES),
                ("h264-i", "mkv", "-c:v libx264 -preset ultrafast -g 1"),
                ("hevc", "mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=none"),
                ("vp9", "webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8"),
                ("ffv1", "mkv", FFV1),
                ("mjpeg", "avi", "-c:v mjpeg -q:v 3"),
                ("png", "mov", "-c:v png"),
                ("av1", "mp4", "-c:v libaom-av1 -cpu-used 8 -usage realtime"),
                ("vp8", "webm", "-c:v libvpx -deadline realtime -cpu-used 8"),
                ("mpeg4", "avi", "-c:v mpeg4 -bf 2"),
                ("mpeg2", "mov", "-c:v mpeg2video -bf 2 -q:v 4"),
                ("prores", "mov", "-c:v prores_ks"),
                ("utvideo", "avi", "-c:v utvideo"),
            ],
            (0, 15, -2, -1),
        )
    ),
    *(
        Row(
            f"empty-{'-'.join(map(str, samples))}.mp4",
            X264,
            edit=empty_samples(*samples),
            refused="no frame that can be decoded" if samples == (0,) else None,
        )
        for samples in ((0,), (7, 8), (29,))
    ),
    *(
        Row(
            f"cut-{round(100 * share)}.{form}",
            f"{LONG} {args}",
            edit=truncate(share),
            refused=refused,
            pixels=None,
            why=CUT,
        )
        for (form, args, refused), share in product(
            [
                ("mp4", f"{BFRAMES} -movflags +faststart", "cut off"),
                ("mkv", BFRAMES, "cut off"),
                ("avi", "-c:v mpeg4", "cut off"),
                ("flv", "-c:v flv1", "cut off"),
                ("wmv", "-c:v wmv2", "cut off"),
                ("webm", "-c:v libvpx -deadline realtime -cpu-used 8", "cut off"),
            ],
            (0.3, 0.6, 0.8),
        )
    ),
    Row("cut-60-no-index.mp4", BFRAMES, edit=truncate(0.6), refused="without a readable index", why=CUT),
    Row("cut-60.ts", BFRAMES, edit=truncate(0.6), why="a transport stream has no end"),
    Row("cut-60.mpg", MPEG2, edit=truncate(0.6), why="a program stream has no end"),
    Row("cut-60.ogv", "-c:v libtheora -q:v 8", edit=truncate(0.6), why="Ogg states no length"),
    Row("cut-60.h264", BFRAMES, edit=truncate(0.6), times=every(1 / 25)),
    Row(
        "cut-60.gif", "-c:v gif", edit=truncate(0.6), pixels=None, count=18, why="FFmpeg 8 shows the part of a picture"
    ),
    Row(
        "cut-60-fragmented.mp4",
        f"{BFRAMES} -movflags +frag_keyframe+empty_moov",
        edit=truncate(0.6),
        pixels=None,
        refused="cut off",
    ),
    Row("front-cut.ts", BFRAMES, edit=cut_front(0.3), pixels=None, why=SAMPLE),
    Row("front-cut.mpg", f"{MPEG2} -bf 2", edit=cut_front(0.3), pixels=None, why=SAMPLE),
    Row("garbage-longer.ts", BFRAMES, edit=prefix(bytes(range(1, 250)) * 6)),
    Row("garbage-behind.mp4", BFRAMES, edit=suffix(bytes(5000))),
    Row("garbage-behind.mkv", BFRAMES, edit=suffix(bytes(5000))),
    Row("garbage-behind.avi", "-c:v mpeg4", edit=suffix(b"\xaa" * 5000)),
    Row("zeros.ts", BFRAMES, edit=zero(0.5, 1500), pixels=None, why=SAMPLE),
    Row("zeros.mpg", MPEG2, edit=zero(0.5, 1500), pixels=None, why=SAMPLE),
    Row("zeros.mkv", X264, edit=zero(0.5, 600), pixels=None, why=SAMPLE),
    Row("zeros.avi", "-c:v mjpeg -q:v 3", edit=zero(0.5, 600), pixels=None, why=SAMPLE),
    Row("zeros.ogv", "-c:v libtheora -q:v 8", edit=zero(0.5, 400), pixels=None, why=SAMPLE),
    Row("no-index.avi", "-c:v mpeg4", edit=drop_chunk(b"idx1")),
    Row("no-index.mkv", f"{BFRAMES} -f matroska -live 1"),
    Row("longer.flv", "-c:v flv1", edit=patch(b"duration\x00", 0, bytes.fromhex("4059000000000000"))),
    Row("longer.mkv", BFRAMES, edit=patch(bytes.fromhex("448988"), 0, bytes.fromhex("40f3880000000000"))),
    Row("frames-overstated.avi", "-c:v mpeg4", edit=patch(b"avih", 20, (3000).to_bytes(4, "little"))),
]
