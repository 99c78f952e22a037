"""The service's page in a real browser: `make browser` installs what this needs, elsewhere it skips."""

from __future__ import annotations

import json
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import uvicorn
from chromium import Opened, Page

import singleshot
from singleshot.images.read import read_image
from singleshot.serving import ServeOptions, create_app

HOSTILE = '<img src=x onerror="document.title=`hacked`">&amp;.png'


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A service of the two bundled detectors."""
    app = create_app({"coco": "coco", "coco-v3": "coco-v3"}, ServeOptions(score=0.4, backend="torch"))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(open_page: Opened, address: str) -> Iterator[Page]:
    """The page, fresh."""
    with open_page(address, permissions=["camera"]) as opened:
        opened.wait_for_selector("#model option", state="attached")
        yield opened


def asked(page: Page) -> list[str]:
    """The addresses that are asked for detections from now on."""
    addresses: list[str] = []
    page.on("request", lambda request: "/detect" in request.url and addresses.append(request.url))
    return addresses


def take_sample(page: Page, title: str = "A table") -> None:
    page.get_by_role("button", name=title).click()
    page.wait_for_selector("#found button")


def set_slider(page: Page, name: str, value: float) -> None:
    page.locator(f"#{name}").fill(str(value))
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def listed(page: Page) -> list[tuple[str, float]]:
    """Class and score of each detection in the list."""
    rows = page.locator("#found li:has(button)")
    cells = "rows => rows.map(row => [...row.querySelectorAll('.name, .number')].map(cell => cell.textContent))"
    texts = rows.evaluate_all(cells)
    return [(name, float(score)) for name, score in texts]


def png(path: Path, image: np.ndarray) -> Path:
    path.write_bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
    return path


def test_sliders_show_what_predict_gives_without_asking_again(page: Page, tmp_path: Path) -> None:
    addresses = asked(page)
    take_sample(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Picture", exact=True).click()
    sample = tmp_path / "sample.jpg"
    code = "import('/page/state.js').then(({ state }) => state.current.blob.arrayBuffer())"
    posted = page.evaluate(f"{code}.then((buffer) => [...new Uint8Array(buffer)])")
    sample.write_bytes(bytes(posted))
    assert len(addresses) == 1
    detector = singleshot.load("coco")
    for score, iou in ((0.4, 0.6), (0.1, 0.6), (0.1, 0.2), (0.06, 1.0)):
        set_slider(page, "score", score)
        set_slider(page, "overlap", iou)
        ours = detector.predict(sample, score=score, nms_iou=iou, backend="torch")
        assert listed(page) == [(name, round(float(at), 2)) for name, at in zip(ours.names, ours.scores, strict=True)]
    assert len(addresses) == 1
    drawn = read_image(waiting.value.path())
    assert drawn.shape == read_image(sample).shape
    assert waiting.value.suggested_filename == "table_boxes.jpg"


def test_classes_and_downloads(page: Page, tmp_path: Path) -> None:
    take_sample(page)
    before = listed(page)
    page.locator("#classes li", has_text="clock").get_by_role("checkbox").uncheck()
    shown = [row for row in before if row[0] != "clock"]
    page.wait_for_function("count => document.querySelectorAll('#found button').length === count", arg=len(shown))
    assert listed(page) == shown
    with page.expect_download() as waiting:
        page.get_by_role("button", name="JSON").click()
    document = json.loads(waiting.value.path().read_text())
    rows = document["results"][0]["detections"]
    assert [(row["class_name"], round(row["score"], 2)) for row in rows] == shown
    assert document["settings"]["hidden_classes"] == ["clock"]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Crops").click()
    with zipfile.ZipFile(waiting.value.path()) as archive:
        assert archive.testzip() is None
        first = cv2.imdecode(np.frombuffer(archive.read(archive.namelist()[0]), np.uint8), cv2.IMREAD_COLOR)
        assert len(archive.namelist()) == len(shown)
    x1, y1, x2, y2 = rows[0]["box_xyxy"]
    assert first.shape[:2] == (int(np.ceil(y2)) - int(y1), int(np.ceil(x2)) - int(x1))
    page.get_by_role("button", name="None", exact=True).click()
    page.wait_for_selector("#found button", state="detached")


def test_two_models_stand_side_by_side(page: Page) -> None:
    addresses = asked(page)
    take_sample(page)
    page.select_option("#second", "coco-v3")
    page.wait_for_function("() => /detection/.test(document.querySelectorAll('figcaption')[1]?.textContent)")
    assert page.locator("#panes figure").count() == 2
    assert [re.search("model=([^&]+)", url)[1] for url in addresses] == ["coco", "coco-v3"]
    page.get_by_role("button", name="Zoom in").click()
    widths = page.locator(".viewport img").evaluate_all("images => images.map(image => image.style.width)")
    assert widths[0] == widths[1]
    assert page.locator("#zoom").text_content() == "150 %"


def test_a_hostile_name_is_text(page: Page, tmp_path: Path) -> None:
    picture = png(tmp_path / "a.png", np.full((60, 80, 3), 90, np.uint8)).read_bytes()
    page.set_input_files("#files", [{"name": HOSTILE, "mimeType": "image/png", "buffer": picture}])
    page.wait_for_selector("#thumbnails [data-state=done]")
    assert page.title() == "singleshot"
    assert page.locator("#thumbnails button").get_attribute("title") == HOSTILE
    assert page.locator("img[src=x]").count() == 0


def test_what_is_no_picture_is_said(page: Page) -> None:
    page.set_input_files("#files", [{"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}])
    page.wait_for_selector("figcaption .error")
    assert page.locator("figcaption .error").text_content()
    assert page.get_by_role("button", name="Try again").count() == 0


def test_a_busy_service_is_asked_again(page: Page) -> None:
    answers = [(503, {"Retry-After": "1"}), (504, {})]

    def refuse(route: Any) -> None:
        if not answers:
            return route.continue_()
        code, headers = answers.pop(0)
        return route.fulfill(status=code, headers=headers, json={"error": {"code": code, "message": "no"}})

    page.route("**/detect*", refuse)
    page.get_by_role("button", name="A table").click()
    page.wait_for_selector("figcaption .error")
    assert "in time" in page.locator("figcaption .error").text_content()
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#found button")


def test_a_token_is_asked_for(page: Page) -> None:
    def check(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            return route.continue_()
        return route.fulfill(status=401, json={"error": {"code": 401, "message": "a token is needed"}})

    page.route("**/models", check)
    page.reload()
    page.get_by_label("asks for a token").fill("secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#token-form").is_hidden()


def test_a_photo_of_30_megapixels(page: Page, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 6000, dtype=np.float32)[None, :, None]
    image = np.broadcast_to(ramp, (5000, 6000, 3)).astype(np.uint8)
    photo = tmp_path / "large.jpg"
    photo.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    page.set_input_files("#files", photo)
    page.wait_for_selector("#thumbnails [data-state=done]")
    assert page.locator(".viewport img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [6000, 5000]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Picture", exact=True).click()
    assert read_image(waiting.value.path()).shape == (5000, 6000, 3)


def test_the_camera(page: Page) -> None:
    addresses = asked(page)
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("() => document.querySelector('.viewport video')?.videoWidth > 0")
    while len(addresses) < 3:
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Take picture").click()
    page.wait_for_selector("#thumbnails [data-state=done]")
    assert page.locator("video").count() == 0
    count = len(addresses)
    page.wait_for_timeout(500)
    assert len(addresses) == count


def test_the_keyboard_is_enough(page: Page) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"no {selector} among the stops of the Tab key")

    tab_to(".sample")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found button")
    tab_to(".viewport")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    assert page.locator("#zoom").text_content() == "130 %"
    page.keyboard.press("0")
    assert page.locator("#zoom").text_content() == "100 %"
    tab_to("#score")
    before = page.locator("#score-value").text_content()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => document.querySelector('#score-value').textContent !== before", arg=before)
    tab_to("#classes input")
    page.keyboard.press("Space")
    assert not page.locator("#classes input").first.is_checked()
    tab_to("#found button")
    assert page.locator("#found .chosen").count() == 1
    page.wait_for_function("() => /detection/.test(document.querySelector('#status').textContent)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_and_both_themes(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    take_sample(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (np.array(re.findall(r"\d+", background)[:3], int) < 128).all() == (scheme == "dark")
    small = page.locator("button:visible:not(.link), select:visible").evaluate_all(
        "all => all.filter(one => one.getBoundingClientRect().height < 40).map(one => one.outerHTML)"
    )
    assert small == []


def test_access(page: Page, check_access: Callable[[Page], None]) -> None:
    check_access(page)
    take_sample(page)
    check_access(page)
