"""Pages as a person meets them: a server of its own, and a real browser that has no internet."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from page_models import FOLDER, HOSTILE, OPEN, OVERLAP, REFUSED, UP

pytest.importorskip("solara", reason="needs the viz extra")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; on Debian: apt-get install chromium")

PATIENCE = 60_000  # milliseconds: a loaded machine is no failure
WATCHED = Path(__file__).parent / "page_models.py"
NO_INTERNET = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")


@contextmanager
def server(folder, *arguments):
    """A server of a page; its address and its process."""
    env = {**os.environ, **NO_INTERNET, FOLDER: str(folder), "PYTHONPATH": str(WATCHED.parent)}
    command = [sys.executable, "-m", "mesa_meanfield.cli", "serve", *arguments, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def url(folder):
    with server(folder, f"{WATCHED}:Watched") as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


class Tab:
    """One tab, by what a person sees of it."""

    def __init__(self, browser, url, width=1280):
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.set_default_timeout(PATIENCE)
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.says("Ready: nothing has happened yet.")

    def says(self, text):
        playwright.expect(self.page.get_by_text(text).first).to_be_visible(timeout=PATIENCE)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def press(self, name):
        self.button(name).click()

    def shows(self, name):
        playwright.expect(self.button(name)).to_be_visible(timeout=PATIENCE)

    def plays_past(self, steps):
        """Wait until a later step is under way; a fast one may never be drawn."""
        later = f"document.querySelector('.mf-status').innerText.match(/^Step (\\d+) is under way/)?.[1] > {steps}"
        self.page.wait_for_function(later, timeout=PATIENCE)

    def step_under_way(self):
        self.plays_past(0)
        return int(re.search(r"\d+", self.page.locator(".mf-status").inner_text())[0])

    def ticks(self):
        """How many are over, once it stands still."""
        status = self.page.locator(".mf-status")
        playwright.expect(status).to_have_text(re.compile(r"^\d+ ticks? over\.$"), timeout=PATIENCE)
        return int(status.inner_text().split()[0])

    def be(self, mood):
        self.page.get_by_label("Mood").fill(mood)
        self.says("Reset makes a model of these.")
        self.press("Reset")
        playwright.expect(self.page.get_by_text("Reset makes a model of these.")).to_have_count(0, timeout=PATIENCE)
        self.says("Ready: nothing has happened yet.")


@pytest.fixture
def tab(browser, url, folder):
    for name in (OPEN, UP, REFUSED):
        (folder / name).unlink(missing_ok=True)
    one = Tab(browser, url)
    yield one
    one.page.close()
    assert one.errors == []
    assert not (folder / OVERLAP).exists()


def test_a_page_needs_nothing_from_the_internet(tab, url):
    tab.says("Shall we?")
    assert tab.asked
    assert [one for one in tab.asked if not one.startswith((url, url.replace("http", "ws"), "data:"))] == []


def test_a_step_shows_curves_posts_and_the_mean_field(tab):
    tab.press("Step")
    tab.says("1 tick over.")
    for voter in range(1, 5):
        tab.says(f"Voter {voter}")
    tab.says("4 decisions so far")
    picture = tab.page.locator(".mf-curves img")
    assert "after tick 1: this run yes " in picture.get_attribute("alt")
    tab.press("Step")
    tab.says("2 ticks over.")
    playwright.expect(picture).to_have_attribute("alt", re.compile("after tick 2: this run yes "), timeout=PATIENCE)


def test_play_goes_on_until_pause_and_step_makes_exactly_one(tab):
    tab.press("Play")
    tab.plays_past(3)
    tab.press("Pause")
    over = tab.ticks()
    assert over >= 3
    tab.press("Step")
    tab.says(f"{over + 1} ticks over.")


def test_a_long_tick_leaves_the_page_usable(tab, folder):
    tab.be("slow")
    tab.press("Step")
    tab.says("1 of 4 decisions made")
    tab.page.get_by_role("tab", name="Post").click()
    tab.page.get_by_role("textbox", name="Account", exact=True).fill("bystander")
    tab.page.get_by_label("The post", exact=True).fill("Heard while others think.")
    tab.press("Post")
    tab.says("(1 waiting)")
    (folder / OPEN).touch()
    tab.says("1 tick over.")
    tab.says("in tick 1: bystander")
    tab.press("Step")
    tab.says("2 ticks over.")
    tab.says("added here")


def test_what_is_being_typed_stays_while_the_model_plays(tab):
    tab.press("Play")
    for label, words in (("What is said", "Stay calm."), ("Who says it", "The mayor"), ("Mood", "plainer")):
        tab.page.get_by_label(label).fill(words)
    tab.plays_past(tab.step_under_way() + 2)
    for label, words in (("What is said", "Stay calm."), ("Who says it", "The mayor"), ("Mood", "plainer")):
        playwright.expect(tab.page.get_by_label(label)).to_have_value(words)
    tab.press("Announce")
    tab.says("The mayor to everybody: Stay calm.")
    tab.press("Pause")
    assert tab.ticks() >= 3


def test_pause_and_play_within_one_tick_leave_one_thread(tab, folder):
    tab.be("slow")
    for name in ("Play", "Pause", "Stop"):
        tab.press(name)
        tab.says({"Stop": "is unfinished"}.get(name, "is under way"))
    tab.press("Play")
    tab.shows("Pause")
    (folder / OPEN).touch()
    tab.plays_past(2)
    tab.press("Pause")
    over = tab.ticks()
    tab.press("Step")
    tab.says(f"{over + 1} ticks over.")


def test_reset_leaves_a_tick_under_way_behind(tab, folder):
    tab.be("slow")
    tab.press("Play")
    tab.says("1 of 4 decisions made")
    tab.be("plain")
    tab.press("Step")
    tab.says("1 tick over.")
    (folder / OPEN).touch()
    tab.press("Step")
    tab.says("2 ticks over.")
    assert tab.ticks() == 2


def test_a_failing_backend_is_told_and_can_be_tried_again(tab, folder):
    tab.be("failing")
    tab.press("Play")
    tab.says("the server is down <b>now</b>")
    before = (folder / REFUSED).stat().st_size
    tab.press("Try again")
    deadline = time.monotonic() + 60
    while (folder / REFUSED).stat().st_size == before and time.monotonic() < deadline:
        time.sleep(0.05)  # what was said before still stands on the page
    tab.says("the server is down <b>now</b>")
    (folder / UP).touch()
    tab.press("Try again")
    tab.says("1 tick over.")
    playwright.expect(tab.page.get_by_text("the server is down")).to_have_count(0, timeout=PATIENCE)
    tab.press("Step")
    tab.says("2 ticks over.")


def test_texts_are_shown_and_never_run(tab):
    tab.be("hostile")
    tab.page.get_by_label("What is said").fill(HOSTILE)
    tab.page.get_by_label("Who says it").fill(HOSTILE)
    tab.press("Announce")
    tab.says("from tick 0: ")
    for _ in range(2):
        tab.press("Step")
        tab.shows("Play")
    tab.says("2 ticks over.")
    for place in (".mf-topic", ".mf-field", ".mf-scroll", ".mf-added"):
        playwright.expect(tab.page.locator(place).first).to_contain_text(HOSTILE, timeout=PATIENCE)
    assert tab.page.evaluate("window.hurt") is None
    assert tab.page.locator("b").count() == 0


def test_the_untouched_twin_is_the_same_until_something_is_added(tab):
    tab.press("Step")
    tab.says("1 tick over.")
    tab.page.get_by_label("What is said").fill("Say no.")
    tab.page.get_by_label("Who says it").fill("The mayor")
    tab.press("Announce")
    tab.says("from tick 1: The mayor to everybody: Say no.")
    tab.press("Step")
    tab.says("2 ticks over.")
    tab.press("Compare with the untouched twin")
    tab.says("The twin is at step 2 of 2.")
    assert tab.page.locator(".mf-warning").count() == 0
    assert "untouched twin yes" in tab.page.locator(".mf-curves img").get_attribute("alt")
    tab.press("Step")
    tab.says("The twin is at step 3 of 3.")
    tab.press("Withdraw")
    tab.says("from tick 1 to tick 2: The mayor")


def test_what_cannot_be_added_is_told(tab):
    tab.press("Announce")
    tab.says("An announcement needs a text and a source.")
    tab.page.get_by_role("tab", name="Post").click()
    tab.page.get_by_role("textbox", name="Account", exact=True).fill("1")
    tab.page.get_by_label("The post", exact=True).fill("I am a voter.")
    tab.press("Post")
    tab.says("'1' is an agent of the model; give the account another name.")


def test_each_tab_has_a_model_of_its_own(tab, browser, url):
    tab.press("Step")
    tab.says("1 tick over.")
    second = Tab(browser, url, width=800)
    second.press("Step")
    second.says("1 tick over.")
    second.press("Step")
    second.says("2 ticks over.")
    second.page.close()
    assert second.errors == []
    assert tab.ticks() == 1


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_a_server_that_is_stopped_in_a_long_tick_leaves_nothing(browser, tmp_path, how, status):
    with server(tmp_path, f"{WATCHED}:Watched") as (url, process):
        tab = Tab(browser, url)
        tab.be("slow")
        tab.press("Play")
        tab.says("1 of 4 decisions made")
        process.send_signal(how)
        assert process.wait(timeout=60) == status
        tab.page.close()
    assert [*tmp_path.iterdir()] == []


def test_a_cascade_has_its_record_beside_it(browser, tmp_path):
    with server(tmp_path, "cascade", "--backend", "scripted") as (url, _):
        tab = Tab(browser, url)
        tab.press("Step")
        tab.says("1 tick over.")
        tab.says("from the record")
        assert "recorded" in tab.page.locator(".mf-curves img").get_attribute("alt")
        tab.page.close()
        assert tab.errors == []
