import threading
import warnings
from collections import Counter
from pathlib import Path

import keras
import matplotlib.figure
import numpy as np
import optuna
import pytest

import tltoolkit as tl
from tltoolkit.training.features import Storage
from tltoolkit.tune import bench as benches
from tltoolkit.tune import space as spaces
from tltoolkit.tune import study as studies
from tltoolkit.tune import trials as runs
from tltoolkit.tune.searching import Search

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE = 32
SPACE = {
    "learning_rate": (1e-3, 1e-1, "log"),
    "optimizer": ["adamw", "sgd"],
    "dropout": (0.0, 0.5),
    "epochs": [1, 2],
    "trunk": "stem",
    "image_size": SIZE,
}
Table = list[tuple[object, ...]]


def images(count: int = 48, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, the brighter the higher its class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    noise = rng.integers(0, 120, (count, SIZE, SIZE, 3))
    return (noise + 20 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8), labels


def data(seed: int = 0, **options: object) -> tl.data.ImageData:
    return tl.data.from_arrays(*images(seed=seed), **{"val": 0.5, **options})


def searched(whole: tl.data.ImageData | None = None, **options: object) -> Search:
    given = {"space": SPACE, "trials": 3, "weights": None, "verbose": False, **options}
    return tl.tune.search(whole or data(), **given)


def rows(found: Search) -> Table:
    """What trials drew and scored, without their times."""
    return list(found.trials.drop(columns="seconds").itertuples(index=False, name=None))


class Counted:
    """A source that counts how often each image is read."""

    def __init__(self, source: object) -> None:
        self.source, self.reads, self.lock = source, Counter(), threading.Lock()

    def __getattr__(self, name: str) -> object:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> np.ndarray:
        with self.lock:
            self.reads[index] += 1
        return self.source.image(index)


# What a search gives


@pytest.fixture(scope="module")
def whole() -> tuple[Search, Counted]:
    plain = data()
    source = Counted(plain.train.source)
    splits = {
        name: type(split)(
            source=source,
            indices=split.indices,
            labels=split.labels,
            class_names=split.class_names,
        )
        for name, split in plain.splits.items()
    }
    space = {**SPACE, "pooling": ["avg", "max"], "hidden": [[], [4]], "epochs": 2}
    space["optimizer"] = ["adamw", "adam"]
    found = searched(tl.data.ImageData(**splits), space=space, trials=6)
    return found, source


def test_heads_together_read_each_image_once_per_pooling(whole: tuple) -> None:
    found, source = whole
    assert set(found.trials["pooling"]) == {"avg", "max"}
    # One more read is that of the check before training.
    assert set(source.reads.values()) == {1 + 2}
    assert len(source.reads) == 48


def test_the_best_settings_train_to_the_score_that_was_seen(whole: tuple) -> None:
    found, _ = whole
    assert found.score == found.trials["score"].max()
    keras.utils.set_random_seed(77)
    model = tl.build_classifier(**found.build_options)
    run = tl.fine_tune(model, data(), found.plan, batch_size=found.batch_size, seed=0, verbose=0)
    assert max(run.history["val_f1_macro"]) == pytest.approx(found.score, abs=1e-6)
    (stage,) = found.plan
    assert stage.learning_rate == found.settings["learning_rate"]
    assert found.build_options["head"].dropout == found.settings["dropout"]


def test_the_table_prints_and_plots_without_warnings(whole: tuple) -> None:
    found, _ = whole
    columns = ["trial", "score", "state", "seconds"]
    assert list(found.trials.columns[:4]) == columns
    assert {"learning_rate", "optimizer", "dropout", "hidden"} <= set(found.trials.columns)
    assert str(found).startswith("6 trials: ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = found.plot()
        shares = found.importance
    assert isinstance(figure, matplotlib.figure.Figure)
    assert len(figure.axes) == 2
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)


def test_every_trial_is_in_the_space(whole: tuple) -> None:
    found, _ = whole
    assert found.trials["learning_rate"].between(1e-3, 1e-1).all()
    assert found.trials["dropout"].between(0, 0.5).all()
    assert all(hidden in ([], [4]) for hidden in found.trials["hidden"])


# Layers below the head


@pytest.fixture(scope="module")
def bench() -> benches.Bench:
    return benches.Bench(data=data(), weights=None, seed=0, storage=Storage())


def test_upper_blocks_train_after_the_head_and_do_not_leak_into_the_next_trial(
    bench: benches.Bench,
) -> None:
    head = {"trunk": "block1", "image_size": SIZE, "epochs": 1, "learning_rate": 1e-2}
    alone = bench.score(head, [])
    (model, first), *_ = bench.networks.values()
    bench.score({**head, "unfreeze": 1, "augment": "none"}, [])
    assert any(
        not np.array_equal(variable.numpy(), value)
        for variable, value in zip(model.variables, first, strict=True)
    )
    assert bench.score(head, []) == alone
    assert len(bench.networks) == 1


def test_a_trial_of_upper_blocks_has_a_plan_of_two_stages() -> None:
    plan = spaces.plan_of({"unfreeze": 1}, augment="light")
    assert [stage.name for stage in plan] == ["probe", "fine_tune"]
    assert [stage.augment for stage in plan] == ["none", "light"]
    plan = spaces.plan_of({"unfreeze": 1, "hidden": (4,), "epochs": 2}, augment="light")
    assert [(stage.name, stage.epochs) for stage in plan] == [("head", 20), ("fine_tune", 2)]


# Going on, and doing it again


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_an_interrupted_search_goes_on_as_it_would_have(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {**SPACE, "learning_rate": [1e-3, 1e-2], "dropout": [0.0, 0.2, 0.4]}
    drawn: list[dict] = []

    def score(self: object, values: dict, callbacks: object) -> float:
        """A known function of the settings in place of minutes of training."""
        if values in stop:
            stop.clear()
            raise KeyboardInterrupt
        drawn.append(values)
        rate = abs(np.log10(values["learning_rate"]) + 2)
        return 1 - 0.3 * rate - values["dropout"] / 5 - 0.1 * values["epochs"]

    monkeypatch.setattr(benches.Bench, "score", score)
    options = {"space": space, "sampler": sampler, "trials": 12}
    stop: list[dict] = []
    straight = searched(**options)
    assert straight.trials.drop(columns="seconds").equals(
        searched(**options).trials.drop(columns="seconds")
    )
    storage = tmp_path / "search.db"
    stop = [drawn[10]]
    with pytest.raises(KeyboardInterrupt):
        searched(**options, storage=storage)
    before = len(drawn)
    resumed = searched(**options, storage=storage)
    assert rows(resumed) == rows(straight)
    assert resumed.settings == straight.settings
    assert 0 < len(drawn) - before < 12
    again = searched(**options, storage=storage)
    assert rows(again) == rows(straight)


def test_a_trial_that_was_killed_is_run_again(tmp_path: Path) -> None:
    address, shared = studies.address_of(tmp_path / "search.db")
    assert not shared
    space = spaces.read(SPACE)
    study = studies.opened(tmp_path / "search.db", "search", {"space": 1}, False)
    asked = studies.Asked(study, space, "random", 0, False)
    _, killed = asked.next()  # never told: its process is gone
    study = studies.opened(tmp_path / "search.db", "search", {"space": 1}, False)
    asked = studies.Asked(study, space, "random", 0, False)
    assert asked.finished == 0
    assert asked.next()[1] == killed
    assert address.startswith("sqlite:///")


def test_two_processes_of_an_address_share_a_study(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'shared.db'}"
    assert studies.address_of(address) == (address, True)
    space = spaces.read(SPACE)
    both = [
        studies.Asked(studies.opened(address, "search", {}, True), space, "random", 0, True)
        for _ in range(2)
    ]
    drawn = [asked.next() for asked in (*both, *both)]
    assert [trial.number for trial, _ in drawn] == [0, 1, 2, 3]
    assert len({values["learning_rate"] for _, values in drawn}) == 4
    for trial, values in drawn:
        both[0].study.tell(trial, values["dropout"])
    assert both[1].finished == 4
    assert runs.best(both[1])["dropout"] == max(values["dropout"] for _, values in drawn)
    # Alone, the same trials would have drawn the same.
    alone = studies.Asked(studies.opened(None, "search", {}, True), space, "random", 0, False)
    assert [alone.next()[1] for _ in range(4)] == [values for _, values in drawn]


def test_the_seed_decides_whatever_ran_before() -> None:
    first = rows(searched(trials=2, seed=3))
    searched(trials=1, seed=4)  # leaves other networks, generators and studies behind
    keras.utils.set_random_seed(9)
    assert rows(searched(trials=2, seed=3)) == first


def test_another_seed_draws_other_trials() -> None:
    space = spaces.read(SPACE)
    rates = []
    for seed in (0, 1):
        study = studies.opened(None, "search", {}, False)
        rates.append(studies.Asked(study, space, "random", seed, False).next()[1])
    assert rates[0] != rates[1]


def test_the_storage_of_another_search_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benches.Bench, "score", lambda *_: 0.5)
    storage = tmp_path / "search.db"
    searched(storage=storage, trials=1)
    for options, part in (
        ({"space": {**SPACE, "dropout": (0.0, 0.4)}}, "space"),
        ({"whole": data(seed=5)}, "data"),
        ({"seed": 1}, "seed"),
        ({"sampler": "tpe"}, "sampler"),
    ):
        with pytest.raises(ValueError, match=f"holds a search with another {part}"):
            searched(storage=storage, **options)
    other = searched(storage=storage, name="second", seed=1, trials=1)
    assert len(other.trials) == 1


def test_a_file_that_is_no_storage_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are notes, not trials")
    with pytest.raises(ValueError, match="`storage` must be a new file or that of a search"):
        searched(storage=tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="a file in a folder that exists"):
        searched(storage=tmp_path / "nowhere" / "search.db")
    assert (tmp_path / "notes.txt").read_text() == "these are notes, not trials"


# What samplers and pruning are worth


def found_by(sampler: str, trials: int, seed: int) -> float:
    """The best of so many trials of a known function of two settings."""
    grid = {"learning_rate": list(np.geomspace(1e-4, 1, 20)), "dropout": list(np.arange(10) / 20)}
    space = spaces.read(grid)
    asked = studies.Asked(studies.opened(None, "search", {}, False), space, sampler, seed, False)
    for _ in range(trials):
        trial, values = asked.next()
        off = np.log10(values["learning_rate"]) + 2.3
        asked.study.tell(trial, 0.9 - 0.02 * off**2 - 0.05 * (values["dropout"] - 0.2) ** 2)
    return float(asked.study.best_value)


def test_a_tenth_of_the_grid_at_random_comes_within_a_point() -> None:
    with studies.quiet():
        best = found_by("grid", 200, 0)
        at_random = [found_by("random", 20, seed) for seed in range(5)]
    assert max(at_random) <= best
    assert min(at_random) > best - 0.01


def test_the_grid_is_every_combination_once() -> None:
    space = spaces.read({"epochs": (1, 3), "optimizer": ["adam", "sgd"], "dropout": 0.1})
    asked = studies.Asked(studies.opened(None, "search", {}, False), space, "grid", 4, False)
    drawn = [asked.next()[1] for _ in range(6)]
    combinations = {(one["epochs"], one["optimizer"]) for one in drawn}
    assert combinations == {(e, o) for e in (1, 2, 3) for o in ("adam", "sgd")}


def test_two_processes_of_an_address_share_a_grid(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'shared.db'}"
    space = spaces.read({"epochs": (1, 3), "optimizer": ["adam", "sgd"]})
    both = [
        studies.Asked(studies.opened(address, "search", {}, True), space, "grid", 0, True)
        for _ in range(2)
    ]
    drawn = [asked.next() for asked in both * 3]
    assert len({(one["epochs"], one["optimizer"]) for _, one in drawn}) == 6
    for asked, (trial, values) in zip(both * 3, drawn, strict=True):
        asked.study.tell(trial, values["epochs"])
    assert both[0].finished == 6


class Stopped(optuna.trial.FixedTrial):
    """A trial that notes what it is told, and is to stop after its second epoch."""

    def report(self, value: float, step: int) -> None:
        self.told = [*getattr(self, "told", []), (step, value)]

    def should_prune(self) -> bool:
        return len(self.told) == 2


def test_a_poor_trial_is_cut_short(bench: benches.Bench) -> None:
    trial = Stopped({})
    values = {"trunk": "block1", "image_size": SIZE, "epochs": 5}
    with pytest.raises(optuna.TrialPruned):
        bench.score(values, [runs.Reporter(trial)])
    assert [step for step, _ in trial.told] == [0, 1]


def test_losses_that_explode_are_noted_and_the_search_goes_on() -> None:
    space = {**SPACE, "learning_rate": [1e30, 1e-2], "optimizer": "sgd", "dropout": 0.0}
    space |= {"epochs": 2}
    found = searched(space=space, sampler="grid", trials=None)
    assert sorted(found.trials["state"]) == ["complete", "diverged"]
    assert found.settings["learning_rate"] == 1e-2
    with pytest.raises(RuntimeError, match="search lower learning rates"):
        searched(space={**space, "learning_rate": [1e30, 1e31]}, trials=1)


# Bad input


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"learning_rat": (1e-4, 1e-1)}, "`setting of the space` must be one of .*'learning_rate'"),
        ({"optimizer": ["adamw", "adamx"]}, "`optimizer` must be one of"),
        ({"dropout": (0.0, 1.5)}, "`dropout` must be"),
        ({"backbone": ["resnet5"]}, "`backbone` must be one of"),
        ({"learning_rate": (1e-1, 1e-4)}, r"`space\['learning_rate'\]` must be \(low, high\)"),
        ({"learning_rate": (0.0, 1e-1, "log")}, "a range above 0, since it is logarithmic"),
        ({"epochs": [2, 2]}, "a list of values that differ"),
        ({"epochs": []}, "a list of values that differ"),
        ({"epochs": 3}, "at least one list or range"),
        ({"unfreeze": [1, 40], "image_size": SIZE}, "`unfreeze` must be"),
        ({"unfreeze": ["head", "blokc7"]}, "`unfreeze` must be one of"),
        ({"optimizer": ["lbfgs", "adamw"], "unfreeze": ["head", 2]}, "'head' with optimizer"),
        ({"optimizer": ["lbfgs", "adamw"], "hidden": [[], [8]]}, "with optimizer='lbfgs'"),
        ({"warmup": [0.0, 2.0], "epochs": [1, 4]}, "`warmup` must be"),
        ({"batch_size": [0, 8]}, "`batch_size` must be an integer >= 1"),
        ({"image_size": [8, 64], "backbone": "resnet50"}, "`image_size` must be"),
    ],
)
def test_a_bad_space_is_named_before_any_training(
    space: dict, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(benches.Bench, "score")
    with pytest.raises(ValueError, match=said):
        searched(space=space)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trials": 0}, "`trials` must be an integer >= 1"),
        ({"sampler": "best"}, "`sampler` must be one of 'random', 'tpe', 'grid'"),
        ({"seed": -1}, "`seed` must be"),
        ({"sampler": "grid"}, "must be a list of values for sampler='grid'"),
        ({"weights": {"resnet50": None}}, "a mapping that has efficientnet_lite0"),
        ({"weights": {"resnet5": None}}, "`backbone` must be one of"),
        ({"whole": tl.data.from_arrays(*images(), val=0.0)}, "with a validation split"),
    ],
)
def test_bad_arguments_are_named_before_any_training(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        searched(**options)


def test_weights_can_be_named_for_each_backbone() -> None:
    mapping = {"efficientnet_lite0": None, "resnet50": "weights.h5"}
    assert benches.weights_of(mapping, "resnet50") == "weights.h5"
    assert benches.weights_of("imagenet", "resnet50") == "imagenet"
