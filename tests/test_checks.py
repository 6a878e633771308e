import math

import numpy as np
import pytest

from tltoolkit import _checks


def test_messages_name_the_argument_the_rule_and_the_value() -> None:
    with pytest.raises(ValueError, match=r"^`fit` must be one of 'a', 'b'\. Received: fit='c'$"):
        _checks.one_of("fit", "c", ["a", "b"])
    with pytest.raises(ValueError, match=r"^`n` must be an integer >= 1 and <= 3\. Received: n=4$"):
        _checks.integer("n", 4, 1, 3)
    with pytest.raises(ValueError, match=r"`x` must be a finite number >= 0 and < 1\. .* x=1$"):
        _checks.number("x", 1, 0, below=1)
    with pytest.raises(TypeError, match=r"`name` must be a string\. Received: name=3"):
        _checks.instance("name", 3, str, "a string")


@pytest.mark.parametrize("value", [True, 1.5, "3", None, math.nan])
def test_integer_refuses_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match="must be an integer"):
        _checks.integer("n", value)


@pytest.mark.parametrize("value", [True, "3", None, math.nan, math.inf, 1j])
def test_number_refuses_what_is_not_finite_and_real(value: object) -> None:
    with pytest.raises(ValueError, match="must be a finite number"):
        _checks.number("x", value)


def test_numpy_scalars_are_numbers() -> None:
    _checks.integer("n", np.int64(3), 1)
    _checks.number("x", np.float32(0.5), above=0, below=1)


def test_a_long_value_is_cut() -> None:
    assert len(str(_checks.fail("x", "short", "y" * 10_000))) < 300
