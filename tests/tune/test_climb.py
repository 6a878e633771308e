import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.evaluation import Report
from tltoolkit.tune import climbing

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE = 32
HEAD = tl.Plan((tl.Stage("head", optimizer="lbfgs", epochs=1, augment="none"),))


def data(**options: object) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    noise = rng.integers(0, 150, (60, SIZE, SIZE, 3)) + 10 * labels[:, None, None, None]
    return tl.data.from_arrays(noise.astype(np.uint8), labels, **{"val": 0.5, **options})


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "efficientnet_lite0"])
def test_a_family_is_climbed_from_the_smallest(name: str) -> None:
    names = climbing.family_of(tl.backbones.get(name).family)
    assert names[0] == name
    sizes = [tl.backbones.get(one).parameters for one in names]
    assert sizes == sorted(sizes)
    assert tl.backbones.get(names[-1]).next is None


def test_the_only_network_of_a_family_is_the_best_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(climbing, "family_of", lambda _: ["efficientnet_lite0"])
    found = tl.tune.climb(
        data(), "efficientnet_lite", plan=HEAD, weights=None, image_size=SIZE, verbose=0
    )
    (rung,) = found.rungs
    assert found.best is rung
    report = tl.evaluate(found.run.model, data().val)
    assert rung.f1_macro == pytest.approx(report.f1_macro)
    assert rung.accuracy == pytest.approx(report.accuracy)
    assert rung.parameters == found.run.model.count_params()
    assert rung.seconds > 0
    assert "the largest of the family" in str(found)


@pytest.mark.parametrize(("plan", "validated"), [("auto", 5), ("solve", 0), (HEAD, 30)])
def test_no_plan_learns_from_the_images_that_judge(
    plan: object, validated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A solved head is solved on validation images as well, so that those judge no more."""
    seen: list[tl.data.ImageData] = []
    scripted(monkeypatch, [0.7, 0.7])
    monkeypatch.setattr(
        climbing, "fine_tune", lambda model, data, *_, **__: (seen.append(data), Run())[1]
    )
    monkeypatch.setattr(climbing, "family_of", lambda _: ["resnet50"])
    whole = data(test=0.1)
    tl.tune.climb(whole, "resnet", plan=plan)
    (given,) = seen
    learned = set(given.train.indices) | set(given.val.indices if given.val else ())
    judges = set(whole.val.indices)
    assert (learned & judges == set()) == (plan is not HEAD)
    assert learned >= set(whole.train.indices)
    shared = 0 if given.val is None else len(given.val)
    assert shared == pytest.approx(validated, abs=3)


class Run:
    class Model:
        def count_params(self) -> int:
            return 1

    model = Model()


def scripted(monkeypatch: pytest.MonkeyPatch, rights: list[float]) -> list[str]:
    """Networks that get these shares of 200 images right, each beside the one before."""
    trained: list[str] = []
    labels = np.arange(200) % 2

    class Model:
        def count_params(self) -> int:
            return 10 ** len(trained)

    class Run:
        model = Model()

    def train(name: str, *_: object, **__: object) -> Run:
        trained.append(name)
        return Run()

    def report(*_: object) -> Report:
        wrong = np.random.default_rng(7).permutation(200) >= rights[len(trained) - 1] * 200
        said = np.where(wrong, 1 - labels, labels)
        return Report.from_predictions(labels, np.eye(2)[said])

    monkeypatch.setattr(climbing, "build_classifier", lambda backbone, **_: backbone)
    monkeypatch.setattr(climbing, "fine_tune", train)
    monkeypatch.setattr(climbing, "evaluate", report)
    return trained


def test_it_goes_on_while_the_gain_is_more_than_its_uncertainty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = scripted(monkeypatch, [0.70, 0.80, 0.80])
    found = tl.tune.climb(data(), "resnet")
    assert trained == ["resnet50", "resnet101", "resnet152"]
    assert found.best.backbone == "resnet101"
    assert [rung.pays for rung in found.rungs] == [True, True, False]
    gain = found.rungs[1].gain
    assert gain.difference == pytest.approx(0.10, abs=0.01)
    # 20 of 200 rows are right in the second alone: a standard error of sqrt(.1 * .9 / 200).
    assert (gain.high - gain.low) / 2 == pytest.approx((0.1 * 0.9 / 200) ** 0.5, rel=0.25)
    assert "resnet101 is the best: resnet152 changed macro F1 by +0.000" in str(found)


def test_it_stops_at_a_gain_that_may_be_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = scripted(monkeypatch, [0.80, 0.81, 0.99])
    labels = np.arange(200) % 2
    rng = np.random.default_rng(0)

    def report(*_: object) -> Report:
        # Right on other images each time: a gain of 1 % is within the noise.
        wrong = rng.permutation(200) >= [0.80, 0.81, 0.99][len(trained) - 1] * 200
        return Report.from_predictions(labels, np.eye(2)[np.where(wrong, 1 - labels, labels)])

    monkeypatch.setattr(climbing, "evaluate", report)
    found = tl.tune.climb(data(), "resnet")
    assert trained == ["resnet50", "resnet101"]
    assert found.best.backbone == "resnet50"
    assert len(str(found).splitlines()) == 4


def test_a_space_tunes_each_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(climbing, "family_of", lambda _: ["efficientnet_lite0"])
    space = {"learning_rate": (1e-3, 1e-1, "log"), "epochs": 1, "batch_size": 16}
    found = tl.tune.climb(
        data(),
        "efficientnet_lite",
        space=space,
        trials=2,
        weights={"efficientnet_lite0": None},
        image_size=SIZE,
        verbose=0,
    )
    assert found.run.settings["batch_size"] == 16
    assert 1e-3 <= found.run.plan.stages[0].learning_rate <= 1e-1
    assert found.rungs[0].f1_macro == pytest.approx(max(found.run.history["val_f1_macro"]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"family": "resnets"}, "`family` must be one of 'vgg', .*'resnet'"),
        ({"weights": {"resnet50": None}}, "a mapping that has resnet101, resnet152"),
        ({"plan": "auto", "data": data(val=0.0)}, "with a validation split"),
        ({"plan": HEAD, "space": {"epochs": [1, 2]}}, "`plan` must be left out"),
        ({"space": {"backbone": ["vgg16"]}, "weights": None}, "one without a backbone"),
        ({"space": {"epochz": [1, 2]}, "weights": None}, "`setting of the space` must be one of"),
    ],
)
def test_bad_arguments_are_named_before_any_training(options: dict, said: str) -> None:
    given = {"data": data(), "family": "resnet", **options}
    with pytest.raises(ValueError, match=said):
        tl.tune.climb(**given)
