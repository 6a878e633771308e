import sys

import numpy as np
import pytest

from tltoolkit import augment

PIPELINE = augment.preset("light", 16)


class Source:
    labels = np.array([0, 1, 0])
    class_names = ("cat", "dog")

    def __len__(self):
        return 3

    def image(self, i):
        return np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def grid(figure, columns):
    return np.array(figure.axes).reshape(-1, columns)


def test_originals_and_versions(tmp_path):
    figure = augment.preview(Source(), PIPELINE, indices=[2, 1], versions=3)
    axes = grid(figure, 5)
    assert axes.shape == (2, 5)
    titles = ["original", "plain", "epoch 0", "epoch 1", "epoch 2"]
    assert [axis.get_title() for axis in axes[0]] == titles
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["cat", "dog"]
    shown = axes[0, 3].images[0].get_array()
    np.testing.assert_array_equal(shown, PIPELINE(Source().image(2), 1, 2))
    np.testing.assert_array_equal(axes[1, 0].images[0].get_array(), Source().image(1))
    figure.savefig(tmp_path / "preview.png")
    assert (tmp_path / "preview.png").stat().st_size > 1000


def test_a_random_choice_is_repeatable_and_no_more_than_there_is():
    def names(**options):
        return [
            a.get_ylabel() for a in grid(augment.preview(Source(), PIPELINE, **options), 7)[:, 0]
        ]

    assert names() == ["cat", "dog", "cat"]
    assert names(n=2, seed=1) == names(n=2, seed=1)
    assert {tuple(names(n=1, seed=seed)) for seed in range(8)} == {("cat",), ("dog",)}


def test_several_labels_and_none():
    class Several(Source):
        labels = np.array([[1, 1], [0, 1], [0, 0]])

    figure = augment.preview(Several(), PIPELINE, indices=[0, 1, 2], versions=1)
    assert [axis.get_ylabel() for axis in grid(figure, 3)[:, 0]] == ["cat, dog", "dog", ""]
    bare = type("Bare", (), {"__len__": Source.__len__, "image": Source.image})()
    figure = augment.preview(bare, PIPELINE, indices=[1], versions=1)
    assert figure.axes[0].get_ylabel() == "1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "`n` must be an integer >= 1"),
        ({"versions": 0}, "`versions` must be an integer >= 1"),
        ({"indices": [3]}, "`indices` must be an integer >= 0 and <= 2. Received: indices=3"),
        ({"indices": []}, "`indices` must be at least one index"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
    ],
)
def test_bad_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        augment.preview(Source(), PIPELINE, **options)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'tltoolkit\[report\]'"):
        augment.preview(Source(), PIPELINE)
