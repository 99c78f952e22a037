"""Rules of the layout that import contracts cannot hold (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from source_trees import SOURCE, module_trees, source_trees

TREES = source_trees()

PARALLEL = {
    "anchors": "default boxes; their verb",
    "base": "what all runtimes are; what all sinks are",
    "build": "from settings to a network; from settings to a training run",
    "classifier": "Caffe's, MXNet's",
    "coco": "COCO's metrics, COCO's labels, COCO's results",
    "common": "what the rows of the zoo share; what the parts of the demo share",
    "config": "settings of augmentation, of a network, of a training run",
    "detect": "heads to boxes in C; the demo's first part",
    "dssd": "the models; their neck",
    "export": "the function; its verb",
    "graph": "networks described layer by layer: the layers, their backbone, their head",
    "job": "of a prediction; processes of a training job",
    "layers": "ours; Caffe's",
    "logs": "of a training run; of a service",
    "names": "names of parameters: MXNet's, TensorFlow's",
    "network": "the network; a network from a weights file",
    "pages": "what an evaluation shows; what a training run shows besides",
    "pipeline": "of augmentation, of prediction; TensorFlow's pipeline.config",
    "postprocess": "the contract; the choice between its forms",
    "quantize": "the function; its verb",
    "read": "a picture; a foreign file; a Caffe model; an MXNet model",
    "registry": "named objects; parts of networks, data formats, runtimes",
    "remote": "a service elsewhere; shards elsewhere",
    "result": "of an evaluation; of a training run",
    "settings": "of the core, of a prediction; what MXNet's files say",
    "tdm": "the models; their neck",
    "train": "the function; its verb",
    "tune": "the function; its verb",
    "video": "videos that are read; the sink that writes them",
    "voc": "VOC's metrics; VOC's labels",
    "writers": "of data formats; of export formats",
    "wording": "numbers and names; what an evaluation says",
}
"""Names of modules that stand in more than one package: the same thing at its place in each."""


def imported(tree: ast.Module, known: dict[str, ast.Module]) -> Iterator[str]:
    """Modules of the package that a module imports at its top."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("singleshot"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def test_the_root_holds_what_a_user_types() -> None:
    assert {path.name for path in SOURCE.iterdir() if path.suffix == ".py"} == {
        "__init__.py", "__main__.py", "errors.py", "version.py",
    }  # fmt: skip


def test_a_public_type_has_one_home() -> None:
    homes = defaultdict(list)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_a_module_name_means_one_thing() -> None:
    homes = defaultdict(list)
    for path in TREES:
        if path.name != "__init__.py" and path.parts[0] != "cli":
            homes[path.stem].append(str(path))
    verbs = {path.stem for path in TREES if path.parts[0] == "cli"}
    twice = {name for name, found in homes.items() if len(found) + (name in verbs) > 1}
    assert twice == PARALLEL.keys()


def test_there_are_no_import_cycles() -> None:
    known = module_trees()
    graph = {name: set(imported(tree, known)) - {name} for name, tree in known.items()}
    while free := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in free:
            del graph[name]
    assert graph == {}
