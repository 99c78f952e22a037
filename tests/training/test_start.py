from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interop.mxnet_writer import params_bytes
from singleshot.core.settings import AnchorConfig, LossConfig
from singleshot.core.structures import ClassMap
from singleshot.errors import ConfigError, WeightsError
from singleshot.interop.mxnet.names import backbone_parameter
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.training.config import TrainConfig
from singleshot.training.start import adapt_spec, build_start, class_predictors, resume_start, with_weights
from singleshot.weights.bundled import bundled_path
from singleshot.weights.file import read_spec, read_state, save_weights

NEW = ClassMap(("person", "wombat", "dog"))


def columns(state: dict[str, torch.Tensor], name: str, count: int) -> torch.Tensor:
    """A class predictor's tensor as ``[boxes, columns, ...]``."""
    return state[name].view(-1, count, *state[name].shape[1:])


@pytest.mark.parametrize("weights", ["coco", "coco-v3"])
def test_coco_keeps_everything_but_the_rows_of_new_classes(weights: str) -> None:
    start = build_start(TrainConfig(weights=weights), NEW)
    old_spec, old = read_spec(bundled_path(weights)), read_state(bundled_path(weights))
    new = start.network.state_dict()
    heads = class_predictors(start.network)
    assert len(heads) == 12
    assert start.report.by_class == heads
    assert all(torch.equal(new[name], old[name]) for name in old if name not in heads)
    assert start.report.reset == []
    assert (start.report.kept_classes, start.report.new_classes) == (("person", "dog"), ("wombat",))
    of_class = dict(zip(old_spec.class_names, old_spec.postprocess.class_columns, strict=True))
    for name in heads:
        ours, theirs = columns(new, name, 4), columns(old, name, old_spec.network.head.logits)
        assert torch.equal(ours[:, 0], theirs[:, 0])
        assert torch.equal(ours[:, 1], theirs[:, of_class["person"]])
        assert torch.equal(ours[:, 3], theirs[:, of_class["dog"]])


def test_the_new_spec_speaks_of_the_new_classes() -> None:
    spec = build_start(TrainConfig(), ClassMap(NEW.names, (1, 7, 18))).spec
    old = read_spec(bundled_path("coco-v3"))
    assert (old.default_score, spec.default_score) == (0.5, 0.3)
    assert (spec.class_names, spec.class_ids) == (NEW.names, (1, 7, 18))
    assert spec.network.head.logits == 4
    assert spec.postprocess.class_columns is None
    assert spec.postprocess.score_function == "softmax"
    assert spec.preprocess.resize == "linear"
    assert (spec.coder, spec.anchors, spec.preprocess.mean) == (old.coder, old.anchors, old.preprocess.mean)


@pytest.mark.parametrize(("kind", "score"), [("softmax", "softmax"), ("sigmoid", "sigmoid"), ("focal", "sigmoid")])
def test_the_loss_decides_how_scores_are_read(kind: str, score: str) -> None:
    spec = adapt_spec(read_spec(bundled_path("coco")), NEW, LossConfig(classification=kind))
    assert spec.postprocess.score_function == score


def test_random_starts_are_a_function_of_the_seed() -> None:
    states = [build_start(TrainConfig(weights="none", seed=seed), NEW).network.state_dict() for seed in (5, 5, 6)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["backbone.stem.conv.weight"], states[2]["backbone.stem.conv.weight"])


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    build_start(TrainConfig(weights="none", seed=9), NEW)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        (None, "coco-v3"),
        ("ssd300_vgg16", "coco-v3"),
        ("ssdlite300_mobilenet_v2", "coco"),
        ("ssdlite320_mobilenet_v3_large_tf", "coco-v3"),
    ],
)
def test_a_run_starts_from_the_bundled_detector_of_its_network(model: str | None, weights: str) -> None:
    assert with_weights(TrainConfig(model=model)).weights == weights
    assert with_weights(TrainConfig(model=model, weights="none")).weights == "none"


def test_another_architecture_takes_what_fits() -> None:
    start = build_start(TrainConfig(model="ssdlite320_mobilenet_v3_large", weights="coco"), NEW)
    assert start.spec.name == "ssdlite320_mobilenet_v3_large"
    assert start.report.reset
    assert start.report.unused
    assert "start at random: backbone" in "\n".join(start.report.lines())


def test_another_size_moves_only_the_anchors() -> None:
    start = build_start(TrainConfig(size_hw=(160, 256)), NEW)
    assert start.spec.preprocess.size_hw == (160, 256)
    assert start.network.map_sizes_hw((160, 256))[0] == (10, 16)
    assert start.report.reset == []


def test_other_boxes_per_cell_reset_only_that_level() -> None:
    anchors = read_spec(bundled_path("coco-v3")).anchors
    levels = (anchors.levels[0].model_copy(update={"shapes_wh": ((0.1, 0.1),) * 5}), *anchors.levels[1:])
    start = build_start(TrainConfig(anchors=AnchorConfig(levels=levels)), NEW)
    assert start.spec.network.head.boxes_per_cell[0] == 5
    assert start.report.reset
    assert all(name.startswith(("head.boxes.0.", "head.logits.0.")) for name in start.report.reset)


def trained(tmp_path: Path, spec: ModelSpec) -> Path:
    return save_weights(tmp_path / "mine.safetensors", spec, build_network(spec.network).state_dict())


def test_a_file_of_ours_goes_on_whole(tmp_path: Path) -> None:
    path = trained(tmp_path, model_spec("ssdlite300_mobilenet_v2", NEW.names))
    start = build_start(TrainConfig(weights=str(path), loss=LossConfig(classification="sigmoid")), NEW)
    assert start.report.kept_classes == NEW.names
    saved = read_state(path)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in start.network.state_dict().items())


def test_a_resumed_run_keeps_its_spec(tmp_path: Path) -> None:
    spec = model_spec("ssdlite300_mobilenet_v2", NEW.names)
    trained(tmp_path, spec).rename(tmp_path / "last.safetensors")
    assert resume_start(tmp_path).spec == spec


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("head", {"logits": 2_000_000}),
        ("head", {"logits": 2_000_000_000}),
        ("extras", {"out_channels": 2**20}),
        ("extras", {"mid_channels": 2**24}),
    ],
)
def test_a_file_that_claims_a_larger_network_is_refused_before_that_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, changes: dict[str, int]
) -> None:
    """Neither a starting point nor a run to go on with."""
    spec = model_spec("ssdlite300_mobilenet_v2", NEW.names)
    state = build_network(spec.network).state_dict()
    if part == "head":
        network = spec.network.model_copy(update={"head": spec.network.head.model_copy(update=changes)})
    else:
        first, *rest = spec.network.extras
        network = spec.network.model_copy(update={"extras": (first.model_copy(update=changes), *rest)})
    path = save_weights(tmp_path / "last.safetensors", spec.model_copy(update={"network": network}), state)
    monkeypatch.setattr("singleshot.training.start.build_network", lambda config: pytest.fail("was built"))
    for start in (lambda: build_start(TrainConfig(weights=str(path)), NEW), lambda: resume_start(tmp_path)):
        with pytest.raises(WeightsError, match=r"last\.safetensors"):
            start()


def test_imagenet_gives_the_backbone_alone(reference: Path) -> None:
    file = reference / "weights" / "mobilenet_v2-b0353104.pth"
    start = build_start(TrainConfig(model="ssdlite300_mobilenet_v2", weights=f"imagenet:{file}"), NEW)
    assert {name.split(".")[0] for name in start.report.loaded} == {"backbone"}
    assert {name.split(".")[0] for name in start.report.reset if "num_batches" not in name} == {"extras", "head"}
    assert start.report.lines()[0].endswith(f"tensors from imagenet:{file}")


def test_an_unknown_model_or_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean ssd300_vgg16"):
        build_start(TrainConfig(model="ssd300_vgg61", weights="none"), NEW)
    with pytest.raises(WeightsError, match="no such weights file"):
        build_start(TrainConfig(weights=str(tmp_path / "no.safetensors")), NEW)


def test_what_no_file_counts_is_no_random_start(tmp_path: Path) -> None:
    """MXNet's parameters have no counters of batches."""
    own = build_network(model_spec("mxnet_ssd_mobilenet_300", ("a",)).network).backbone.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    arrays = {
        f"{'aux' if 'running' in name else 'arg'}:{backbone_parameter('mobilenet_v1_mxnet', name)}": value.numpy()
        for name, value in own.items()
        if name not in counters
    }
    (tmp_path / "mobilenet-0000.params").write_bytes(params_bytes(arrays))
    config = TrainConfig(model="mxnet_ssd_mobilenet_300", weights=f"imagenet:{tmp_path / 'mobilenet-0000.params'}")
    report = build_start(config, NEW).report
    assert len(report.loaded) == len(own) - len(counters)
    assert counters
    assert not any(name.startswith("backbone") for name in report.reset)
    assert any(line.startswith("MXNet's parameters; reads RGB 0..255 minus") for line in report.lines())
