"""The chat project in a real browser: headless Chromium, driven through chromedriver."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait
from tests.examples.chat.site import PASSWORD, Site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,800",
)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed here"),
    pytest.mark.timeout(180),  # a browser takes its time to start on a busy machine
]


class Browser:
    """A Chromium with cookies of its own.

    What it is asked for it waits for, up to 30 seconds.
    """

    def __init__(self, site: Site, profile: Path) -> None:
        assert CHROMIUM is not None
        assert DRIVER is not None, "chromium is here, its chromedriver (chromium-driver) is not"
        options = ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=ChromeService(DRIVER))
        self.site = site
        self._wait = WebDriverWait(self.driver, 30, poll_frequency=0.05)

    def go(self, path: str) -> None:
        self.driver.get(self.site.url + path)

    def find(self, selector: str) -> WebElement:
        found: WebElement = self._wait.until(
            expected.presence_of_element_located((By.CSS_SELECTOR, selector))
        )
        return found

    def wait_for_text(self, selector: str, text: str) -> None:
        self._wait.until(
            expected.text_to_be_present_in_element((By.CSS_SELECTOR, selector), text),
            f"no {text!r} in {selector}",
        )

    def texts(self, selector: str) -> list[str]:
        return [each.text for each in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def fill(self, **fields: str) -> None:
        """Type into the fields of a form, by their names, and press Enter."""
        for name, text in fields.items():
            self.find(f"form [name={name}]").send_keys(text)
        self.find(f"form [name={name}]").send_keys(Keys.ENTER)

    def log_in(self, name: str) -> None:
        self.go("/")
        self.fill(username=name, password=PASSWORD)
        self.wait_for_text(".me", name)

    def enter(self, room: str) -> None:
        self.go(f"/rooms/{room}/")
        self.wait_for_text("#status", "live")

    def complaints(self) -> list[str]:
        """What the browser's console has to say: failed files, errors of scripts."""
        get_log: Any = self.driver.get_log  # without types
        return [entry["message"] for entry in get_log("browser")]


@pytest.fixture
def browsers(site: Site, tmp_path: Path) -> Iterator[list[Browser]]:
    """Two browsers, so that two users can be logged in at once."""
    open_browsers: list[Browser] = []
    try:
        open_browsers.append(Browser(site, tmp_path / "one"))
        open_browsers.append(Browser(site, tmp_path / "two"))
        yield open_browsers
    finally:
        for browser in open_browsers:
            browser.driver.quit()


def test_two_users_talk_in_a_room_and_find_it_all_there_after_a_reload(
    browsers: list[Browser],
) -> None:
    ada, grace = browsers
    ada.log_in("ada")
    grace.log_in("grace")
    ada.fill(name="Browser room")
    ada.wait_for_text("h1", "Browser room")
    ada.enter("browser-room")
    grace.enter("browser-room")

    ada.fill(text="Is anybody <i>here</i>?")
    grace.wait_for_text("#messages li:nth-child(1) .text", "Is anybody <i>here</i>?")
    grace.fill(text="I am.")
    ada.wait_for_text("#messages li:nth-child(2) .text", "I am.")

    for browser in browsers:
        for _ in range(2):
            assert browser.texts("#messages .text") == ["Is anybody <i>here</i>?", "I am."]
            authors = browser.driver.find_elements(By.CSS_SELECTOR, "#messages li")
            assert [each.get_attribute("data-author") for each in authors] == ["ada", "grace"]
            browser.driver.refresh()
            browser.wait_for_text("#status", "live")
    assert ada.texts("#messages li.mine .text") == ["Is anybody <i>here</i>?"]
    assert grace.texts("#messages li.mine .text") == ["I am."]
    assert grace.texts("#messages li:not(.mine) .author") == ["ada"]
    assert ada.complaints() == grace.complaints() == []


def test_a_second_tab_of_one_user_shows_the_same_messages_live(browsers: list[Browser]) -> None:
    ada = browsers[0]
    ada.log_in("ada")
    ada.enter("stage-door")
    first = ada.driver.current_window_handle
    ada.driver.switch_to.new_window("tab")
    ada.enter("stage-door")
    ada.fill(text="from the second tab")
    ada.wait_for_text("#messages li:last-child .text", "from the second tab")
    ada.driver.switch_to.window(first)
    ada.wait_for_text("#messages li:last-child .text", "from the second tab")


def test_the_admin_looks_as_it_should_and_shows_the_messages(browsers: list[Browser]) -> None:
    ada = browsers[0]
    ada.go("/admin/")
    ada.fill(username="ada", password=PASSWORD)
    ada.wait_for_text("#user-tools", "ADA")
    # The colour comes from a style sheet, and from nowhere else.
    header = ada.find("#header").value_of_css_property("background-color")
    assert header not in ("rgba(0, 0, 0, 0)", "rgba(255, 255, 255, 1)")
    ada.go("/admin/chat/message/")
    ada.wait_for_text("#result_list", "Has the show begun yet?")
    assert ada.complaints() == []
