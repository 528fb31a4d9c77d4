import numpy as np
import pytest
import torch
from scipy.stats import lognorm, norm

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._base import hold_out
from sklearn_anogan._score import JOINS, TERMS, Term
from sklearn_anogan._score._joins import LogNormal
from sklearn_anogan._score._largest_residual import LargestResidual, residual_scale
from sklearn_anogan.persistence import load, save

NAMES = ("whole", "place", "other")


class OfGroup(Term):
    def __init__(self, name, group):
        self.name, self.group = name, group


#: The first two terms look at the same thing.
STUBS = [OfGroup("whole", "a"), OfGroup("place", "a"), OfGroup("other", "b")]


def named(terms):
    return dict(zip(NAMES, np.asarray(terms).T, strict=True))


def loss_of(terms, held_out):
    """The calibrated loss of terms (n, 3), by held-out terms (m, 3)."""
    return JOINS["calibrated"].loss(named(terms), named(held_out), STUBS, None)


@pytest.fixture
def terms(rng):
    """Terms of different units and spreads."""
    return np.exp(rng.normal(size=(4000, 3)) * [0.1, 2, 1] + [5, -3, 0])


# How terms are joined


def test_sum_of_log_p_values(terms):
    """Of the first two terms, the rarer one counts."""
    x = np.array([[150.0, 0.05, 1.0], [200.0, 3.0, 0.1], [170.0, 10.0, 20.0]])
    p = [
        lognorm.sf(x[:, i], s=np.log(t).std(), scale=np.exp(np.log(t).mean()))
        for i, t in enumerate(terms.T)
    ]
    assert p[0][1] < p[1][1]
    assert p[0][2] > p[1][2]
    expected = -np.log(np.minimum(p[0], p[1])) - np.log(p[2])
    np.testing.assert_allclose(loss_of(x, terms), expected, rtol=1e-6)


def test_units_do_not_matter(terms):
    factors = np.array([1e-3, 1e3, 1.0])
    a = loss_of(terms, terms)
    b = loss_of(terms * factors, terms * factors)
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_grows_with_each_term(terms):
    typical = np.exp(np.log(terms).mean(axis=0))
    for i in range(3):
        x = np.tile(typical, (50, 1))
        x[:, i] *= np.geomspace(1, 1e6, 50)
        loss = loss_of(x, terms)
        assert (loss > 0).all()
        assert np.isfinite(loss).all()
        assert (np.diff(loss) > 0).all()


def test_a_constant_term_tells_nothing(terms):
    """Zeros too, and a single image to calibrate with."""
    of_one = terms * [1, 1, 0]
    of_one[:, 0] = of_one[:, 1]  # the same twice, which is not counted twice
    loss = loss_of(of_one, of_one)
    logs = np.log(terms[:, 1])
    expected = -norm.logsf((logs - logs.mean()) / logs.std())
    np.testing.assert_allclose(loss - loss[0], expected - expected[0], atol=1e-9)
    assert np.isfinite(loss_of(terms, terms[:1])).all()


def test_distribution_without_each_image(rng):
    """As if the distribution had been measured anew for each image."""
    for values in (rng.lognormal(size=7), np.full(7, 2.0)):
        found = LogNormal.without_each(values)
        surprise = found.surprise(values)
        for i in range(7):
            expected = LogNormal.of(np.delete(values, i))
            np.testing.assert_allclose(found.mean[i], expected.mean)
            np.testing.assert_allclose(found.std[i], expected.std)
            assert surprise[i] == pytest.approx(expected.surprise(values[i]))


def test_held_out_images_are_joined_as_if_new(rng):
    terms = rng.lognormal(size=(7, 3))
    losses = JOINS["calibrated"].loss_of_held_out(named(terms), STUBS, None)
    for i in range(7):
        expected = loss_of(terms[[i]], np.delete(terms, i, axis=0))
        assert losses[i] == pytest.approx(expected[0])


def test_the_papers_sum_needs_no_calibration(rng):
    values = {"residual": rng.uniform(size=5), "discrimination": rng.uniform(size=5)}
    join = JOINS["anogan"]
    expected = 0.7 * values["residual"] + 0.3 * values["discrimination"]
    for loss in (
        join.loss(values, {}, [], None, discrimination_weight=0.3),
        join.loss_of_held_out(values, [], None, discrimination_weight=0.3),
    ):
        np.testing.assert_allclose(loss, expected, rtol=1e-12)


# The largest residual, which learns from held-out images


class StubPairs:
    """Pairs of images whose generated images are all 0."""

    def __init__(self, differences, size=2):
        self.differences, self.size = torch.tensor(differences), size

    def __len__(self):
        return len(self.differences)

    def blocks(self):
        for block in self.differences.split(self.size):
            yield block, torch.zeros_like(block)


def scale_of(differences):
    return residual_scale(torch.tensor(differences).double().square().mean(0)).numpy()


def test_residual_scale(rng):
    """The root mean square in each place, smoothed and drawn towards the mean."""
    usual = np.ones((2, 20, 30))
    usual[:, :, 15:] = 4
    scale = scale_of(rng.normal(size=(500, 2, 20, 30)) * usual)
    assert scale.shape == (2, 20, 30)
    np.testing.assert_allclose(scale[:, :, :12], np.sqrt(1 + 0.03 * 8.5), rtol=0.1)
    np.testing.assert_allclose(scale[:, :, 18:], np.sqrt(16 + 0.03 * 8.5), rtol=0.1)


def test_residual_scale_where_nothing_differs():
    differences = np.zeros((5, 1, 9, 9))
    assert (scale_of(differences) > 0).all()
    differences[:, :, 0, 0] = 1
    scale = scale_of(differences)
    assert scale.min() > 0.1 * scale.mean()


def test_each_held_out_image_is_measured_by_the_other_images(rng):
    differences = rng.normal(size=(6, 2, 5, 7)).astype(np.float32)
    term = LargestResidual()
    learned, values = term.fit(StubPairs(differences), None)
    np.testing.assert_allclose(learned["scale"], scale_of(differences), rtol=1e-6)
    for i in range(6):
        others = np.delete(differences, i, axis=0)
        x = torch.tensor(differences[[i]])
        scale = {"scale": torch.tensor(scale_of(others))}
        expected = term.measure(x, torch.zeros_like(x), None, scale)
        np.testing.assert_allclose(values[i], expected, rtol=1e-6)
    (value,) = term.fit(StubPairs(differences[:1]), None)[1]
    assert np.isfinite(value)


# A term of one's own


class Brightness(Term):
    """How far the mean of an image is from the mean over the held-out images."""

    name = "brightness"
    group = "brightness"

    def measure(self, x, G_z, networks, learned):
        return (x.double().mean((1, 2, 3)) - learned["mean"]).abs()

    def fit(self, pairs, model):
        means = torch.cat([x.double().mean((1, 2, 3)) for x, _ in pairs.blocks()])
        of_others = (means.sum() - means) / (len(means) - 1)
        return {"mean": means.mean()}, (means - of_others).abs().numpy()

    def shapes(self, model):
        return {"mean": ()}


def test_a_term_takes_one_entry(zeros, quick, tmp_path, monkeypatch):
    """Scores, terms, calibration and files have it, once it is entered."""
    quick |= {"anomaly_score": "calibrated", "self_supervision": 1.0}
    without = AnoGANDetector(**quick).fit(zeros)
    monkeypatch.setitem(TERMS, "brightness", Brightness())
    detector = AnoGANDetector(**quick).fit(zeros)

    x, usual = zeros.mean((1, 2)) / 8 - 1, hold_out(len(zeros))[1]
    terms = detector.score_terms(zeros)
    expected = np.abs(x - x[usual].mean())
    np.testing.assert_allclose(terms.brightness, expected, atol=1e-6)

    held_out = detector.calibration_.held_out["brightness"]
    others = (x[usual].sum() - x[usual]) / (len(usual) - 1)
    np.testing.assert_allclose(held_out, np.abs(x[usual] - others), atol=1e-6)

    surprise = LogNormal.of(held_out).surprise(terms.brightness)
    np.testing.assert_allclose(
        detector.score_samples(zeros), without.score_samples(zeros) - surprise
    )
    assert (detector.p_values(zeros + 8) < 0.1).mean() > 0.9

    save(detector, tmp_path / "detector.safetensors")
    loaded = load(tmp_path / "detector.safetensors")
    for method in ("score_samples", "p_values", "decision_function"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(zeros), getattr(detector, method)(zeros)
        )
    np.testing.assert_array_equal(
        loaded.score_terms(zeros).brightness, terms.brightness
    )

    monkeypatch.undo()
    with pytest.raises(ValueError, match="has the term 'brightness', which is not"):
        load(tmp_path / "detector.safetensors")


def test_files_without_a_new_term_are_read(zeros, quick, tmp_path, monkeypatch):
    """And a term may have the name of an answer."""
    detector = AnoGANDetector(**quick).fit(zeros)
    save(detector, tmp_path / "detector.safetensors")
    term = Brightness()
    term.name = "maps"
    monkeypatch.setitem(TERMS, "maps", term)
    loaded = load(tmp_path / "detector.safetensors")
    np.testing.assert_array_equal(
        loaded.score_samples(zeros), detector.score_samples(zeros)
    )
    found = AnoGANDetector(**quick).fit(zeros).explain(zeros[:3])
    assert found.maps.shape == (3, 8, 8)
    assert found.terms["maps"].shape == (3,)
