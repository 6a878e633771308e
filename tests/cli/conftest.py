"""What tests of commands share."""

from collections.abc import Iterator

import pytest


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
