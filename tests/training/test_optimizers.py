import keras
import numpy as np
import pytest

from tltoolkit.plans import terms
from tltoolkit.training import optimizers


def rates(schedule: object, steps: int) -> np.ndarray:
    return np.array([float(schedule(step)) for step in range(steps)])


def test_cosine_follows_its_formula() -> None:
    steps = np.arange(100)
    expected = 0.3 * (1 + np.cos(np.pi * steps / 100)) / 2
    np.testing.assert_allclose(
        rates(optimizers.schedule("cosine", 0.3, 100, 0), 100), expected, atol=1e-7
    )


def test_warmup_rises_in_a_line_to_the_rate_then_decays_to_zero() -> None:
    seen = rates(optimizers.schedule("cosine", 0.3, 100, 10), 101)
    np.testing.assert_allclose(seen[:11], np.linspace(0.03, 0.3, 11), rtol=1e-5)
    assert (np.diff(seen[10:]) < 0).all()
    assert seen[100] == pytest.approx(0, abs=1e-7)


def test_constant_stays_after_its_warmup() -> None:
    assert optimizers.schedule("constant", 0.3, 100, 0) == 0.3
    seen = rates(optimizers.schedule("constant", 0.3, 100, 10), 100)
    np.testing.assert_allclose(seen[:11], np.linspace(0.03, 0.3, 11), rtol=1e-5)
    np.testing.assert_allclose(seen[10:], 0.3, rtol=1e-6)


def variables() -> list[keras.Variable]:
    return [keras.Variable(np.full((3,), 2.0, "float32"), name=name) for name in ("low", "kernel", "bias")]  # fmt: skip  # noqa: E501


def built(factors: list[float], **options: object) -> tuple[object, list[keras.Variable]]:
    weights = variables()
    settings = {"momentum": 0.0, "weight_decay": 0.0, "clip_norm": None, "undecayed": ()}
    made = optimizers.build(
        options.pop("name", "sgd"),
        lambda factor: 0.1 * factor,
        dict(zip([id(v) for v in weights], factors, strict=True)),
        **{**settings, **options},
    )
    return made, weights


def step(optimizer: object, weights: list[keras.Variable], gradient: float = 1.0) -> np.ndarray:
    gradients = [keras.ops.full((3,), gradient) for _ in weights]
    before = np.array([v.numpy()[0] for v in weights])
    optimizer.apply(gradients, weights)
    return before - np.array([v.numpy()[0] for v in weights])


def test_one_factor_is_a_plain_optimizer() -> None:
    optimizer, weights = built([1.0, 1.0, 1.0])
    assert type(optimizer) is keras.optimizers.SGD
    np.testing.assert_allclose(step(optimizer, weights), 0.1, rtol=1e-6)


def test_each_variable_moves_at_its_own_rate() -> None:
    optimizer, weights = built([0.25, 0.5, 1.0])
    np.testing.assert_allclose(step(optimizer, weights), [0.025, 0.05, 0.1], rtol=1e-5)


@pytest.mark.parametrize("factors", [[1.0, 1.0, 1.0], [0.5, 1.0, 1.0]])
def test_the_gradient_is_clipped_by_its_whole_norm(factors: list[float]) -> None:
    # 9 values of 4 have the norm 12; clipped to 3 each becomes 1.
    optimizer, weights = built(factors, clip_norm=3.0)
    moved = step(optimizer, weights, gradient=4.0)
    np.testing.assert_allclose(moved, 0.1 * np.array(factors), rtol=1e-5)


def test_a_short_gradient_is_left_as_it_is() -> None:
    optimizer, weights = built([0.5, 1.0, 1.0], clip_norm=100.0)
    np.testing.assert_allclose(step(optimizer, weights), [0.05, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize("factors", [[1.0, 1.0, 1.0], [0.5, 1.0, 1.0]])
def test_weight_decay_spares_what_it_is_told_to(factors: list[float]) -> None:
    optimizer, weights = built(factors, weight_decay=0.1)
    decayed = step(optimizer, weights, gradient=0.0)
    np.testing.assert_allclose(decayed, 2.0 * 0.1 * 0.1 * np.array(factors), rtol=1e-4)

    weights = variables()
    spared = optimizers.build(
        "sgd",
        lambda factor: 0.1 * factor,
        dict(zip([id(v) for v in weights], factors, strict=True)),
        momentum=0.0,
        weight_decay=0.1,
        clip_norm=None,
        undecayed=[weights[2]],
    )
    assert (step(spared, weights, gradient=0.0) > 0).tolist() == [True, True, False]


@pytest.mark.parametrize("name", terms.OPTIMIZERS)
@pytest.mark.parametrize("factors", [[1.0, 1.0, 1.0], [0.5, 1.0, 1.0]])
def test_every_optimizer_goes_downhill(name: str, factors: list[float]) -> None:
    optimizer, weights = built(factors, name=name, momentum=0.9, clip_norm=1.0)
    assert (step(optimizer, weights) > 0).all()


def test_a_momentum_may_be_a_whole_number() -> None:
    optimizer, weights = built([1.0, 1.0, 1.0], name="sgd", momentum=0, clip_norm=1.0)
    assert (step(optimizer, weights) > 0).all()


def test_every_name_that_a_stage_may_give_has_an_optimizer() -> None:
    assert list(optimizers.CLASSES) == list(terms.OPTIMIZERS)


def test_what_does_not_move_has_no_say_in_the_norm() -> None:
    moves = np.array([[0.3], [0.4]])
    expected = 0.1 * moves / np.sqrt(3 * (moves**2).sum())
    for named in (True, False):
        optimizer, weights = built([1.0, 0.5, 0.0], clip_norm=1.0)
        optimizer.build(weights)
        gradients = [keras.ops.full((3,), float(g)) for g in (3.0, 4.0, 1e6)]
        before = np.array([v.numpy() for v in weights])
        optimizer.apply(gradients, weights if named else None)
        change = before - np.array([v.numpy() for v in weights])
        np.testing.assert_allclose(change[:2], expected * [[1.0], [0.5]] * np.ones(3), rtol=1e-5)
        np.testing.assert_array_equal(change[2], 0)


def test_an_optimizer_of_several_rates_holds_nothing_of_the_model() -> None:
    """A checkpoint of its variables would store the weights twice, and put them back twice."""
    optimizer, weights = built([1.0, 0.5, 0.0], clip_norm=1.0)
    optimizer.build(weights)
    assert not {id(v) for v in weights} & {id(v) for v in optimizer.variables}
