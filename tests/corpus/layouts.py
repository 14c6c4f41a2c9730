"""Rows: what else is in a file beside the pictures."""

from __future__ import annotations

from corpus.formats import BFRAMES, FFV1, MPEG2, X264
from corpus.row import Row

SMALL = "-f lavfi -i testsrc=size=32x32:duration=1.2"
COVER = "-f lavfi -i testsrc=size=320x240:duration=0.04"
SOUND_FIRST = "SOUND PICTURE -map 0:a -map 1:v"

LAYOUTS = [
    Row("sound.m4a", "SOUND -c:a aac", refused="no video stream, only audio", why="there is nothing to see"),
    Row("sound.wav", "SOUND", refused="not a video", why="no container of moving pictures"),
    *(
        Row(f"sound-first.{form}", f"{SOUND_FIRST} {BFRAMES} -c:a {audio}", quick=form == "mp4")
        for form, audio in {"mp4": "aac", "mov": "pcm_s16le", "mkv": "flac", "ts": "mp2", "flv": "aac"}.items()
    ),
    Row("sound-first.webm", f"{SOUND_FIRST} -c:v libvpx -deadline realtime -cpu-used 8 -c:a libopus"),
    Row("sound-first.avi", f"{SOUND_FIRST} -c:v mpeg4 -c:a mp3"),
    Row("sound-first.mpg", f"{SOUND_FIRST} {MPEG2} -c:a mp2"),
    Row("sound-first.wmv", f"{SOUND_FIRST} -c:v wmv2 -c:a wmav2"),
    Row("sound-first.ogv", f"{SOUND_FIRST} -c:v libtheora -q:v 8 -c:a libvorbis"),
    Row("sound-first.nut", f"{SOUND_FIRST} {FFV1} -c:a pcm_s16le"),
    *(
        Row(f"sound-{codec}.mov", f"SOUND SOUND PICTURE -map 0 -map 1 -map 2 {X264} -c:a {codec} -ar 48000 -ac 2")
        for codec in ("adpcm_ima_qt", "pcm_mulaw", "pcm_s24le", "alac")
    ),
    Row("sound-longer.mp4", f"-f lavfi -i sine=duration=6 PICTURE -map 0 -map 1 {BFRAMES} -c:a aac"),
    Row("sound-longer.mkv", f"-f lavfi -i sine=duration=6 PICTURE -map 0 -map 1 {BFRAMES} -c:a aac"),
    Row("sound-longer.avi", "-f lavfi -i sine=duration=6 PICTURE -map 0 -map 1 -c:v mpeg4 -c:a mp3"),
    Row("sound.mxf", f"PICTURE SOUND -map 0 -map 1 {MPEG2} -c:a pcm_s16le -ar 48000"),
    Row("preview-first.mp4", f"{SMALL} PICTURE -map 0 -map 1 {BFRAMES}", stream="v:1", quick=True),
    Row("preview-first.mkv", f"{SMALL} PICTURE -map 0 -map 1 {BFRAMES}", stream="v:1"),
    Row("preview-first.ts", f"{SMALL} PICTURE -map 0 -map 1 {BFRAMES}", stream="v:1"),
    Row("preview-second.mov", f"PICTURE {SMALL} -map 0 -map 1 {X264}"),
    Row("cover.jpg", "-f lavfi -i testsrc=size=320x240 -frames:v 1 -update 1", refused="not a video"),
    Row("cover.mp4", f"{COVER} PICTURE -map 0 -map 1 -c:v:0 png -c:v:1 libx264 -disposition:v:0 attached_pic"),
    Row("cover.mkv", f"PICTURE {BFRAMES} -attach {{cover.jpg}} -metadata:s:t mimetype=image/jpeg"),
    Row(
        "cover-only.m4a",
        f"SOUND {COVER} -map 0 -map 1 -c:a aac -c:v png -disposition:v:0 attached_pic -f mp4",
        refused="no video stream",
        why="a song with a cover",
    ),
    Row("subtitles.mkv", f"PICTURE -i {{words.srt}} -map 0 -map 1 {BFRAMES} -c:s srt"),
    Row("subtitles.mp4", f"PICTURE -i {{words.srt}} -map 1 -map 0 {BFRAMES} -c:s mov_text"),
    Row("subtitles-later.mkv", f"PICTURE -itsoffset 60 -i {{words.srt}} -map 0 -map 1 {BFRAMES} -c:s srt"),
    Row("chapters.mp4", "-i {h264.mp4} -f ffmetadata -i {chapters.txt} -map 0 -map_chapters 1 -c copy"),
    Row("chapters.mkv", "-i {h264.mp4} -f ffmetadata -i {chapters.txt} -map 0 -map_chapters 1 -c copy"),
    Row("timecode.mov", f"{BFRAMES} -timecode 01:00:00:00", quick=True),
    Row("timecode.mp4", f"{BFRAMES} -timecode 01:00:00:00 -write_tmcd 1"),
    Row("timecode.mxf", f"{MPEG2} -timecode 01:00:00:00"),
    Row("attachment.mkv", f"PICTURE {BFRAMES} -attach {{words.srt}} -metadata:s:t mimetype=text/plain"),
    Row("data.ts", f"PICTURE -f data -i {{words.srt}} -map 0 -map 1 {BFRAMES} -c:d copy"),
    Row(
        "programs.ts",
        f"PICTURE {SMALL} -map 0 -map 1 {BFRAMES} -program title=a:st=0 -program title=b:st=1",
    ),
    Row(
        "programs-second.ts",
        f"{SMALL} PICTURE SOUND -map 0 -map 1 -map 2 {BFRAMES} -c:a mp2 -program st=0 -program st=1:st=2",
        stream="v:1",
    ),
    Row("many-sounds.mkv", f"SOUND PICTURE {'-map 0 ' * 40} -map 1 {BFRAMES} -c:a flac"),
    Row("two-equal.mp4", f"PICTURE -f lavfi -i testsrc=size=96x64:duration=1.2 -map 0 -map 1 {BFRAMES}"),
    Row("two-lengths.mkv", f"PICTURE -f lavfi -i testsrc=size=32x32:duration=4 -map 0 -map 1 {BFRAMES}"),
]
