"""mxnet-ssd and mxnet-dssd: ``<prefix>-0000.params``, with or without ``<prefix>-symbol.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import NamedTuple

from singleshot.core.settings import SizeHW
from singleshot.errors import ConfigError, WeightsError
from singleshot.interop.fill import Imported, squeezed
from singleshot.interop.mxnet.names import Automatic, Repository, mxnet_names
from singleshot.interop.mxnet.params import read_params
from singleshot.interop.mxnet.settings import (
    HEAD,
    automatic_names,
    backbone_of,
    is_legacy,
    modern,
    repository_of,
    settings,
    variants_of,
    with_modules,
)
from singleshot.interop.mxnet.size import EPOCH, InputSize, input_size, size_in_name
from singleshot.interop.mxnet.symbol import read_symbol
from singleshot.interop.translate import Shapes, Translation, columns_of, convert, with_classes
from singleshot.models.catalogue import model_names
from singleshot.models.config import ModelSpec
from singleshot.models.zoo.assembled import AssembledConfig, parse_assembled
from singleshot.models.zoo.mxnet import DSSD_PRESETS, assembled_config, dssd_config, preset_at
from singleshot.weights.network import parameter_shapes

SYMBOL = "-symbol.json"


class MxnetFiles(NamedTuple):
    """A network that may be the file's.

    Attributes:
        name: of the model.
        config: its lists.
        names: MXNet's names of our parameters.
        columns: of the logits, background included.
        size: of the input, and where that is known from.
    """

    name: str
    config: AssembledConfig
    names: Mapping[str, str]
    columns: int
    size: InputSize

    @property
    def spec(self) -> ModelSpec:
        """With the classes that so many columns mean."""
        return with_classes(self.config.to_spec(("object",), name=self.name), self.columns)


def read(path: str | Path, size_hw: SizeHW | None = None) -> Imported:
    """Convert a detector of mxnet-ssd or mxnet-dssd.

    With a symbol file the lists (from_layers, sizes, ratios, ...) are read from it; without one the presets are tried.

    Args:
        path: the ``.params`` file, the symbol beside it, or their folder.
        size_hw: input size; ``None`` takes what the symbol or the file's name tells.

    Raises:
        WeightsError: it is damaged, or no network of those systems.
    """
    params, symbol = find_files(Path(path))
    state = {name.partition(":")[2] or name: array for name, array in read_params(params).items()}
    legacy = is_legacy(state)
    originals = {modern(name) if legacy else name: name for name in state}
    shapes = {name: state[original].shape for name, original in originals.items()}
    try:
        found = (
            _described(shapes, legacy, symbol, params, size_hw) if symbol else _preset(shapes, legacy, params, size_hw)
        )
        spec = found.spec
    except (ConfigError, KeyError, IndexError) as error:
        raise WeightsError(f"{symbol or params}: no network of mxnet-ssd or mxnet-dssd: {error}") from error
    preset = f"no {SYMBOL} beside it: read as the preset {found.name}, whose lists are taken"
    notes = (found.size.note,) if symbol else (found.size.note, preset)

    def rename(ours: str) -> str:
        theirs = found.names.get(ours, ours)
        return originals.get(theirs, theirs)

    return convert(Translation(spec, rename, notes=notes), state, params, "mxnet")


def find_files(path: Path) -> tuple[Path, Path | None]:
    """The numbers and, where there is one, the description that belongs to them.

    Raises:
        WeightsError: there are no numbers, or there are several epochs to choose from.
    """
    if path.is_dir() or path.name.endswith(SYMBOL):
        folder, prefix = (path, "") if path.is_dir() else (path.parent, path.name.removesuffix(SYMBOL))
        found = sorted(folder.glob(f"{escape(prefix)}*.params"))
        if len(found) != 1:
            names = ", ".join(one.name for one in found) or "none"
            raise WeightsError(f"{path}: {len(found)} .params files ({names}); name the one of the epoch you want")
        path = found[0]
    symbol = path.with_name(EPOCH.sub("", path.stem) + SYMBOL)
    return path, symbol if symbol.is_file() else None


def _described(shapes: Shapes, legacy: bool, symbol: Path, origin: Path, given: SizeHW | None) -> MxnetFiles:
    """The network that a symbol describes."""
    described = read_symbol(symbol, modern if legacy else str)
    repository = repository_of(shapes)
    entries, size = settings(described, shapes, repository, origin, given)
    config = parse_assembled(entries, str(symbol))
    automatic = automatic_names(shapes, config.network, described.heads)
    first = described.heads[0]
    columns = columns_of(shapes, f"{first}_cls_pred_conv_weight", f"{first}{HEAD}", origin)
    name = f"mxnet_{repository}_{config.network.removesuffix('_mxnet')}_{config.input_size_hw[0]}"
    found, _ = _found(name, config, size, shapes, repository, automatic)
    return found._replace(columns=columns)


def _preset(shapes: Shapes, legacy: bool, origin: Path, given: SizeHW | None = None) -> MxnetFiles:
    """The preset whose parameters these are, at the input size that the file's name tells."""
    backbone, repository = backbone_of(shapes, origin), repository_of(shapes)
    levels = sum(name.endswith(HEAD) for name in shapes)
    automatic = automatic_names(shapes, backbone)
    prefix = EPOCH.sub("", origin.stem)
    wanted = given or size_in_name(prefix)
    fitting = []
    for name, config in _presets(shapes, legacy, repository):
        if config.network == backbone and len(config.from_layers) == levels:
            size = input_size(prefix, config.input_size_hw, given)
            found, fits = _found(name, preset_at(config, size.size_hw), size, shapes, repository, automatic)
            if fits and config.input_size_hw == wanted:
                return found
            if fits:
                fitting.append(found)
    if not levels:
        raise WeightsError(
            f"{origin}: has no predictors: a classifier, where training starts: weights 'imagenet:{origin}'"
        )
    if not fitting:
        raise WeightsError(f"{origin}: no preset has these parameters; put its {SYMBOL} beside it")
    return fitting[0]


def _presets(shapes: Shapes, legacy: bool, repository: Repository) -> Iterator[tuple[str, AssembledConfig]]:
    """Names and lists of what may have such parameters."""
    if repository == "dssd":
        variants = variants_of(shapes)
        for key in DSSD_PRESETS:
            yield "_".join(filter(None, ("mxnet_dssd", key, *variants))), dssd_config(key, *variants)
    else:
        for name in model_names():
            if name.startswith("mxnet_ssd_") and ("legacy" in name) == legacy:
                yield name, assembled_config(name)


def _found(
    name: str,
    config: AssembledConfig,
    size: InputSize,
    shapes: Shapes,
    repository: Repository,
    orders: Sequence[Automatic],
) -> tuple[MxnetFiles, bool]:
    """These lists with MXNet's names by the first order of unnamed operations that fits, and whether one does."""
    attempts = []
    for automatic in orders:
        changed = with_modules(config, shapes, repository, automatic)
        spec = changed.to_spec(("object",), name=name)
        own = parameter_shapes(spec.network)
        names = mxnet_names(spec.network, own, repository, automatic)
        channels = shapes.get(names["head.logits.0.weight"], (0,))[0]
        found = MxnetFiles(name, changed, names, int(channels) // spec.anchors.boxes_per_cell[0], size)
        if all(
            theirs in shapes and (ours.startswith("head.logits") or squeezed(shapes[theirs]) == squeezed(own[ours]))
            for ours, theirs in names.items()
        ):
            return found, found.columns > 1
        attempts.append(found)
    return attempts[0], False
