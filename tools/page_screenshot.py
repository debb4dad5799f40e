"""docs/figures/proxy-page.png: the chat page, in Chromium, with an answer and what each party saw.

make demo-web &
pip install playwright && python tools/page_screenshot.py http://127.0.0.1:8000 docs/figures/proxy-page.png
"""

from __future__ import annotations

import shutil
import sys

from playwright.sync_api import sync_playwright

PROMPT = "def read_lines(path):\n    with open("
TOKENS = 24


def main(url: str, out: str) -> None:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 760})
        page.goto(url)
        page.locator("#settings summary").click()
        page.fill("#max-tokens", str(TOKENS))
        page.locator("#settings summary").click()
        page.fill("#text", PROMPT)
        page.keyboard.press("Enter")
        page.locator(".answer .again").wait_for(timeout=300_000)
        page.locator(".answer .drawer summary").click()
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
