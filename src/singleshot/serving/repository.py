"""The models of a service by name: loaded, replaced and unloaded while it runs, without a lost request."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from singleshot.core.wording import listed
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, SingleshotError
from singleshot.serving.batcher import Batcher
from singleshot.serving.options import ServeOptions

_log = logging.getLogger(__name__)

MODEL_SUFFIXES = (".safetensors", ".onnx", ".xml", ".pt2", ".pte", ".torchscript", ".tflite")
"""Files of a watched folder that are taken for models."""

State = tuple[tuple[int, int], ...]
"""When files changed, in nanoseconds, and their bytes."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model that is served.

    Attributes:
        name: by which requests ask for it.
        batcher: runs it.
        source: what it was loaded from, for people.
    """

    name: str
    batcher: Batcher
    source: str

    @property
    def detector(self) -> Detector:
        """The model."""
        return self.batcher.detector


class Repository:
    """Models by name. From any thread.

    Args:
        options: limits of each model's queue, and what runs it.
        on_batch: is told the model's name and how many images each batch has.
    """

    def __init__(
        self, options: ServeOptions | None = None, on_batch: Callable[[str, int], object] | None = None
    ) -> None:
        self.options = options or ServeOptions()
        self.on_batch = on_batch or (lambda name, count: None)
        self._models: dict[str, Served] = {}
        self._lock = threading.Lock()
        self._retired: list[threading.Thread] = []
        self._end = threading.Event()
        self._watcher: threading.Thread | None = None

    def __iter__(self) -> Iterator[Served]:
        with self._lock:
            return iter(list(self._models.values()))

    def get(self, name: str | None = None) -> Served:
        """A model; the first one where no name is given.

        Raises:
            KeyError: there is none of this name; says which there are.
        """
        with self._lock:
            if name is None and self._models:
                return next(iter(self._models.values()))
            if name in self._models:
                return self._models[name]
            known = listed([f"'{other}'" for other in self._models]) or "none"
        raise KeyError(f"no model '{name}'; there are {known}" if name else "no model is loaded")

    def load(self, name: str, source: str | os.PathLike[str] | Detector) -> Served:
        """Load a model, or replace one: requests go to it once it has run, and the old one finishes what it accepted.

        Args:
            name: by which requests ask for it.
            source: as `singleshot.load` takes it, or a detector.

        Raises:
            SingleshotError: it cannot be loaded; a model of that name stays.
        """
        detector = source if isinstance(source, Detector) else load(source)
        batcher = Batcher(detector, self.options, lambda count: self.on_batch(name, count))
        served = Served(name, batcher, "memory" if isinstance(source, Detector) else str(source))
        with self._lock:
            old, self._models[name] = self._models.get(name), served
        self._retire(old)
        return served

    def unload(self, name: str) -> None:
        """Take nothing more for a model; it finishes what it accepted.

        Raises:
            KeyError: there is none of this name.
        """
        self.get(name)
        with self._lock:
            old = self._models.pop(name, None)
        self._retire(old)

    def close(self) -> None:
        """End the watching, and every model once it has finished what it accepted."""
        self._end.set()
        if self._watcher is not None:
            self._watcher.join()
        for served in self:
            self.unload(served.name)
        for thread in self._retired:
            thread.join()

    def watch(self, folder: Path, every_s: float = 1.0) -> None:
        """Serve the models of a folder: NAME.safetensors, NAME.onnx ... as NAME; from now on as files come and go.

        What cannot be loaded is logged, and an older model of that name stays.

        Args:
            folder: the folder.
            every_s: how often it is looked at. A file is loaded once it has not changed between two looks.

        Raises:
            ConfigError: it is no folder, or one is watched already.
        """
        check_folder(folder)
        if self._watcher is not None:
            raise ConfigError(f"`watch={folder}`: one folder is watched already")
        seen = _Seen(folder)
        self._follow(seen)
        self._watcher = threading.Thread(
            target=self._follow_on, args=(seen, every_s), name="singleshot-watch", daemon=True
        )
        self._watcher.start()

    def _follow_on(self, seen: _Seen, every_s: float) -> None:
        while not self._end.wait(every_s):
            try:
                self._follow(seen)
            except OSError as error:
                _log.warning("%s: cannot be looked at: %s", seen.folder, error.strerror)

    def _follow(self, seen: _Seen) -> None:
        changed, gone = seen.look()
        for name, path in changed.items():
            try:
                self.load(name, path)
                _log.warning("model '%s' is served from %s", name, path)
            except SingleshotError as error:
                _log.warning("model '%s' is not loaded: %s", name, error)
            except Exception:  # whatever a runtime raises: the others are followed on
                _log.exception("model '%s' is not loaded", name)
        for name, path in gone.items():
            with self._lock:
                old = self._models.get(name)
                if old is None or old.source != str(path):  # it never was loaded
                    continue
                del self._models[name]
            self._retire(old)
            _log.warning("model '%s' is unloaded: its file is gone", name)

    def _retire(self, old: Served | None) -> None:
        if old is None:
            return
        thread = threading.Thread(target=old.batcher.close, name="singleshot-retire", daemon=True)
        thread.start()
        self._retired = [*(other for other in self._retired if other.is_alive()), thread]


def check_folder(folder: Path) -> None:
    """Refuse to watch what is no folder.

    Raises:
        ConfigError: it is none.
    """
    if not folder.is_dir():
        raise ConfigError(f"`watch={folder}`: no such folder")


class _Seen:
    """What a watched folder held when it was looked at last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: Mapping[Path, State] = _files(folder)
        self._loaded: dict[Path, State] = {}

    def look(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Models by name: those that came or changed and are whole, and those that are gone."""
        now = _files(self.folder)
        changed = {
            path: state for path, state in now.items() if self._last.get(path) == state != self._loaded.get(path)
        }
        gone = [path for path in self._loaded if path not in now]
        self._last = now
        self._loaded = {path: state for path, state in self._loaded.items() if path in now} | changed
        kept = {path.stem for path in self._loaded}
        return {path.stem: path for path in changed}, {path.stem: path for path in gone if path.stem not in kept}


def _files(folder: Path) -> dict[Path, State]:
    """The models of a folder and when they changed; of OpenVINO's two files it is both."""
    found: dict[Path, State] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.endswith(MODEL_SUFFIXES) and not entry.name.startswith(".") and entry.is_file():
            path = Path(entry.path)
            stats = [own.stat() for own in (path, path.with_suffix(".bin")) if own == path or own.is_file()]
            found[path] = tuple((own.st_mtime_ns, own.st_size) for own in stats)
    return found


@contextmanager
def repository_of(
    models: Mapping[str, str | os.PathLike[str] | Detector], options: ServeOptions
) -> Iterator[Repository]:
    """A repository with these models, closed at the end.

    Raises:
        SingleshotError: one cannot be loaded.
    """
    repository = Repository(options)
    try:
        for name, source in models.items():
            repository.load(name, source)
        yield repository
    finally:
        repository.close()
