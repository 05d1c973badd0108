"""The report opened as a file by a person: the verdict first, whole on a phone and on paper, and nothing of the data runs."""

import base64
import re

import pytest
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from raysynth.runs import Run


@pytest.fixture
def report(browser: Chrome, published_run: str) -> Chrome:
    evaluation = Run(published_run).folders("evaluation")[0]
    browser.get_log("browser")
    browser.get(f"{evaluation.url}/report.html")
    return browser


def test_the_verdict_comes_first_and_every_score_has_its_ceiling(report: Chrome) -> None:
    main = report.find_element(By.TAG_NAME, "body").text
    assert main.index("gate") < main.index("Scores") < main.index("Columns")
    assert report.find_element(By.CSS_SELECTOR, ".verdict").location["y"] < 200
    assert "column_shapes" in main and "eiling" in main


def test_nothing_of_the_data_runs_and_nothing_is_asked_for(report: Chrome) -> None:
    with pytest.raises(NoAlertPresentException):
        report.switch_to.alert.accept()
    assert "<script>alert(2)</script>" in report.find_element(By.CSS_SELECTOR, ".warnings").text
    assert report.get_log("browser") == []
    assert report.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_no_screen_has_to_be_scrolled_sideways(report: Chrome, width: int) -> None:
    report.set_window_size(width, 900)
    try:
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert report.execute_script(wide) <= 0
        gate = report.find_element(By.CSS_SELECTOR, ".gates code")
        assert gate.size["height"] < 120  # not cut into shreds
    finally:
        report.set_window_size(1280, 900)


def test_paper_has_the_recipe_too(report: Chrome) -> None:
    pdf = base64.b64decode(report.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\\b", pdf)) <= 6
    assert report.find_element(By.CSS_SELECTOR, ".recipe").is_displayed()
