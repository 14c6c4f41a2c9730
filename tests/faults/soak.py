"""Loads a running service for an hour as many kinds of clients do, and prints what its processes use over time.

`PYTHONPATH=support:.. python -m faults.soak http://127.0.0.1:8000 clip.mp4` from the folder of the tests, on the
machine of the service. Up to four videos are tracked at a time and deleted when they are done; beside them clients read
slowly, stall in the middle of an upload, send headers byte by byte, vanish after their question, and post what is no
video.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from statistics import quantiles

import httpx

from faults.processes import Sample, processes, sample

FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'


class Soak:
    """Clients of a service, and what they see.

    Args:
        url: Address of the service.
        clip: Video that is posted.
        seconds: How long.
        root: Process of `motserve serve`; 0 for all processes of Ray on the machine.
    """

    def __init__(self, url: str, clip: Path, seconds: float, root: int) -> None:
        self.url = httpx.URL(url)
        self.clip = clip.read_bytes()
        self.root = root
        self.end = time.monotonic() + seconds
        self.answers: Counter[str] = Counter()
        self.health: list[float] = []
        self.samples: list[dict[str, list[Sample]]] = []
        self.client = httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=None))

    async def run(self) -> None:
        """Load the service until the end."""
        number_of_clients = {
            self.videos: 2,
            self.slow_reader: 2,
            self.stalled: 20,
            self.slow_headers: 5,
            self.vanishing: 3,
            self.bad: 2,
        }
        async with self.client:
            repeated = [self.check_health, self.measure]
            for client, number in number_of_clients.items():
                repeated += [client] * number
            await asyncio.gather(*(self.repeat(client) for client in repeated))

    async def repeat(self, client: Callable[[], Awaitable[None]]) -> None:
        """Repeat a client until the end."""
        await asyncio.sleep(random.random() * 5)
        while time.monotonic() < self.end:
            try:
                await client()
            except (httpx.HTTPError, OSError, TimeoutError) as error:
                self.answers[f"{client.__name__}: {type(error).__name__}"] += 1
                await asyncio.sleep(1)

    async def videos(self) -> None:
        """Post a video, wait for its end, read it in every format, delete it."""
        answer = await self.client.post("/v1/videos", files={"file": ("clip.mp4", self.clip, "video/mp4")})
        self.answers[f"videos: posted {answer.status_code}"] += 1
        if answer.status_code != 202:
            await asyncio.sleep(2)
            return
        path = answer.json()["links"]["self"]
        status = "queued"
        while status not in ("done", "failed"):
            await asyncio.sleep(1)
            status = (await self.client.get(path)).raise_for_status().json()["status"]
        self.answers[f"videos: {status}"] += 1
        for suffix in ("/tracks", "/tracks?format=csv", "/tracks?format=mot", "/annotated.mp4"):
            read = await self.client.get(path + suffix)
            if read.status_code != 200:
                self.answers[f"videos: {suffix} {read.status_code}"] += 1
        deleted = await self.client.delete(path)
        self.answers[f"videos: deleted {deleted.status_code}"] += 1

    async def slow_reader(self) -> None:
        """Post a video, read its first tracks slowly, and delete it while it runs."""
        video = {"file": ("clip.mp4", self.clip, "video/mp4")}
        async with self.client.stream("POST", "/v1/videos", params={"wait": True}, files=video) as answer:
            self.answers[f"slow_reader: posted {answer.status_code}"] += 1
            if answer.status_code == 200:
                lines = answer.aiter_lines()
                for _ in range(50):
                    await anext(lines, None)
                    await asyncio.sleep(0.5)
        if location := answer.headers.get("location"):
            self.answers[f"slow_reader: deleted {(await self.client.delete(location)).status_code}"] += 1
        await asyncio.sleep(5)

    async def stalled(self) -> None:
        """Begin an upload and send no more of it."""
        reader, writer = await asyncio.open_connection(self.url.host, self.url.port)
        try:
            length = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n"
            writer.write(self.head("POST", "/v1/videos")[:-2] + length + FORM + b"a" * 1000)
            status = await asyncio.wait_for(reader.read(12), 120)
            self.answers[f"stalled: {status[9:].decode()}"] += 1
        finally:
            writer.close()

    async def slow_headers(self) -> None:
        """Send a request byte by byte."""
        reader, writer = await asyncio.open_connection(self.url.host, self.url.port)
        with suppress(ConnectionError):
            for byte in self.head("GET", "/healthz"):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.3)
            self.answers[f"slow_headers: {(await asyncio.wait_for(reader.read(12), 30))[9:].decode()}"] += 1
        writer.close()

    async def vanishing(self) -> None:
        """Ask and go."""
        for path in ("/v1/videos?limit=100", "/v1/identities", "/metrics"):
            _, writer = await asyncio.open_connection(self.url.host, self.url.port)
            writer.write(self.head("GET", path))
            await writer.drain()
            writer.close()
        await asyncio.sleep(1)

    async def bad(self) -> None:
        """Post what is no video."""
        noise = random.randbytes(20_000)
        answer = await self.client.post("/v1/videos", files={"file": ("noise.mp4", noise, "video/mp4")})
        self.answers[f"bad: {answer.status_code}"] += 1
        await asyncio.sleep(5)

    async def check_health(self) -> None:
        """Ask for the health of the service ten times a second."""
        began = time.monotonic()
        answer = await self.client.get("/healthz")
        self.health.append(time.monotonic() - began)
        if answer.status_code != 200:
            self.answers[f"health: {answer.status_code}"] += 1
        await asyncio.sleep(0.1)

    async def measure(self) -> None:
        """Measure all processes of the service."""
        kinds: dict[str, list[Sample]] = defaultdict(list)
        for pid, kind in (await asyncio.to_thread(processes, root=self.root)).items():
            if used := sample(pid):
                kinds[kind].append(used)
        self.samples.append(kinds)
        await asyncio.sleep(15)

    def head(self, method: str, path: str) -> bytes:
        """Return the first lines of a request, and the empty line after them."""
        return f"{method} {path} HTTP/1.1\r\nHost: {self.url.host}:{self.url.port}\r\n\r\n".encode()

    def report(self) -> str:
        """Return the tables of what was measured."""
        quarters = [self.samples[len(self.samples) * n // 4 : len(self.samples) * (n + 1) // 4] for n in range(4)]
        rows = [
            "Of each kind the highest of one process: MiB, open files, threads; in the four quarters of the time.\n",
            "| process | number | 1 | 2 | 3 | 4 |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for kind in sorted({kind for kinds in self.samples for kind in kinds}):
            counts = [len(kinds.get(kind, [])) for kinds in self.samples]
            cells = []
            for quarter in quarters:
                used = [one for kinds in quarter for one in kinds.get(kind, [])]
                cells.append(
                    f"{max(u.memory for u in used) >> 20}, {max(u.files for u in used)}, {max(u.threads for u in used)}"
                    if used
                    else ""
                )
            rows.append(f"| {kind} | {min(counts)} to {max(counts)} | {' | '.join(cells)} |")
        cuts = quantiles(self.health, n=1000)
        rows.append(
            f"\n/healthz, {len(self.health)} times: p50 {1000 * cuts[499]:.0f} ms, p95 {1000 * cuts[949]:.0f}, "
            f"p99 {1000 * cuts[989]:.0f}, longest {1000 * max(self.health):.0f}\n"
        )
        return "\n".join([*rows, *(f"{count:8d}  {what}" for what, count in sorted(self.answers.items()))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--pid", type=int, default=0, help="process of `motserve serve`, if there are several services")
    arguments = parser.parse_args()
    soak = Soak(arguments.url, arguments.clip, arguments.seconds, arguments.pid)
    asyncio.run(soak.run())
    print(soak.report())


if __name__ == "__main__":
    main()
