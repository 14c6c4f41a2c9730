from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from motserve.cli import app
from motserve.config import load_config
from motserve.errors import MissingExtra
from motserve.lab.experiments.cache import Cache
from motserve.models.extras import import_extra, required_extra
from motserve.models.weights import resolve_weights
from motserve.people.identity_index import IdentityIndex
from motserve.people.identity_store import IdentityStore

ROOT = Path(__file__).parents[1]
EXTRAS = ("ray", "mlflow", "fastapi", "opentelemetry", "faiss", "pyarrow", "optuna", "motmetrics", "trackeval",
          "pycocotools", "pytorch_metric_learning")  # fmt: skip
"""Packages that the plain installation does not have."""


def without_extras(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code where none of these packages can be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))\n{code}"
    variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    message = r"^the report needs no_such \(.*\): pip install 'motserve\[lab\]'$"
    with pytest.raises(MissingExtra, match=message), required_extra("lab", "the report"):
        raise ModuleNotFoundError("No module named 'no_such.module'", name="no_such.module")


def test_an_installed_package_that_cannot_be_imported_is_named_too() -> None:
    message = r"the report fails: libfoo\.so.*motserve\[lab\]"
    with pytest.raises(MissingExtra, match=message), required_extra("lab", "the report"):
        raise ImportError("libfoo.so: cannot open shared object file")


@pytest.mark.parametrize("module", ["motserve.no_such", "training.no_such"])
def test_a_missing_module_of_motserve_is_a_defect(module: str) -> None:
    with pytest.raises(ModuleNotFoundError), required_extra("lab", "the report"):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def test_a_module_of_an_extra_is_returned() -> None:
    assert import_extra("json.decoder").__name__ == "json.decoder"


def test_tracking_rendering_and_every_command_line_need_no_extra(tmp_path: Path) -> None:
    done = without_extras(
        "import motserve.cli, motserve.pipeline, motserve.detection.yolo, motserve.reid.torch_embedder, "
        "motserve.lab.scenes, training.rendered.command, training.linker.command",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_a_training_job_without_its_extra_says_so_in_one_line(tmp_path: Path) -> None:
    jobs = ("training.detector", "training.reid", "training.bundled")
    done = without_extras(f"from training.start import start\nfor job in {jobs}: print(start(job))", tmp_path)
    assert done.stdout.split() == ["2", "2", "2"], done.stderr
    for job, line in zip(jobs, done.stderr.splitlines(), strict=True):
        assert line.startswith(f"error: python -m {job} needs ")
        assert line.endswith("pip install 'motserve[train]'")


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("ray", "demo --seconds 1", "serve"),
        ("mlflow", "models list", "train"),
        ("mlflow", "runs", "train"),
        ("mlflow", "evaluate mot --gt nowhere --mlflow", "train"),
    ],
)
def test_a_command_without_its_extra_says_so_in_one_line(
    package: str, command: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serve_config.yaml").write_bytes((ROOT / "serve_config.yaml").read_bytes())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").touch()
    monkeypatch.setitem(sys.modules, package, None)
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"pip install 'motserve[{extra}]'")


def test_an_alias_of_the_registry_names_the_extra_even_if_other_weights_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are not available are skipped; a missing package must not choose other weights silently."""
    (tmp_path / "mlflow.db").touch()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    weights = ["models:/yolov8_detector@production", "bundled"]
    store = f"sqlite:///{tmp_path}/mlflow.db"
    config = load_config([{"detector": {"weights": weights}, "mlflow": {"tracking_uri": store}}])
    with pytest.raises(MissingExtra, match=r"mlflow\.db needs mlflow .*: pip install 'motserve\[train\]'$"):
        resolve_weights("detector", config)


def test_the_index_of_people_and_the_cache_name_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r"'motserve\[serve\]'"):
        IdentityIndex(IdentityStore(tmp_path, max_identities=1), "model")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"'motserve\[lab\]'"):
        Cache(tmp_path)
