"""What goes into report.html: thumbnails, curves, and nothing that could get out of its place."""

import json
import re

import numpy as np
import pytest

from tltoolkit.evaluation import Abstention, Decision, Report, page_data
from tltoolkit.evaluation.page import fill, json_for_script
from tltoolkit.evaluation.thumbnails import MOST_BYTES, data_uri, embed

HOSTILE = "</script><script>window.hacked = 1</script>"


def image(row):
    return np.full((8, 8, 3), row % 256, np.uint8)


@pytest.fixture
def report():
    rng = np.random.default_rng(0)
    y, prob = rng.integers(0, 3, 300), rng.dirichlet(np.ones(3), 300)
    return Report.from_predictions(y, prob, [HOSTILE, "{{script}}", "owl"], image=image)


def test_thumbnails_are_capped_in_number_and_size():
    assert embed(None, [1, 2]) == {}
    kept = embed(image, range(2000))
    assert list(kept) == list(range(800))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)
    heavy = embed(lambda row: noise, range(2000))
    assert 0 < sum(map(len, heavy.values())) <= MOST_BYTES
    assert len(heavy) < 800
    assert data_uri(np.zeros((4, 4, 3), np.uint8)).startswith("data:image/jpeg;base64,")


def test_nothing_inside_can_leave_its_place(report, tmp_path):
    pytest.importorskip("plotly", reason="report pages are an extra")
    assert fill("{{a}}-{{b}}", {"a": "{{b}}", "b": "x"}) == "{{b}}-x"
    encoded = json_for_script({"</script>": ["<!--", "\u2028", "&", float("nan")]})
    assert not re.search("[<>&\u2028]", encoded)
    assert json.loads(encoded) == {"</script>": ["<!--", "\u2028", "&", None]}
    page = report.save(tmp_path, page=True, title=HOSTILE)[1].read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert page.count("<script") == page.count("</script>")


def test_thinned_curves_keep_their_ends_and_shape(report):
    curve = report.pr_curve(0)
    x, y = page_data._thin(curve.recall, curve.precision)
    assert len(x) <= page_data.CURVE_POINTS
    assert (x[0], x[-1], y[-1]) == (1, 0, 1)
    on_curve = {
        (round(a, 4), round(b, 4)) for a, b in zip(curve.recall, curve.precision, strict=True)
    }
    assert set(zip(x, y, strict=True)) <= on_curve


def test_large_matrices_show_the_classes_with_the_most_errors():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(60), 5)
    given = y.copy()
    wrong = rng.choice(len(y), 30, replace=False)
    given[wrong] = (given[wrong] + 1) % 60
    report = Report.from_predictions(y, np.eye(60)[given])
    data = page_data.page_data(report, "title", None)
    shown = data["grid"]["shown"]
    assert len(shown) == 40
    assert set(y[wrong][:5]) <= set(shown)
    expected = report.confusion[np.ix_(shown, shown)]
    np.testing.assert_array_equal(data["grid"]["counts"], expected)


def test_every_listed_row_is_described(report):
    data = page_data.page_data(report, "title", None)
    rows = {row for cell in data["cells"].values() for row in cell} | set(data["worst"])
    assert set(data["listed"]) == rows
    assert set(data["images"]) == rows
    assert f"Thumbnails of {len(rows)} of 300" in data["thumbnailNote"]


def test_maps_are_asked_for_by_the_rows_of_the_raw_report(tmp_path):
    """Those of the images in the page, of which a decision left some unanswered."""
    rng = np.random.default_rng(0)
    prob = rng.dirichlet(np.ones(3), 60)
    raw = Report.from_predictions(rng.integers(0, 3, 60), prob, image=image)
    answered = raw.decide(
        Decision(abstention=Abstention(threshold=0.6, coverage=0.5, accuracy=0.5))
    )
    asked = []

    def maps(rows):
        asked.extend(rows)
        return np.zeros((len(rows), 4, 4))

    data = page_data.page_data(answered, "t", None, maps=maps)
    assert data["maps"].keys() == data["images"].keys() != set()
    assert asked == [int(answered.answered[row]) for row in data["images"]]
    assert len(asked) < 60


@pytest.mark.parametrize(
    "made",
    [np.zeros((3, 4, 4)), np.zeros(3), np.full((240, 4, 4), 2.0), np.full((240, 4, 4), np.nan)],
    ids=["too few", "no maps", "above 1", "NaN"],
)
def test_maps_of_another_kind_are_refused(report, made, tmp_path):
    def maps(rows):
        return made[: len(rows)]

    with pytest.raises(ValueError, match="`maps` must be a function that gives"):
        report.save(tmp_path, maps=maps)


def test_maps_need_images_and_a_page_to_lie_on(report, tmp_path):
    bare = Report.from_predictions([0, 1], np.eye(2))
    for one, page in ((bare, None), (report, False)):
        with pytest.raises(ValueError, match="`maps` must be left out without a page and images"):
            one.save(tmp_path / "r", maps=lambda rows: np.zeros((len(rows), 4, 4)), page=page)
    assert not (tmp_path / "r").exists()
