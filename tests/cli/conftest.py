"""What tests of commands share."""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from tltoolkit.cli import main


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands find out of images is kept, and shall not reach other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of two classes, dark and light noise."""
    root = tmp_path_factory.mktemp("first") / "photos"
    rng = np.random.default_rng(0)
    for c in range(2):
        (root / f"c{c}").mkdir(parents=True)
        # So many that both classes come into every split, whatever the bytes of the files hash to.
        for i in range(30):
            pixels = rng.integers(0, 100, (16, 16, 3)) + 70 * c
            keras.utils.save_img(root / f"c{c}" / f"{i}.png", pixels, scale=False)
    return root


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on them."""
    run = tmp_path_factory.mktemp("trained") / "run"
    words = ["fit", photos, "--weights", "none", "--image-size", 32, "--trunk", "stem"]
    words += ["--plan", "linear_probe", "--val", 0.3, "--seed", 3]
    assert main([*map(str, words), "--run-dir", str(run), "-q"]) == 0
    return run


@pytest.fixture(scope="module")
def stump(shallow: None) -> Iterator[None]:
    """EfficientNet-Lite0 with its first block alone, for trunks that end in it.

    Commands build their classifier anew each time, and the whole network before its trunk.
    """
    from tltoolkit.backbones import assemble
    from tltoolkit.backbones import efficientnet_lite as lite
    from tltoolkit.layers import private

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lite, "_STAGES", lite._STAGES[:1])
        with private.without_values():
            plan = lite.network("efficientnet_lite0")
        patch.setattr(assemble, "_source", lambda *_, **__: plan)
        yield
