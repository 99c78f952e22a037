"""Caffe: a trained detector against OpenCV's recorded outputs, small networks against plain formulas, and mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from wire_writer import caffemodel

import singleshot
from singleshot.core.boxes import cxcywh_to_xyxy
from singleshot.errors import WeightsError
from singleshot.multibox.decode import postprocess

FACE = "weights/face_ssd_res10_caffe"


def test_res10_agrees_with_opencv(reference: Path) -> None:
    detector = singleshot.import_weights(reference / FACE)
    golden = dict(np.load(reference / "golden/weights/caffe_res10_face.npz"))
    assert detector.class_names == ("face",)
    np.testing.assert_allclose(cxcywh_to_xyxy(detector.anchors()) / 300, golden["priors"], atol=5e-7)
    for index, name in enumerate(golden["files"]):
        images = detector.preprocess(reference / "data/coco_train343/images" / str(name))[None]
        np.testing.assert_array_equal(images[0, :, :16, :16], golden[f"i{index}_blob_corner"])
        with torch.no_grad():
            output = detector.network(images)
        np.testing.assert_allclose(output.box_codes[0], golden[f"i{index}_mbox_loc"], atol=1e-4)
        np.testing.assert_allclose(output.class_logits[0], golden[f"i{index}_mbox_conf"], atol=1e-4)
        result = postprocess(output, detector.anchors(), detector.spec.postprocess, detector.spec.coder, (300, 300), 1)
        theirs = golden[f"i{index}_det"]
        theirs = theirs[np.argsort(-theirs[:, 2], kind="stable")]
        count = int(result.counts[0])
        assert count == len(theirs)
        np.testing.assert_allclose(result.scores[0, :count], theirs[:, 2], atol=1e-5)
        nearest = np.abs(result.boxes_xyxy[0, :count].numpy()[:, None] / 300 - theirs[None, :, 3:]).max(2).min(1)
        assert nearest.max() < 1e-5


@pytest.mark.parametrize("name", ["", "deploy.prototxt.txt", "res10_300x300_ssd_iter_140000.caffemodel"])
def test_folder_description_and_numbers_all_name_the_model(name: str, reference: Path) -> None:
    assert singleshot.import_weights(reference / FACE / name).spec.name == "caffe_face_res10"


def layer(name: str, kind: str, bottom: str, top: str = "", settings: str = "") -> str:
    bottoms = " ".join(f'bottom: "{one}"' for one in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top or name}" {settings} }}\n'


def conv(name: str, bottom: str, channels: int, settings: str = "kernel_size: 1") -> str:
    return layer(name, "Convolution", bottom, settings=f"convolution_param {{ num_output: {channels} {settings} }}")


PRIOR = (
    "prior_box_param { min_size: 8.7 max_size: 16 aspect_ratio: 2 variance: .1 variance: .1 variance: .2 variance: .2 }"
)
OUTPUT = (
    "detection_output_param { num_classes: 3 share_location: true background_label_id: 0 code_type: CENTER_SIZE "
    "keep_top_k: 50 confidence_threshold: 0.1 nms_param { nms_threshold: 0.4 top_k: 100 } }"
)


def small_net(body: str, source: str, output: str = OUTPUT, prior: str = PRIOR) -> str:
    """An SSD of one feature map for 32 x 32 images: four boxes per cell, two classes."""
    return "".join(
        (
            'input: "data" input_dim: 1 input_dim: 3 input_dim: 32 input_dim: 32\n',
            body,
            conv("loc", source, 16),
            layer("loc_perm", "Permute", "loc", settings="permute_param { order: 0 order: 2 order: 3 order: 1 }"),
            layer("loc_flat", "Flatten", "loc_perm"),
            conv("conf", source, 12),
            layer("conf_perm", "Permute", "conf"),
            layer("conf_flat", "Flatten", "conf_perm"),
            layer("prior", "PriorBox", f"{source} data", settings=prior),
            layer("conf_reshape", "Reshape", "conf_flat"),
            layer("conf_soft", "Softmax", "conf_reshape"),
            layer("out", "DetectionOutput", "loc_flat conf_soft prior", settings=output),
        )
    )


def random_blobs(**shapes: tuple[tuple[int, ...], ...]) -> dict[str, list[np.ndarray]]:
    generator = np.random.default_rng(0)
    heads = {"loc": ((16, 4, 1, 1), (16,)), "conf": ((12, 4, 1, 1), (12,))}
    return {
        name: [generator.normal(size=shape).astype(np.float32) for shape in rows]
        for name, rows in {**heads, **shapes}.items()
    }


def write(folder: Path, description: str, blobs: dict[str, list[np.ndarray]], **options: Any) -> Path:
    (folder / "deploy.prototxt").write_text(description)
    (folder / "net.caffemodel").write_bytes(caffemodel(blobs, **options))
    return folder


def sources(folder: Path, images: Tensor) -> Tensor:
    network = singleshot.import_weights(folder).network
    with torch.no_grad():
        return network.backbone(images)[0]


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def as_tensors(blobs: dict[str, list[np.ndarray]]) -> dict[str, list[Tensor]]:
    return {name: [torch.from_numpy(array) for array in arrays] for name, arrays in blobs.items()}


def test_in_place_layers_batch_norm_scale_and_ceiling_pool(tmp_path: Path) -> None:
    body = (
        conv("c", "data", 4, "kernel_size: 3 pad: 1 bias_term: false")
        + layer("bn", "BatchNorm", "c", "c")
        + layer("sc", "Scale", "c", "c", "scale_param { bias_term: true }")
        + layer("r", "ReLU", "c", "c", "relu_param { negative_slope: 0.1 }")
        + layer("p", "Pooling", "c", settings="pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    )
    blobs = random_blobs(c=((4, 3, 3, 3),), bn=((4,), (4,), (1,)), sc=((4,), (4,)))
    blobs["bn"][1] = np.abs(blobs["bn"][1]) + 1
    blobs["bn"][2] = np.float32([2.0])
    b = as_tensors(blobs)
    x = F.conv2d(IMAGES, b["c"][0], padding=1)
    mean, variance = (b["bn"][k][:, None, None] / 2 for k in (0, 1))
    x = (x - mean) / (variance + 1e-5).sqrt() * b["sc"][0][:, None, None] + b["sc"][1][:, None, None]
    wanted = F.max_pool2d(F.leaky_relu(x, 0.1), 3, 2, ceil_mode=True)
    found = sources(write(tmp_path, small_net(body, "p"), blobs), IMAGES)
    assert found.shape[2:] == (16, 16)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_branches_see_the_version_of_a_blob_at_their_turn(tmp_path: Path) -> None:
    """ "before" reads c untouched, "after" reads what the in-place layer left."""
    body = (
        conv("c", "data", 4)
        + layer("before", "Power", "c", settings="power_param { scale: 2 shift: 1 power: 2 }")
        + layer("relu", "ReLU", "c", "c")
        + layer("after", "Eltwise", "c before", settings="eltwise_param { operation: SUM coeff: 1 coeff: -0.5 }")
    )
    blobs = random_blobs(c=((4, 3, 1, 1), (4,)))
    b = as_tensors(blobs)
    raw = F.conv2d(IMAGES, *b["c"])
    found = sources(write(tmp_path, small_net(body, "after"), blobs), IMAGES)
    torch.testing.assert_close(found, F.relu(raw) - 0.5 * (2 * raw + 1) ** 2, rtol=1e-4, atol=1e-4)


def test_depthwise_concatenation_normalisation_and_friends(tmp_path: Path) -> None:
    body = (
        conv("conv0", "data", 4, "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 stride: 2")
        + layer(
            "dw/1",
            "ConvolutionDepthwise",
            "conv0",
            settings="convolution_param { num_output: 4 kernel_size: 3 pad: 1 }",
        )
        + layer("six", "ReLU6", "dw/1")
        + layer("prelu", "PReLU", "conv0")
        + layer("drop", "Dropout", "prelu", "prelu")
        + layer("cat", "Concat", "six prelu")
        + conv("mix", "cat", 4, "kernel_size: 1 group: 2")
        + layer("avg", "Pooling", "mix", settings="pooling_param { pool: AVE kernel_size: 2 stride: 2 }")
        + layer("norm", "Normalize", "avg", settings="norm_param { across_spatial: false channel_shared: false }")
    )
    blobs = random_blobs(
        conv0=((4, 3, 3, 1), (4,)),
        prelu=((4,),),
        mix=((4, 4, 1, 1), (4,)),
        norm=((4,),),
        **{"dw/1": ((4, 1, 3, 3), (4,))},
    )
    b = as_tensors(blobs)
    x = F.conv2d(IMAGES, *b["conv0"], stride=2, padding=(1, 0))
    six = F.relu6(F.conv2d(x, *b["dw/1"], padding=1, groups=4))
    x = F.conv2d(torch.cat([six, F.prelu(x, b["prelu"][0])], 1), *b["mix"], groups=2)
    x = F.avg_pool2d(x, 2)
    x = x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt() * b["norm"][0][:, None, None]
    found = sources(write(tmp_path, small_net(body, "norm"), blobs), IMAGES)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5)


BODY = conv("c", "data", 4, "kernel_size: 3 pad: 1 stride: 4")
SHAPES = {"c": ((4, 3, 3, 3), (4,))}


def test_head_dialect_and_class_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    detector = singleshot.import_weights(write(tmp_path / "a", small_net(BODY, "c"), random_blobs(**SHAPES)))
    spec = detector.spec
    assert detector.class_names == ("class_1", "class_2")
    assert (spec.preprocess.channel_order, spec.preprocess.mean) == ("bgr", (104.0, 117.0, 123.0))
    assert (spec.postprocess.score_threshold, spec.postprocess.nms_iou) == (0.1, 0.4)
    assert (spec.postprocess.pre_nms_top_k, spec.postprocess.max_detections) == (100, 50)
    # Caffe's layer cuts 8.7 to 8; without a step the map divides the image.
    first = detector.anchors()[:4]
    root = 2**0.5
    wanted = [(8, 8), (128**0.5,) * 2, (8 * root, 8 / root), (8 / root, 8 * root)]
    torch.testing.assert_close(first, torch.tensor([[2.0, 2.0, *size] for size in wanted]))
    detections = detector.predict(np.zeros((40, 50, 3), np.uint8), 0.2)
    assert set(detections.names) <= {"class_1", "class_2"}


def test_layers_of_before_2014(tmp_path: Path) -> None:
    new = small_net(BODY + layer("r", "ReLU", "c", "c"), "c")
    old = new.replace("layer {", "layers {").replace('"Convolution"', "CONVOLUTION").replace('"ReLU"', "RELU")
    blobs = random_blobs(**SHAPES)
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    a = sources(write(tmp_path / "new", new, blobs), IMAGES)
    b = sources(write(tmp_path / "old", old, blobs, form="legacy", old=True), IMAGES)
    assert torch.equal(a, b)


def test_saved_graph_exports_and_takes_other_classes(tmp_path: Path) -> None:
    folder = write(tmp_path, small_net(BODY, "c"), random_blobs(**SHAPES))
    detector = singleshot.import_weights(folder, out=tmp_path / "x.safetensors", classes=["cat", "dog"])
    again = singleshot.load(tmp_path / "x.safetensors")
    assert again.spec == detector.spec
    exported = torch.export.export(again.network, (IMAGES,)).module()
    with torch.no_grad():
        for one, other in zip(exported(IMAGES), detector.network(IMAGES), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (small_net(layer("x", "SPP", "data"), "x"), "layer 'x' is of type 'SPP', which the importer does not know"),
        (small_net(BODY, "nothing"), "reads 'nothing', which no layer before it gives"),
        (small_net(BODY, "c").split('layer { name: "out"')[0], "no DetectionOutput"),
        (small_net(BODY, "c", OUTPUT.replace("CENTER_SIZE", "CORNER")), "only CENTER_SIZE"),
        (small_net(BODY, "c", OUTPUT.replace("num_classes: 3", "num_classes: 1")), "1 classes"),
        (small_net(BODY, "c", OUTPUT.replace("num_classes: 3", "num_classes: 5")), "needed"),
        (small_net(BODY, "c", prior=PRIOR.replace("8.7", "0")), "PriorBox with min_size"),
        (small_net(BODY.replace("pad: 1", "pad: same"), "c"), "'pad' is 'same', not a number"),
        (small_net(BODY.replace("num_output: 4", "num_output: 5"), "c"), "needed"),
        (small_net(BODY.replace("num_output: 4", "num_output: 1e30"), "c"), "deploy.prototxt"),
        (small_net(BODY, "c").replace("input_dim: 32", "input_dim: 0"), "size of its input"),
        ("name: 'x'", "no layers"),
    ],
)
def test_descriptions_that_cannot_be_built(description: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        singleshot.import_weights(write(tmp_path, description, random_blobs(**SHAPES)))


def test_numbers_of_another_network(tmp_path: Path) -> None:
    blobs = random_blobs(**SHAPES)
    blobs["c"][0][0, 0, 0, 0] = np.nan
    with pytest.raises(WeightsError, match="'c' holds numbers that are not finite"):
        singleshot.import_weights(write(tmp_path, small_net(BODY, "c"), blobs))
    with pytest.raises(WeightsError, match="layer 'c' has 0 blobs"):
        singleshot.import_weights(write(tmp_path, small_net(BODY, "c"), random_blobs()))


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write(tmp_path, small_net(BODY, "c"), random_blobs(**SHAPES))
    shutil.copy(tmp_path / "deploy.prototxt", tmp_path / "train.prototxt")
    assert singleshot.import_weights(tmp_path / "net.caffemodel").spec.name == "caffe_ssd"
    (tmp_path / "deploy.prototxt").rename(tmp_path / "test.prototxt")
    with pytest.raises(WeightsError, match=r"needs one \.prototxt beside it \(there: test.prototxt, train.prototxt\)"):
        singleshot.import_weights(tmp_path / "net.caffemodel")
    (tmp_path / "net.caffemodel").unlink()
    with pytest.raises(WeightsError, match=r"needs one \.caffemodel"):
        singleshot.import_weights(tmp_path / "test.prototxt")
