"""A page in Chromium: the system's, or else one that was downloaded."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, Playwright

from vv_exports_tests.servers.processes import not_here

CHROMIUM = ("chromium", "google-chrome")
WAIT = 30_000
"""Milliseconds, far longer than anything takes here: a busy machine is no finding."""


@contextmanager
def opened(playwright: Playwright) -> Iterator[Page]:
    """A page, closed afterwards with its browser."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), playwright.chromium.executable_path)
    if not Path(found).exists():
        not_here("Chromium", "install your system's package of it, or run `playwright install chromium`")
    # As root, Chromium has no sandbox; nothing but what was started here is opened.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = playwright.chromium.launch(executable_path=found, args=arguments)
    try:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(WAIT)
        yield page
    finally:
        browser.close()
