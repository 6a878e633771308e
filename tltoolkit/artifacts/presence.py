"""Whether a folder holds a saved classifier, told before anything heavy is loaded."""

import os
from pathlib import Path

from tltoolkit.files import claiming

MANIFEST = "manifest.json"
FOREIGN = "model.keras"
_FOREIGN_SAY = "tltoolkit.foreign.load reads a .keras file, on your own request"


def check(source: Path) -> None:
    """Raise unless a folder holds what `save` or a run has written.

    Raises:
        FileNotFoundError: There is no classifier.
        ValueError: It is a file, or a model of another origin.
    """
    # Told apart first: whoever gives a model file needs another function, not a reason.
    if source.suffix in (".h5", ".keras") and source.is_file():
        raise ValueError(f"{source} is a file, not a saved classifier's directory; {_FOREIGN_SAY}")
    if source.is_file():
        raise ValueError(
            f"{source} is a file, not a saved classifier's directory; load that, and ask it about "
            "images by predict"
        )
    if (source / FOREIGN).is_file():
        raise ValueError(f"{source / FOREIGN} is a model of your own; {_FOREIGN_SAY}")
    # A broken link is there, too, and is refused as a link further on.
    if not os.path.lexists(source / MANIFEST):
        why = f"{MANIFEST} is missing" if source.is_dir() else "there is no such directory"
        if (source / claiming.STARTED).is_file():
            why = "its run is not finished; the same fine_tune call goes on with it"
        raise FileNotFoundError(f"no saved classifier in {source}: {why}")
