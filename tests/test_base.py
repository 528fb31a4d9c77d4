import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from sklearn_anogan._base import ImageDetectorMixin
from sklearn_anogan._calibration import Calibration


class Identity(ImageDetectorMixin, BaseEstimator):
    """Its scores are the samples."""

    _parameter_constraints = {}  # noqa: RUF012

    def __init__(self, contamination="auto"):
        self.contamination = contamination

    def fit(self, X, y=None, groups=None):
        self._calibrate(np.asarray(X, float), np.arange(len(X)), groups)
        vars(self).pop("shift_p_value_", None)
        return self

    def score_samples(self, X):
        return np.asarray(X, dtype=float)

    def _check_images(self, X, reset):
        return self.score_samples(X)

    def _calibrate(self, images, index, groups=None, replaced=None):
        self.calibration_ = Calibration(
            {"score": images},
            np.arange(len(images)) if groups is None else groups,
            groups is not None,
            len(images) > 4,
            parameters={},
            replaced=replaced,
        )
        self._set_threshold(images, index)

    def _scores_of(self, images):
        return images

    def _held_out_scores(self):
        return self.calibration_.held_out["score"]

    def _measured(self, images):
        return images

    def _by_fold(self, images):
        held_out = self._held_out_scores()
        yield np.full(len(held_out), True), held_out, images

    def _tell_of_known_images(self, groups):
        pass

    def _map_quantiles(self):
        return None


def silently(method, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(*args, **kwargs)


def test_p_values_by_hand():
    detector = Identity().fit(np.array([3.0, 1.0, 2.0, 2.0, 5.0]))
    with pytest.warns(UserWarning, match="below 1/6"):
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


def test_p_values_hold_for_images_of_new_groups(rng):
    """Also if the images of a group are all alike, where single images would fail."""
    groups = np.repeat(np.arange(19), rng.randint(1, 12, size=19))
    levels, kept, broken = np.array([0.05, 0.1, 0.2]), [], []
    for _ in range(4000):
        scores = rng.normal(size=19)[groups]
        new = rng.normal(size=20)
        p = Identity().fit(scores, groups=groups).p_values(new)
        kept.append((p[:, None] <= levels).mean(axis=0))
        p = Identity().fit(scores).p_values(new)
        broken.append((p[:, None] <= levels).mean(axis=0))
    np.testing.assert_allclose(np.mean(kept, axis=0), levels, atol=0.006)
    assert (np.mean(broken, axis=0) > levels + 0.01).any()


def test_p_values_of_few_images():
    detector = Identity()
    with pytest.raises(NotFittedError):
        detector.p_values([1])
    with pytest.warns(UserWarning, match="fewer than 8 images.*p-values are too low"):
        detector.fit(np.arange(3.0)).p_values([1])


def test_p_values_tell_how_many_images_they_need(rng):
    detector = Identity().fit(rng.normal(size=18))
    with pytest.warns(UserWarning, match="fit to at least 38 images, or call calib"):
        assert detector.p_values([-9]) == 1 / 19
    detector.fit(rng.normal(size=19))
    assert detector.p_values([-9]) == 1 / 20  # silent
    detector.fit(rng.normal(size=36), groups=np.arange(36) // 2)
    with pytest.warns(UserWarning, match="^Number of groups .* 18.*at least 38 groups"):
        assert detector.p_values([-9]) == 1 / 19


def test_threshold_of_few_groups(rng):
    detector = Identity().fit(rng.normal(size=40), groups=np.arange(40) % 4)
    with pytest.warns(UserWarning, match=r"Number of groups .*: 4.* about 20.0%"):
        detector.predict([0])
    detector.fit(rng.normal(size=40), groups=np.arange(40) % 20).predict([0])  # silent
    detector.fit(rng.normal(size=10)).predict([0])
    detector.set_params(contamination=0.1)
    detector.fit(rng.normal(size=40), groups=np.arange(40) % 4).predict([0])


def test_a_threshold_far_beyond_the_other_images(rng):
    """Who has set it is said; clean data are silent, even with heavy tails."""
    scores = -rng.gamma(1.0, size=40)
    Identity().fit(scores)
    Identity().fit(-rng.lognormal(sigma=1.5, size=40))
    Identity().fit(np.r_[np.full(30, -3.0), np.full(10, -3.001)])
    scores[[11, 12]] = [-9600, -8688]
    with pytest.warns(
        UserWarning, match=r"offset_ = -8254, .*Image 12 of X has set it"
    ):
        Identity().fit(scores)
    Identity(contamination=0.1).fit(scores)  # the user knows of anomalies


@pytest.mark.parametrize("contamination", ["auto", 0.2])
def test_calibrate(rng, contamination):
    """By the new images alone; the shift is that from the images of fit."""
    detector = Identity(contamination).fit(rng.normal(size=400))
    X = rng.normal(loc=-3, size=200)
    with pytest.warns(UserWarning, match=r"less normal.*-[23].*and not [-0]"):
        assert detector.calibrate(X) is detector
    assert detector.shift_p_value_ < 1e-6
    fitted = Identity(contamination).fit(X)
    assert detector.offset_ == fitted.offset_
    new = rng.normal(loc=-3, size=50)
    np.testing.assert_array_equal(detector.p_values(new), fitted.p_values(new))
    with pytest.warns(UserWarning, match="more normal"):
        detector.calibrate(rng.normal(loc=3, size=100))
    detector.calibrate(
        rng.normal(size=100)
    )  # no shift from fit, but from the last call
    assert detector.shift_p_value_ > 0.001
    detector.fit(X)
    assert not hasattr(detector, "shift_p_value_")
    assert detector.calibration_.replaced is None


def test_no_shift_is_told_of_by_chance(rng):
    """The p-value is uniform without a shift, with groups as well."""
    found = []
    groups = np.arange(300) % 30
    for i in range(600):
        detector, images = Identity(), rng.normal(size=120)
        if i % 2:
            detector.fit(images[:30][groups], groups=groups)
        else:
            detector.fit(images[:30])
        # Images of a group are alike by a tenth. Each has the distribution of one
        # alone, and the means of groups have another one.
        new = images[30:60][groups] * np.sqrt(0.1)
        new += rng.normal(scale=np.sqrt(0.9), size=300)
        detector = silently(detector.calibrate, new, groups)
        found.append(detector.shift_p_value_)
    np.testing.assert_allclose(np.quantile(found, [0.1, 0.5]), [0.1, 0.5], atol=0.08)


def test_calibrate_with_few_images(rng):
    detector = Identity().fit(rng.normal(size=100))
    detector.calibrate(rng.normal(size=9))
    with pytest.warns(UserWarning, match=r"Number of images .*: 9.*10.0%.*takes 19"):
        detector.predict([0])
    with pytest.raises(ValueError, match="needs at least 8 images, X has 7"):
        detector.calibrate(rng.normal(size=7))
    detector.fit(np.arange(4.0))  # none held out
    detector.calibrate(rng.normal(size=40))
    assert np.isnan(detector.shift_p_value_)


def test_calibrate_that_fails_changes_nothing(rng):
    detector = Identity().fit(rng.normal(size=100))
    before = vars(detector).copy()
    with pytest.raises(ValueError, match=r"groups has the shape \(3,\), but X has 30"):
        detector.calibrate(rng.normal(size=30), groups=[1, 2, 3])
    assert vars(detector) == before
    with pytest.raises(NotFittedError):
        Identity().calibrate([1.0])


def test_a_share_of_pixels_is_no_image():
    detector = Identity().fit(np.arange(40.0))
    with pytest.raises(TypeError, match=r"map_threshold\(false_positive_rate=0.05\)"):
        detector.map_threshold(0.05)
