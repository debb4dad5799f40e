"""The page in a real browser: Chromium, headless, driven by Playwright. Skipped where either is missing."""

import json
import shutil
import urllib.request

import pytest

from aero.proxy.guard import Guard
from clear_session import Sessions, tokenizer_file
from served_endpoint import Served

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the page is tested with Playwright: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in Chromium, which is not installed"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
LOADING = 60_000


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    one = Served(Sessions(tokenizer_file(tmp_path_factory.mktemp("tokenizer"))), Guard())
    yield one
    one.close()


@pytest.fixture
def page(served):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(LOADING)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(served.url)
        playwright.expect(page.locator("#model")).to_contain_text("toy", timeout=LOADING)
        yield page
        assert not problems
        browser.close()


def say(page, text, tokens=4):
    page.locator("#settings summary").click()
    page.fill("#max-tokens", str(tokens))
    page.locator("#settings summary").click()
    page.fill("#text", text)
    page.keyboard.press("Enter")


def finished(page):
    playwright.expect(page.locator("#send")).to_be_visible(timeout=LOADING)
    playwright.expect(page.locator(".answer .again")).to_be_visible(timeout=LOADING)


def test_an_answer_comes_with_its_cost_and_what_each_party_saw(page, served):
    say(page, "to")
    finished(page)
    runs = json.loads(urllib.request.urlopen(served.url + "/v1/x_aero/runs").read())["runs"][-4:]
    answer = page.locator(".answer")
    assert answer.locator(".bars rect").count() == 4
    seconds = sum(run["seconds"] for run in runs)
    assert f"4 tokens  {seconds:.2f} s" in answer.locator(".sum").text_content()
    answer.locator(".drawer summary").click()
    theirs = answer.locator(".theirs").inner_text()
    assert f"{runs[0]['tokens_read'][0]} read after 0" in theirs and "to\n" not in theirs
    assert "to" in answer.locator(".mine").inner_text()


def test_history_outlives_a_reload_and_new_begins_anew(page):
    say(page, "be")
    finished(page)
    before = page.locator(".answer .said").text_content()
    page.reload()
    assert page.locator(".message").count() == 2
    assert page.locator(".answer .said").text_content() == before
    page.click("#new")
    assert page.locator(".message").count() == 0 and page.locator("#welcome").is_visible()


def test_an_answer_is_stopped_and_made_again(page, served):
    say(page, "a", tokens=20)
    page.wait_for_selector(".answer .bars rect")
    if page.locator("#stop").is_visible():
        page.click("#stop")
    finished(page)
    page.click(".answer .again")
    finished(page)
    assert page.locator(".answer").count() == 1 and served.batcher.running == 0


def test_text_is_shown_as_text(page):
    say(page, "<b>x</b>", tokens=1)
    finished(page)
    assert page.locator("#messages b").count() == 0
    assert page.locator(".said").first.text_content() == "<b>x</b>"


def test_a_phone_has_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.locator("html").evaluate("page => page.scrollWidth") <= 360
