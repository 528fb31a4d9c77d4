import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from sklearn_anogan._base import ImageDetectorMixin, threshold
from sklearn_anogan._calibration import Calibration


@pytest.mark.parametrize(
    "n, share", [(10, 1 / 11), (19, 0.05), (50, 0.05), (400, 0.05)]
)
def test_false_alarms_among_unseen_images(rng, n, share):
    """5 % in the mean, or as few as n scores can tell, however few they are."""
    # Of uniform scores, the threshold is the share of unseen ones below it.
    found = [threshold(rng.uniform(size=n), "auto") for _ in range(20_000)]
    assert abs(np.mean(found) - share) < 0.002


def test_share_of_the_images_themselves(rng):
    scores = rng.normal(size=1001)
    assert np.mean(scores < threshold(scores, 0.2)) == pytest.approx(0.2, abs=1e-3)


class Identity(ImageDetectorMixin, BaseEstimator):
    """Its scores are the samples."""

    _parameter_constraints = {}  # noqa: RUF012

    def fit(self, X, y=None):
        self.calibration_ = Calibration({"score": X}, len(X) > 4, parameters={})
        return self

    def score_samples(self, X):
        return np.asarray(X, dtype=float)

    def _held_out_scores(self):
        return self.calibration_.held_out["score"]


def test_p_values_by_hand():
    detector = Identity().fit(np.array([3.0, 1.0, 2.0, 2.0, 5.0]))
    p = detector.p_values([0, 1, 1.5, 2, 5, 6])
    np.testing.assert_allclose(p, np.array([1, 2, 2, 4, 6, 6]) / 6)
    assert p.dtype == np.float64


@pytest.mark.parametrize("n", [19, 100])
def test_p_values_hold_what_they_promise(rng, n):
    """In the mean at most a, which n + 1 possible values let them reach."""
    levels = np.array([0.01, 0.05, 0.1, 0.5])
    shares = [
        (
            Identity().fit(rng.normal(size=n)).p_values(rng.normal(size=50))[:, None]
            <= levels
        ).mean(axis=0)
        for _ in range(4000)
    ]
    reachable = np.floor(levels * (n + 1) + 1e-9) / (n + 1)
    np.testing.assert_allclose(np.mean(shares, axis=0), reachable, atol=0.004)
    if n == 100:
        spread = np.sqrt(levels * (1 - levels) * (1 / (n + 2) + 1 / 50))
        np.testing.assert_allclose(np.std(shares, axis=0), spread, rtol=0.1)


def test_p_values_of_few_images():
    detector = Identity()
    with pytest.raises(NotFittedError):
        detector.p_values([1])
    with pytest.warns(UserWarning, match="fewer than 40 images.*p-values are too low"):
        detector.fit(np.arange(3.0)).p_values([1])
