"""report.html in headless Chromium, opened from disk."""

import base64
import io
import time

import numpy as np
import pytest

from tltoolkit.evaluation import Report

pytest.importorskip("plotly", reason="report pages are an extra")
HOSTILE = "<script>window.hacked = 1</script>"
NAMES = ["cat", HOSTILE, "{{script}} & co", "owl"]
RUN = {
    "settings": {"backbone": HOSTILE, "seed": 0},
    "stages": [{"name": "head", "epochs": 2}, {"name": "fine", "epochs": 1}],
    "history": {"loss": [1.0, 0.5, float("nan")], "val_loss": [1.1, 0.7, 0.6]},
}
COSTS = {
    "rows": [
        {
            "name": f"{HOSTILE}.{kind}", "format": kind, "quantize": quantize, "size": 13_900_000,
            "start_s": 0.5 + i, "memory": 2e8, "accuracy": 0.9, "f1_macro": 0.8, "log_loss": 0.3,
            "speeds": [
                {"threads": t, "batch_size": b, "median_ms": 10.0 + i, "p95_ms": 12.0}
                for t in (1, 0) for b in (1, 16)
            ],
        }
        for i, (kind, quantize) in enumerate((("keras", None), ("onnx", None), ("litert", "int8")))
    ],
    "cores": 2, "images": 240,
}  # fmt: skip
NARROW = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}


def colour_of(row):
    return np.array([row % 16 * 16, row // 16 % 16 * 16, 64])


def image(row):
    """A plain colour that tells the row."""
    return np.broadcast_to(colour_of(row), (200, 160, 3)).astype(np.uint8)


def predictions(n=240, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    prob = rng.dirichlet(np.ones(n_classes), n).astype(np.float32)
    prob[np.arange(n), y] += 0.4
    return y, prob / prob.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def report():
    y, prob = predictions()
    names = [f"{HOSTILE}{i}.jpg" for i in range(len(y))]
    return Report.from_predictions(y, prob, NAMES, names=names, image=image)


def go(browser, uri):
    from selenium.webdriver.support.wait import WebDriverWait

    browser.get(uri)
    # On a busy machine the driver may come back before the page's own script has run.
    complete = "return document.readyState === 'complete'"
    WebDriverWait(browser, 60).until(lambda b: b.execute_script(complete))


def visit(browser, report, directory):
    path = report.save(directory, page=True)[1]
    go(browser, path.as_uri())
    return path


@pytest.fixture(scope="module")
def saved(report, tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    return report.save(directory, page=True, title=f"Test {HOSTILE}", run=RUN, benchmark=COSTS)[1]


@pytest.fixture
def page(browser, saved):
    """The page in whatever state the last test left it: loading it takes a second."""
    if browser.current_url != saved.as_uri():
        go(browser, saved.as_uri())
    yield browser
    assert browser.get_log("browser") == []


@pytest.fixture
def fresh(browser, saved):
    go(browser, saved.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def text(browser, selector):
    return browser.execute_script(
        "return document.querySelector(arguments[0]).textContent", selector
    )


def set_slider(browser, step):
    browser.execute_script(
        "const s = document.getElementById('threshold'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input'))",
        step,
    )


def choose_class(browser, c):
    browser.execute_script(
        "const s = document.getElementById('class-choice'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'))",
        c,
    )


def test_names_are_text_and_nothing_else(fresh):
    page = fresh
    assert page.execute_script("return window.hacked") is None
    assert text(page, "h1") == page.title == f"Test {HOSTILE}"
    cells = page.execute_script(
        "return [...document.querySelectorAll('#class-table tbody th')]"
        ".map((cell) => cell.textContent)"
    )
    assert cells == NAMES
    assert HOSTILE in text(page, "#settings")
    assert HOSTILE in text(page, "#gallery")


def test_the_slider_shows_the_counts_of_the_report(page, report):
    for c in (0, 1, 3):
        choose_class(page, c)
        for step in (0, 40, 77, 100, 200):
            set_slider(page, step)
            given, truth = (
                report.probabilities[:, c].astype(float) >= step / 200,
                report.is_class(c),
            )
            expected = {
                "tp": given & truth, "fn": ~given & truth, "fp": given & ~truth,
                "tn": ~given & ~truth,
            }  # fmt: skip
            for key, rows in expected.items():
                assert text(page, f"[data-count={key}]") == str(rows.sum())


def test_the_slider_moves_the_point_on_both_curves(page, report):
    choose_class(page, 2)
    truth = report.is_class(2)
    for step in (60, 90):
        set_slider(page, step)
        given = report.probabilities[:, 2].astype(float) >= step / 200
        recall, precision = given[truth].mean(), truth[given].mean()
        for plot, x, y in (("pr", recall, precision), ("roc", given[~truth].mean(), recall)):
            point = page.execute_script(
                f"const p = document.getElementById('{plot}-plot').data.at(-1);"
                "return [p.x[0], p.y[0]]"
            )
            assert point == pytest.approx([x, y])


def test_the_keyboard_moves_the_slider(page):
    from selenium.webdriver.common.keys import Keys

    set_slider(page, 100)
    slider = page.find_element("id", "threshold")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert text(page, "#threshold-value") == "0.505"


def shown_rows(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('#cell-images figure')]"
        ".map((figure) => [Number(figure.dataset.row), figure.querySelector('img').src])"
    )


def check_cell(browser, report, true, given):
    from PIL import Image

    members = np.flatnonzero((report.labels == true) & (report.rows.predicted == given))
    worst = members[np.argsort(-report.rows.loss[members], kind="stable")]
    shown = shown_rows(browser)
    assert [row for row, _ in shown] == worst[: 4 if true == given else 12].tolist()
    for row, source in shown:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))
        assert pixels.shape == (128, 102, 3)
        np.testing.assert_allclose(pixels[60, 60], colour_of(row), atol=4)
    assert f"{len(members)} image" in text(browser, "#cell-images h3")


def test_a_cell_shows_its_images_on_click(page, report):
    for true, given in ((0, 1), (2, 2), (3, 0)):
        page.find_element("css selector", f"[data-cell='{true},{given}']").click()
        check_cell(page, report, true, given)


def test_cells_work_with_the_keyboard(page, report):
    from selenium.webdriver.common.keys import Keys

    page.execute_script("document.querySelector('[data-cell=\"0,0\"]').focus()")
    for key in (Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ENTER):
        page.switch_to.active_element.send_keys(key)
    check_cell(page, report, 1, 1)
    assert page.switch_to.active_element.get_attribute("tabindex") == "0"


def test_headings_sort_the_table(fresh, report):
    def column():
        return fresh.execute_script(
            "return [...document.querySelectorAll('#class-table td:nth-child(5)')]"
            ".map((cell) => Number(cell.textContent))"
        )

    heading = fresh.find_element("css selector", "#class-table th:nth-child(5) button")
    heading.click()
    assert column() == sorted(np.round(report.f1, 3), reverse=True)
    heading.click()
    assert column() == sorted(np.round(report.f1, 3))


def test_the_gallery_shows_the_worst_errors(page, report):
    rows = page.execute_script(
        "return [...document.querySelectorAll('#gallery figure')].map((f) => Number(f.dataset.row))"
    )
    wrong = [r.row for r in report.top_losses(24) if not report.rows.right[r.row]]
    assert rows == wrong
    assert "128 pixels" in text(page, "#thumbnail-note")


def test_the_run_is_shown(page):
    assert "backbone" in text(page, "#settings")
    assert "fine" in text(page, "#stages")
    values = page.execute_script("return document.getElementById('history-0').data.map((d) => d.y)")
    assert values == [[1.0, 0.5, None], [1.1, 0.7, 0.6]]


def test_narrow_windows_and_dark_mode(page):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", NARROW)
    assert page.execute_script("return document.documentElement.scrollWidth") == 390
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(background)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert page.execute_script(background) != light
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_paper_gets_light_colours_and_plots_that_fit(page):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    background = "return getComputedStyle(document.body).backgroundColor"
    assert page.execute_script(background) == "rgb(255, 255, 255)"
    widths = "return [...document.querySelectorAll('.plot svg')].map((svg) => svg.clientWidth)"
    assert max(page.execute_script(widths)) <= 320
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert max(page.execute_script(widths)) > 400
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def maps(rows):
    """Bright to the right, the brighter the higher the number of the row."""
    ramp = np.linspace(0, 1, 20) * np.ones((25, 1))
    return np.stack([ramp * (row % 4 + 1) / 4 for row in rows])


def shown_maps(browser):
    """Which overlays are seen, and whether each lies exactly on its picture."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.map')].map((map) => { const a ="
        "map.getBoundingClientRect(), b = map.previousSibling.getBoundingClientRect();"
        "return [Number(map.closest('figure').dataset.row), map.src, map.naturalWidth > 0 &&"
        "a.width > 50 && ['x', 'y', 'width', 'height'].every((k) => Math.abs(a[k] - b[k]) < 1)] })"
    )


def test_a_switch_lays_maps_over_the_images(browser, report, tmp_path):
    from PIL import Image
    from selenium.webdriver.common.keys import Keys

    plain = report.save(tmp_path / "plain", page=True)[1].stat().st_size
    path = report.save(tmp_path / "maps", maps=maps)[1]
    rows = len(report.labels)
    assert path.stat().st_size < plain + 1000 * rows
    go(browser, path.as_uri())
    assert not any(seen for *_, seen in shown_maps(browser))
    switches = browser.find_elements("css selector", ".maps-switch input")
    assert len(switches) == 2
    switches[1].send_keys(Keys.SPACE)
    assert [one.is_selected() for one in switches] == [True, True]
    browser.find_element("css selector", "[data-cell='2,2']").click()
    seen = shown_maps(browser)
    assert len(seen) > 24
    assert all(there for *_, there in seen)
    for row, source, _ in seen[:6]:
        image = Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))
        assert image.size == (20, 25)
        cover = np.asarray(image.convert("RGBA"))[..., 3] / 255 / 0.7
        np.testing.assert_allclose(cover, maps([row])[0], atol=1 / 30 + 1 / 255)
    assert violations(browser) == []
    switches[0].send_keys(Keys.SPACE)
    assert not any(seen for *_, seen in shown_maps(browser))
    assert browser.get_log("browser") == []


def test_without_maps_there_is_no_switch(page):
    switches = page.find_elements("css selector", ".maps-switch")
    assert [one.is_displayed() for one in switches] == [False, False]


def test_a_class_without_images_has_no_figures(browser, tmp_path):
    absent = Report.from_predictions([0, 0], [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    visit(browser, absent, tmp_path)
    choose_class(browser, 2)
    for count in ("precision", "recall"):
        assert text(browser, f"[data-count={count}]") == "\u2013"
    assert browser.get_log("browser") == []


def test_a_large_page_is_small_and_quick(browser, tmp_path):
    y, prob = predictions(5000, 100)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (224, 224, 3), dtype=np.uint8)  # the worst a JPEG can meet
    report = Report.from_predictions(y, prob, image=lambda row: np.roll(noise, row, axis=0))
    path = report.save(tmp_path, page=True)[1]
    assert path.stat().st_size < 15_000_000

    def took():
        started = time.perf_counter()
        browser.get(path.as_uri())
        return time.perf_counter() - started

    # Once more where the machine was busy.
    assert took() < 3 or took() < 3
    assert "40 classes with the most errors" in text(browser, "#grid-note")
    assert browser.get_log("browser") == []


RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice", "experimental")


def in_colours(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features if scheme else []})


def violations(browser):
    """What axe-core finds wrong on the page as it stands."""
    axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is missing")
    found = axe.Axe().run(browser, options={"runOnly": {"type": "tag", "values": list(RULES)}})
    assert len(found["passes"]) > 30
    # Of axe's own doing.
    assert all("Canvas2D" in entry["message"] for entry in browser.get_log("browser"))
    return [(v["id"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_and_curves_stand_out(page, scheme):
    in_colours(page, scheme)
    page.refresh()
    found, (curves, paper) = violations(page), drawn_colours(page)
    in_colours(page, None)
    assert found == []
    assert len(curves) > 10
    paper = np.array(paper[:3])
    for (*colour, alpha), opacity in curves:
        share = opacity * alpha / 255
        # What WCAG 2.1 asks of graphics.
        assert contrast(share * np.array(colour) + (1 - share) * paper, paper) >= 3


@pytest.fixture
def narrow(browser):
    """A window in which tables and plots scroll."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", NARROW)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# Reports with parts that the page above lacks.


def test_several_labels_and_no_images(narrow, tmp_path):
    rng = np.random.default_rng(1)
    truth, prob = rng.integers(0, 2, (60, 3)), rng.random((60, 3))
    visit(narrow, Report.from_predictions(truth, prob, ["a", "b", "c"]), tmp_path)
    found = truth[:, 1] & (prob[:, 1] >= 0.5)
    assert text(narrow, "[data-cell='1,0']") == str(found.sum())
    assert "listed by name" in text(narrow, "#thumbnail-note")
    assert narrow.execute_script("return document.getElementById('run').hidden")
    assert narrow.get_log("browser") == []
    assert violations(narrow) == []


def test_two_classes_and_no_errors(narrow, tmp_path):
    visit(narrow, Report.from_predictions([0, 1], np.eye(2)), tmp_path)
    assert text(narrow, "#gallery") == "No errors."
    assert narrow.get_log("browser") == []
    assert violations(narrow) == []


def test_more_classes_than_the_matrix_shows(narrow, tmp_path, monkeypatch):
    # A matrix cut to few classes has all that one cut to forty has, and far fewer cells.
    monkeypatch.setattr("tltoolkit.evaluation.page_data.GRID_CLASSES", 8)
    visit(narrow, Report.from_predictions(*predictions(100, 12)), tmp_path)
    assert "8 classes with the most errors" in text(narrow, "#grid-note")
    assert violations(narrow) == []


def test_every_table_has_a_caption_and_every_row_a_header(page):
    tables = page.execute_script(
        "return [...document.querySelectorAll('table')].map((table) => [table.caption?.textContent,"
        "[...table.tBodies[0].rows].every((row) => row.cells[0].matches('th[scope=row]'))])"
    )
    assert len(tables) == 8
    assert all(caption and headed for caption, headed in tables)
    heading = page.find_element("css selector", "#class-table th:nth-child(2) button")
    heading.click()
    assert (
        page.execute_script("return document.querySelectorAll('#class-table tbody th').length") == 4
    )


def luminance(colour):
    value = np.array(colour) / 255
    value = np.where(value <= 0.03928, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return value @ (0.2126, 0.7152, 0.0722)


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def drawn_colours(page):
    """Colour and opacity of each curve, and the colour of the page."""
    return page.execute_script(
        "const rgb = (text) => { const c = document.createElement('canvas').getContext('2d');"
        "c.fillStyle = text; c.fillRect(0, 0, 1, 1);"
        "return [...c.getImageData(0, 0, 1, 1).data]; };"
        "const traces = [...document.querySelectorAll('.js-plotly-plot')].flatMap((p) => p.data);"
        "return [traces.map((t) => [(t.mode?.includes('lines') ? t.line : t.marker).color,"
        " t.opacity ?? 1]).map(([c, o]) => [rgb(c), o]),"
        " rgb(getComputedStyle(document.body).backgroundColor)]"
    )


def test_the_slider_says_its_threshold_and_nothing_else(page):
    slider = page.find_element("id", "threshold")
    assert slider.accessible_name == "Threshold"
    set_slider(page, 77)
    assert slider.get_attribute("aria-valuetext") == "0.385"
    live = page.execute_script(
        "return [...document.querySelectorAll('[aria-live]:not([aria-live=off]), [role=status]')]"
        ".map((node) => node.id)"
    )
    assert live == ["cell-title"]
    assert (
        page.execute_script(
            "return document.getElementById('threshold-value').getAttribute('aria-live')"
        )
        == "off"
    )


def test_costs_are_a_chart_and_a_table(page):
    assert page.execute_script(
        "return [...document.querySelectorAll('#costs-table tbody tr')].map("
        "(row) => [...row.children].slice(1, 6).map((cell) => cell.textContent))"
    ) == [
        ["keras", "13.9", "0.50", "200", "10.0"],
        ["onnx", "13.9", "1.50", "200", "11.0"],
        ["litert int8", "13.9", "2.50", "200", "12.0"],
    ]
    # Two bars for each file: one thread and all.
    bars = "return document.querySelectorAll('#costs-plot .bars .point').length"
    assert page.execute_script(bars) == 6
    assert "240 images" in text(page, "#costs-note")


def test_a_report_without_costs_has_no_such_section(browser, report, tmp_path):
    visit(browser, report, tmp_path)
    assert browser.execute_script("return document.getElementById('costs').hidden")
    assert "Costs" not in text(browser, "#nav")
