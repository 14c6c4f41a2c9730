"""Rows: timestamps of every kind, and clocks that are repaired."""

from __future__ import annotations

from corpus.edits import both, cut_front, drop_stamps, patch, prefix
from corpus.formats import BFRAMES, FFV1, MPEG2, X264
from corpus.row import Row, Times, every, unchanged

RESTARTED = "a clock that was restarted goes on one frame later"
PASS = "-fps_mode passthrough"


def halfway(*twins: int) -> Times:
    """Return times at the usual rate, but for frames that have the time of the one before."""
    return lambda times: [(i - 0.5 * (i in twins)) / 25 for i in range(len(times))]


CLOCKS = [
    Row("offset.mp4", f"{BFRAMES} -output_ts_offset 5"),
    Row("offset.ts", f"{BFRAMES} -output_ts_offset 7200", quick=True),
    Row("offset.mkv", f"{BFRAMES} -output_ts_offset 3600"),
    Row("offset-late.ts", f"{BFRAMES} -output_ts_offset 95443"),
    Row("wraps.ts", f"{BFRAMES} -muxdelay 0 -output_ts_offset 95443.1"),
    Row("negative.mkv", f"{BFRAMES} -output_ts_offset -0.5 -avoid_negative_ts disabled", times=every(1 / 25)),
    Row("negative.mp4", f"{BFRAMES} -output_ts_offset -0.5 -avoid_negative_ts disabled"),
    Row("edit-list.mp4", "-ss 0.5 -i {h264.mp4} -c copy", quick=True),
    Row("edit-list.mov", "-ss 0.3 -i {h264.mov} -c copy"),
    Row("edit-list-ignored.mkv", "-ss 0.5 -i {h264.mp4} -c copy"),
    Row("edit-list-empty.mp4", "-itsoffset 0.4 -i {h264.mp4} -i {sound.m4a} -map 0:v -map 1:a -c copy"),
    Row("edit-list-short.mp4", "-i {h264.mp4} -t 0.6 -c copy"),
    Row("cut-at-no-key.mkv", "-ss 0.3 -noaccurate_seek -i {mpeg4.mkv} -c copy"),
    Row("vfr.mp4", f"-vf settb=1/90000,setpts=N*N/60/TB {BFRAMES} -enc_time_base 1:90000 {PASS}"),
    Row("vfr.mkv", f"-vf settb=1/90000,setpts=N*N/60/TB {BFRAMES} -enc_time_base 1:90000 {PASS}", quick=True),
    Row("vfr.ts", f"-vf settb=1/90000,setpts=N*N/200/TB {BFRAMES} -enc_time_base 1:90000 {PASS}"),
    Row(
        "vfr.webm",
        f"-vf settb=1/90000,setpts=N*N/60/TB -c:v libvpx -deadline realtime -cpu-used 8 -enc_time_base 1:90000 {PASS}",
    ),
    Row("vfr.wmv", f"-vf settb=1/1000,setpts=N*N/60/TB -c:v wmv2 -enc_time_base 1:1000 {PASS}"),
    Row("vfr.flv", f"-vf settb=1/1000,setpts=N*N/60/TB -c:v flv1 -enc_time_base 1:1000 {PASS}"),
    Row("vfr-gaps.avi", f"-vf select='not(between(n\\,5\\,9)+eq(n\\,20))' -c:v mpeg4 {PASS}"),
    Row("vfr-gaps.mp4", f"-vf select='not(between(n\\,5\\,9)+eq(n\\,20))' {BFRAMES} {PASS}"),
    Row("dropped.ogv", "-vf loop=5:1:10 -c:v libtheora -q:v 5"),
    Row("timelapse.mp4", f"-frames:v 6 -vf setpts=N*600/TB {X264} {PASS}"),
    Row("timelapse-day.mov", f"-frames:v 6 -vf setpts=N*86400/TB {X264} {PASS}"),
    Row("timelapse.mkv", f"-frames:v 6 -vf setpts=N*2400/TB {FFV1} {PASS}"),
    Row("timelapse.ts", f"-frames:v 6 -vf setpts=N*5/TB {X264} {PASS}"),
    Row("pause.mp4", f"-vf setpts='(N+gte(N\\,10)*2500)/25/TB' {BFRAMES} {PASS}"),
    Row("pause.ts", f"-vf setpts='(N+gte(N\\,10)*150)/25/TB' {BFRAMES} {PASS}"),
    Row(
        "pause-long.ts", f"-vf setpts='(N+gte(N\\,10)*2500)/25/TB' {BFRAMES} {PASS}", times=every(1 / 25), why=RESTARTED
    ),
    Row("59.94.mp4", f"-r 60000/1001 {BFRAMES}"),
    Row("59.94.ts", f"-r 60000/1001 {BFRAMES}"),
    Row("59.94.avi", "-r 60000/1001 -c:v mpeg4"),
    Row("23.976.mkv", f"-r 24000/1001 {BFRAMES}"),
    Row("29.97.mxf", f"-r 30000/1001 {MPEG2}"),
    Row("1000fps.mp4", f"-r 1000 -frames:v 60 {X264}"),
    Row("1fps.mp4", f"-vf setpts=N/TB {BFRAMES} {PASS}"),
    Row("1fps.ts", f"-vf setpts=N/TB {BFRAMES} {PASS}"),
    Row("scale-1000.mp4", f"{BFRAMES} -video_track_timescale 1000"),
    Row("scale-600.mov", f"{BFRAMES} -video_track_timescale 600"),
    Row("scale-7.mov", f"-vf setpts=N/7/TB {X264} {PASS} -video_track_timescale 7"),
    Row("scale-prime.mp4", f"{BFRAMES} -video_track_timescale 15487469"),
    Row("scale-1000000.mkv", f"{BFRAMES} -enc_time_base 1:1000000 {PASS}"),
    Row("copied-to-mpegts.ts", "-i {h264.mp4} -c copy"),
    Row("copied-to-flv.flv", "-i {h264.mp4} -c copy"),
    Row("copied-to-mkv.mkv", "-i {h264.avi} -c copy"),
    Row("copied-to-avi.avi", "-i {h264.mp4} -c copy", times=every(1 / 25), why="AVI stores decoding order alone"),
    Row("open-gop-cut.ts", "-c:v mpeg2video -q:v 4 -bf 2 -g 10 -flags -cgop", edit=cut_front(0.5)),
    Row("joined.ts", joined=("h264.ts", "h264.ts"), times=every(1 / 25), why=RESTARTED, quick=True),
    Row("h264-other-stream.ts", f"{BFRAMES} -mpegts_start_pid 600 -output_ts_offset 7200"),
    Row(
        "joined-other-stream.ts",
        joined=("h264.ts", "h264-other-stream.ts"),
        times=unchanged,
        count=60,
        pixels=None,
        why="recordings of two senders are one film, but the last picture of the first comes out at the end; the "
        "command line takes the second for another stream",
    ),
    Row("joined-back.ts", joined=("offset.ts", "h264.ts"), times=every(1 / 25), why=RESTARTED),
    Row("joined-forward.ts", joined=("h264.ts", "offset.ts"), times=every(1 / 25), why=RESTARTED),
    Row("joined-thrice.ts", joined=("h264.ts", "offset.ts", "h264.ts"), times=every(1 / 25), why=RESTARTED),
    Row("joined.mpg", joined=("mpeg2.mpg", "mpeg2.mpg"), times=every(1 / 25), why=RESTARTED),
    Row("joined.ogv", joined=("theora.ogv", "theora.ogv"), times=every(1 / 25), count=60, pixels=None, why=RESTARTED),
    Row("joined.mkv", joined=("ffv1.mkv", "ffv1.mkv"), times=every(1 / 25), may_refuse=True),
    Row(
        "near-twins.mp4",
        f"-vf settb=1/1000000,setpts='(N-eq(N\\,10)*0.999995)/25/TB' {X264} -enc_time_base 1:1000000 {PASS} "
        "-video_track_timescale 1000000",
    ),
    Row("twins.mkv", f"-vf setpts='(N-eq(N\\,10))/25/TB' {FFV1} {PASS}", times=halfway(10, 29)),
    Row(
        "rounded.ts",
        f"-vf settb=1/90000,setpts=N*N/200/TB {BFRAMES} {PASS}",
        times=unchanged,
        why="repeated stamps are moved",
    ),
    Row(
        "stamps-missing-first.ts",
        f"{X264} -output_ts_offset 3600",
        edit=drop_stamps(3),
        times=every(1 / 25),
        why="the first frames lie before the first one with a time",
        quick=True,
    ),
    Row("stamps-missing.h264", "-i {h264.mp4} -c copy -f h264", times=every(1 / 25)),
    Row("swapped.avi", "-i {mpeg4.mp4} -c copy", times=every(1 / 25), why="AVI stores decoding order alone"),
    Row("duration-zero.mp4", BFRAMES, edit=patch(b"mvhd", 16, bytes(4))),
    Row("duration-absurd.mp4", BFRAMES, edit=both(patch(b"mvhd", 16, b"\xff" * 4), patch(b"mdhd", 16, b"\xff" * 4))),
    Row("scale-zero.mp4", BFRAMES, edit=patch(b"mdhd", 12, bytes(4)), times=lambda t: [0.0] * len(t), pixels=None),
    Row("garbage-first.ts", BFRAMES, edit=prefix(bytes(range(256)) * 3)),
]
