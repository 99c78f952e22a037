"""Images in zip and tar archives, made by `zipfile` and `tarfile`, and broken by hand."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.errors import ImageError
from singleshot.images import archive, tar_archive, zip_archive
from singleshot.images.archive import BoundedFile
from singleshot.images.packed import container_kind, image_bytes, image_stamp, is_container, list_members
from singleshot.images.read import image_size, read_image, write_image
from singleshot.images.tar_archive import Unpacker
from singleshot.prediction.not_images import check_readable
from singleshot.prediction.sources import find_images, is_many, search_images

KINDS = ("zip", "tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz")
MODES = {"tar": "w:", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tbz2": "w:bz2"}


def picture(number: int, side: int = 8) -> bytes:
    """A PNG of one colour and its number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        write_image(path, np.full((side, side + number, 3), number, np.uint8))
        return path.read_bytes()


PICTURES = [picture(number) for number in range(6)]


def pack(path: Path, files: dict[str, bytes], **options: object) -> Path:
    """An archive of the kind of its name."""
    kind = container_kind(path)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", **options) as packed:  # type: ignore[arg-type]
            for name, data in files.items():
                packed.writestr(name, data)
        return path
    with tarfile.open(path, MODES.get(kind, "w:xz"), **options) as packed:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def inner(path: Path) -> list[str]:
    return [found.relative_to(path).as_posix() for found in find_images(path)]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_inside(kind: str, tmp_path: Path) -> None:
    path = pack(tmp_path / f"a.{kind}", {})
    assert list_members(path) == {}
    with pytest.raises(ImageError, match="holds no image"):
        find_images(path)


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_read_where_they_are(kind: str, tmp_path: Path) -> None:
    files = {"b/2.png": PICTURES[2], "note.txt": b"text", "./b/1.png": PICTURES[1], "c.PNG": PICTURES[3]}
    path = pack(tmp_path / f"a.{kind}", files)
    assert is_container(path)
    assert is_many(path)
    assert is_many(path / "b")
    assert not is_many(path / "b/2.png")
    assert inner(path) == ["b/2.png", "b/1.png", "c.PNG"]
    assert image_bytes(path / "b/1.png") == PICTURES[1]
    assert read_image(path / "c.PNG").shape == (8, 11, 3)
    assert image_size(path / "b/2.png") == (8, 10)
    assert image_stamp(path / "b/2.png").size == len(PICTURES[2])
    assert find_images(str(path / "b")) == [path / "b/2.png", path / "b/1.png"]
    assert find_images(str(path / "b/*1.png")) == [path / "b/1.png"]
    assert find_images(str(tmp_path / "*.*")) == [path / name for name in ("b/2.png", "b/1.png", "c.PNG")]
    with pytest.raises(ImageError, match="no such image"):
        read_image(path / "b/9.png")
    with pytest.raises(ImageError, match=r"holds images, and is none: .*NAME"):
        check_readable(path)
    assert sorted(os.listdir(tmp_path)) == [path.name]


TREES = st.dictionaries(
    st.lists(st.text("aB.ä 1[-\\*", min_size=1, max_size=4), min_size=1, max_size=3)
    .map(lambda parts: "/".join(parts) + ".png")
    .filter(lambda name: not any(part.strip(".") == "" for part in name.split("/"))),
    st.sampled_from(PICTURES),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25)
@given(TREES)
def test_an_archive_gives_what_its_folder_gives(tree: dict[str, bytes]) -> None:
    files = {name: data for name, data in tree.items() if not any(other.startswith(f"{name}/") for other in tree)}
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "photos"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        try:
            expected = {path.relative_to(root): image_bytes(path) for path in find_images(root, recursive=True)}
        except ImageError:  # all are hidden
            expected = {}
        for kind in ("zip", "tar", "tgz"):
            path = Path(made) / f"photos.{kind}"
            if kind == "zip":
                with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
                    for file in root.rglob("*"):
                        packed.write(file, file.relative_to(root))
            else:
                with tarfile.open(path, MODES[kind]) as tar:
                    tar.add(root, ".")
            assert len(list_members(path)) == len(files)
            if expected:
                assert {found.relative_to(path): image_bytes(found) for found in find_images(path)} == expected
            else:
                with pytest.raises(ImageError, match="hidden"):
                    find_images(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.zip", "zip"),
        ("a.ZIP", "zip"),
        ("v1.2.tar.gz", "tar.gz"),
        ("a.tar", "tar"),
        ("x.jpg.tar", "tar"),
        ("a.gz", ""),
        (".zip", ""),
        ("zip", ""),
        ("a.rec", "rec"),
        ("a.zip.jpg", ""),
    ],
)
def test_kinds_by_name(name: str, kind: str) -> None:
    assert container_kind(name) == kind


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_what_is_passed_over_is_named(kind: str, tmp_path: Path) -> None:
    names = ("/etc/a.png", "../b.png", "c/../../d.png", "C:/e.png", "f.zip", "g.tar.gz", "h.7z", ".i.png", "_/._j.png")
    path = pack(tmp_path / f"a.{kind}", {**dict.fromkeys(names, PICTURES[0]), "k.png": PICTURES[1]})
    found = search_images(path)
    assert found.images == [path / "k.png"]
    assert found.missed == []
    assert all(name in "\n".join(found.notes) for name in ("etc/a.png", "../b.png", "c/../../d.png", "C:/e.png"))
    assert all(name in "\n".join(found.notes) for name in ("f.zip", "g.tar.gz", "h.7z", ".i.png", "._j.png"))
    assert image_bytes(path / ".i.png") == PICTURES[0]  # asked for
    assert find_images(path / ".i.png") == [path / ".i.png"]


def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (
            ("soft.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        entry = zipfile.ZipInfo("soft.png")
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        packed.writestr(entry, "/etc/passwd")
    with pytest.raises(ImageError, match=r"links and devices .*: .*soft\.png, .*hard\.png, .*pipe\.png"):
        find_images(tmp_path / "a.tar")
    with pytest.raises(ImageError, match=r"links and devices .*soft\.png"):
        find_images(tmp_path / "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_the_last_of_one_name_counts(kind: str, tmp_path: Path) -> None:
    path = pack(tmp_path / f"a.{kind}", {"a.png": PICTURES[1], "./a.png": PICTURES[2], "b.png": PICTURES[3]})
    found = search_images(path)
    assert found.images == [path / "a.png", path / "b.png"]
    assert any("later one of this name" in note for note in found.notes)
    assert image_bytes(path / "a.png") == PICTURES[2]


def with_names(path: Path, old: bytes, new: bytes) -> None:
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize(
    ("raw", "system", "name"),
    [
        ("ä1.png".encode(), 3, "ä1.png"),  # UTF-8 that does not say so
        (b"\x84_1.png", 3, "ä_1.png"),  # cp437, zip's own
        (b"a\\1.png", 0, "a/1.png"),  # from Windows
        (b"a\\1.png", 3, "a\\1.png"),
    ],
)
def test_names_in_zips(raw: bytes, system: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        entry = zipfile.ZipInfo("x" * (len(raw) - 4) + ".png")
        entry.create_system = system
        packed.writestr(entry, PICTURES[1])
    with_names(path, b"x" * (len(raw) - 4) + b".png", raw)
    assert inner(path) == [name]
    assert image_bytes(path / name) == PICTURES[1]


def test_names_that_are_not_utf8_in_tars(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {"x.png": PICTURES[1]}, format=tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    data[0], data[148:156] = 0xE9, f"{sum(data[:148]) + sum(data[156:512]) + 0xE9 - ord('x') + 256:06o}\0 ".encode()
    path.write_bytes(data)
    assert inner(path) == [os.fsdecode(b"\xe9.png")]
    assert read_image(find_images(path)[0]).shape == (8, 9, 3)


def test_packed_by_every_method(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = pack(tmp_path / f"{method}.zip", {"a.png": PICTURES[4]}, compression=method)
        assert image_bytes(path / "a.png") == PICTURES[4]


def test_zips_behind_other_bytes_and_written_as_streams(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise OSError("a pipe")

        tell = seek

    written = Pipe()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", PICTURES[1])
        packed.writestr("b.png", PICTURES[2])
    (tmp_path / "a.zip").write_bytes(b"#!/bin/sh\n" + written.getvalue())
    assert [image_bytes(tmp_path / "a.zip" / name) for name in ("a.png", "b.png")] == PICTURES[1:3]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_tars(form: int, tmp_path: Path) -> None:
    name = "/".join(["folder" * 15] * 4) + "/ä.png"
    path = pack(tmp_path / "a.tgz", {name: PICTURES[1], "b.png": PICTURES[2]}, format=form)
    assert inner(path) == [name, "b.png"]
    assert [image_bytes(image) for image in find_images(path)] == PICTURES[1:3]


def damaged_zip(path: Path, offset: int, value: int) -> Path:
    """A zip whose table says something else of its first entry."""
    pack(path, {"a.png": PICTURES[1], "b.png": PICTURES[2]}, compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    struct.pack_into("<H" if value < 2**16 else "<I", data, data.find(b"PK\1\2") + offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, 1, r"a\.zip/a\.png: cannot be read: it is encrypted"),
        (10, 9, r"a\.zip/a\.png: .*not read: unpack the archive"),  # deflate64
        (10, 77, r"a\.zip/a\.png: .*not read: unpack the archive"),
        (16, 2**31, r"a\.zip/a\.png: .*damaged inside its archive .*CRC"),
        (24, 2**30, r"a\.zip/a\.png: .*unpacks to 1,073,741,824 bytes, over the limit"),
        (24, 2**20, r"a\.zip/a\.png: .*(cut off|damaged)"),  # claims more than there is
        (24, 20, r"a\.zip/a\.png: .*(cut off|damaged)"),  # and less
        (42, 5, r"a\.zip/a\.png: .*damaged inside its archive"),
        (42, 2**31, r"a\.zip: .*cut off|a\.zip/a\.png: .*damaged inside"),
    ],
)
def test_one_image_of_a_zip_may_be_wrong(offset: int, value: int, message: str, tmp_path: Path) -> None:
    path = damaged_zip(tmp_path / "a.zip", offset, value)
    with pytest.raises(ImageError, match=message):
        read_image(path / "a.png")
    assert image_bytes(path / "b.png") == PICTURES[2]


def test_what_is_no_zip(tmp_path: Path) -> None:
    whole = pack(tmp_path / "whole.zip", dict.fromkeys(("a.png", "b.png"), PICTURES[1]))
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:-30])
    (tmp_path / "none.zip").write_bytes(b"no zip")
    for name in ("cut.zip", "none.zip"):
        with pytest.raises(ImageError, match=rf"{name}: cannot be read: it is no zip archive, or is cut off"):
            find_images(tmp_path / name)
    found = search_images([tmp_path / "cut.zip", whole])
    assert found.images == [whole / "a.png", whole / "b.png"]
    assert len(found.missed) == 1
    with pytest.raises(ImageError, match="no zip archive"):
        read_image(tmp_path / "cut.zip/a.png")


def test_tables_and_counts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict.fromkeys(("a.png", "b.png", "c.png"), PICTURES[1])
    monkeypatch.setattr(zip_archive, "MAX_ENTRIES", 2)
    monkeypatch.setattr(tar_archive, "MAX_ENTRIES", 2)
    with pytest.raises(ImageError, match="holds 3 files, over the limit of 2"):
        find_images(pack(tmp_path / "a.zip", files))
    found = search_images(pack(tmp_path / "a.tar", files))
    assert [path.name for path in found.images] == ["a.png", "b.png"]
    assert "more than 2 files" in found.missed[0]
    monkeypatch.setattr(zip_archive, "MAX_TABLE_BYTES", 100)
    with pytest.raises(ImageError, match="claims a table of more than 100 bytes"):
        find_images(pack(tmp_path / "b.zip", files))
    with pytest.raises(OSError, match="more than 4 bytes"):
        BoundedFile(io.BytesIO(b"12345"), 4).read()


def test_bombs_go_off_unheard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1000)
    monkeypatch.setattr(tar_archive, "FREE_BYTES", 20_000)
    monkeypatch.setattr(tar_archive, "MOST_FOLDS", 10)
    files = {"a.png": PICTURES[1], "b.png": bytes(5000), "c.bin": bytes(10**6), "d.png": PICTURES[2]}
    path = pack(tmp_path / "a.tgz", files)
    found = search_images(path)
    assert [image.name for image in found.images] == ["a.png", "b.png"]
    assert "read up to 'c.bin' only: it unpacks to more than" in found.missed[0]
    assert image_bytes(path / "a.png") == PICTURES[1]
    for bomb in (path / "b.png", pack(tmp_path / "a.zip", files, compression=zipfile.ZIP_DEFLATED) / "b.png"):
        with pytest.raises(ImageError, match="unpacks to 5,000 bytes, over the limit of 1,000"):
            read_image(bomb)


def test_a_name_as_long_as_a_bomb(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tgz", {"a.png": PICTURES[1]}, format=tarfile.GNU_FORMAT)
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 2**33
    raw = gzip.decompress(path.read_bytes()).rstrip(b"\0")
    raw += bytes(-len(raw) % 512) + head.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024
    path.write_bytes(gzip.compress(raw))
    found = search_images(path)
    assert [image.name for image in found.images] == ["a.png"]
    assert "claims a table of more than" in found.missed[0]


@pytest.mark.parametrize("kind", ["tar", "tgz", "tar.xz"])  # bz2 loses its block of 900 kB
def test_what_lies_before_the_damage_is_read(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(200_000)
    path = pack(tmp_path / f"a.{kind}", {"a.png": PICTURES[1], "b.bin": noise, "c.png": PICTURES[2]})
    path.write_bytes(path.read_bytes()[:150_000])
    found = search_images(path)
    assert found.images[0] == path / "a.png"
    assert f"a.{kind}: read up to" in found.missed[0]
    if kind != "tar.bz2":  # its blocks are of 900 kB
        assert image_bytes(path / "a.png") == PICTURES[1]


def test_a_header_that_is_none_is_told(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", dict.fromkeys(("a.png", "b.png", "c.png"), PICTURES[1]))
    data = bytearray(path.read_bytes())
    at = data.find(b"b.png")
    data[at : at + 200] = b"\xff" * 200
    path.write_bytes(data)
    found = search_images(path)
    assert found.images == [path / "a.png"]
    assert found.missed == [f"{path}: read up to 'a.png' only: no header is where one should be"]
    (tmp_path / "none.tar").write_bytes(b"no tar" * 1000)
    (tmp_path / "empty.tar").touch()
    for name in ("none.tar", "empty.tar"):
        with pytest.raises(ImageError, match=rf"{name}: cannot be read: it is no tar archive"):
            find_images(tmp_path / name)


def test_names_of_compression_may_be_wrong(tmp_path: Path) -> None:
    for kind, other in (("tgz", "tar"), ("tar", "tgz"), ("tar.xz", "tar.gz")):
        path = pack(tmp_path / f"a.{kind}", {"a.png": PICTURES[1]}).rename(tmp_path / f"x-{kind}.{other}")
        assert image_bytes(path / "a.png") == PICTURES[1]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Archives that an unpacker opened, or began anew."""
    found: list[Path] = []
    plain: Callable[[Path], object] = tar_archive._open

    def counted(path: Path) -> object:
        found.append(path)
        return plain(path)

    monkeypatch.setattr(tar_archive, "_open", counted)
    return found


def test_a_compressed_archive_is_gone_through_once(opened: list[Path], tmp_path: Path) -> None:
    files = {f"{number}.png": PICTURES[number % 6] for number in range(40)}
    path = pack(tmp_path / "a.tgz", files)
    images = find_images(path)
    assert opened == [path]  # for the list
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(image_bytes, images)) == list(files.values())
    assert opened == [path] * 2


def test_images_are_found_in_any_order_with_little_memory(
    opened: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_archive, "MAX_KEPT_BYTES", 300)
    files = {f"{number}.png": PICTURES[number % 6] for number in range(20)}
    path = pack(tmp_path / "a.tgz", files)
    order = np.random.default_rng(0).permutation(20)
    assert all(image_bytes(path / f"{number}.png") == files[f"{number}.png"] for number in order)
    assert len(opened) <= 1 + tar_archive.MAX_CURSORS


def test_an_archive_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tgz", {"a.png": PICTURES[1]})
    assert image_bytes(path / "a.png") == PICTURES[1]
    pack(path, {"b.png": PICTURES[3], "a.png": PICTURES[2]})
    os.utime(path, ns=(1, 1))
    assert image_bytes(path / "a.png") == PICTURES[2]
    with pytest.raises(OSError, match="has changed"):
        Unpacker(path, [(512, 10)]).read(1024)


@settings(max_examples=60)
@given(st.binary(max_size=600), st.sampled_from(["zip", "tar", "tgz"]), st.integers(0, 2000))
def test_no_bytes_bring_it_down(noise: bytes, kind: str, at: int) -> None:
    with tempfile.TemporaryDirectory() as made:
        path = pack(Path(made) / f"a.{kind}", {"a.png": PICTURES[1], "b.png": PICTURES[2]})
        data = path.read_bytes()
        at %= len(data)
        path.write_bytes(data[:at] + noise + data[at + len(noise) :])
        with suppress(ImageError):  # of which it is the only one
            for image in search_images(path).images:
                read_image(image)
