"""The page's server: what it answers, and whom it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from browsed import HOSTILE, Client, make_set, written
from typer.testing import CliRunner

from singleshot.browsing import BrowseServer, open_collection, open_server
from singleshot.browsing.decision_book import DecisionBook
from singleshot.browsing.web import PAGE
from singleshot.cli import app
from singleshot.errors import OutputError
from singleshot.images.read import read_image

MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
ODD = "a&b 'c' \"d\" <script>.jpg"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images: Any = [(ODD, [(0, (10, 10, 60, 40)), (1, (50, 5, 110, 70))]), ("b.jpg", []), ("lost.jpg", [])]
    return make_set(tmp_path_factory.mktemp("web") / "set", images, (HOSTILE, "dog"))


@pytest.fixture
def client(root: Path, tmp_path: Path) -> Iterator[Client]:
    collection = open_collection(root)
    server = open_server(collection, DecisionBook(tmp_path / "d.json", collection))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield Client(server)
    server.shutdown()
    server.server_close()


def test_the_page_is_served_and_may_load_nothing_from_elsewhere(client: Client) -> None:
    for place, (_, kind) in PAGE.items():
        answer = client.get(place)
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", answer.body)


def test_no_text_of_the_page_becomes_markup() -> None:
    folder = files("singleshot.browsing") / "page"
    scripts = [folder / name for name, _ in PAGE.values() if name.endswith(".js")]
    assert len(scripts) == 3
    for script in scripts:
        assert not re.search(MARKUP, script.read_text())
    html = (folder / "index.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", html)


def test_questions(client: Client) -> None:
    summary = client.get("ask/summary").json
    assert (summary["images"], summary["objects"], summary["empty"], summary["model"]) == (3, 2, 2, None)
    assert [row["name"] for row in summary["classes"]] == [HOSTILE, "dog"]
    assert client.get("ask/ids?class=1").json == {"ids": [0]}
    item = client.get("ask/items?ids=0,1").json["items"][0]
    assert (item["name"], item["width"], item["height"]) == (f"photos/{ODD}", 120, 80)
    assert item["boxes"][0] == [10, 10, 60, 40, 0, None, -1, 0]
    assert client.get("ask/suspects").json["suspects"] == []


@pytest.mark.parametrize(
    "place",
    [
        *(f"ask/ids?{wrong}" for wrong in ("class=x", "state=odd", "split=9", "colour=red")),
        *(f"ask/items?ids={wrong}" for wrong in ("9", "-1", "1e3", "1," * 200 + "1")),
        "ask/image",
    ],
)
def test_wrong_questions_are_answered_as_such(client: Client, place: str) -> None:
    answer = client.get(place)
    assert answer.status == 400
    assert answer.json["error"]


def test_what_fails_is_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("ask/ids?" + "&".join(f"a{k}=1" for k in range(30))).status == 400
    monkeypatch.setitem(client.server.questions, "state", lambda query: 1 / 0)
    answer = client.get("ask/state")
    assert (answer.status, answer.json) == (500, {"error": "ZeroDivisionError: division by zero"})


def test_pictures_are_made_anew(client: Client, root: Path) -> None:
    whole = client.get("picture/0?large=1")
    assert (whole.status, whole.headers["Content-Type"]) == (200, "image/jpeg")
    assert read_image(whole.body).shape == (80, 120, 3)
    assert read_image(client.get("picture/0?part=10,10,60,40").body).shape == (30, 50, 3)
    for place, status in (("picture/0?part=1,2,3", 400), ("picture/0?part=500,500,600,600", 409), ("picture/9", 404)):
        assert client.get(place).status == status
    (root / "photos" / "lost.jpg").rename(root / "photos" / "lost.tmp")
    try:
        answer = client.get("picture/2")
    finally:
        (root / "photos" / "lost.tmp").rename(root / "photos" / "lost.jpg")
    assert (answer.status, "lost.jpg" in answer.json["error"]) == (409, True)


def test_a_decision_changes_its_file_and_nothing_else(client: Client, root: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    answer = client.decide({"image": 0, "row": 0, "action": "relabel", "to": 1})
    assert answer.status == 200
    assert answer.json["item"]["boxes"][0][4:7] == [0, "relabel", 1]
    assert answer.json["decisions"] == {"drop": 0, "keep": 0, "relabel": 1}
    assert written(tmp_path / "d.json") == [(f"photos/{ODD}", "relabel", "dog")]
    assert client.decide({"image": 0, "row": 0, "action": None}).status == 200
    assert written(tmp_path / "d.json") == []
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["d.json"]


def test_a_decision_that_cannot_be_written_is_an_error(client: Client, tmp_path: Path) -> None:
    (tmp_path / "d.json").mkdir()
    answer = client.decide({"image": 1, "action": "drop"})
    assert (answer.status, "d.json" in answer.json["error"]) == (409, True)
    assert client.get("ask/state").json["decisions"]["drop"] == 0


OTHERS = ["../web.py", "page/../web.py", "%2e%2e/web.py", "ask/decide", "ask/", "picture/x", "decide"]
NO_DECISIONS = [b"", b"[", b"[" * 4000, b"[]", {"image": "x", "action": "drop"}, {"image": 0, "file": "/x"}]
FOREIGN = "https://evil.example"
REFUSED: list[tuple[dict[str, str | None], int]] = [
    ({"Origin": FOREIGN}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": None}, 403),
    ({"Sec_Fetch_Site": "cross-site"}, 403),
    ({"Sec_Fetch_Site": "same-site"}, 403),
    ({"Host": "evil.example:80"}, 421),
    ({"Host": "127.0.0.1"}, 421),
    ({"Content_Type": "text/plain"}, 415),
    ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ({"Content_Length": "5000"}, 413),
    ({"Content_Length": "-1"}, 413),
]


@pytest.mark.parametrize(("headers", "status"), REFUSED)
def test_no_other_site_decides(client: Client, tmp_path: Path, headers: dict[str, str | None], status: int) -> None:
    answer = client.decide({"image": 0, "action": "drop"}, **headers)
    assert answer.status == status
    assert not (tmp_path / "d.json").exists()


def test_no_other_site_reads(client: Client) -> None:
    for headers in ({"Origin": FOREIGN}, {"Sec_Fetch_Site": "cross-site"}, {"Host": "evil.example"}):
        assert client.get("ask/summary", **headers).status in (403, 421)
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert client.get("", **link).status == 200
    assert "Access-Control-Allow-Origin" not in client.get("").headers
    assert client.raw("OPTIONS", client.server.root + "decide", Origin=FOREIGN).status == 501


@pytest.mark.parametrize("path", ["/", "/ask/summary", "/x/ask/summary", "/../etc/passwd", "//"])
def test_nothing_is_told_without_the_secret(client: Client, path: str) -> None:
    assert client.raw("GET", path).status == 404


@pytest.mark.parametrize("place", OTHERS)
def test_no_other_file_is_served(client: Client, place: str) -> None:
    assert client.get(place).status == 404


@pytest.mark.parametrize("body", NO_DECISIONS)
def test_bodies_that_are_no_decision(client: Client, tmp_path: Path, body: object) -> None:
    assert client.decide(body).status == 400
    assert not (tmp_path / "d.json").exists()


def test_a_port_that_is_taken(client: Client, root: Path, tmp_path: Path) -> None:
    collection = open_collection(root)
    with pytest.raises(OutputError, match=r"port \d+ cannot be used"):
        open_server(collection, DecisionBook(tmp_path / "e.json", collection), port=client.server.server_port)


def test_the_verb(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(server: BrowseServer, poll_interval: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BrowseServer, "serve_forever", interrupted)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["browse", str(root), "--no-open"])
    assert done.exit_code == 0, done.output
    assert "3 images, 2 objects; decisions: set-decisions.json" in done.stdout
    assert re.search(r"Page: http://127\.0\.0\.1:\d+/[\w-]{20,}/", done.stdout)
    assert "No decisions." in done.stdout
    assert list(tmp_path.iterdir()) == []
    inside = CliRunner().invoke(app, ["browse", str(root), "--no-open", "--decisions", str(root / "d.json")])
    assert inside.exit_code == 2
