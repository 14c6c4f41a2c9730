from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from reid_training_data import tiny_settings, write_crops, write_market
from safetensors import safe_open
from torch.nn import functional

from motserve.config import MlflowConfig, ReIDConfig
from motserve.config.loading.yaml_files import layer_settings
from motserve.errors import InvalidConfig, InvalidData, NotFound, WeightsUnavailable
from motserve.lab.datasets.prepare import PrepareOptions, prepare
from motserve.lab.evaluation.reid_data import read_training
from motserve.models.checksums import checksum
from motserve.models.weights import Weights
from motserve.reid.loading import load_network
from motserve.reid.network import EmbedderNetwork
from training.data_version import describe_data
from training.reid import command as reid
from training.reid.config import CropConfig, LossConfig, NetworkConfig, ReidTrainingConfig, ScheduleConfig
from training.reid.crops import CropDataset, Normaliser, augmentation
from training.reid.data import list_tests, read_training_data
from training.reid.engine import learning_rate
from training.reid.losses import Criterion, Learned, Learner, threshold_loss
from training.reid.network import build_network, load_start, save_network
from training.reid.sampler import Draw, PKBatches, Share

CONFIGS = Path(__file__).parents[2] / "configs" / "training"
MLFLOW = MlflowConfig()
SMALL = NetworkConfig(backbone="mobilenet_v3_small", dimension=16, init="scratch")
CROPS = CropConfig(height=32, width=16)


# settings


@pytest.mark.parametrize(
    "names",
    [
        ["reid"],
        ["reid", "reid-pku-small"],
        ["reid", "reid-pku-small", "reid-2-workers"],
        ["reid", "reid-multi-gpu"],
        ["reid", "reid-multi-gpu", "reid-multi-node"],
    ],
)
def test_the_shipped_settings_can_be_combined(names: list[str]) -> None:
    settings = layer_settings([CONFIGS / f"{name}.yaml" for name in names], {}, ReidTrainingConfig)
    assert settings.batch.identities % settings.compute.workers == 0


def test_the_shipped_baseline_is_that_of_the_paper() -> None:
    settings = layer_settings([CONFIGS / "reid.yaml"], {}, ReidTrainingConfig)
    defaults = ReidTrainingConfig(name="a", data={"root": "b"})
    for part in ("crops", "batch", "losses", "schedule", "validation", "network"):
        assert getattr(settings, part) == getattr(defaults, part)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute": {"workers": 3}}, "multiple of compute.workers 3"),
        ({"compute": {"workers": 4}}, "at least two per worker"),
        ({"precision": "fp16"}, "fp16 needs compute.gpus_per_worker"),
        ({"network": {"sync_batch_norm": True}}, "sync_batch_norm needs"),
        ({"network": {"backbone": "resnet51"}}, "unknown backbone 'resnet51'"),
        ({"crops": {"erased_area": [0.5, 0.2]}}, "erased_area"),
        ({"losses": {"marign": 1}}, "marign"),
    ],
)
def test_inconsistent_settings_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        tiny_settings(tmp_path, tmp_path, **changes)


def test_the_learning_rate_warms_up_and_decays() -> None:
    steps = ScheduleConfig(epochs=8, learning_rate=1, warmup_epochs=2, warmup_factor=0.1, milestones=(4, 6))
    assert [learning_rate(steps, epoch) for epoch in range(1, 9)] == pytest.approx(
        [0.1, 0.55, 1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    cosine = steps.model_copy(update={"decay": "cosine"})
    rates = [learning_rate(cosine, epoch) for epoch in range(1, 9)]
    assert rates[2] == 1
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0.067, abs=0.001)


# command


def test_the_command_prints_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_market(tmp_path / "market")
    file = tmp_path / "settings.yaml"
    settings = tiny_settings(tmp_path / "market", tmp_path)
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    for change, message, code in (
        ("schedule.epoch=3", "epoch", 2),
        ("data.root=/nowhere", "/nowhere has no bounding_box_train", 3),
        ("batch.identities=12", "8 training people", 2),
        ("network.init=missing.pth", "missing.pth", 4),
        ("network.init=bundled", "network.dimension 16", 2),
        ("cross=[{root: /nowhere}]", "/nowhere", 3),
    ):
        assert reid.main(["--config", str(file), "--set", f"network.models_dir={tmp_path}", change]) == code
        assert message in capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()  # all of it before the job


def test_later_files_and_the_command_line_override(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ndata: {root: x}\nbatch: {identities: 8, views: 2}\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("batch: {views: 3}\n", encoding="utf-8")
    found = layer_settings([tmp_path / "a.yaml", tmp_path / "b.yaml"], {"name": "c"}, ReidTrainingConfig)
    assert (found.name, found.batch.identities, found.batch.views) == ("c", 8, 3)
    (tmp_path / "c.yaml").write_text("- a\n", encoding="utf-8")
    with pytest.raises(InvalidConfig, match=r"c\.yaml must hold a mapping"):
        layer_settings([tmp_path / "c.yaml"], {}, ReidTrainingConfig)


# data


def test_training_people_and_held_out_people_are_disjoint(tmp_path: Path) -> None:
    settings = tiny_settings(write_market(tmp_path / "market"), tmp_path)
    data = read_training_data(settings.data)
    train, held_out = set(data.train.identities.tolist()), set(data.validation.identities.tolist())
    assert (len(train), len(held_out), data.classes) == (8, 2, 8)
    assert not train & held_out
    assert sorted(set(data.labels.tolist())) == list(range(8))
    (tmp_path / "ids.txt").write_text("3\n5\n", encoding="utf-8")
    chosen = settings.data.model_copy(update={"validation_ids": tmp_path / "ids.txt"})
    assert set(read_training_data(chosen).validation.identities.tolist()) == {3, 5}
    without_validation = settings.data.model_copy(update={"validation_share": 0.0})
    assert len(read_training_data(without_validation).validation) == 0


def test_a_prepared_data_set_defines_the_held_out_people(tmp_path: Path) -> None:
    source, target = write_market(tmp_path / "market"), tmp_path / "prepared"
    options = PrepareOptions(allow_missing=True, seed=3, held_out_share=0.3)
    manifest = prepare("market1501", source, target, options)
    settings = tiny_settings(target, tmp_path)
    data = read_training_data(settings.data)
    assert len(set(data.validation.identities.tolist())) == 3
    assert all(path.is_file() for path in data.train.paths)
    assert describe_data(target) == {"sha256": manifest.sha256}
    assert list_tests(settings)[0].root == source
    with pytest.raises(InvalidConfig, match=r"was prepared as market1501; data.layout is dukemtmc"):
        read_training_data(settings.data.model_copy(update={"layout": "dukemtmc"}))


def test_lists_of_people_split_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "pku"
    write_crops(root / "query", range(1, 13), [1], 2)
    write_crops(root / "bounding_box_test", range(1, 13), [2], 2)
    (root / "train_ids.txt").write_text("".join(f"{person:03d}\n" for person in range(1, 9)), encoding="utf-8")
    (root / "val_ids.txt").write_text("009\n010\n", encoding="utf-8")
    settings = tiny_settings(root, tmp_path, data={"layout": "pku"})
    data = read_training_data(settings.data)
    assert set(data.train.identities.tolist()) | set(data.validation.identities.tolist()) == set(range(1, 9))
    (test,) = list_tests(settings)
    assert test.protocol == "cross-camera"
    assert test.people == frozenset({9, 10})


def test_training_crops_of_msmt17_are_those_of_its_list(tmp_path: Path) -> None:
    (tmp_path / "mask_train_v2" / "0000").mkdir(parents=True)
    names = ["0000/0000_000_01_a_0001_0.jpg", "0000/0000_001_15_a_0002_0.jpg"]
    for name in names:
        (tmp_path / "mask_train_v2" / name).touch()
    (tmp_path / "list_train.txt").write_text("".join(f"{name} 0\n" for name in names), encoding="utf-8")
    table = read_training(tmp_path, "msmt17")
    assert (table.identities.tolist(), table.cameras.tolist()) == ([1, 1], [1, 15])


def test_initial_weights_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_small(tmp_path / "a.safetensors", build_network(SMALL, CROPS))
    monkeypatch.chdir(write_market(tmp_path / "market"))
    settings = tiny_settings(Path(), tmp_path, network={"init": "../a.safetensors"})
    job = reid.make_job(settings)
    assert job.data["init"]["sha256"] == checksum(path)
    # workers may be in another folder
    assert Path(job.settings.network.init).is_absolute()
    assert job.settings.data.root.is_absolute()


def test_unusable_training_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no bounding_box_train to train on; there is no such folder"):
        read_training_data(tiny_settings(tmp_path / "nothing", tmp_path).data)
    root = tmp_path / "one-camera"
    write_crops(root / "bounding_box_train", range(1, 6), [1])
    with pytest.raises(InvalidData, match=r"crops of two cameras.*validation_share=0"):
        read_training_data(tiny_settings(root, tmp_path).data)
    (tmp_path / "ids.txt").write_text("77\n", encoding="utf-8")
    with pytest.raises(InvalidData, match=r"ids\.txt: none of these IDs"):
        read_training_data(tiny_settings(root, tmp_path, data={"validation_ids": tmp_path / "ids.txt"}).data)


def test_the_revision_of_dvc_is_recorded(tmp_path: Path) -> None:
    data = tmp_path / "sets" / "crops"
    write_crops(data, [1])
    plain = describe_data(data)
    assert plain["files"] == 6
    assert "dvc" not in plain
    stages = {"prepare": {"outs": [{"path": "sets/crops", "hash": "md5", "md5": "12.dir"}]}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")
    assert describe_data(data) == {**plain, "dvc": "12.dir"}
    (tmp_path / "sets" / "crops.dvc").write_text("outs:\n- {md5: 34.dir, hash: md5, path: crops}\n", encoding="utf-8")
    assert describe_data(data) == {**plain, "dvc": "34.dir"}
    (tmp_path / "sets" / "crops.dvc").write_text("- a", encoding="utf-8")
    with pytest.raises(InvalidData, match=r"crops\.dvc"):
        describe_data(data)


# batches


def uneven_labels() -> np.ndarray:
    return np.repeat(np.arange(11), [1, 2, 3, 4, 5, 6, 7, 8, 9, 40, 4])


def epoch_of(count: int, epoch: int, seed: int = 0) -> list[list[list[Draw]]]:
    """Batches by worker."""
    workers = []
    for rank in range(count):
        batches = PKBatches(uneven_labels(), 4, 4, seed, Share(rank, count))
        batches.epoch = epoch
        workers.append(list(batches))
        assert len(batches) == len(workers[-1])
    return workers


@pytest.mark.parametrize("epoch", range(1, 6))
def test_every_batch_has_p_people_with_k_crops_and_all_people_are_drawn(epoch: int) -> None:
    labels = uneven_labels()
    (batches,) = epoch_of(1, epoch)
    for batch in batches:
        people, counts = np.unique(labels[[draw.row for draw in batch]], return_counts=True)
        assert (len(people), set(counts.tolist())) == (4, {4})
    drawn = {draw.row for batch in batches for draw in batch}
    assert {0, 1, 2, 3, 4, 5} <= drawn  # those who have fewer than K are there with all of their crops
    assert set(labels[sorted(drawn)].tolist()) == set(range(11))


def test_workers_divide_the_batches_of_one_worker() -> None:
    (alone,), (first, second) = epoch_of(1, 3), epoch_of(2, 3)
    assert len(first) == len(second) == len(alone)
    assert [one + two for one, two in zip(first, second, strict=True)] == alone
    labels = uneven_labels()
    for one, two in zip(first, second, strict=True):
        assert not set(labels[[draw.row for draw in one]]) & set(labels[[draw.row for draw in two]])


def test_batches_depend_on_seed_and_epoch_only() -> None:
    assert epoch_of(1, 2) == epoch_of(1, 2)
    assert epoch_of(1, 2) != epoch_of(1, 3)
    assert epoch_of(1, 2) != epoch_of(1, 2, seed=1)


def test_too_few_people_for_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 11 people"):
        PKBatches(uneven_labels(), 12, 4, 0, Share(0, 1))
    with pytest.raises(ValueError, match="multiple of 3 workers"):
        PKBatches(uneven_labels(), 4, 4, 0, Share(0, 3))


# crops


def test_a_draw_always_gives_the_same_crop(tmp_path: Path) -> None:
    paths = sorted(write_crops(tmp_path, [1, 2]).iterdir())
    dataset = CropDataset(paths, np.repeat([0, 1], 6), CropConfig(height=32, width=16, jitter=0.3))
    before = torch.get_rng_state()
    first, label = dataset[Draw(7, 5)]
    assert (first.shape, first.dtype, label) == ((3, 32, 16), torch.uint8, 1)
    assert torch.equal(first, dataset[Draw(7, 5)][0])
    assert not torch.equal(first, dataset[Draw(7, 6)][0])
    assert torch.equal(torch.get_rng_state(), before)


def test_color_jitter_depends_on_the_seed_of_the_draw(tmp_path: Path) -> None:
    paths = sorted(write_crops(tmp_path, [1, 2]).iterdir())
    plain = CropConfig(height=32, width=16, flip=0, pad=0, erasing=0)
    lit, unlit = (
        CropDataset(paths, np.repeat([0, 1], 6), plain.model_copy(update={"color_jitter": share}))
        for share in (1.0, 0.0)
    )
    assert torch.equal(lit[Draw(7, 5)][0], lit[Draw(7, 5)][0])
    assert not torch.equal(lit[Draw(7, 5)][0], lit[Draw(7, 6)][0])
    assert not torch.equal(lit[Draw(7, 5)][0], unlit[Draw(7, 5)][0])
    assert torch.equal(unlit[Draw(7, 5)][0], unlit[Draw(7, 6)][0])


def test_without_augmentation_a_crop_is_unchanged() -> None:
    vary = augmentation(CropConfig(height=32, width=16, flip=0, pad=0, erasing=0))
    crop = torch.randint(0, 256, (3, 32, 16), dtype=torch.uint8)
    assert torch.equal(vary(crop), crop)


def test_erased_pixels_are_zero_after_normalisation() -> None:
    vary = augmentation(CropConfig(height=32, width=16, flip=0, pad=0, erasing=1))
    crop = torch.full((3, 32, 16), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    varied = Normaliser(torch.device("cpu"))(vary(crop)[None])
    changed = (vary(crop) != crop).float().mean()
    assert 0.02 <= changed <= 0.5
    assert varied.abs().min() < 0.02


# losses


def test_losses_equal_those_of_the_papers() -> None:
    torch.manual_seed(0)
    labels = torch.arange(4).repeat_interleave(3)
    features, logits = torch.randn(12, 8), torch.randn(12, 4)
    losses = Criterion(LossConfig(triplet_weight=2))(Learned(features, features, logits, None), labels)
    distances = torch.cdist(features, features)
    same = labels[:, None] == labels
    farthest = distances.masked_fill(~same, -1).amax(1)
    nearest = distances.masked_fill(same, 1e9).amin(1)
    triplet = functional.relu(farthest - nearest + 0.3).mean()
    smooth = 0.9 * functional.one_hot(labels, 4) + 0.1 / 4
    identity = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses.triplet, triplet)
    torch.testing.assert_close(losses.identity, identity)
    torch.testing.assert_close(losses.total, identity + 2 * triplet)


def test_the_contrastive_loss_equals_that_of_the_paper() -> None:
    torch.manual_seed(0)
    labels = torch.arange(4).repeat_interleave(3)
    embeddings = torch.randn(12, 8)
    learned = Learned(torch.randn(12, 8), embeddings, torch.randn(12, 4), None)
    settings = LossConfig(contrastive_weight=2, temperature=0.2)
    losses, without = Criterion(settings)(learned, labels), Criterion(LossConfig())(learned, labels)
    unit = functional.normalize(embeddings)
    itself = torch.eye(12, dtype=torch.bool)
    likely = (unit @ unit.T / 0.2).masked_fill(itself, -torch.inf).log_softmax(1)
    same = (labels[:, None] == labels) & ~itself
    torch.testing.assert_close(losses.contrastive, -likely[same].view(12, 2).mean())
    torch.testing.assert_close(losses.total, without.total + 2 * losses.contrastive)
    assert without.contrastive == 0


def test_a_cosine_classifier_is_invariant_to_length() -> None:
    learner = Learner(build_network(SMALL, CROPS), 3, centres=False, scale=16).eval()
    labels = torch.tensor([0, 1, 2])
    pictures = torch.randn(3, 3, CROPS.height, CROPS.width)
    before = learner(pictures, labels).logits
    assert before.abs().max() <= 16
    with torch.no_grad():
        learner.classifier.weight *= 7
    torch.testing.assert_close(learner(pictures, labels).logits, before)


def test_the_threshold_loss_moves_pairs_to_their_side_of_the_distance() -> None:
    torch.manual_seed(0)
    labels = torch.arange(6).repeat_interleave(3)
    embeddings = torch.randn(18, 8, requires_grad=True)
    step = torch.optim.SGD([embeddings], 20.0)
    for _ in range(400):
        loss = threshold_loss(embeddings, labels, 0.3, 0.1)
        step.zero_grad()
        loss.backward()
        step.step()
    unit = functional.normalize(embeddings.detach())
    distances, same = 1 - unit @ unit.T, labels[:, None] == labels
    assert distances[same].max() < 0.3 < distances[~same].min()
    learned = Learned(torch.randn(18, 8), embeddings.detach(), torch.randn(18, 6), None)
    without, weighted = (Criterion(LossConfig(threshold_weight=weight))(learned, labels) for weight in (0, 3))
    assert without.threshold == 0
    torch.testing.assert_close(weighted.total, without.total + 3 * weighted.threshold)


def test_triplet_loss_is_before_the_batch_norm_and_the_classifier_after_it() -> None:
    learner = Learner(build_network(SMALL, CROPS), 3, centres=True).train()
    assert learner.classifier.bias is None
    pictures, labels = torch.randn(6, 3, 32, 16), torch.arange(3).repeat(2)
    learned = learner(pictures, labels)
    learner.eval()
    assert learned.spread is not None
    before = learner.network.features(pictures)
    torch.testing.assert_close(learner(pictures, labels).features, before)
    torch.testing.assert_close(learner(pictures, labels).logits, learner.classifier(learner.network(pictures)))
    assert learner.centres is not None
    spread = ((before - learner.centres[labels]) ** 2).sum(1).mean()
    torch.testing.assert_close(learner(pictures, labels).spread, spread)


# weights


def save_small(path: Path, network: EmbedderNetwork) -> Path:
    save_network(network.state_dict(), SMALL, CROPS, path)
    return path


def test_a_written_network_can_be_loaded_by_a_service(tmp_path: Path) -> None:
    network = build_network(SMALL, CROPS).eval()
    path = save_small(tmp_path / "a.safetensors", network)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["backbone"] == "mobilenet_v3_small"
    assert (metadata["dimension"], metadata["crop_height"], metadata["crop_width"]) == ("16", "32", "16")
    loaded = load_network(ReIDConfig(crop_height=32, crop_width=16), Weights("a", path, "", "")).eval()
    pictures = torch.randn(2, 3, 32, 16)
    assert torch.equal(loaded(pictures), network(pictures))


def test_training_starts_from_an_embedder(tmp_path: Path) -> None:
    trained = build_network(SMALL, CROPS)
    path = save_small(tmp_path / "a.safetensors", trained)
    fresh = build_network(SMALL, CROPS)
    start = load_start(fresh, SMALL.model_copy(update={"init": str(path)}), CROPS, MLFLOW)
    assert start is not None
    assert start.path == path
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in trained.state_dict().items())
    other = SMALL.model_copy(update={"init": str(path), "dimension": 8})
    with pytest.raises(InvalidConfig, match=r"with 16 dimensions, but .* network.dimension 8"):
        load_start(build_network(other, CROPS), other, CROPS, MLFLOW)


def test_training_starts_from_the_trunk_of_a_classifier(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v3_small

    published = mobilenet_v3_small(num_classes=5).state_dict()
    torch.save(published, tmp_path / "mobilenet_v3_small_imagenet.pth")
    settings = SMALL.model_copy(update={"init": "imagenet", "models_dir": tmp_path})
    network = build_network(settings, CROPS)
    head = network.head.weight.clone()
    load_start(network, settings, CROPS, MLFLOW)
    assert torch.equal(network.trunk.state_dict()["0.0.weight"], published["features.0.0.weight"])
    assert torch.equal(network.head.weight, head)
    other = NetworkConfig(backbone="mobilenet_v3_large", init=str(tmp_path / "mobilenet_v3_small_imagenet.pth"))
    with pytest.raises(InvalidConfig, match=r"is mobilenet_v3_small, but network.backbone is mobilenet_v3_large"):
        load_start(build_network(other, CROPS), other, CROPS, MLFLOW)


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        ("imagenet", InvalidConfig, "not for osnet_x0_25; give a .pth"),
        ("nothing.pth", WeightsUnavailable, "nothing.pth"),
        ("{folder}/broken.pth", WeightsUnavailable, "does not fit a osnet_x0_25"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, init: str, error: type, message: str) -> None:
    (tmp_path / "broken.pth").write_bytes(b"broken")
    settings = NetworkConfig(backbone="osnet_x0_25", init=init.format(folder=tmp_path), models_dir=tmp_path)
    with pytest.raises(error, match=message):
        load_start(build_network(settings, CROPS), settings, CROPS, MLFLOW)
