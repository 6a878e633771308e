"""The methods that look inside a network, and which of them work for it."""

from collections.abc import Sequence

from tltoolkit import _checks
from tltoolkit.explaining.cam import Cam
from tltoolkit.explaining.found import Finder
from tltoolkit.explaining.gradients import GradCam
from tltoolkit.explaining.parts import UnreadableError, ends, head_of
from tltoolkit.explaining.terms import GRAD_CAM, OCCLUSION
from tltoolkit.model.network import Network


def finder(network: Network, method: str, by_block: bool, multi_label: bool) -> Finder:
    """What finds evidence by `"cam"` or `"grad_cam"`.

    Raises:
        ValueError: The method does not work for the network; the message says which do.
    """
    maps = ends(network)
    others = [GRAD_CAM, OCCLUSION] if maps else [OCCLUSION]
    if method == GRAD_CAM:
        if not maps:
            without = (
                "a map of positions below its head" if network.output is not None else "a graph"
            )
            raise _misfit(method, others, f"a model without {without}")
        return GradCam(network, maps, multi_label, by_block)
    try:
        dense, read = head_of(network)
    except UnreadableError as error:
        what = f"a head that is no weighted sum of statistics of maps: there is {error}"
        raise _misfit(method, others, what) from error
    if all(part.grid == (1, 1) for part in read):
        raise _misfit(method, [OCCLUSION], "a head on vectors, which have no positions")
    return Cam(network, dense, read, multi_label, by_block)


def _misfit(method: str, others: Sequence[str], what: str) -> ValueError:
    return _checks.fail("method", f"{' or '.join(map(repr, others))} for {what}", method)
