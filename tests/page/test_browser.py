"""The pages of a run and of an audit, looked at in a real browser: filters, paper, phone, access.

Skipped where Chromium and its driver are not installed.
"""

import itertools
import shutil
from unittest import mock

import numpy as np
import pytest
from run_folder import make_run

from flipjax.audit.__main__ import main as audit
from flipjax.page import charts
from flipjax.report.page import build_report
from page.test_colours import contrast

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
webdriver = pytest.importorskip("selenium.webdriver", reason="the browser tests need selenium")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="the browser tests need chromium and chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
PAPER = 703  # CSS pixels between the margins of an A4 page.
SETTINGS = [{"rho": rho, "seed": 0, "method": method} for method in ("ce", "dro") for rho in (0.5, 0.9)]
TEXTS = """
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (node) => { for (; node; node = node.parentElement) {
  const found = colour(getComputedStyle(node).backgroundColor);
  if (found.length < 4 || found[3] > 0) return found; }
  return [255, 255, 255]; };
return [...document.querySelectorAll("body *:not(svg *, script)")]
  .filter((node) => [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()))
  .map((node) => [colour(getComputedStyle(node).color), ground(node), node.outerHTML.slice(0, 200)]);
"""
"""JavaScript that returns the colour, background and HTML of each text."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    classes = ("background", "<b>bold", "long" * 50)
    make_run(folder, SETTINGS, classes=classes, config={"name": "a <run>", "command": "x" * 200})
    # A row of panels of each chart, and no PNG file.
    with mock.patch.multiple(charts, PANELS=3, FigureCanvasAgg=mock.MagicMock()):
        build_report(folder)
    return folder


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, (12, 8, 10)).astype(np.uint8)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "logits.npy", generator.normal(size=(12, 8, 10, 4)).astype(np.float32))
    options = ["--logits", folder / "logits.npy", "--labels", folder / "labels.npy", "--out", folder / "out"]
    assert audit([*map(str, options), "--class_names", "cat,dog,<i>"]) == 0
    return folder / "out"


@pytest.fixture(params=["run", "audit"])
def page(request, run, audited):
    return {"run": run / "report" / "index.html", "audit": audited / "index.html"}[request.param]


def show(browser, page, *, width=1280, dark=False, media="screen"):
    from selenium.webdriver.support.wait import WebDriverWait

    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
    browser.get_log("browser")
    # A page that is shown already would be reloaded, and a busy machine then answers from half of it.
    browser.get("about:blank")
    browser.get(page.as_uri())
    whole = "return document.readyState === 'complete' && location.href === arguments[0]"
    WebDriverWait(browser, 60).until(lambda browser: browser.execute_script(whole, page.as_uri()))


def select(browser, field, value):
    script = """
    const field = document.querySelector(arguments[0]);
    field.value = arguments[1]; field.dispatchEvent(new Event("input", {bubbles: true}));"""
    browser.execute_script(script, field, value)


def visible_items(browser):
    script = "return [...document.querySelectorAll('.item')].filter((n) => !n.hidden).map((n) => ({...n.dataset}))"
    return browser.execute_script(script)


def test_nothing_fails_and_nothing_loads_from_outside(browser, page, tmp_path):
    alone = tmp_path / "alone.html"
    alone.write_bytes(page.read_bytes())
    show(browser, alone)
    assert browser.get_log("browser") == []
    loads = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in loads if not name.startswith("data:")] == []
    broken = "return [...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert browser.execute_script(broken) == 0


def test_filters_show_what_they_say(browser, run):
    show(browser, run / "report" / "index.html")
    everything = visible_items(browser)
    for name in ("member", "group", "kind"):
        value = everything[-1][name]
        select(browser, f"form [name={name}]", value)
        assert visible_items(browser) == [item for item in everything if item[name] == value]
        select(browser, f"form [name={name}]", "")
    select(browser, "[name=risk]", "0.5")
    assert 0 < len(visible_items(browser)) < len(everything)
    assert all(float(item["risk"]) >= 0.5 for item in visible_items(browser))
    select(browser, "[name=risk]", "0")
    select(browser, "[name=order]", "flip")
    flips = [float(item["flip"]) for item in visible_items(browser)]
    assert flips == sorted(flips, reverse=True)
    select(browser, "[type=search]", "rho=0.5_seed=0_method=dro")
    rows = "return document.querySelectorAll('[data-search] + .scroll tbody tr:not([hidden])').length"
    assert browser.execute_script(rows) == 1


def test_a_phone_scrolls_one_way_and_paper_keeps_all_columns(browser, page):
    show(browser, page, width=390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    show(browser, page, width=PAPER, media="print")
    script = """
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    return [...document.querySelectorAll("th, td, img")].map((n) => Math.ceil(n.getBoundingClientRect().right))"""
    assert max(browser.execute_script(script)) <= PAPER + 1


def test_paper_shows_what_is_folded_without_a_script(browser, page):
    # No beforeprint is sent, so the page's script opens nothing.
    show(browser, page, width=PAPER, media="print")
    script = """
    return [...document.querySelectorAll("details:not([open]) > :not(summary, .filters)")]
      .map((node) => node.getBoundingClientRect().height)"""
    heights = browser.execute_script(script)
    assert heights and min(heights) > 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_can_be_read(browser, page, dark):
    show(browser, page, dark=dark)
    texts = {(*ink[:3], *ground[:3]): where for ink, ground, where in browser.execute_script(TEXTS)}
    ratios = {where: contrast(np.divide(ends[:3], 255), np.divide(ends[3:], 255)) for ends, where in texts.items()}
    assert len(ratios) > 1 and min(ratios.values()) >= 4.5, min(ratios, key=ratios.get)


def test_the_page_can_be_heard_and_used_without_a_mouse(browser, page):
    show(browser, page)
    levels = "return [...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))"
    levels = browser.execute_script(levels)
    assert levels[0] == levels.count(1) == 1
    assert all(later - before <= 1 for before, later in itertools.pairwise(levels))
    charts = browser.execute_script("return [...document.querySelectorAll('img.chart')].map((chart) => chart.alt)")
    assert charts and all(any(letter.isdigit() for letter in text) for text in charts)
    none = """return document.querySelectorAll('th:not([scope]), img:not([alt]), img[alt=""]').length
      + [...document.querySelectorAll('select, input')].filter((field) => !field.labels.length).length"""
    assert browser.execute_script(none) == 0
    # What scrolls can be reached.
    stuck = """return [...document.querySelectorAll("*")].filter((n) => n.scrollWidth > n.clientWidth + 1
      && getComputedStyle(n).overflowX === "auto" && n.tabIndex < 0).length"""
    assert browser.execute_script(stuck) == 0
