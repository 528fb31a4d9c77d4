import numpy as np
import pytest
from scipy.stats import lognorm

from sklearn_anogan._calibration import Calibration, calibrated_loss


@pytest.fixture
def terms(rng):
    """Terms of different units and spreads."""
    return np.exp(rng.normal(size=(4000, 2)) * [0.1, 2] + [5, -3])


def test_sum_of_log_p_values(terms):
    calibration = Calibration.of(terms)
    x = np.array([[150.0, 0.05], [200.0, 3.0]])
    p = [
        lognorm.sf(x[:, i], s=np.log(t).std(), scale=np.exp(np.log(t).mean()))
        for i, t in enumerate(terms.T)
    ]
    expected = -np.log(p[0]) - np.log(p[1])
    np.testing.assert_allclose(calibrated_loss(x, calibration), expected, rtol=1e-6)


def test_units_do_not_matter(terms):
    factors = np.array([1e-3, 1e3])
    a = calibrated_loss(terms, Calibration.of(terms))
    b = calibrated_loss(terms * factors, Calibration.of(terms * factors))
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_grows_with_each_term(terms):
    calibration = Calibration.of(terms)
    typical = np.exp(np.log(terms).mean(axis=0))
    for i in range(2):
        x = np.tile(typical, (50, 1))
        x[:, i] *= np.geomspace(1, 1e6, 50)
        loss = calibrated_loss(x, calibration)
        assert (loss > 0).all()
        assert np.isfinite(loss).all()
        assert (np.diff(loss) > 0).all()


def test_a_constant_term_tells_nothing(terms):
    """Zeros too, and a single image to calibrate with."""
    both = np.c_[terms[:, :1], np.zeros(len(terms))]
    loss = calibrated_loss(both, Calibration.of(both))
    alone = calibrated_loss(terms[:, :1], Calibration.of(terms[:, :1]))
    np.testing.assert_allclose(loss - loss[0], alone - alone[0], atol=1e-9)
    assert np.isfinite(calibrated_loss(terms, Calibration.of(terms[:1]))).all()
