"""What test files share."""

import functools
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1200,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, driven by Selenium; a log of what pages complain of."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*CHROMIUM, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    service = webdriver.chrome.service.Service(chromedriver)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(120)  # axe takes seconds, on a busy machine more than the usual 30
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def eagerly() -> Iterator[None]:
    """Steps without graphs: tracing takes most of the time of a training of a few steps.

    For files that are about what is trained, kept or said; those about `fit` itself, validation
    and resuming trace as users do.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def traced(eagerly: None) -> Iterator[None]:
    """Graphs again in a file without: a sweep of twenty steps is worth tracing."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """EfficientNet-Lite0 with one layer to a block: 7 for 16, under the same names.

    For files that are about classifiers of `build_classifier` without weights rather than about
    that network. Its plan, half the time of a build, is made once for each precision.
    """
    from keras import config

    from tltoolkit.backbones import Backbone, assemble, table
    from tltoolkit.backbones import efficientnet_lite as lite

    make = assemble._source
    # Its layers are the same for every size of images.
    sides = None, None
    plans = functools.cache(lambda name, policy: make(table.get(name), sides, pretrained=False))

    def source(backbone: Backbone, sides: tuple[int | None, int | None], pretrained: bool) -> Any:
        if backbone.name != "efficientnet_lite0":  # kept, it would be alive in tests of memory
            return make(backbone, sides, pretrained)
        return plans(backbone.name, config.dtype_policy().name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lite, "_STAGES", tuple(s._replace(repeats=1) for s in lite._STAGES))
        patch.setattr(assemble, "_source", source)
        # Now, so that what a test makes is all that comes alive in it.
        source(table.get("efficientnet_lite0"), sides, pretrained=False)
        yield


@pytest.fixture(scope="module")
def few_draws() -> Iterator[None]:
    """A learning curve whose intervals come of 5 draws for 200: each draw fits a law anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tltoolkit.tune.curve.DRAWS", 5)
        yield
