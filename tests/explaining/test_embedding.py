"""Features, neighbours and planes against Keras and scikit-learn, and files as they are read."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize

import tltoolkit as tl
from networks import KINDS, SIZE, dense, flat
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.data import ImageError
from tltoolkit.evaluation import Decision
from tltoolkit.explaining.embedding import Embedding, Neighbour
from tltoolkit.explaining.nearest import Standard, nearest

NAMES = ("ant", "bee", "cow")


def pixels(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)


def embedding(features: np.ndarray, **more: Any) -> Embedding:
    """One of these features, whose classifier is not asked."""
    names = tuple(f"{i}.jpg" for i in range(len(features)))
    told: dict[str, Any] = {"labels": None, "predicted": names, "class_names": NAMES, **more}
    return Embedding(features=features.astype(np.float32), names=names, predictor=None, **told)  # type: ignore[arg-type]


def rows(count: int, width: int = 7) -> np.ndarray:
    """Features of different scales, one of which never varies."""
    rng = np.random.default_rng(1)
    made = rng.normal(size=(count, width)) * 10.0 ** np.arange(width) + 5
    made[:, 2] = 0.1
    return made.astype(np.float32)


def scaled(features: np.ndarray) -> np.ndarray:
    return np.asarray(normalize(StandardScaler().fit_transform(features.astype(float))))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_features_are_what_the_head_reads(kind: str) -> None:
    keras.utils.set_random_seed(0)
    model, images = KINDS[kind](dense(3, "softmax")), pixels(7)
    if kind == "subclassed":
        with pytest.raises(ValueError, match="`model` must be a functional model .*'theirs'"):
            tl.embed(model, images)
        return
    told = tl.embed(model, images, batch_size=3)
    # The one dense layer, wherever it is nested.
    last = next(one for one in model._flatten_layers() if isinstance(one, keras.layers.Dense))
    told_again = told.features @ np.asarray(last.kernel) + np.asarray(last.bias)
    said = np.asarray(model(images.astype(np.float32)))
    np.testing.assert_allclose(
        keras.ops.softmax(told_again), said, atol=1e-5, err_msg="the head reads something else"
    )
    assert told.features.dtype == np.float32
    assert told.predicted == tuple(str(i) for i in said.argmax(axis=1))
    assert (told.labels, told.names[2]) == (None, "images[2]")


def test_features_are_the_outputs_of_a_sub_model() -> None:
    model, images = flat(dense()), pixels(5)
    lower = keras.Model(model.input, model.layers[-1].input)
    told = tl.embed(model, images)
    np.testing.assert_allclose(told.features, lower(images.astype(np.float32)), atol=1e-5)


def test_a_split_gives_names_and_labels_and_a_decision_the_answers() -> None:
    data = tl.data.from_arrays(pixels(6), [2, 0, 1, 2, 0, 1], class_names=NAMES, val=0)
    predictor = Predictor(model=flat(dense(3, "softmax")), class_names=NAMES)
    told = tl.embed(predictor, data.train)
    assert told.labels == tuple(data.train.label_text(i) for i in range(6))
    assert told.names == tuple(data.train.name(i) for i in range(6))
    said = predictor.predict([data.train.image(i) for i in range(6)])
    assert told.predicted == tuple(one.label for one in said)
    several = Predictor(
        model=flat(dense(3, "sigmoid")), class_names=NAMES, decision=Decision(multi_label=True)
    )
    answers = several.predict(pixels(6))
    assert tl.embed(several, pixels(6)).predicted == tuple("|".join(a.label) for a in answers)


@pytest.mark.parametrize("count", [12, 300])
def test_neighbours_are_those_of_scikit_learn(count: int) -> None:
    features = rows(count)
    made = embedding(features, labels=tuple(str(i % 3) for i in range(count)))
    reference = NearestNeighbors(n_neighbors=9, metric="cosine", algorithm="brute")
    # More than are asked at a time.
    distance, found = reference.fit(scaled(features)).kneighbors(scaled(features)[:70])
    told = made.neighbours(features[:70], 9)
    assert [[one.row for one in near] for near in told] == found.tolist()
    cosines = [[one.similarity for one in near] for near in told]
    np.testing.assert_allclose(cosines, 1 - distance, atol=1e-5)
    assert told[3][0] == Neighbour(name="3.jpg", label="0", similarity=cosines[3][0], row=3)
    (alone,) = made.neighbours(features[3], count)
    assert [one.row for one in alone][:9] == found[3].tolist()
    assert len(alone) == count


def test_equal_rows_come_in_their_order() -> None:
    unit = np.tile(np.eye(3, dtype=np.float32), (4, 1))
    ((found, cosines),) = nearest(unit, unit[:1], 3)
    assert (found.tolist(), cosines.tolist()) == ([0, 3, 6], [1, 1, 1])


def test_images_are_asked_of_the_same_classifier(tmp_path: Path) -> None:
    images = pixels(9)
    made = tl.embed(flat(dense()), images)
    Image.fromarray(images[5]).save(tmp_path / "x.png")
    data = tl.data.from_arrays(images, np.arange(9) % 3, class_names=NAMES, val=0)
    for one in (images[5], str(tmp_path / "x.png"), images[5:6], data.train.subset([5])):
        ((first, _),) = made.neighbours(one, 2)
        assert (first.name, first.row) == ("images[5]", 5)
        assert first.similarity == pytest.approx(1, abs=1e-5)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    made = embedding(rows(4))
    with pytest.raises(ValueError, match="`k` must be at most 4, as .* Received: k=5"):
        made.neighbours(rows(1), 5)
    for wrong in (np.zeros((2, 6)), np.full(7, np.nan)):
        with pytest.raises(ValueError, match=r"`images` must be finite features \(M, 7\)"):
            made.neighbours(wrong, 1)
    model = flat(dense())
    for nothing in ([], pixels(0)):
        with pytest.raises(ValueError, match="`images` must be one image or more"):
            tl.embed(model, nothing)
    with pytest.raises(ValueError, match="`images` must be a sequence of paths"):
        tl.embed(model, pixels(1)[0])
    (tmp_path / "bad.png").write_bytes(b"none")
    with pytest.raises(ImageError, match=r"bad\.png"):
        tl.embed(model, [str(tmp_path / "bad.png")])
    model.layers[1].scale = np.inf
    with pytest.raises(FloatingPointError, match=r"features of images\[0\] are not finite"):
        tl.embed(model, pixels(2))


def test_a_plane_by_pca_is_that_of_scikit_learn() -> None:
    features = rows(60)
    points, expected = embedding(features).map("pca"), PCA(2).fit_transform(scaled(features))
    signs = np.sign((points * expected).sum(axis=0))
    np.testing.assert_allclose(points * signs, expected, atol=1e-4)


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
@pytest.mark.filterwarnings("ignore::UserWarning:umap")
def test_any_number_of_rows_has_a_plane(method: str) -> None:
    if method == "umap":
        pytest.importorskip("umap")
    for count in (1, 2, 3, 4, 5, 6, 12):
        points = embedding(rows(count)).map(method)
        assert points.shape == (count, 2)
        assert points.dtype == np.float32
        assert np.isfinite(points).all()
    np.testing.assert_array_equal(embedding(rows(12)).map(method), points)
    assert (embedding(np.ones((6, 3))).map(method) == 0).all() or method == "umap"


@pytest.mark.parametrize("method", ["tsne", "umap"])
@pytest.mark.filterwarnings("ignore::UserWarning:umap")
def test_groups_stay_together(method: str) -> None:
    if method == "umap":
        pytest.importorskip("umap")
    centres = np.random.default_rng(0).normal(size=(3, 60)) * 10
    features = centres.repeat(15, axis=0) + np.random.default_rng(1).normal(size=(45, 60))
    points = embedding(features).map(method, seed=3)
    near = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(points)[1]
    assert (near // 15 == np.arange(45)[:, None] // 15).all()


def test_umap_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(ImportError, match=r"needs umap-learn: pip install 'tltoolkit\[umap\]'"):
        embedding(rows(9)).map("umap")


@pytest.mark.parametrize("labels", [None, ("ant", "", "ant|\xe9", "\udcff")])
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_file_holds_what_was_saved(suffix: str, labels: Any, tmp_path: Path) -> None:
    made = embedding(rows(4), labels=labels)
    path = tmp_path / f"x{suffix}"
    assert made.save(str(path)) == path
    kept = None if labels is None else ["ant", "", "ant|\xe9", "\\udcff"]
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            read: dict[str, Any] = {
                name: file[name].tolist() for name in file if "feat" not in name
            }
            features = file["features"]
        expected = {"names": list(made.names), "predicted": list(made.predicted)}
        expected |= {"class_names": list(NAMES)} | ({"labels": kept} if kept else {})
        assert read == expected
    else:
        table = pd.read_parquet(path)
        assert list(table) == ["name", "label", "predicted", "features"]
        assert table["name"].tolist() == list(made.names)
        assert table["label"].tolist() == (kept or [None] * 4)
        features = np.stack(table["features"].tolist())
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, made.features)
    with pytest.raises(FileExistsError):
        made.save(path)


def test_files_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = embedding(rows(4))
    with pytest.raises(ValueError, match=r"`path` must be a name that ends in .npz or .parquet"):
        made.save(tmp_path / "x.csv")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"need pyarrow: pip install 'tltoolkit\[parquet\]'"):
        made.save(tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_scaled_rows_are_those_of_scikit_learn_beyond_one_stripe() -> None:
    features = np.random.default_rng(0).normal(3, 2, (5000, 4)).astype(np.float32)
    np.testing.assert_allclose(Standard.of(features)(features), scaled(features), atol=1e-5)
