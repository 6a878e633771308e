import json
from pathlib import Path

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.runs.record import Run
from tltoolkit.training import best

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE = 32
PLAN = tl.Plan(
    (
        tl.Stage("head", epochs=2, learning_rate=1e-2),
        tl.Stage("upper", unfreeze=1, epochs=2, learning_rate=1e-3),
    )
)


def images(count: int = 40, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, the brighter the higher its class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    noise = rng.integers(0, 100, (count, SIZE, SIZE, 3))
    return (noise + 60 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8), labels


def data(**options: object) -> tl.data.ImageData:
    return tl.data.from_arrays(*images(), **{"val": 0.25, **options})


def build(**options: object) -> keras.Model:
    return tl.build_classifier(
        **{
            "class_names": ("0", "1"),
            "weights": None,
            "image_size": SIZE,
            "trunk": "block2",
            **options,
        }
    )


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {v.path: v.numpy() for v in model.variables if "seed_generator" not in v.path}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], Run]:
    """The values before training, and the run."""
    model = build()
    before = values(model)
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    return before, tl.fine_tune(model, data(), PLAN, "none", run_dir=run_dir, verbose=0)


def test_only_what_a_stage_unfreezes_changes(trained: tuple) -> None:
    before, run = trained
    blocks = tl.blocks(run.model)
    unfrozen = {name for block in [*list(blocks)[-2:]] for name in blocks[block]}
    for path, value in values(run.model).items():
        layer = run.model.get_layer(path.split("/")[0])
        if layer.name not in unfrozen or isinstance(layer, keras.layers.BatchNormalization):
            np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert run.stages[0].changed == ("logits/kernel", "logits/bias")
    assert set(run.stages[1].changed) == set(run.stages[1].trained)
    assert {path.split("/")[0] for path in run.stages[1].trained} <= unfrozen


def test_the_history_has_an_exact_f1_and_the_best_epoch_has_the_highest(trained: tuple) -> None:
    _, run = trained
    assert len(run.history["loss"]) == 4
    scores = run.history["val_f1_macro"]
    assert scores[run.best_epoch] == max(scores)
    assert [stage.epochs for stage in run.stages] == [2, 2]
    assert all(stage.seconds > 0 for stage in run.stages)
    assert [stage.views for stage in run.stages] == [1, 1]


def test_the_model_has_the_weights_of_the_best_epoch(trained: tuple) -> None:
    _, run = trained
    report = tl.evaluate(run.model, data().val)
    assert report.f1_macro == pytest.approx(run.history["val_f1_macro"][run.best_epoch], abs=1e-6)


def test_the_run_directory_tells_all_and_loads(trained: tuple) -> None:
    _, run = trained
    record = json.loads((run.run_dir / "run.json").read_text())
    assert record["history"] == run.history
    assert tl.Plan.from_dict(record["plan"]) == PLAN
    assert record["stages"][1]["changed"] == len(run.stages[1].changed)
    pixels, _ = images()
    said = tl.load(run.run_dir).predict(list(pixels[:4]))
    expected = run.model.predict(pixels[:4], verbose=0)
    for prediction, row in zip(said, expected, strict=True):
        np.testing.assert_allclose(list(prediction.probabilities.values()), row, atol=1e-6)


def test_a_finished_run_comes_back_with_its_weights(trained: tuple) -> None:
    _, run = trained
    again = tl.fine_tune(build(), data(), PLAN, "none", run_dir=run.run_dir, verbose=0)
    assert (again.history, again.stages) == (run.history, run.stages)
    for path, value in values(run.model).items():
        np.testing.assert_array_equal(values(again.model)[path], value, err_msg=path)


def test_the_same_seed_gives_the_same_weights_to_the_bit(trained: tuple) -> None:
    _, run = trained
    keras.utils.set_random_seed(99)
    again = tl.fine_tune(build(), data(), PLAN, "none", verbose=0)
    for path, value in values(run.model).items():
        np.testing.assert_array_equal(values(again.model)[path], value, err_msg=path)


def test_augmented_training_is_reproducible_too() -> None:
    stage = tl.Stage("top", unfreeze=1, epochs=1, learning_rate=1e-2, batch_norm="train")
    first, second, other = (
        tl.fine_tune(build(), data(), tl.Plan((stage,)), "strong", seed=seed, verbose=0)
        for seed in (5, 5, 6)
    )
    kernels = [values(run.model)["logits/kernel"] for run in (first, second, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_without_validation_the_last_epoch_is_kept() -> None:
    run = tl.fine_tune(build(), data(val=0.0), "linear_probe", "none", verbose=0)
    assert run.best_epoch == len(run.history["loss"]) - 1
    assert "val_loss" not in run.history


def test_multi_label_training() -> None:
    pixels, labels = images()
    both = np.stack([labels, labels[::-1]], 1).astype(np.uint8)
    names = ["bright", "late"]
    multi = tl.data.from_arrays(pixels, both, names, val=0.25, multi_label=True)
    model = build(class_names=("bright", "late"), multi_label=True)
    run = tl.fine_tune(model, multi, tl.Plan((PLAN.stages[0],)), "none", verbose=0)
    assert run.history["val_f1_macro"][run.best_epoch] == pytest.approx(
        tl.evaluate(run.model, multi.val).f1_macro, abs=1e-6
    )


def test_a_loss_that_explodes_is_named() -> None:
    stage = tl.Stage("head", epochs=4, learning_rate=1e38, optimizer="sgd", clip_norm=None)
    with pytest.raises(FloatingPointError, match="try a learning_rate below 1e\\+38"):
        tl.fine_tune(build(), data(), tl.Plan((stage,)), "none", verbose=0)


def test_early_stopping_ends_a_stage() -> None:
    stage = tl.Stage("head", epochs=12, learning_rate=1.0, early_stopping=1)
    run = tl.fine_tune(build(), data(), tl.Plan((stage,)), "none", verbose=0)
    assert run.stages[0].epochs < 12


def test_a_users_callback_sees_every_epoch() -> None:
    seen: list[float] = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            seen.append(logs["val_f1_macro"])

    plan = tl.Plan(PLAN.stages[:1])
    run = tl.fine_tune(build(), data(), plan, "none", callbacks=[Watch()], verbose=0)
    assert seen == run.history["val_f1_macro"]


def test_best_epoch_breaks_ties_by_loss() -> None:
    history = {"loss": [1, 1, 1], "val_f1_macro": [0.5, 0.7, 0.7], "val_loss": [1.0, 0.9, 0.8]}
    assert best.best_epoch(history) == 2
    assert best.best_epoch({"loss": [3.0, 2.0]}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": "quick"}, "`plan` must be one of 'auto'"),
        ({"plan": tl.Plan((tl.Stage("a", unfreeze="block99"),))}, "`unfreeze` must be one of"),
        ({"augment": "heavy"}, "`augment` must be one of 'auto', 'none'"),
        ({"augment": tl.augment.Pipeline(None, 64)}, "a pipeline with the model's image_size 32"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"seed": "a"}, "`seed` must be an integer"),
        ({"callbacks": [print]}, "`callbacks` must be Keras callbacks"),
        ({"data": images()}, r"`data` must be an ImageData, as tl\.data makes it"),
        ({"model": "resnet"}, r"`model` must be a keras\.Model"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    arguments = {"model": build(), "data": data(), "verbose": 0, **options}
    with pytest.raises((ValueError, TypeError), match=message):
        tl.fine_tune(**arguments)


def test_early_stopping_without_validation_is_refused() -> None:
    plan = tl.Plan((tl.Stage("a", early_stopping=2),))
    with pytest.raises(ValueError, match="`early_stopping` must be None in stage 'a'"):
        tl.fine_tune(build(), data(val=0.0), plan, verbose=0)


def test_classes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"data with the model's classes \('a', 'b'\)"):
        tl.fine_tune(build(class_names=("a", "b")), data(), verbose=0)
    with pytest.raises(ValueError, match="data with multi_label=True, as the model"):
        tl.fine_tune(build(multi_label=True), data(), verbose=0)
    with pytest.raises(ValueError, match="`split` must be data with the model's classes"):
        tl.evaluate(build(class_names=("a", "b")), data().val)
    with pytest.raises(ValueError, match="this data set has none here"):
        tl.evaluate(build(), data().test)


def test_a_run_directory_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files already"):
        tl.fine_tune(build(), data(), run_dir=tmp_path, verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unreadable_image_is_named_before_training(tmp_path: Path) -> None:
    for label in ("0", "1"):
        (tmp_path / label).mkdir()
        for i in range(6):
            keras.utils.save_img(tmp_path / label / f"{i}.png", images()[0][i], scale=False)
    (tmp_path / "1" / "3.png").write_text("<html>")
    broken = tl.data.from_directory(tmp_path, val=0.3)
    with pytest.raises(ValueError, match=r"3\.png"):
        tl.fine_tune(build(), broken, run_dir=tmp_path / "run", verbose=0)


def test_a_figure_of_the_run(trained: tuple) -> None:
    _, run = trained
    figure = run.plot()
    assert [axes.get_title() for axes in figure.axes] == ["accuracy", "loss", "f1_macro"]
