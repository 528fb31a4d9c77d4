import numpy as np
import pytest
from scipy.stats import lognorm, norm

from sklearn_anogan._calibration import (
    Calibration,
    calibrated_loss,
    residual_scale,
    residual_scales_without,
)


@pytest.fixture
def terms(rng):
    """Terms of different units and spreads."""
    return np.exp(rng.normal(size=(4000, 3)) * [0.1, 2, 1] + [5, -3, 0])


def test_sum_of_log_p_values(terms):
    """Of the first two terms, the rarer one counts."""
    calibration = Calibration.of(terms)
    x = np.array([[150.0, 0.05, 1.0], [200.0, 3.0, 0.1], [170.0, 10.0, 20.0]])
    p = [
        lognorm.sf(x[:, i], s=np.log(t).std(), scale=np.exp(np.log(t).mean()))
        for i, t in enumerate(terms.T)
    ]
    assert p[0][1] < p[1][1]
    assert p[0][2] > p[1][2]
    expected = -np.log(np.minimum(p[0], p[1])) - np.log(p[2])
    np.testing.assert_allclose(calibrated_loss(x, calibration), expected, rtol=1e-6)


def test_units_do_not_matter(terms):
    factors = np.array([1e-3, 1e3, 1.0])
    a = calibrated_loss(terms, Calibration.of(terms))
    b = calibrated_loss(terms * factors, Calibration.of(terms * factors))
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_grows_with_each_term(terms):
    calibration = Calibration.of(terms)
    typical = np.exp(np.log(terms).mean(axis=0))
    for i in range(3):
        x = np.tile(typical, (50, 1))
        x[:, i] *= np.geomspace(1, 1e6, 50)
        loss = calibrated_loss(x, calibration)
        assert (loss > 0).all()
        assert np.isfinite(loss).all()
        assert (np.diff(loss) > 0).all()


def test_a_constant_term_tells_nothing(terms):
    """Zeros too, and a single image to calibrate with."""
    of_one = terms * [1, 1, 0]
    of_one[:, 0] = of_one[:, 1]  # the same twice, which is not counted twice
    loss = calibrated_loss(of_one, Calibration.of(of_one))
    logs = np.log(terms[:, 1])
    expected = -norm.logsf((logs - logs.mean()) / logs.std())
    np.testing.assert_allclose(loss - loss[0], expected - expected[0], atol=1e-9)
    assert np.isfinite(calibrated_loss(terms, Calibration.of(terms[:1]))).all()


def test_residual_scale(rng):
    """The root mean square in each place, smoothed and drawn towards the mean."""
    usual = np.ones((2, 20, 30))
    usual[:, :, 15:] = 4
    scale = residual_scale(rng.normal(size=(500, 2, 20, 30)) * usual)
    assert scale.shape == (2, 20, 30)
    np.testing.assert_allclose(scale[:, :, :12], np.sqrt(1 + 0.03 * 8.5), rtol=0.1)
    np.testing.assert_allclose(scale[:, :, 18:], np.sqrt(16 + 0.03 * 8.5), rtol=0.1)


def test_residual_scale_where_nothing_differs():
    differences = np.zeros((5, 1, 9, 9))
    assert (residual_scale(differences) > 0).all()
    differences[:, :, 0, 0] = 1
    scale = residual_scale(differences)
    assert scale.min() > 0.1 * scale.mean()


def test_residual_scale_of_the_others(rng):
    differences = rng.normal(size=(6, 2, 5, 7)).astype(np.float32)
    for i, scale in enumerate(residual_scales_without(differences)):
        others = np.delete(differences, i, axis=0)
        np.testing.assert_allclose(scale, residual_scale(others), rtol=1e-6)
    (scale,) = residual_scales_without(differences[:1])
    np.testing.assert_allclose(scale, residual_scale(differences[:1]))


def test_calibration_without_each_image(rng):
    """As if it had been measured anew for each."""
    terms = rng.lognormal(size=(7, 3))
    terms[:, 1] = 2.0  # tells nothing
    found = Calibration.of_the_others(terms)
    for i in range(7):
        expected = Calibration.of(np.delete(terms, i, axis=0))
        np.testing.assert_allclose(found.mean[i], expected.mean)
        np.testing.assert_allclose(found.std[i], expected.std)
    losses = calibrated_loss(terms, found)
    for i in range(7):
        alone = calibrated_loss(terms, Calibration(found.mean[i], found.std[i]))
        assert losses[i] == pytest.approx(alone[i])
