"""Public ImageNet weights: where they are, their digests, and the folder that keeps them."""

from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from singleshot.core.files import cache_folder, put_in_place
from singleshot.core.leftovers import hidden_file
from singleshot.core.redirects import HttpsRedirects
from singleshot.errors import WeightsError

_log = logging.getLogger(__name__)

PYTORCH = "https://download.pytorch.org/models/"
CHUNK_BYTES = 1 << 20
MAX_BYTES = 1 << 30
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Download:
    """A public file.

    Attributes:
        file_name: its name in the cache folder.
        sha256: the digest, or its first characters.
        url: where it is.
    """

    file_name: str
    sha256: str
    url: str


def _pytorch(file_name: str, sha256: str = "") -> Download:
    """PyTorch's hub writes the first 8 characters of the digest into the name."""
    return Download(file_name, sha256 or file_name.rsplit("-", 1)[1].split(".")[0], PYTORCH + file_name)


IMAGENET = {
    "vgg16": _pytorch("vgg16_features-amdegroot-88682ab5.pth"),
    "vgg16_bn": _pytorch("vgg16_bn-6c64b313.pth"),
    "mobilenet_v2": _pytorch(
        "mobilenet_v2-b0353104.pth", "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
    ),
    "mobilenet_v3_large": _pytorch("mobilenet_v3_large-8738ca79.pth"),
    "resnet18": _pytorch("resnet18-f37072fd.pth"),
    "resnet34": _pytorch("resnet34-b627a593.pth"),
    "resnet50": _pytorch("resnet50-0676ba61.pth"),
    "resnet101": _pytorch("resnet101-63fe2227.pth"),
    "resnet152": _pytorch("resnet152-394f9c45.pth"),
    "squeezenet1_1": _pytorch("squeezenet1_1-b8a52dc0.pth"),
    "densenet121": _pytorch("densenet121-a639ec97.pth"),
}
"""Classification weights by architecture."""


FROM_FILES = ("densenet161", "densenet169", "densenet201", "efficientnet_b3", "efficientnet_lite0")
"""Architectures whose classifiers are read from a file, and not downloaded."""


def architecture_of(backbone: str) -> str | None:
    """Key of ``IMAGENET`` for a backbone's name, whatever its variant; ``None`` if there are no weights for it."""
    if backbone.endswith("_mxnet") or backbone.startswith("mobilenet_v3_large_reduced"):
        return None
    return next((name for name in sorted(IMAGENET, key=len, reverse=True) if backbone.startswith(name)), None)


def readable_architecture(backbone: str) -> str | None:
    """The architecture whose PyTorch classifiers fit a backbone, downloaded or not; ``None`` if PyTorch's do not."""
    return architecture_of(backbone) or (backbone if backbone in FROM_FILES else None)


def fetch(download: Download, folder: Path | None = None) -> Path:
    """The file from the cache, downloaded first if it is not there.

    Args:
        download: which file.
        folder: the cache; ``None`` takes ``cache_folder()``.

    Raises:
        WeightsError: there is no network, or the file is not what its digest says. The message names the address and
            where to put the file by hand.
    """
    folder = folder or cache_folder()
    path = folder / download.file_name
    if path.is_file():
        if _sha256(path).startswith(download.sha256):
            return path
        _log.warning("%s is damaged (its sha256 is not %s...); downloading it anew", path, download.sha256)
    by_hand = f"Download {download.url} elsewhere and put it at {path}, or give its path"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be made ({error.strerror}); set SINGLESHOT_CACHE") from error
    try:
        with hidden_file(folder) as (temporary, file):
            digest = hashlib.sha256()
            for chunk in _chunks(download):
                digest.update(chunk)
                file.write(chunk)
            file.close()
            if not digest.hexdigest().startswith(download.sha256):
                raise WeightsError(
                    f"{download.url}: sha256 is {digest.hexdigest()}, expected {download.sha256}...: not the file that "
                    f"was published. {by_hand}"
                )
            put_in_place(temporary, path)
    except PermissionError as error:
        raise WeightsError(f"{folder}: cannot be written ({error.strerror}); set SINGLESHOT_CACHE") from error
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise WeightsError(f"{download.file_name} could not be downloaded ({error}). {by_hand}") from error
    return path


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(HttpsRedirects)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(download: Download) -> Iterator[bytes]:
    """The file piece by piece, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    if not download.url.startswith("https://"):
        raise WeightsError(f"{download.url}: is not https")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        _opener().open(download.url, timeout=TIMEOUT_S) as response,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        total = int(response.headers.get("Content-Length") or 0)
        task = progress.add_task(download.file_name, total=total or None)
        received = 0
        while chunk := response.read(CHUNK_BYTES):
            received += len(chunk)
            if received > MAX_BYTES:
                raise WeightsError(f"{download.url}: larger than {MAX_BYTES} bytes; not the file that was published")
            progress.update(task, advance=len(chunk))
            yield chunk
