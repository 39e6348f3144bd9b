"""The page in a real browser: offline, at a glance, by keyboard, on a phone, in a sandboxed frame."""

from __future__ import annotations

import html
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.report.html import render_page

pytestmark = pytest.mark.browser

OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE", "NO_BASELINE", "INVALID")
CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
DESKTOP, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    for program in (CHROMIUM, CHROMEDRIVER):
        if not program.exists():
            pytest.skip(f"{program} is absent; install chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture
def open_page(browser: Any, report_of: Any, tmp_path: Path) -> Any:
    def open_outcome(outcome: str, size: tuple[int, int] = DESKTOP) -> Any:
        path = tmp_path / f"{outcome}.html"
        path.write_text(render_page(report_of(outcome)), encoding="utf-8")
        _resize(browser, size)
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(path.as_uri())
        return browser

    return open_outcome


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_opens_without_errors_and_without_the_network(open_page: Any, outcome: str) -> None:
    browser = open_page(outcome)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if url.startswith("file:")] == [browser.current_url]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_verdict_and_its_reason_are_above_the_fold(open_page: Any, outcome: str, size: Any) -> None:
    browser = open_page(outcome, size)
    for selector in ("h1", ".meaning", ".reasons li"):
        box = _box(browser, selector)
        assert box["height"] > 0
        assert box["top"] >= 0
        assert box["bottom"] <= size[1], selector


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_chart_has_a_name_of_its_own(open_page: Any, outcome: str) -> None:
    browser = open_page(outcome)
    charts = browser.find_elements("css selector", "svg.plot:not([aria-hidden])")
    assert len(charts) >= 4
    names = [chart.accessible_name for chart in charts]
    assert all(len(name) > 20 for name in names), names
    assert len(set(names)) == len(names)
    assert {chart.aria_role for chart in charts} <= {"img", "image"}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_phone_needs_no_sideways_scrolling(open_page: Any, outcome: str) -> None:
    browser = open_page(outcome, PHONE)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= PHONE[0]
    beyond = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, svg') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert beyond == []


def test_arrow_keys_walk_through_a_chart(open_page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = open_page("FAIL")
    chart = browser.find_element("css selector", "svg[data-group=time]")
    _focus_by_keyboard(browser, chart)
    assert _tip(browser).startswith("Warm-up")
    _press(browser, Keys.END)
    assert _tip(browser).startswith("Block 14")
    _press(browser, Keys.ARROW_LEFT)
    tip = _tip(browser)
    assert tip.startswith("Block 13")
    assert "Candidate" in tip
    assert "Baseline" in tip
    crossed = "return [...document.querySelectorAll('svg.asked[data-group=time]')].length"
    assert browser.execute_script(crossed) == 3
    _press(browser, Keys.ESCAPE)
    assert not browser.find_element("id", "tip").is_displayed()


def test_the_pointer_shows_what_it_points_at(open_page: Any) -> None:
    from selenium.webdriver import ActionChains

    browser = open_page("FAIL")
    row = browser.find_element("css selector", ".forest.fail")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
    ActionChains(browser).move_to_element(row).perform()
    tip = _tip(browser)
    assert tip.startswith("Mean")
    assert "+18.1" in tip
    assert _box(browser, "#tip")["right"] <= DESKTOP[0]


def test_every_chart_can_be_reached_by_tab(open_page: Any) -> None:
    browser = open_page("FAIL")
    order = browser.execute_script(
        "return [...document.querySelectorAll('svg.plot:not([aria-hidden])')].map((e) => e.tabIndex)"
    )
    assert set(order) == {0}


def test_a_paragraph_can_be_read_in_light_and_dark(open_page: Any, browser: Any) -> None:
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        for outcome in OUTCOMES:
            open_page(outcome)
            for selector in ("h1", ".meaning", ".lead", ".tile-title", ".muted", ".chip", ".plot .tick"):
                for element in browser.find_elements("css selector", selector)[:1]:
                    assert _contrast(browser, element) >= 4.5, (scheme, outcome, selector)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_works_in_the_sandboxed_frame_of_a_user_interface(
    browser: Any, report_of: Any, tmp_path: Path
) -> None:
    page = html.escape(render_page(report_of("PASS")), quote=True)
    frame = f'<iframe sandbox="allow-scripts" srcdoc="{page}" width="900" height="700"></iframe>'
    path = tmp_path / "frame.html"
    path.write_text(f"<!doctype html><meta charset=utf-8>{frame}", encoding="utf-8")
    _resize(browser, DESKTOP)
    browser.get_log("browser")
    browser.get(path.as_uri())
    browser.switch_to.frame(0)
    try:
        assert browser.find_element("css selector", "h1").text == "Pass"
        _focus_by_keyboard(browser, browser.find_element("css selector", ".forest"))
        assert _tip(browser).startswith("Mean")
    finally:
        browser.switch_to.default_content()
    assert browser.get_log("browser") == []


def test_the_link_carries_the_data(open_page: Any) -> None:
    browser = open_page("PASS")
    decode = "return decodeURIComponent(document.getElementById('data-link').href.split(',', 2).length > 1 ?"
    decode += " document.getElementById('data-link').href.replace(/^[^,]*,/, '') : '')"
    assert json.loads(browser.execute_script(decode))["verdict"]["verdict"] == "PASS"


def _resize(browser: Any, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _box(browser: Any, selector: str) -> dict[str, float]:
    script = "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()"
    box: dict[str, float] = browser.execute_script(script, selector)
    return box


def _tip(browser: Any) -> str:
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed()
    return str(tip.text)


def _focus_by_keyboard(browser: Any, element: Any) -> None:
    """Focus that the browser shows, as after Tab."""
    browser.execute_script("arguments[0].focus({focusVisible: true})", element)


def _press(browser: Any, key: str) -> None:
    browser.switch_to.active_element.send_keys(key)


def _contrast(browser: Any, element: Any) -> float:
    """The contrast ratio of WCAG 2.2 between an element's text and what is painted behind it."""
    script = """
      const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const parse = (text) => text.match(/[\\d.]+/g).map(Number);
      const style = getComputedStyle(arguments[0]);
      const text = parse(arguments[0] instanceof SVGElement ? style.fill : style.color);
      let behind = arguments[0];
      const paint = (element) => getComputedStyle(element).backgroundColor;
      while (behind && /rgba\\(.*, 0\\)/.test(paint(behind))) behind = behind.parentElement;
      const [light, dark] = [luminance(text), luminance(parse(paint(behind)))].sort((a, b) => b - a);
      return (light + 0.05) / (dark + 0.05);
    """
    return float(browser.execute_script(script, element))
