"""The rows behind the figures, and the report as text, JSON and plots."""

import json
import sys

import matplotlib
import numpy as np
import pytest

from tltoolkit.evaluation import Report, count_label_issues, plots

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAMES = ["cat", "dog", "owl"]


def images(i):
    return np.full((8, 6, 3), i, np.uint8)


def small_report(**settings):
    prob = [[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
    settings = {"names": [f"{i}.jpg" for i in range(5)], "image": images, **settings}
    return Report.from_predictions([0, 0, 1, 1, 0], prob, NAMES, **settings)


def several_labels(**settings):
    truth = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    prob = [[0.9, 0.6, 0.2], [0.1, 0.9, 0.1], [0.2, 0.3, 0.4]]
    return Report.from_predictions(truth, prob, NAMES, **settings)


def test_top_losses_are_the_worst_rows_in_order():
    report = small_report()
    rows = report.top_losses(5)
    expected = -np.log([0.9, 0.2, 0.3, 0.8, 0.3])
    np.testing.assert_allclose([r.loss for r in rows], np.sort(expected)[::-1])
    assert [r.row for r in rows] == [1, 2, 4, 3, 0]
    assert (rows[0].name, rows[0].true, rows[0].predicted) == ("1.jpg", "cat", "dog")
    assert rows[0].probability == 0.7
    assert report.row(2) == rows[1]
    with pytest.raises(ValueError, match="`k` must be an integer >= 1"):
        report.top_losses(0)
    with pytest.raises(ValueError, match="`i` must be an integer >= 0 and <= 4"):
        report.row(5)


def test_rows_with_several_labels_read_as_text():
    report = several_labels()
    assert report.row(0).true == "cat + owl"
    assert report.row(0).predicted == "cat + dog"
    assert report.row(2).true == report.row(2).predicted == "none"
    assert report.row(0).name == "row 0"


def test_most_confused_pairs():
    pairs = small_report().most_confused()
    assert [(p.true, p.predicted, p.count) for p in pairs] == [
        ("cat", "dog", 1), ("cat", "owl", 1), ("dog", "cat", 1),
    ]  # fmt: skip
    assert pairs[0].share == pytest.approx(1 / 3)
    assert len(small_report().most_confused(2)) == 2
    (pair,) = several_labels().most_confused()
    assert (pair.true, pair.predicted, pair.count) == ("owl", "dog", 1)


def test_readings_say_it_in_plain_words():
    y = [0] * 10 + [1] * 10 + [2] * 10
    given = [0] * 10 + [1] * 4 + [0] * 6 + [2] * 1 + [0] * 9
    report = Report.from_predictions(y, np.eye(4)[given])
    assert report.readings == (
        "found but mixed with others", "trusted but often missed",
        "trusted but often missed", "no images of this class",
    )  # fmt: skip
    assert Report.from_predictions([0, 1], np.eye(2)).readings[0] == "found and trusted"
    assert Report.from_predictions([0, 1], np.eye(2)[[0, 0]]).readings[1] == "not handled"


def mislabelled(seed=0, n=600):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    prob = rng.dirichlet(np.ones(3) * 0.3, n) + 3 * np.eye(3)[truth]
    given = truth.copy()
    wrong = rng.choice(n, 30, replace=False)
    given[wrong] = (given[wrong] + 1) % 3
    return given, prob / prob.sum(axis=1, keepdims=True), set(wrong.tolist())


def test_label_issues_find_the_labels_that_were_changed():
    given, prob, wrong = mislabelled()
    found = Report.from_predictions(given, prob).label_issues()
    assert len(found) > 0.3 * len(wrong)
    assert {r.row for r in found} <= wrong
    margins = [prob[r.row].max() - prob[r.row, given[r.row]] for r in found]
    assert margins == sorted(margins, reverse=True)
    indicators = np.eye(3, dtype=int)[given]
    several = Report.from_predictions(indicators, prob, multi_label=True).label_issues()
    assert len(several) > 0.3 * len(wrong)
    assert {r.row for r in several} <= wrong


def test_cleanlab_counts_them():
    cleanlab = pytest.importorskip("cleanlab.filter", reason="cleanlab is an extra")
    given, prob, _ = mislabelled()
    report = Report.from_predictions(given, prob)
    theirs = cleanlab.find_label_issues(given, prob, filter_by="confident_learning", n_jobs=1)
    assert {r.row for r in report.label_issues()} == set(np.flatnonzero(theirs))
    assert count_label_issues(report) == theirs.sum()
    with pytest.raises(ValueError, match="one label per row"):
        count_label_issues(several_labels())


def test_missing_extras_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cleanlab.count", None)
    with pytest.raises(ImportError, match=r"pip install 'tltoolkit\[cleanlab\]'"):
        count_label_issues(small_report())
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"pip install 'tltoolkit\[report\]'"):
        small_report().save(tmp_path, page=True)


def test_folds_pool_into_one_report():
    first, second = small_report(), small_report(names=[f"b{i}" for i in range(5)])
    pooled = Report.pooled([first, second])
    np.testing.assert_array_equal(pooled.confusion, first.confusion + second.confusion)
    assert pooled.names[7] == "b2"
    for row in (0, 4, 5, 9):
        np.testing.assert_array_equal(pooled.image(row), images(row % 5))
    assert Report.pooled([first, small_report(image=None)]).image is None
    with pytest.raises(ValueError, match="the same class names and kind"):
        Report.pooled([first, Report.from_predictions([0], [[0.1, 0.9]])])
    with pytest.raises(ValueError, match="at least one report"):
        Report.pooled([])


def test_text_shows_every_class_and_warns_of_small_sets():
    text = str(small_report())
    for word in (*NAMES, "macro mean", "Macro F1", "95% interval", "Small test set"):
        assert word in text
    owl = next(line for line in text.splitlines() if line.startswith("owl")).split()
    assert owl == ["owl", "0.0000", "-", "0.0000", "-", "-", "0"]
    assert repr(small_report()) == "Report(5 images, 3 classes, accuracy 0.4000)"
    assert "-" in str(several_labels())


def test_json_holds_the_figures_and_null_for_the_undefined(tmp_path):
    report = small_report()
    (path,) = report.save(tmp_path / "new" / "folder", page=False)
    saved = json.loads(path.read_text())
    assert saved["scalars"]["accuracy"] == report.accuracy
    assert saved["per_class"]["recall"] == [1 / 3, 0.5, None]
    assert saved["undefined"]["recall[owl]"] == "the class has no images here"
    assert saved["confusion"] == report.confusion.tolist()
    assert saved["intervals"]["f1_macro"] == list(report.interval("f1_macro"))
    assert saved["class_names"] == NAMES
    assert [r["row"] for r in saved["top_losses"]] == [1, 2, 4, 3, 0]
    assert saved == report.to_dict()
    report.save(tmp_path / "new" / "folder", page=False)  # its own files are replaced


def test_names_may_be_anything_a_file_system_allows(tmp_path):
    names = ["\udcff.jpg", "a\nb", "\u732b", '"', "\\"]
    (path,) = small_report(names=names).save(tmp_path, page=False)
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(row["name"] for row in saved["top_losses"]) == sorted(names)


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "report.json").write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match="is not a report"):
        small_report().save(tmp_path)
    assert (tmp_path / "report.json").read_text() == '{"mine": 1}'
    (tmp_path / "report.json").unlink()
    (tmp_path / "report.html").write_text("<p>mine</p>")
    with pytest.raises(FileExistsError, match="is not a report page"):
        small_report().save(tmp_path, page=True)
    assert (tmp_path / "report.html").read_text() == "<p>mine</p>"


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_curves_are_drawn_with_their_areas(ax):
    report = small_report()
    plots.plot_pr(report, ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == f"cat {report.average_precision[0]:.3f}"
    assert labels[-1] == f"mean {report.average_precision_macro:.3f}"
    assert len(labels) == 3  # the owl has no rows
    ax.clear()
    plots.plot_roc(report, ax, classes=["dog"])
    x, y = ax.get_lines()[-1].get_data()
    np.testing.assert_array_equal(x, report.roc_curve("dog").false_positive_rate)
    np.testing.assert_array_equal(y, report.roc_curve("dog").true_positive_rate)


def test_confusion_reliability_and_coverage_show_the_figures(ax):
    report = small_report()
    plots.plot_confusion(report, ax)
    assert [int(t.get_text()) for t in ax.texts] == report.confusion.ravel().tolist()
    assert [t.get_text() for t in ax.get_xticklabels()] == NAMES
    with pytest.raises(ValueError, match="not multi-label"):
        plots.plot_confusion(several_labels(), ax)
    ax.clear()
    plots.plot_confusion(report, ax, normalize=True)
    assert [t.get_text() for t in ax.texts][:3] == ["0.33", "0.33", "0.33"]
    ax.clear()
    plots.plot_reliability(report, ax)
    filled = report.reliability.count > 0
    np.testing.assert_array_equal(
        ax.get_lines()[1].get_ydata(), report.reliability.accuracy[filled]
    )
    ax.clear()
    plots.plot_coverage(report, ax)
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), report.coverage_curve().accuracy)


def test_history_and_class_counts(ax):
    plots.plot_history({"loss": [3, 2], "val_loss": [4, 3]}, ax, "loss")
    assert [list(line.get_ydata()) for line in ax.get_lines()] == [[3, 2], [4, 3]]
    with pytest.raises(ValueError, match="`metric` must be one of loss. Received: metric='x'"):
        plots.plot_history({"loss": [1]}, ax, "x")
    ax.clear()
    plots.plot_class_counts(["$a$", "b"], [3, 9], ax)
    assert [bar.get_width() for bar in ax.patches] == [3, 9]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["$a$", "b"]
    ax.figure.canvas.draw()


def test_gallery_shows_the_worst_errors():
    figure = plt.figure()
    plots.plot_worst(small_report(), figure, k=2, columns=2)
    assert [ax.get_title() for ax in figure.axes] == ["cat\n→ dog 70%", "dog\n→ cat 60%"]
    shown = [ax.images[0].get_array()[0, 0, 0] for ax in figure.axes]
    assert shown == [1, 2]
    with pytest.raises(ValueError, match="a gallery needs images"):
        plots.plot_worst(small_report(image=None), figure)
    plt.close(figure)
