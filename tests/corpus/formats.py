"""Rows: containers, codecs, formats of pixels, sizes, and how a picture lies."""

from __future__ import annotations

from itertools import product
from typing import Any

from corpus.edits import matrix, patch
from corpus.row import Row, every

X264 = "-c:v libx264 -preset ultrafast"
BFRAMES = "-c:v libx264 -preset veryfast -bf 3 -g 12"
MPEG2 = "-c:v mpeg2video -q:v 4"
FFV1 = "-c:v ffv1"
CHROMA: Any = {
    "pixels": 12,
    "peak": 255,
    "why": "FFmpeg 8 places colour between pixels as the file says, and field by field; FFmpeg 5 does not",
}
DV = "-c:v dvvideo -pix_fmt yuv411p"
_COLOUR_PLACED = ("yuv420p10le", "yuv422p10le", "yuv410p", "yuv440p", "yuv420p16le")

CONTAINERS = [
    *(
        Row(f"h264.{form}", BFRAMES, quick=form in ("mp4", "mkv", "ts"))
        for form in ("mp4", "mov", "mkv", "m4v", "3gp", "3g2", "ts")
    ),
    Row("h264.m2ts", f"{BFRAMES} -mpegts_m2ts_mode 1"),
    Row("h264.flv", BFRAMES),
    Row("h264.avi", X264),
    Row("h264-b.avi", BFRAMES, times=every(1 / 25), why="AVI stores decoding order alone", quick=True),
    Row("h264.nut", BFRAMES),
    Row("h264.wtv", X264),
    Row("h264-faststart.mp4", f"{BFRAMES} -movflags +faststart"),
    Row("h264-fragmented.mp4", f"{BFRAMES} -movflags +frag_keyframe+empty_moov"),
    Row("h264-fragmented-once.mp4", f"{BFRAMES} -movflags +frag_keyframe"),
    Row("h264-dash.mp4", f"{BFRAMES} -movflags +dash+frag_every_frame+default_base_moof"),
    Row("h264-cmaf.mp4", f"{BFRAMES} -movflags +cmaf+negative_cts_offsets+frag_keyframe"),
    Row("h264-live.mkv", f"{BFRAMES} -f matroska -live 1 -cluster_time_limit 200"),
    Row("h264-cues-first.mkv", f"{BFRAMES} -cues_to_front 1 -reserve_index_space 2000"),
    *(Row(f"mpeg2.{form}", f"{MPEG2} -bf 2") for form in ("mpg", "vob", "ts", "m2ts", "mkv", "mov", "mxf", "wtv")),
    Row("mpeg2.gxf", "-vf scale=720:576,fps=25 -c:v mpeg2video -q:v 20 -frames:v 5 -f gxf"),
    Row("mpeg1.mpg", "-c:v mpeg1video -bf 2"),
    Row("mpeg4.mp4", "-c:v mpeg4 -bf 2", quick=True),
    Row("mpeg4.avi", "-c:v mpeg4"),
    Row("mpeg4-b.avi", "-c:v mpeg4 -bf 2", times=every(1 / 25), why="AVI stores decoding order alone"),
    Row("mpeg4.3gp", "-c:v mpeg4"),
    Row("mpeg4.mkv", "-c:v mpeg4 -bf 2"),
    Row("wmv2.wmv", "-c:v wmv2", quick=True),
    Row("wmv1.asf", "-c:v wmv1"),
    Row("msmpeg4.asf", "-c:v msmpeg4"),
    Row("msmpeg4.avi", "-c:v msmpeg4v2"),
    Row("flv1.flv", "-c:v flv1"),
    Row("theora.ogv", "-c:v libtheora -q:v 9", quick=True),
    Row("theora.mkv", "-c:v libtheora -q:v 9"),
    Row("mjpeg.avi", "-c:v mjpeg -q:v 3"),
    Row("mjpeg.mov", "-c:v mjpeg -q:v 3"),
    Row("mjpeg.mkv", "-c:v mjpeg -q:v 3"),
    Row("gif.gif", "-c:v gif", quick=True),
    Row("gif-pauses.gif", "-vf setpts=N*N/20/TB -c:v gif -fps_mode passthrough"),
    Row("apng.apng", "-c:v apng -f apng"),
    Row("apng-rgba.apng", "-vf format=rgba -c:v apng -f apng"),
    Row("raw.y4m", "-pix_fmt yuv420p"),
    Row("raw-444.y4m", "-pix_fmt yuv444p"),
    Row("raw-odd.y4m", "-f lavfi -i testsrc2=size=51x37:duration=0.5 -pix_fmt yuv420p"),
    Row("vp8.ivf", "-c:v libvpx -deadline realtime -cpu-used 8"),
    Row("vp9.ivf", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8"),
    Row("av1.ivf", "-c:v libaom-av1 -cpu-used 8 -usage realtime -frames:v 10"),
    Row("av1.obu", "-c:v libaom-av1 -cpu-used 8 -usage realtime -frames:v 10 -f obu", times=every(1 / 25)),
    Row("h264.h264", BFRAMES, times=every(1 / 25), why="raw streams have no times"),
    Row("hevc.hevc", "-c:v libx265 -preset ultrafast -x265-params log-level=none", times=every(1 / 25)),
    Row("mpeg4.m4v", "-c:v mpeg4 -f m4v", times=every(1 / 25)),
    Row("mpeg2.m2v", f"{MPEG2} -f mpeg2video", times=every(1 / 25)),
    Row("mjpeg.mjpeg", "-c:v mjpeg -q:v 3", times=every(1 / 25)),
    Row("dv.dv", "-f lavfi -i testsrc2=size=720x576:rate=25:duration=0.2 -c:v dvvideo -pix_fmt yuv420p", **CHROMA),
    Row("dv.avi", "-f lavfi -i testsrc2=size=720x576:rate=25:duration=0.2 -c:v dvvideo -pix_fmt yuv420p", **CHROMA),
    Row(
        "dv.mov",
        "-f lavfi -i testsrc2=size=720x480:rate=30000/1001:duration=0.2 -c:v dvvideo -pix_fmt yuv411p",
        **CHROMA,
    ),
    Row("rv10.rm", "-f lavfi -i testsrc2=size=176x144:duration=0.6 -c:v rv10"),
]

CODECS = [
    *(Row(f"vp8.{form}", "-c:v libvpx -deadline realtime -cpu-used 8") for form in ("webm", "mkv")),
    Row("vp8-hidden.webm", "-c:v libvpx -deadline good -cpu-used 5 -auto-alt-ref 1 -lag-in-frames 10"),
    Row("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8", quick=True),
    Row("vp9-hidden.webm", "-c:v libvpx-vp9 -deadline good -cpu-used 5 -auto-alt-ref 1 -lag-in-frames 12"),
    Row("vp9.mp4", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8"),
    Row("vp9-444.webm", "-pix_fmt yuv444p -c:v libvpx-vp9 -deadline realtime -cpu-used 8"),
    Row("vp9-10bit.webm", "-pix_fmt yuv420p10le -c:v libvpx-vp9 -deadline realtime -cpu-used 8", **CHROMA),
    Row("av1.mp4", "-c:v libaom-av1 -cpu-used 8 -usage realtime -frames:v 12"),
    Row("av1.webm", "-c:v libaom-av1 -cpu-used 8 -usage realtime -frames:v 12"),
    Row("av1-hidden.mkv", "-c:v libaom-av1 -cpu-used 8 -lag-in-frames 16 -frames:v 18"),
    Row("av1-10bit.mp4", "-pix_fmt yuv420p10le -c:v libaom-av1 -cpu-used 8 -frames:v 6"),
    *(
        Row(f"hevc.{form}", "-c:v libx265 -preset ultrafast -x265-params log-level=none:bframes=3")
        for form in ("mp4", "mov", "mkv", "ts")
    ),
    Row("hevc-hvc1.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=none -tag:v hvc1"),
    Row("hevc-open-gop.ts", "-c:v libx265 -preset veryfast -x265-params log-level=none:open-gop=1:keyint=10:bframes=4"),
    Row("prores.mov", "-c:v prores_ks"),
    Row("prores-4444.mov", "-vf format=yuva444p10le -c:v prores_ks -profile:v 4"),
    Row("dnxhd.mov", "-f lavfi -i testsrc2=size=256x128:duration=0.4 -pix_fmt yuv422p -c:v dnxhd -profile:v dnxhr_sq"),
    Row("dnxhd.mxf", "-f lavfi -i testsrc2=size=1280x720:rate=25:duration=0.2 -pix_fmt yuv422p -c:v dnxhd -b:v 60M"),
    Row("ffv1.mkv", FFV1),
    Row("ffv1-slices.mkv", f"{FFV1} -level 3 -slices 4 -slicecrc 1"),
    Row("ffv1.avi", FFV1),
    Row("huffyuv.avi", "-c:v huffyuv"),
    Row("ffvhuff.mkv", "-c:v ffvhuff"),
    Row("utvideo.avi", "-c:v utvideo"),
    Row("magicyuv.mov", "-c:v magicyuv -strict -2 -f nut"),
    Row("raw.avi", "-c:v rawvideo -pix_fmt bgr24"),
    Row("raw-yuv.avi", "-c:v rawvideo -pix_fmt yuv420p"),
    Row("raw-uyvy.mov", "-c:v rawvideo -pix_fmt uyvy422"),
    Row("raw.nut", "-c:v rawvideo -pix_fmt rgb24"),
    Row("png.mov", "-c:v png"),
    Row("png.mkv", "-c:v png"),
    Row("qtrle.mov", "-c:v qtrle"),
    Row("cinepak.avi", "-frames:v 4 -c:v cinepak", pixels=None),
    Row("zmbv.avi", "-c:v zmbv"),
    Row("flashsv.flv", "-c:v flashsv"),
    Row("jpeg2000.mov", "-c:v jpeg2000"),
    Row("svq1.mov", "-c:v svq1", **CHROMA),
    Row("h263.3gp", "-f lavfi -i testsrc2=size=176x144:duration=0.6 -c:v h263"),
    Row("h263p.mov", "-c:v h263p"),
    Row("snow.nut", "-c:v snow -strict -2"),
    Row("v210.mov", "-c:v v210"),
    Row("h264-intra.mp4", "-c:v libx264 -preset ultrafast -g 1"),
    Row("h264-lossless.mp4", "-c:v libx264 -preset ultrafast -qp 0"),
    Row("h264-slices.mp4", "-c:v libx264 -preset veryfast -x264-params slices=4", threads=(1, 2, 4, 8)),
    Row("h264-refresh.mp4", "-c:v libx264 -preset veryfast -x264-params intra-refresh=1"),
    Row(
        "h264-open-gop.mkv",
        "-c:v libx264 -preset veryfast -bf 3 -x264-params open-gop=1:keyint=8",
        threads=(1, 2, 4, 8),
    ),
    Row("h264-pyramid.mp4", "-c:v libx264 -preset veryfast -bf 8 -b_strategy 0 -x264-params b-pyramid=normal"),
    Row("mpeg4-packed.avi", "-c:v libxvid -bf 2", times=every(1 / 25)),
    Row("one-frame.mp4", f"{X264} -frames:v 1"),
    Row("two-frames.ts", f"{BFRAMES} -frames:v 2"),
]

SCALED: Any = {"pixels": 8, "peak": 160, "why": "later pictures are scaled by another kernel"}

_PIXELS = {
    "libx264": "yuv422p yuv444p yuvj420p yuvj444p gray yuv420p10le yuv422p10le yuv444p10le nv12",
    "libx264rgb": "rgb24",
    "ffv1": "yuv410p yuv411p yuv440p gray gray10le gray16le rgb24 bgr0 bgra yuva420p yuv420p16le gbrp10le ya8",
    "png": "rgb24 rgba gray pal8 monob rgb48be",
    "qtrle": "rgb24 argb gray rgb555be",
    "rawvideo": "yuyv422 pal8 rgb555le gray bgra",
}
_FORMS = {"rawvideo": "avi", "qtrle": "mov"}
PIXELS = [
    *(
        Row(
            f"{codec.removeprefix('lib')}-{pixel}.{_FORMS.get(codec, 'mkv')}",
            f"-pix_fmt {pixel} -c:v {codec} {'-preset ultrafast' if '264' in codec else ''}",
            **(CHROMA if pixel in _COLOUR_PLACED else {}),
        )
        for codec, pixels in _PIXELS.items()
        for pixel in pixels.split()
    ),
    Row("bt709.mp4", f"-vf scale=out_color_matrix=bt709 -colorspace bt709 {X264}"),
    Row("bt2020.mp4", f"-vf scale=out_color_matrix=bt2020 -colorspace bt2020nc -pix_fmt yuv420p10le {X264}", **CHROMA),
    Row("full-range.mp4", f"-vf scale=out_range=full -color_range pc {X264}", quick=True),
    Row(
        "full-range-bt709.mkv",
        f"-vf scale=out_range=full:out_color_matrix=bt709 -color_range pc -colorspace bt709 {X264}",
    ),
]

SHAPES = [
    *(
        Row(
            f"odd-{width}x{height}.mkv",
            f"-f lavfi -i testsrc2=size={width}x{height}:duration=0.4 -pix_fmt {pixel} {FFV1}",
        )
        for (width, height), pixel in (
            ((51, 37), "yuv420p"),
            ((18, 6), "gray"),
            ((17, 64), "yuv420p"),
            ((640, 2), "gray"),
            ((3, 100), "yuv420p"),
        )
    ),
    Row("odd-cropped.mp4", f"-f lavfi -i testsrc2=size=94x62:duration=0.4 {X264}"),
    Row("odd-51x37-444.mp4", f"-f lavfi -i testsrc2=size=51x37:duration=0.4 -pix_fmt yuv444p {X264}"),
    Row("large-1920x1080.mp4", f"-f lavfi -i testsrc2=size=1920x1080:duration=0.12 {X264}", threads=(1, 2, 4, 8)),
    Row("wide-pixels.mp4", f"-vf setsar=2 {X264}"),
    Row("narrow-pixels.mkv", f"-vf setsar=8/9 {X264}"),
    Row("absurd-pixels.mkv", f"-vf setsar=500 {FFV1}"),
    *(
        Row(
            f"turned-{angle}.{form}",
            f"-i {{h264.mp4}} -c copy -metadata:s:v rotate={angle}",
            quick=(angle, form) == (90, "mov"),
        )
        for angle, form in product((90, 180, 270), ("mp4", "mov"))
    ),
    Row(
        "turned-by-codec.ts",
        "-i {h264.mp4} -c copy -bsf:v h264_metadata=display_orientation=insert:rotate=90",
        pixels=None,
        why="FFmpeg 5 turns it the other way round and mirrors it",
    ),
    *(
        Row(f"{name}.mp4", "-i {h264.mp4} -c copy", edit=patch(b"tkhd", 40, matrix(*corner)))
        for name, corner in {
            "mirrored": (-1, 0, 0, 1),
            "upside-down": (1, 0, 0, -1),
            "transposed": (0, 1, 1, 0),
            "mirrored-turned": (0, -1, -1, 0),
        }.items()
    ),
    Row("interlaced.mp4", "-vf interlace -c:v libx264 -preset veryfast -flags +ilme+ildct", **CHROMA),
    Row(
        "interlaced.ts",
        "-vf tinterlace=interleave_top,setfield=tff -c:v mpeg2video -q:v 4 -flags +ilme+ildct",
        **CHROMA,
    ),
    Row(
        "interlaced.dv",
        "-f lavfi -i testsrc2=size=720x480:rate=30000/1001:duration=0.2 -c:v dvvideo -pix_fmt yuv411p",
        **CHROMA,
    ),
    Row("size-small.ts", X264),
    Row("size-large.ts", f"-f lavfi -i testsrc2=size=160x128:duration=0.6 {X264} -output_ts_offset 1.2"),
    Row("size-grows.ts", joined=("size-small.ts", "size-large.ts"), times=every(1 / 25), **SCALED),
    Row("size-shrinks.ts", joined=("size-large.ts", "size-small.ts"), times=every(1 / 25), **SCALED),
    Row("size-mjpeg-small.mjpeg", "-c:v mjpeg -q:v 3"),
    Row("size-mjpeg-large.mjpeg", "-f lavfi -i testsrc2=size=160x120:duration=0.4 -c:v mjpeg -q:v 3"),
    Row("size-grows.mjpeg", joined=("size-mjpeg-small.mjpeg", "size-mjpeg-large.mjpeg"), times=every(1 / 25), **SCALED),
]
