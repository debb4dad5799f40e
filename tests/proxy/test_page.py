"""The page in a real browser: Chromium, headless, driven by Playwright. Skipped where either is missing."""

import shutil
import threading
import time

import pytest

from aero.mpc.party import Role
from aero.proxy.guard import Guard
from clear_session import InsecureTestEngine, Sessions, tokenizer_file
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
    answer = page.locator(".answer")
    # The session's own records, of both sides: what the endpoint counted, and what the server computed.
    runs = [one.run for one in list(served.batcher.seen)[-4:]]
    theirs = served.sessions.steps[-4:]
    assert [run.steps for run in runs] == theirs
    assert answer.locator(".bars rect").count() == 4
    sent, received, rounds = (
        sum(getattr(run.cost, name) or 0 for run in runs)
        for name in ("bytes_client_to_server", "bytes_server_to_client", "rounds")
    )
    seconds = sum(run.cost.seconds for run in runs)
    total = f"4 tokens  {seconds:.2f} s  {(sent + received) / 1e6:.2f} MB  {rounds} rounds"
    assert answer.locator(".sum").text_content() == total
    answer.locator(".drawer summary").click()
    shown = answer.locator(".theirs").inner_text()
    assert f"{theirs[0][0].length} read after {theirs[0][0].past}, then one more 3 times" in shown
    assert [step.length for (step,) in theirs[1:]] == [1] * 3
    assert f"{sent / 1e6:.2f} MB in {rounds} rounds" in shown and f"{received / 1e6:.2f} MB" in shown
    assert "to\n" not in shown and "to" in answer.locator(".mine").inner_text()


def test_history_outlives_a_reload_and_new_begins_anew(page):
    say(page, "be")
    finished(page)
    before = page.locator(".answer .said").text_content()
    page.reload()
    assert page.locator(".message").count() == 2
    assert page.locator(".answer .said").text_content() == before
    page.click("#new")
    assert page.locator(".message").count() == 0 and page.locator("#welcome").is_visible()


def test_an_answer_is_stopped_and_made_again(page, served, monkeypatch):
    """The session computes as many tokens as the test lets it."""
    let, run_batch = threading.Semaphore(3), InsecureTestEngine.run_batch

    def wait(self, batch):
        assert self.party is not Role.CLIENT or let.acquire(timeout=LOADING / 1e3)
        return run_batch(self, batch)

    monkeypatch.setattr(InsecureTestEngine, "run_batch", wait)
    say(page, "a", tokens=20)
    playwright.expect(page.locator(".answer .bars rect")).to_have_count(3, timeout=LOADING)
    page.click("#stop")
    finished(page)
    for _ in range(600):  # its place is free after the step that runs now
        let.release()
        if not served.batcher.running:
            break
        time.sleep(0.1)
    assert page.locator(".answer .bars rect").count() == 3 and served.batcher.running == 0
    let.release(20)
    page.click(".answer .again")
    playwright.expect(page.locator(".answer .bars rect")).to_have_count(20, timeout=LOADING)
    finished(page)
    assert page.locator(".answer").count() == 1


def test_text_is_shown_as_text(page):
    say(page, "<b>x</b>", tokens=1)
    finished(page)
    assert page.locator("#messages b").count() == 0
    assert page.locator(".said").first.text_content() == "<b>x</b>"


def test_a_phone_has_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.locator("html").evaluate("page => page.scrollWidth") <= 360
