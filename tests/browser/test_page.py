"""A person at the page of a running server: the key, a model's card, conditions, rows, plots, downloads, jobs; in headless Chromium.

conftest.py gives `server`, the URL and the key of one that serves a model with `<script>alert(1)</script>` among the values of a
category and one of texts, and that writes jobs; `browser`; and `downloads`, the folder where that one's downloads come to lie.
"""

import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from selenium.common.exceptions import NoAlertPresentException, NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from raysynth.report import EXPLAINED

SCRIPT = "<script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(3)>"
LONG_SECONDS = 60  # a model may have to be loaded first
JOB_SECONDS = 180


class Page:
    """What a person sees and does. Whatever is waited for has a deadline."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser, self.url = browser, url

    def open(self) -> None:
        """As in a tab of its own."""
        self.browser.get(self.url)
        self.browser.execute_script("sessionStorage.clear()")
        self.browser.refresh()
        self.until(lambda: self["#key"].is_displayed(), "the key is asked for")

    def enter(self, key: str) -> None:
        self.write("#key", key)
        self.click("#key-enter")

    def __getitem__(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self[selector].click()

    def write(self, selector: str, text: object) -> None:
        self[selector].send_keys(Keys.CONTROL, "a")
        self[selector].send_keys(str(text))

    def text(self, selector: str) -> str:
        return self[selector].text

    def until(self, holds: Callable[[], object], what: str, seconds: float = LONG_SECONDS) -> None:
        """The page's own message is part of the failure's."""
        passing = [NoSuchElementException, StaleElementReferenceException]
        wait = WebDriverWait(self.browser, seconds, poll_frequency=0.1, ignored_exceptions=passing)
        wait.until(lambda _: holds(), f"{what}: not after {seconds} s; the page says {self.text('#problem')!r}")

    def condition(self, column: str, value: str) -> None:
        self.click(f'[data-condition="{column}"] summary')
        self.click(f'[data-condition="{column}"] [data-value="{value}"]')

    def show(self, model: str) -> None:
        Select(self["#model"]).select_by_value(model)
        self.until(lambda: model in self.text("#python"), f"{model} is shown")

    def begin(self, column: str, text: str) -> None:
        self.click(f'[data-condition="{column}"] summary')
        self.write(f'[data-starts="{column}"]', text)

    def sample(self, rows: int) -> None:
        self.write("#rows", rows)
        self.click("#sample")
        self.until(lambda: self.text("#sample-facts").startswith(f"{rows:,} row"), f"{rows} rows are shown")

    def start_job(self, rows: int) -> str:
        """Where the new job is in the list."""
        known = {item.get_attribute("data-job") for item in self.all("#jobs [data-job]")}
        self.write("#job-rows", rows)
        self.click("#job-start")
        self.until(lambda: self["#jobs [data-job]"].get_attribute("data-job") not in known, "the job is listed first")
        return f'#jobs [data-job="{self["#jobs [data-job]"].get_attribute("data-job")}"]'

    def table(self) -> list[dict[str, str]]:
        """The rows as they are shown, by column."""
        read = "return [...document.querySelectorAll('#table tr')].map(row => [...row.cells].map(cell => cell.textContent))"
        head, *rows = self.browser.execute_script(read)
        return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.fixture
def door(server: tuple[str, str], browser: Chrome) -> Page:
    """Before the key is entered."""
    page = Page(browser, server[0])
    page.open()
    return page


@pytest.fixture
def page(server: tuple[str, str], door: Page) -> Iterator[Page]:
    """With a model's card. Afterwards, nothing has broken the page's own rules or asked elsewhere."""
    door.browser.get_log("browser")
    door.enter(server[1])
    door.until(lambda: door["#sample"].is_displayed(), "the card is shown")
    yield door
    told = [entry["message"] for entry in door.browser.get_log("browser")]
    assert not [message for message in told if "Content Security Policy" in message or "Uncaught" in message]
    loaded = door.browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(str(name).startswith((door.url, "blob:")) for name in loaded)


def a_category(page: Page) -> tuple[str, str]:
    """A column and its most frequent value."""
    box = page["#conditions textarea"].find_element(By.XPATH, "ancestor::details")
    value = box.find_element(By.CSS_SELECTOR, "[data-value]")
    return str(box.get_attribute("data-condition")), str(value.get_attribute("data-value"))


def landed(folder: Path, name: str) -> Path:
    """The download, once it is whole."""
    deadline = time.monotonic() + LONG_SECONDS
    while not (folder / name).exists():
        assert time.monotonic() < deadline, f"{name} has not come; there are {[file.name for file in folder.iterdir()]}"
        time.sleep(0.1)
    return folder / name


def test_a_wrong_key_is_told_and_asked_for_again(door: Page) -> None:
    door.enter("no-such-key")
    door.until(lambda: door["#problem"].is_displayed(), "the key is refused")
    assert door["#key"].is_displayed() and not door["#work"].is_displayed()
    assert door.browser.execute_script("return sessionStorage.length") == 0


def test_the_key_stays_in_this_tab_until_it_is_forgotten(page: Page, server: tuple[str, str]) -> None:
    page.browser.refresh()
    page.until(lambda: page["#sample"].is_displayed(), "the card is shown without asking for the key again")
    assert server[1] not in page.browser.page_source
    kept = "return Object.values(localStorage).join() + document.cookie + location.href"
    assert server[1] not in page.browser.execute_script(kept)
    page.click("#forget")
    assert page["#key"].is_displayed() and not page["#work"].is_displayed()
    assert page.browser.execute_script("return sessionStorage.length") == 0


def test_a_models_card_says_how_good_its_rows_are(page: Page) -> None:
    model = Select(page["#model"]).first_selected_option.get_attribute("value")
    assert model
    assert page["#verdict"].is_displayed()
    for score, meter in zip(page.all("#card .scores > tbody > tr"), page.all("#card .meter"), strict=True):
        assert score.text
        assert "on a scale from" in str(meter.get_attribute("aria-label"))
    assert model in page.text("#curl") and model in page.text("#python")


def test_scores_are_explained_in_the_words_of_the_report() -> None:
    card = (files("raysynth.serving") / "page" / "card.js").read_text(encoding="utf-8")
    for name, sentence in EXPLAINED.items():
        assert re.search(rf"\b{name}:\s+'{re.escape(sentence)}'", card), f"card.js explains {name} in other words"


def test_rows_that_meet_a_condition_are_shown_as_a_table_and_as_plots(page: Page) -> None:
    column, value = a_category(page)
    page.condition(column, value)
    page.sample(40)
    rows = page.table()
    assert len(rows) == 40
    assert {row[column] for row in rows} == {value}
    assert value in page.text(f'[data-plot="{column}"]')
    assert page.all("#plots svg.plot[aria-label]")


def test_the_same_seed_and_offset_give_the_same_rows(page: Page) -> None:
    page.write("#seed", 11)
    page.sample(30)
    whole = page.table()
    page.write("#offset", 10)
    page.sample(20)
    rows = page.table()
    assert [{**row, "Row": ""} for row in rows] == [{**row, "Row": ""} for row in whole[10:]]


def test_only_the_chosen_columns_are_shown(page: Page) -> None:
    column, _ = a_category(page)
    page.click("#columns summary")
    page.click("#columns-none")
    page.click("#sample")
    page.until(lambda: "column" in page.text("#problem-title"), "a sample without columns is refused")
    page.click(f'[data-column="{column}"]')
    page.sample(5)
    assert list(page.table()[0]) == ["Row", column]


def test_script_in_a_cell_stays_text(page: Page) -> None:
    [box] = page.all(f'[data-value="{SCRIPT}"]')
    column = str(box.find_element(By.XPATH, "ancestor::details").get_attribute("data-condition"))
    page.condition(column, SCRIPT)
    page.sample(20)
    assert {row[column] for row in page.table()} == {SCRIPT}
    assert SCRIPT in page.text(f'[data-plot="{column}"]')
    assert SCRIPT in page.text("#curl")
    assert not page.all("#table script, #plots script, #conditions script, #curl script, #python script")
    with pytest.raises(NoAlertPresentException):
        _ = page.browser.switch_to.alert.text


def test_a_download_has_the_rows_of_the_preview(page: Page, downloads: Path) -> None:
    column, value = a_category(page)
    page.condition(column, value)
    page.sample(25)
    name = f"{Select(page['#model']).first_selected_option.get_attribute('value')}.csv"
    (downloads / name).unlink(missing_ok=True)
    page.click("#download-csv")
    page.until(lambda: "25 rows" in page.text("#status"), "the download is told of")
    with landed(downloads, name).open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    shown = page.table()
    assert ["Row", *head] == list(shown[0])
    assert len(rows) == 25
    assert {row[head.index(column)] for row in rows} == {value}


def test_the_python_call_gives_the_rows_of_the_preview(page: Page, server: tuple[str, str]) -> None:
    column, value = a_category(page)
    page.condition(column, value)
    page.sample(25)
    assert server[1] not in page.text("#python")
    call = f"{page.text('#python')}\nprint(rows.num_rows, set(rows[{column!r}].to_pylist()))"
    done = subprocess.run(
        [sys.executable, "-c", call],
        env={**os.environ, "RAYSYNTH_KEY": server[1]},
        capture_output=True,
        text=True,
        timeout=LONG_SECONDS,
        check=False,
    )
    assert done.stdout.strip() == f"25 { ({value})!r}", done.stderr


def test_what_the_server_refuses_is_told_in_its_words(page: Page) -> None:
    page.write("#rows", 2**50)
    page.click("#download-csv")
    page.until(lambda: "/v1/jobs" in page.text("#problem-detail"), "too many rows are refused")
    page.click("#problem-close")
    assert not page["#problem"].is_displayed()


def test_a_job_runs_to_its_end_and_names_its_files(page: Page) -> None:
    job = page.start_job(1234)
    page.until(lambda: page.text(f"{job} [data-job-status]") in ("completed", "failed"), "the job ends", JOB_SECONDS)
    assert page.text(f"{job} [data-job-status]") == "completed", page.text(job)
    assert "1,234 of 1,234 rows" in page.text(job)
    page.click(f'{job} [data-action="files"]')
    page.until(lambda: page.all(f"{job} .files tbody tr"), "the files are named")
    assert ".parquet" in page.text(f"{job} .files")
    page.click("#jobs-refresh")
    page.until(lambda: page.all(job) and page.text(f"{job} [data-job-status]") == "completed", "it is listed again")


def test_a_job_can_be_cancelled(page: Page) -> None:
    job = page.start_job(2_000_000)
    page.click(f'{job} [data-action="cancel"]')
    page.until(lambda: page.text(f"{job} [data-job-status]") == "cancelled", "the job is cancelled")


def test_texts_begin_as_asked_and_stay_texts_whatever_they_say(page: Page) -> None:
    page.show("tales")
    prompt = f"{IMAGE} fox"
    page.begin("tale", prompt)
    assert page.text('[data-condition="tale"] .told').startswith("<img src=x")
    page.condition("tongue", "en")
    page.sample(20)
    rows = page.table()
    assert len(rows) == 20
    assert all(row["tale"].startswith(prompt) and row["tongue"] == "en" for row in rows)
    assert not page.all("#table img, #table script, #conditions img, #curl img, #python img")
    with pytest.raises(NoAlertPresentException):
        _ = page.browser.switch_to.alert.text


def test_texts_are_wrapped_and_shown_in_their_own_language_and_direction(page: Page) -> None:
    page.show("tales")
    page.write("#seed", 3)
    for rows, prompt, direction in ((5, "从前有一只狐狸", "ltr"), (6, "كان يا ما كان", "rtl")):
        page.click("#clear-conditions")
        page.begin("tale", prompt)
        page.sample(rows)
        cells = page.all("#table td:nth-child(3) .text")
        assert len(cells) == rows and all(cell.text.startswith(prompt) for cell in cells)
        tongues = ["zh" if re.search("[\u4e00-\u9fff]", cell.text) else "" for cell in cells]
        assert [str(cell.get_attribute("lang")) for cell in cells] == tongues
        style = page.browser.execute_script(
            "const {direction, whiteSpace} = getComputedStyle(arguments[0]); return [direction, whiteSpace]", cells[0]
        )
        assert style == [direction, "pre-wrap"]
    longest = "return Math.max(...[...document.querySelectorAll('#table .text')].map(cell => cell.offsetWidth))"
    assert page.browser.execute_script(longest) <= 700


def test_the_python_call_of_a_prompt_gives_the_texts_of_the_preview(page: Page, server: tuple[str, str]) -> None:
    page.show("tales")
    page.begin("tale", 'once "upon" 从前')
    page.sample(6)
    call = f"{page.text('#python')}\nprint(rows['tale'].to_pylist())"
    environment = {**os.environ, "RAYSYNTH_KEY": server[1]}
    done = subprocess.run(
        [sys.executable, "-c", call], env=environment, capture_output=True, text=True, timeout=LONG_SECONDS, check=False
    )
    assert done.stdout.strip() == repr([row["tale"] for row in page.table()]), done.stderr


def test_a_beginning_that_is_too_long_is_refused_in_the_servers_words(page: Page) -> None:
    page.show("tales")
    page.begin("tale", "once upon a time " * 30)
    page.click("#sample")
    page.until(lambda: "where.tale: starts has" in page.text("#problem-detail"), "the prompt is refused")


def test_pictures_are_shown_with_a_text_for_who_does_not_see_them(page: Page) -> None:
    page.show("blots")
    page.condition("shape", "ring")
    page.write("#rows", 150)
    page.click("#sample")
    page.until(lambda: "The first 100 of 150 rows" in page.text("#sample-facts"), "100 rows are shown")
    pictures = page.all("#table img")
    assert len(pictures) == 100
    page.until(lambda: page.browser.execute_script("return arguments[0].complete", pictures[0]), "the first picture is there")
    assert page.browser.execute_script("return [arguments[0].naturalWidth, arguments[0].loading]", pictures[0]) == [12, "lazy"]
    assert re.fullmatch(r"photo: PNG, [0-9]+ B", str(pictures[0].get_attribute("alt")))
    assert "photo" in page.text("#plots-note") and not page.all("[data-plot=photo]")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("model", ["shop", "tales", "blots"])
def test_nothing_is_wider_than_the_screen(page: Page, width: int, model: str) -> None:
    page.show(model)
    page.sample(10)
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name(page: Page) -> None:
    unnamed = """return [...document.querySelectorAll('button, input, select, textarea, [role=region]')]
        .filter(node => !node.labels?.length && !node.ariaLabel && !node.getAttribute('aria-labelledby') && !node.textContent.trim())
        .map(node => node.outerHTML)"""
    assert page.browser.execute_script(unnamed) == []
