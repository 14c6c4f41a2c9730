"""Makes the files of the corpus with the FFmpeg command line, each once."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from corpus.row import Row

SIZE = (96, 64)
RATE_HZ = 25
FRAMES = 30
PICTURE = f"-f lavfi -i testsrc2=size={SIZE[0]}x{SIZE[1]}:rate={RATE_HZ}:duration={FRAMES / RATE_HZ}"
SOUND = f"-f lavfi -i sine=duration={FRAMES / RATE_HZ}"


def build(row: Row, rows: Mapping[str, Row], folder: Path) -> Path:
    """Make the file of a row, and those that it is made from.

    Args:
        row: The row.
        rows: All rows by name.
        folder: Where the files are; those that are there are not made again.

    Raises:
        RuntimeError: `ffmpeg` fails.
    """
    path = folder / row.name
    if path.exists():
        return path
    made = path.with_name(f"new-{row.name}")
    if row.joined:
        made.write_bytes(b"".join(build(rows[name], rows, folder).read_bytes() for name in row.joined))
    else:
        args = row.args
        for aid in ("words.srt", "chapters.txt"):
            args = args.replace(f"{{{aid}}}", shlex.quote(str(folder / aid)))
        args = re.sub(r"\{(.+?)\}", lambda m: shlex.quote(str(build(rows[m[1]], rows, folder))), args)
        args = args.replace("PICTURE", PICTURE).replace("SOUND", SOUND)
        if " -i " not in f" {args}":
            args = f"{PICTURE} {args}"
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", *shlex.split(args)]
        done = subprocess.run([*command, str(made)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{row.name} cannot be made: {done.stderr[-2000:]}")
    if row.edit:
        row.edit(made)
    return made.rename(path)
