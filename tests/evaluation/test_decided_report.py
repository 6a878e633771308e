"""Reports of answers: what a predictor says is what its report scores, the raw figures beside."""

import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn import metrics

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.evaluation import Abstention, Decision, Report, Temperature, Thresholds, compare
from tltoolkit.evaluation.page_data import page_data
from tltoolkit.evaluation.text import SCALARS

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

NAMES = ("dark", "grey", "light")
COUNT = 30


def split(multi_label: bool = False) -> Any:
    """Images the brighter the higher their class; with several labels none is on all of them."""
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 3
    images = rng.integers(0, 60, (COUNT, 12, 18, 3)) + 90 * labels[:, None, None, None]
    images = images.clip(0, 255).astype(np.uint8)
    several = np.stack([labels == 0, labels >= 1, labels == 2], axis=1).astype(np.uint8)
    given = several if multi_label else labels
    return tl.data.from_arrays(images, given, NAMES, val=0).train


def model_of(multi_label: bool = False) -> keras.Model:
    """Ours, its answers right for `split`: the logits rise and fall with the brightness."""
    model = tl.build_classifier(
        class_names=NAMES, weights=None, image_size=32, trunk="block1", multi_label=multi_label
    )
    data = split(multi_label)
    data = tl.data.from_arrays([data.image(i) for i in range(COUNT)], data.labels, NAMES, val=0.3)
    return tl.fine_tune(model, data, "linear_probe", "none", verbose=0).model


@pytest.fixture(scope="module")
def models() -> dict[bool, keras.Model]:
    return {multi_label: model_of(multi_label) for multi_label in (False, True)}


def figures(report: Report) -> dict[str, float]:
    return {name: getattr(report, name) for name in SCALARS}


def answers(predictor: Predictor, of: Any) -> tuple[list[Any], np.ndarray]:
    said = predictor.predict([of.image(i) for i in range(len(of))])
    return [p.label for p in said], np.array([p.abstained for p in said])


def decision(parts: str) -> Decision:
    every = {
        "temperature": Temperature(value=1.7),
        # The largest factor above its threshold wins: nearly always the last.
        "thresholds": Thresholds(values=(1.0, 0.9, 1e-9)),
        "abstention": Abstention(threshold=0.5, coverage=1.0, accuracy=1.0),
    }
    return Decision(**{name: every[name] for name in parts.split()})


@pytest.mark.parametrize(
    "parts", ["thresholds", "temperature", "abstention", "temperature thresholds abstention"]
)
def test_the_figures_are_those_of_the_answers(parts: str, models: dict[bool, keras.Model]) -> None:
    data = split()
    predictor = Predictor(model=models[False], class_names=NAMES, decision=decision(parts))
    report = tl.evaluate(predictor, data)
    labels, abstained = answers(predictor, data)
    given = np.array([NAMES.index(label) for label in labels])[~abstained]
    truth = data.labels[~abstained]
    assert report.accuracy == metrics.accuracy_score(truth, given)
    np.testing.assert_array_equal(
        report.confusion, metrics.confusion_matrix(truth, given, labels=[0, 1, 2])
    )
    found = metrics.precision_recall_fscore_support(
        truth, given, labels=[0, 1, 2], zero_division=np.nan
    )
    np.testing.assert_allclose(report.recall, found[1])
    np.testing.assert_allclose(report.precision, found[0])
    assert report.coverage == (~abstained).mean()
    np.testing.assert_array_equal(report.answered, np.flatnonzero(~abstained))
    assert [report.names[i] for i in range(len(given))] == [data.name(i) for i in report.answered]
    np.testing.assert_array_equal(report.image(1), report.raw.image(int(report.answered[1])))
    assert figures(report.raw) == pytest.approx(
        figures(tl.evaluate(predictor.model, data)), nan_ok=True
    )
    assert report.raw.accuracy == 1.0
    if parts == "thresholds":
        assert round(report.accuracy, 3) == 0.333


def test_a_directory_is_scored_as_its_predictor(models: dict[bool, Any], tmp_path: Path) -> None:
    made = decision("temperature thresholds abstention")
    folder = tl.save(models[False], tmp_path / "m", decision=made)
    predictor = Predictor(model=models[False], class_names=NAMES, decision=made)
    expected = tl.evaluate(predictor, split()).to_dict()
    assert tl.evaluate(folder, split()).to_dict() == expected
    assert tl.evaluate(str(folder), split()).to_dict() == expected


def test_a_predictor_without_a_decision_has_the_raw_report(models: dict[bool, Any]) -> None:
    data = split()
    predictor = Predictor(model=models[False], class_names=NAMES)
    report = tl.evaluate(predictor, data)
    assert report.raw is None
    assert report.coverage == 1.0
    assert report.to_dict()["raw"] is None
    assert str(report) == str(tl.evaluate(models[False], data))


def test_thresholds_for_several_labels(models: dict[bool, keras.Model]) -> None:
    data = split(multi_label=True)
    rule = Thresholds(values=(0.2, 0.999999, 0.5), multi_label=True)
    made = Decision(
        thresholds=rule,
        abstention=Abstention(threshold=0.3, coverage=1, accuracy=1),
        multi_label=True,
    )
    predictor = Predictor(model=models[True], class_names=NAMES, decision=made)
    report = tl.evaluate(predictor, data)
    labels, abstained = answers(predictor, data)
    given = np.array([[name in label for name in NAMES] for label in labels])[~abstained]
    truth = data.labels[~abstained]
    assert 0 < abstained.sum() < COUNT
    assert report.accuracy == metrics.accuracy_score(truth, given)
    assert report.f1_micro == pytest.approx(metrics.f1_score(truth, given, average="micro"))
    np.testing.assert_array_equal(
        report.confusion, metrics.multilabel_confusion_matrix(truth, given)
    )


def test_another_prior_is_scored_as_it_is_answered(models: dict[bool, keras.Model]) -> None:
    data = split()
    predictor = Predictor(model=models[False], class_names=NAMES)
    prior = {"dark": 1 - 2e-12, "grey": 1e-12, "light": 1e-12}
    said = predictor.predict([data.image(i) for i in range(COUNT)], prior=prior)
    report = tl.evaluate(predictor, data, prior=prior)
    labels = [NAMES.index(p.label) for p in said]
    assert report.accuracy == metrics.accuracy_score(data.labels, labels) < 1
    assert tl.evaluate(models[False], data, prior=prior).accuracy == report.accuracy
    assert report.to_dict()["decision"]["prior"]["wanted"] == pytest.approx(list(prior.values()))
    assert "class shares (dark 1, grey 1e-12, light 1e-12)" in str(report)


def test_all_abstained_is_nan_with_words(tmp_path: Path) -> None:
    for labels in ([0, 1, 2, 0], np.eye(3, dtype=int)[[0, 1, 2, 0]]):
        several = np.ndim(labels) == 2
        prob = np.full((4, 3), 0.4 if several else 1 / 3)
        never = Abstention(threshold=1.0, coverage=0.0, accuracy=1.0)
        raw = Report.from_predictions(labels, prob, NAMES, multi_label=several)
        report = raw.decide(Decision(abstention=never, multi_label=several))
        assert report.coverage == 0.0
        assert all(math.isnan(value) for value in figures(report).values())
        assert np.isnan(report.precision).all()
        assert np.isnan(report.roc_auc).all()
        assert all(map(math.isnan, report.interval("f1_macro")))
        assert report.undefined["accuracy"] == "no image was answered"
        assert set(report.undefined) >= {"recall[dark]", "roc_auc_macro", "ece"}
        assert report.notes[-1] == (
            "The classifier abstains from all 4 images: there is no answer to score."
        )
        assert "0 of 4 images answered" in str(report)
        assert report.readings == ("none of its images answered",) * 3
        assert (report.top_losses(3), report.most_confused(), report.label_issues()) == ([], [], [])
        assert math.isnan(report.coverage_curve().area)
        assert np.isnan(report.pr_curve(0).recall).all()
        told = json.loads(report.save(tmp_path / str(several))[0].read_text())
        assert told["scalars"]["accuracy"] is None
        assert told["raw"]["scalars"]["log_loss"] == pytest.approx(raw.log_loss)
        assert (told["asked"], told["coverage"]) == (4, 0.0)
        page = page_data(report, "x", None)
        assert page["rows"] == 0
        assert page["worst"] == []
        with pytest.raises(ValueError, match="no row is left"):
            report.coverage_curve().threshold_for(0.9)


def test_a_class_of_which_nothing_is_answered_is_named() -> None:
    prob = [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.34, 0.33, 0.33], [0.34, 0.32, 0.34]]
    sure = Decision(abstention=Abstention(threshold=0.5, coverage=0.5, accuracy=1.0))
    report = Report.from_predictions([0, 1, 2, 2], prob, NAMES, decision=sure)
    assert report.coverage == 0.5
    assert report.accuracy == 1.0
    assert report.raw.accuracy == 0.5
    assert report.undefined["recall[light]"] == "no image of the class was answered"
    assert report.readings[2] == "none of its images answered"
    assert "Not one image answered: light." in report.notes
    assert not any("No images" in note for note in report.notes)
    assert report.f1_macro == 1.0  # of the classes that have one


def test_the_page_shows_both(tmp_path: Path) -> None:
    prob = [[0.9, 0.1], [0.4, 0.6], [0.45, 0.55]]
    made = Decision(thresholds=Thresholds(values=(0.1, 0.9)))
    report = Report.from_predictions([0, 1, 1], prob, ("no", "yes"), decision=made)
    page = page_data(report, "x", None)
    accuracy = next(row for row in page["scalars"] if row["name"] == "accuracy")
    assert (accuracy["value"], accuracy["raw"]) == (pytest.approx(1 / 3), 1.0)
    assert page["decided"]
    assert page["notes"][0] == "Decided by thresholds (no 0.1, yes 0.9)."
    script = (Path(tl.evaluation.__file__).parent / "page.js").read_text()
    assert "scalar.raw" in script


def test_what_is_chosen_is_chosen_on_raw_figures() -> None:
    prob = np.array([[0.9, 0.1], [0.4, 0.6], [0.45, 0.55]])
    raw = Report.from_predictions([0, 1, 1], prob)
    report = raw.decide(Decision(temperature=Temperature(value=2.0)))
    for choose in (report.fit_temperature, report.tune_thresholds, report.apply):
        with pytest.raises(ValueError, match=r"chosen on the raw report, `report\.raw`"):
            choose()
    with pytest.raises(ValueError, match="`decision` must be given to the raw report"):
        report.decide(Decision())
    with pytest.raises(ValueError, match="`reports` must be raw ones"):
        Report.pooled([report, report])
    with pytest.raises(ValueError, match="`decision` must be one with multi_label=False"):
        raw.decide(Decision(multi_label=True))
    with pytest.raises(ValueError, match=r"`prob` must be of shape \(N, 3\)"):
        raw.decide(Decision(thresholds=Thresholds(values=(0.1, 0.2, 0.3))))


def test_reports_that_answer_other_rows_are_not_compared() -> None:
    prob = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9]])
    raw = Report.from_predictions([0, 0, 0, 1], prob)
    other = Report.from_predictions([0, 0, 0, 1], prob[[1, 0, 2, 3]])
    sure = Decision(abstention=Abstention(threshold=0.7, coverage=0.5, accuracy=1.0))
    a, b = raw.decide(sure), other.decide(sure)
    assert a.labels.tolist() == b.labels.tolist()
    with pytest.raises(ValueError, match="their decisions answer different ones"):
        compare(a, b)
    assert compare(a, raw.decide(sure)).difference == 0.0


def test_a_predictor_of_other_classes_is_refused(models: dict[bool, Any], tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 3))
    own = keras.Model(inputs, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(inputs)))
    turned = Predictor(model=own, class_names=NAMES[::-1])
    with pytest.raises(ValueError, match="`split` must be data with the predictor's classes"):
        tl.evaluate(turned, split())
    several = Predictor(model=own, class_names=NAMES, decision=Decision(multi_label=True))
    with pytest.raises(ValueError, match="data with multi_label=True, as the predictor"):
        tl.evaluate(several, split())
    with pytest.raises(FileNotFoundError, match="no saved classifier"):
        tl.evaluate(tmp_path, split())
    with pytest.raises(ValueError, match="this data set has none here"):
        tl.evaluate(turned, None)
