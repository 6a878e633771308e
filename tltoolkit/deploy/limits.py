"""How much a server takes on."""

from dataclasses import dataclass

from tltoolkit._checks import Checked
from tltoolkit.deploy.terms import LIMITS


@dataclass(frozen=True, kw_only=True)
class Limits(Checked):
    """How much a server takes on; what is above is refused, and the next request is not harmed.

    The pixels of an image are limited by the decoder, `data.decoding.MAX_PIXELS`.

    Attributes:
        batch_size: Images in one forward pass, at most.
        wait: Seconds that a lone image waits for others to share its pass.
        images: Of one request.
        bytes: Of one request, with all its images.
        requests: Being read, waiting or computed at once; a further one gets 503.
        reading: Seconds until a request must have come as a whole, otherwise 408.
        answering: Seconds from then to its answer, otherwise 503.
    """

    table = LIMITS

    batch_size: int = 16  # beyond it a pass gains nothing per image on a CPU, and all wait longer
    wait: float = 0.003  # a small part of the 10 ms that a small network takes for one image
    images: int = 16  # as many as people look at; more is a job for `tltoolkit predict`
    bytes: int = 64 * 2**20  # several photographs of a telephone, or one large TIFF
    requests: int = 64  # some seconds of work on two cores; with `images`, 150 MB of 224 pixels
    reading: float = 30.0  # 64 MB at 18 Mbit/s
    answering: float = 30.0  # several times what `requests` of one image take
