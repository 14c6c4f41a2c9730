"""What `motserve benchmark serve` measures: settings, contenders, and a service of its own or a running one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from motserve.choices import ALL
from motserve.cli.compare.trackers import NO_PEERS
from motserve.cli.options import names_of, read_config, sizes_of
from motserve.cli.output.terminal import WholeConsole
from motserve.cli.running.service import read_serve_file, running_service

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.lab.benchmark.serving.entrants import Clip, Entrant, ServiceMeter
    from motserve.lab.benchmark.serving.service_metrics import Reading
    from motserve.lab.benchmark.serving.simulated import SimulatedNetworks

_HOST: Final = "127.0.0.1"
_MOST_SESSIONS: Final = 256

status = WholeConsole(stderr=True, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Simulation:
    """Simulated networks.

    Attributes:
        detector_s: Seconds of a batch of the detector.
        embedder_s: Seconds of a batch of the embedder.
    """

    detector_s: float
    embedder_s: float

    def limit_per_s(self, settings: Config) -> float | None:
        """Return the frames per second of the detector with full batches; None if a batch takes no time."""
        return settings.serving.detector.max_batch / self.detector_s if self.detector_s else None


def session_counts(text: str) -> list[int]:
    """Return the numbers of videos at once.

    Raises:
        typer.BadParameter: The text is not a list of such numbers.
    """
    counts = sizes_of(text, "--sessions")
    if max(counts) > _MOST_SESSIONS:
        raise typer.BadParameter(f"at most {_MOST_SESSIONS} videos at once", param_hint="--sessions")
    return counts


def peer_names(text: str) -> list[str]:
    """Return the names of the contenders of other packages."""
    from motserve.lab.benchmark.serving.contenders import PEERS

    if text.strip() == NO_PEERS:
        return []
    names = names_of(text)
    return list(PEERS) if ALL in names else names


def benchmark_settings(
    config: list[Path] | None,
    overrides: list[str] | None,
    writes: list[Path | None],
    sessions: int,
    batch: int | None,
    simulated: bool,
) -> tuple[Config, Mapping[str, Any]]:
    """Return the settings as `motserve serve` reads them, and its options of Ray Serve.

    Args:
        config: Configuration files.
        overrides: Values of `--set`.
        writes: Paths of results.
        sessions: Most videos at once, which the service must accept.
        batch: Largest batch of the detector; None for that of the settings.
        simulated: Whether the networks are simulated: one replica of each, as on one accelerator, and sessions that
            reserve no CPU, so that all of them run at once.
    """
    from motserve.config import change_config
    from motserve.config.loading.shipped import serve_config_file

    file = read_serve_file(serve_config_file(None))
    layers: list[Path | Mapping[str, Any]] = [*file.args.config, file.args.settings, *(config or [])]
    settings = read_config(layers, overrides, writes)
    serving: dict[str, Any] = {"max_active_videos": max(sessions, settings.serving.max_active_videos)}
    if simulated:
        one = {"autoscaling": {"min_replicas": 1, "max_replicas": 1}}
        serving |= {"detector": one, "embedder": one, "session": {"cpus": 0.0}}
    if batch is not None:
        serving["detector"] = {**serving.get("detector", {}), "max_batch": batch}
    return change_config(settings, {"serving": serving}), file.options


def start_contenders(stack: ExitStack, settings: Config, peers: list[str], folder: Path) -> list[Entrant]:
    """Start the contenders of one process each, with their networks loaded; they end with the stack."""
    from motserve.lab.benchmark.serving.contenders import in_one_process
    from motserve.lab.benchmark.serving.entrants import InOneProcess
    from motserve.lab.benchmark.serving.worker import Worker

    entrants: list[Entrant] = []
    for name, contender in in_one_process(settings, peers, folder).items():
        status.print(f"loading {name} …", highlight=False)
        entrants.append(InOneProcess(name, stack.enter_context(Worker(name, contender))))
    return entrants


def simulate(clips: list[Clip], settings: Config, simulation: Simulation) -> SimulatedNetworks:
    """Return simulated networks that know some clips, after the real detector has processed each once."""
    from motserve.lab.benchmark.serving.recording import record_in_process
    from motserve.lab.benchmark.serving.simulated import SimulatedNetworks

    status.print("recording what the detector finds …", highlight=False)
    recording = record_in_process([clip.path for clip in clips], settings)
    return SimulatedNetworks(recording, simulation.detector_s, simulation.embedder_s)


@contextmanager
def own_service(
    settings: Config, options: Mapping[str, Any], storage: Path, networks: SimulatedNetworks | None
) -> Iterator[ServiceMeter]:
    """Run a service on a free port with an empty store, and Ray of its own, as `motserve serve` does.

    Yields:
        The service, with its processes and metrics.
    """
    from motserve.lab.benchmark.serving.client import ServiceClient
    from motserve.lab.benchmark.serving.entrants import ServiceMeter
    from motserve.lab.benchmark.serving.processes import service_processes
    from motserve.serving.addresses import free_port

    serving = settings.serving.model_copy(update={"storage_dir": storage})
    settings = settings.model_copy(update={"serving": serving})
    status.print("starting the service …", highlight=False)
    with (
        running_service(settings, _HOST, free_port(_HOST), options=options, networks=networks) as url,
        ServiceClient(url) as client,
    ):
        client.check()
        yield ServiceMeter(client, service_processes(), _own_metrics, _warn)


@contextmanager
def running_at(url: str, metrics_url: str | None) -> Iterator[ServiceMeter]:
    """Connect to a running service; its processes are not measured.

    Yields:
        The service.

    Raises:
        NotReady: It does not answer.
    """
    from motserve.lab.benchmark.serving.client import ServiceClient
    from motserve.lab.benchmark.serving.entrants import ServiceMeter
    from motserve.lab.benchmark.serving.service_metrics import read_metrics

    with ServiceClient(url) as client:
        client.check()
        if metrics_url is None:
            yield ServiceMeter(client, None, None, _warn)
        else:
            read_metrics(metrics_url)
            yield ServiceMeter(client, None, lambda: read_metrics(metrics_url), _warn)


def _own_metrics() -> Reading:
    import ray

    from motserve.lab.benchmark.serving.service_metrics import read_metrics

    (node,) = ray.nodes()
    return read_metrics(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics")


def _warn(message: str) -> None:
    status.print(f"[yellow]warning:[/] {message}", highlight=False)
