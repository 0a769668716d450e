"""The page in a headless Chromium, at 1100 and 390 pixels, in light and dark, by mouse and by keyboard."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rubricrm import RubricModel
from rubricrm.generation.result import RubricResult
from served import LONG, Served, serving, wait_until

pytestmark = [pytest.mark.page, pytest.mark.filterwarnings("default")]

PICTURES = Path(__file__).resolve().parents[2] / "build" / "page"
REQUEST = "Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words and end with a question."
CLEAR = (
    "(node) => getComputedStyle(node).outlineStyle !== 'none' && parseFloat(getComputedStyle(node).outlineWidth) >= 2"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("RUBRICRM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium: install it, or set RUBRICRM_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=[(1100, "light"), (1100, "dark"), (390, "light"), (390, "dark")], ids=str)
def page(browser: Any, served: Served, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, at a width and in a color scheme; nothing may be logged, and nothing asked of another host."""
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    logged: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.on("pageerror", lambda error: logged.append(str(error)))
    page.on("request", lambda each: asked.append(each.url))
    page.goto(served.url)
    yield page
    assert logged == []
    assert [url for url in asked if not url.startswith(served.url)] == []
    context.close()


def picture(page: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    scheme = "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    page.screenshot(path=PICTURES / f"{name}-{page.viewport_size['width']}-{scheme}.png", full_page=True)


def clipboard(page: Any) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_a_request_is_typed_and_its_rubric_streams_in(page: Any, demo: RubricModel) -> None:
    picture(page, "empty")
    page.get_by_label("What a user asks").fill(REQUEST)
    page.keyboard.press("Control+Enter")
    page.locator("#criteria li").nth(1).wait_for()
    assert page.get_by_role("button", name="Stop").is_visible()
    picture(page, "writing")
    page.locator("#facts:not([hidden])").wait_for()
    page.wait_for_timeout(400)
    picture(page, "written")
    expected = demo.generate(REQUEST)
    shown = page.locator("#criteria li").all()
    assert [each.locator(".words").inner_text() for each in shown] == [c.text for c in expected.rubric.criteria]
    labels = {"hard_rule": "Hard rule", "principle": "Principle"}
    kinds = [labels[c.kind.value] for c in expected.rubric.criteria if c.kind]
    assert [each.locator(".kind").inner_text() for each in shown] == kinds
    assert page.get_by_role("status").inner_text() == f"{len(kinds)} criteria, complete."
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    page.get_by_role("button", name="Copy text").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert clipboard(page) == expected.text
    page.get_by_role("button", name="Copy JSON").click()
    page.get_by_role("button", name="Copied").nth(1).wait_for()
    assert RubricResult.from_dict(json.loads(clipboard(page))).rubric == expected.rubric


def test_everything_is_reached_by_keyboard_and_seen(page: Any) -> None:
    names = []
    for _ in range(12):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if not focused.count():
            break
        assert focused.evaluate(CLEAR)
        names.append(focused.evaluate("(node) => node.id || node.textContent.trim().slice(0, 12)"))
    assert names[:2] == ["request", "write"]
    assert "Access key" in names
    page.locator(".example").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#request").evaluate("(node) => node === document.activeElement && node.value.length > 0")


def test_what_is_stopped_stops(page: Any, served: Served) -> None:
    page.get_by_label("What a user asks").fill("Write about all colors.")
    page.get_by_role("button", name="Write rubric").click()
    page.locator("#stop:not([hidden])").wait_for()
    page.get_by_role("button", name="Stop").press("Enter")
    page.get_by_text("Stopped.").wait_for()
    wait_until(served.is_idle)
    page.get_by_text("0 of 4 running").wait_for()


def test_a_refusal_is_shown(browser: Any, demo: RubricModel) -> None:
    with serving(demo, max_concurrency=4, api_keys=("secret",)) as guarded:
        page = browser.new_page()
        page.goto(guarded.url)
        page.get_by_label("What a user asks").fill("Write.")
        page.get_by_role("button", name="Write rubric").click()
        page.get_by_text("This server needs a key").wait_for()
        page.locator("#key").fill("secret")
        page.get_by_role("button", name="Write rubric").click()
        page.locator("#facts:not([hidden])").wait_for()
        page.close()


def test_the_queue_is_live(page: Any, served: Served) -> None:
    import httpx2

    with httpx2.Client(base_url=served.url, timeout=60) as client, client.stream("POST", "/v1/rubrics", json=LONG):
        page.get_by_text("1 of 4 running, 0 waiting").wait_for()
        assert page.locator("#slots .on").count() == 1
