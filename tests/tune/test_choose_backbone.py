"""Which backbone, by a short climb: what is compared, on which images, within which time."""

from typing import Any

import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.evaluation import Report
from tltoolkit.tune import choosing

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE = 32


def data(count: int = 120, **options: Any) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 150, (count, SIZE, SIZE, 3)) + 40 * labels[:, None, None, None]
    return tl.data.from_arrays(noise.astype(np.uint8), labels, **{"val": 0.5, **options})


class Script:
    """Backbones that get these shares of the images right and take so many seconds each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rights: list[float], seconds: float):
        self.rights, self.trained, self.seen = rights, [], []
        self.now = 0.0

        class Model:
            def count_params(self) -> int:
                return 1

        class Run:
            model = Model()

        def train(name: str, data: Any, plan: str, **_: object) -> Run:
            self.trained.append(name)
            self.seen.append(data)
            self.now += seconds
            return Run()

        def evaluate(model: Any, split: Any) -> Report:
            share = self.rights[len(self.trained) - 1]
            wrong = np.random.default_rng(7).permutation(len(split)) >= share * len(split)
            said = np.where(wrong, 1 - split.labels, split.labels)
            return Report.from_predictions(split.labels, np.eye(2)[said])

        monkeypatch.setattr(choosing, "build_classifier", lambda name, *_, **__: name)
        monkeypatch.setattr(choosing, "fine_tune", train)
        monkeypatch.setattr(choosing, "evaluate", evaluate)
        monkeypatch.setattr(choosing.time, "perf_counter", lambda: self.now)


CANDIDATES = ("vgg16", "resnet50", "efficientnet_lite0", "mobilenet_v3_small")
QUICK_FIRST = ["mobilenet_v3_small", "efficientnet_lite0", "resnet50", "vgg16"]
NONE = dict.fromkeys(CANDIDATES)


def test_quick_ones_come_first_and_slow_ones_have_to_be_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script(monkeypatch, [0.6, 0.8, 0.8, 0.7], 1.0)
    found = tl.tune.choose_backbone(data(), candidates=CANDIDATES, weights=NONE, budget="1h")
    assert script.trained == QUICK_FIRST
    assert found.backbone == "efficientnet_lite0"
    assert [rung.pays for rung in found.rungs] == [True, True, False, False]
    assert found.why.startswith("efficientnet_lite0 is preferred among 4 of 4 backbones")
    assert len(str(found).splitlines()) == 6


def test_a_forecast_keeps_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """By multiply-adds: each second of MobileNetV3 forecasts those of the next."""
    rows = [tl.backbones.get(name) for name in QUICK_FIRST]
    seconds = rows[1].multiply_adds / rows[0].multiply_adds
    for budget, tried in ((1 + 0.9 * seconds, 1), (1.1 + seconds, 2), (0.001, 1)):
        script = Script(monkeypatch, [0.6, 0.8, 0.9, 0.9], 1.0)
        found = tl.tune.choose_backbone(data(), candidates=CANDIDATES, weights=NONE, budget=budget)
        assert script.trained == QUICK_FIRST[:tried]
        assert f"no time for {', '.join(QUICK_FIRST[tried:])}." in found.why


def test_only_some_images_are_looked_at_and_none_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script(monkeypatch, [0.6, 0.8], 1.0)
    whole = data(val=0.4, test=0.1)
    tl.tune.choose_backbone(whole, candidates=CANDIDATES[:2], weights=NONE, images=24, budget="1h")
    first, second = script.seen
    assert first.val is first.test is None
    assert len(first.train) == 24
    assert min(first.train.class_counts) >= 11
    np.testing.assert_array_equal(first.train.indices, second.train.indices)
    assert set(first.train.indices) <= set(whole.train.indices)


def test_one_that_sees_the_difference_is_found() -> None:
    found = tl.tune.choose_backbone(
        data(), candidates=["efficientnet_lite0"], weights=None, image_size=SIZE
    )
    assert found.backbone == "efficientnet_lite0"
    assert found.rungs[0].accuracy == 1.0
    assert found.rungs[0].seconds > 0


def test_left_to_itself_it_tries_those_whose_weights_are_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    script = Script(monkeypatch, [0.6] * 4, 1.0)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / tl.backbones.get("vgg16").weights_file).touch()
    tl.tune.choose_backbone(data(), budget="1h")
    lites = [f"efficientnet_lite{size}" for size in range(3)]
    assert script.trained == [*lites, "vgg16"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"candidates": ["resnet5"]}, "`backbone` must be one of"),
        ({"candidates": []}, "`candidates` must be one or more names"),
        ({"candidates": "vgg16"}, "`candidates` must be one or more names"),
        ({"data": data(val=0.0)}, "with a validation split"),
        ({"images": 5}, "`images` must be an integer >= 20"),
        ({"budget": "soon"}, "`budget` must be a number of seconds"),
        ({"weights": {"vgg16": None}}, "a mapping that has"),
        ({"seed": -1}, "`seed` must be"),
    ],
)
def test_bad_arguments_are_named_before_any_training(
    options: dict, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "build_classifier", lambda *_, **__: pytest.fail("work began"))
    given = {"data": data(), "candidates": CANDIDATES, "weights": NONE, **options}
    with pytest.raises(ValueError, match=said):
        tl.tune.choose_backbone(given.pop("data"), **given)


def test_a_classifier_of_no_backbone_says_where_one_is_chosen() -> None:
    with pytest.raises(ValueError, match=r"`backbone` must be a name; tl\.tune\.choose_backbone"):
        tl.build_classifier("auto", ("a", "b"))
