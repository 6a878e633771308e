"""What `plan="auto"` compared, as a table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """One thing that `plan="auto"` compared.

    Attributes:
        name: What it is.
        log_loss: Of images that it did not see, after a temperature.
        accuracy: Of the same images; of their labels where several are independent.
        on: Which images those are: `"held out"`, all training and validation images in turn, or
            `"validation"`.
        weight: Its share in what came out, 0..1.
    """

    name: str
    log_loss: float
    accuracy: float
    on: str
    weight: float


class Candidates(tuple[Candidate, ...]):
    """What `plan="auto"` compared, in order. Prints as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        width = max((len(one.name) for one in self), default=0)
        rows = [f"{'':<{width}}  log loss  accuracy  weight  on"]
        for one in self:
            figures = f"{one.log_loss:>8.3f}  {one.accuracy:>8.3f}  {one.weight:>6.2f}"
            rows.append(f"{one.name:<{width}}  {figures}  {one.on}")
        return "\n".join(rows)
