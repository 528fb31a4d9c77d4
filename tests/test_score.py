from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import lognorm
from sklearn.neighbors import NearestNeighbors

from sklearn_anogan import AnoGANDetector, _samples
from sklearn_anogan._calibration import PIXEL_SHARES
from sklearn_anogan._holding_out import hold_out
from sklearn_anogan._score import JOINS, TERMS, Term
from sklearn_anogan._score._density import relative_distances
from sklearn_anogan._score._joins import surprise
from sklearn_anogan._score._largest_deviation import LargestDeviation, deviations
from sklearn_anogan._score._largest_residual import LargestResidual, residual_scale
from sklearn_anogan._score._term import Batch
from sklearn_anogan.persistence import load, save

NAMES = ("whole", "place", "other")


class OfGroup(Term):
    def __init__(self, name, group, sees_details=False):
        self.name, self.group, self.sees_details = name, group, sees_details


#: The first two terms look at the same thing.
STUBS = [OfGroup("whole", "a"), OfGroup("place", "a"), OfGroup("other", "b")]

#: Of images that the networks see as they are.
MODEL = SimpleNamespace(seen_share=1.0)


def named(terms):
    return dict(zip(NAMES, np.asarray(terms).T, strict=True))


def loss_of(terms, held_out, stubs=STUBS, model=MODEL):
    """The calibrated loss of terms (n, 3), by held-out terms (m, 3)."""
    return JOINS["calibrated"].loss(named(terms), named(held_out), stubs, model)


def log_normal(values, held_out):
    """-log of the share beyond values, under the log-normal of held-out ones."""
    logs = np.log(held_out)
    return -np.log(lognorm.sf(values, s=logs.std(), scale=np.exp(logs.mean())))


@pytest.fixture
def terms(rng):
    """Terms of different units and spreads."""
    return np.exp(rng.normal(size=(4000, 3)) * [0.1, 2, 1] + [5, -3, 0])


# How terms are joined


def test_sum_of_log_p_values(terms):
    """Of the first two terms, the rarer one counts."""
    x = np.array([[150.0, 3.0, 1.0], [160.0, 0.01, 0.1], [185.0, 0.05, 20.0]])
    whole, place, other = (
        log_normal(values, t) for values, t in zip(x.T, terms.T, strict=True)
    )
    assert whole[0] < place[0]
    assert whole[2] > place[2]
    expected = np.maximum(whole, place) + other
    np.testing.assert_allclose(loss_of(x, terms), expected, rtol=1e-6)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_surprise_beyond_the_largest(rng, n):
    """A straight line over the logarithm of the term, as steep as at its beginning."""
    held_out = rng.lognormal(sigma=2, size=n)
    logs = np.log(held_out)
    largest = (logs.max() - logs.mean()) / logs.std()
    z = largest + np.array([0.0, 1, 2, 10])
    found = surprise(np.exp(logs.mean() + z * logs.std()), held_out)
    at_largest = log_normal(held_out.max(), held_out)
    expected = at_largest + largest * np.array([0.0, 1, 2, 10])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isfinite(surprise(np.array([0.0, 1e300]), held_out)).all()


def test_surprise_has_no_steps(rng):
    held_out = np.sort(rng.lognormal(sigma=2, size=30))
    found = surprise(held_out, held_out)
    np.testing.assert_allclose(found, log_normal(held_out, held_out), rtol=1e-6)
    for sign in (-1, 1):
        near = surprise(held_out * (1 + sign * 1e-9), held_out)
        np.testing.assert_allclose(near, found, atol=1e-6)


def test_surprise_beyond_a_constant():
    """Where normal images are all alike, the further off an image, the rarer."""
    for held_out in (np.full(5, 2.0), np.zeros(5), np.ones(1)):
        found = surprise(held_out[0] + np.array([0, 1e-3, 1.0, 100]), held_out)
        assert np.isfinite(found).all()
        assert (np.diff(found) > 0).all()


def test_surprise_never_falls(rng):
    held_out = rng.lognormal(size=40)
    x = np.geomspace(held_out.min(), held_out.max() * 100, 2000)
    assert (np.diff(surprise(x, held_out)) > 0).all()


def test_of_shrunk_images_details_count_more(terms):
    """What the networks see of an image is weighted by its share of the pixels."""
    x, model = terms[:50], SimpleNamespace(seen_share=0.25)
    stubs = [
        OfGroup("whole", "a", sees_details=True),
        OfGroup("place", "a"),
        OfGroup("other", "b"),
    ]
    whole, place, other = (
        surprise(values, held_out)
        for values, held_out in zip(x.T, terms.T, strict=True)
    )
    expected = np.maximum(whole, place / 4) + other / 4
    np.testing.assert_allclose(loss_of(x, terms, stubs, model), expected)


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
    expected = surprise(terms[:, 1], terms[:, 1])
    np.testing.assert_allclose(loss - loss[0], expected - expected[0], atol=1e-9)
    assert np.isfinite(loss_of(terms, terms[:1])).all()


def test_the_papers_sum_needs_no_calibration(rng):
    values = {"residual": rng.uniform(size=5), "discrimination": rng.uniform(size=5)}
    join = JOINS["anogan"]
    expected = 0.7 * values["residual"] + 0.3 * values["discrimination"]
    loss = join.loss(values, {}, [], None, discrimination_weight=0.3)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


# The largest residual, which learns from held-out images


class StubPairs:
    """Pairs of images whose generated images are all 0."""

    def __init__(self, differences, groups=None, size=2):
        self.differences, self.size = torch.tensor(differences), size
        self.groups = np.arange(len(differences)) if groups is None else groups

    def __len__(self):
        return len(self.differences)

    def blocks(self):
        for block in self.differences.split(self.size):
            yield block, torch.zeros_like(block)

    @property
    def distances(self):
        """As if differences were distances of a ruler."""
        return as_distances(self.differences)


def as_distances(x):
    return x[:, 0, ::2, ::2], x[:, 0]


def batch_of(x, G_z=None, distances=None):
    """A batch of images that the networks see as they are."""
    networks = SimpleNamespace(seen=lambda x: x)
    return Batch(x, G_z, networks, torch.arange(len(x)), lambda: distances)


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


@pytest.mark.parametrize("groups", [np.arange(6), np.array([0, 1, 0, 2, 1, 0])])
def test_each_held_out_image_is_measured_by_other_groups(rng, groups):
    differences = rng.normal(size=(6, 2, 5, 7)).astype(np.float32)
    term, model = LargestResidual(), SimpleNamespace(ruler="a ruler")
    learned, values = term.fit(StubPairs(differences, groups), model)
    assert {*learned} == {"scale"}
    np.testing.assert_allclose(learned["scale"], scale_of(differences), rtol=1e-6)
    for i in range(6):
        others = differences[groups != groups[i]]
        x = torch.tensor(differences[[i]])
        scale = {"scale": torch.tensor(scale_of(others))}
        expected = term.measure(batch_of(x, torch.zeros_like(x)), scale)
        np.testing.assert_allclose(values[i], expected, rtol=1e-6)
    for n in (1, 4):  # of one group
        alone = StubPairs(differences[:n], np.zeros(n, int))
        assert np.isfinite(term.fit(alone, model)[1]).all()


# Deviations from what is usual in each place


def test_map_of_deviations(rng):
    """In standard deviations of both distances, and always above 0."""
    mean, std = torch.rand(2, 6, 4).double() + 1
    learned = {"fine_mean": mean, "fine_std": std}
    learned |= {"coarse_mean": mean[::2, ::2], "coarse_std": std[::2, ::2]}
    z = torch.tensor([0.0, 3, -900, 900]).double()[:, None, None]
    found = deviations(
        mean[::2, ::2] + 0.4 * z * std[::2, ::2], mean + z * std, learned
    )
    assert found.shape == (4, 6, 4)
    wanted = np.log(2), np.log1p(np.exp(3)), 0, 900
    for value, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)
    # A coarse distance counts around its place.
    coarse = learned["coarse_mean"].clone()
    coarse[1, 0] += 100
    (one,) = deviations(coarse[None], mean[None], learned)
    assert divmod(int(one.argmax()), 4) in [(2, 0), (3, 0)]
    assert (one[:1] < 1).all()


def test_usual_deviations(rng):
    """Means and standard deviations, averaged over 3x3 places and over 9x9 pixels."""
    distances = rng.uniform(size=(20, 1, 22, 22)).astype(np.float32)
    learned, _ = LargestDeviation().fit(StubPairs(distances), None)
    fine, coarse = (
        distances[:, 0].astype(float),
        distances[:, 0, ::2, ::2].astype(float),
    )
    for name, maps, radius in (("fine", fine, 4), ("coarse", coarse, 1)):
        window = slice(5 - radius, 6 + radius)
        near = maps[:, window, window]
        mean, std = (learned[f"{name}_{what}"] for what in ("mean", "std"))
        assert mean.shape == std.shape == maps.shape[1:]
        np.testing.assert_allclose(mean[5, 5], near.mean(), rtol=1e-6)
        expected = near.std(0).mean() + 0.01 * maps.std(0).mean()
        np.testing.assert_allclose(std[5, 5], expected, rtol=1e-3)


@pytest.mark.parametrize("groups", [np.arange(6), np.array([0, 1, 0, 2, 1, 0])])
def test_each_held_out_image_deviates_from_other_groups(rng, groups):
    distances = rng.uniform(size=(6, 1, 8, 10)).astype(np.float32)
    pairs, term = StubPairs(distances, groups), LargestDeviation()
    quantiles = term.fit(pairs, None)[0]["map_quantiles"]
    _, values = term.fit(pairs, None)
    maps = []
    for i in range(6):
        others = distances[groups != groups[i]]
        learned, _ = term.fit(StubPairs(others), None)
        x = torch.tensor(distances[[i]])
        batch = batch_of(x, distances=as_distances(x))
        np.testing.assert_allclose(values[i], term.measure(batch, learned), rtol=1e-6)
        coarse, fine = (each.double() for each in as_distances(x))
        maps.append(deviations(coarse, fine, learned))
    assert float(quantiles[-1]) == pytest.approx(values.max(), rel=1e-6)
    median = np.quantile(np.ravel(maps), 1 - PIXEL_SHARES[12], method="higher")
    assert float(quantiles[12]) == pytest.approx(median, rel=1e-5)
    for n in (1, 4):  # of one group
        alone = StubPairs(distances[:n], np.zeros(n, int))
        assert np.isfinite(term.fit(alone, None)[1]).all()


def test_deviation_of_an_image(rng):
    """The root mean square of the coarse distances, in the image's own row."""
    coarse = torch.tensor(rng.uniform(size=(5, 3, 4)).astype(np.float32))
    rows = torch.tensor([3, 0, 0])
    batch = Batch(None, None, None, rows, lambda: (coarse, coarse))
    expected = np.sqrt((coarse.numpy()[[3, 0, 0]].astype(float) ** 2).mean((1, 2)))
    np.testing.assert_allclose(TERMS["deviation"].measure(batch, {}), expected)


# A term of one's own


class Brightness(Term):
    """How far the mean of an image is from the mean over the held-out images."""

    name = "brightness"
    group = "brightness"

    def measure(self, batch, learned):
        return (batch.x.double().mean((1, 2, 3)) - learned["mean"]).abs()

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

    added = surprise(terms.brightness, held_out)
    np.testing.assert_allclose(
        detector.score_samples(zeros), without.score_samples(zeros) - added
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


@pytest.mark.parametrize("size", [(5, 7), (13, 11), (9, 9)])
def test_deviations_of_an_image_do_not_depend_on_the_batch(size, rng):
    """Sizes that no vector of the processor divides; as float64, of answers too."""
    coarse = torch.from_numpy(rng.uniform(0, 9, (17, 3, 3)))
    fine = torch.from_numpy(rng.uniform(0, 1, (17, *size)))
    learned = {
        "coarse_mean": torch.full((3, 3), 4.0, dtype=torch.float64),
        "coarse_std": torch.ones(3, 3, dtype=torch.float64),
        "fine_mean": torch.full(size, 0.5, dtype=torch.float64),
        "fine_std": torch.full(size, 0.1, dtype=torch.float64),
    }
    together = deviations(coarse, fine, learned)
    alone = [
        deviations(c[None], f[None], learned) for c, f in zip(coarse, fine, strict=True)
    ]
    assert together.equal(torch.cat(alone))


# Density


def neighbours_by_hand(x, normal, metric="euclidean"):
    """The term for one image, by the nearest neighbours of scikit-learn."""
    nearest = NearestNeighbors(n_neighbors=5, metric=metric).fit(normal)
    own = nearest.kneighbors()[0].mean(axis=1)
    d, places = nearest.kneighbors(x[None])
    return d.mean() / (own[places].mean() + own.mean())


def of_term(detector, X):
    return detector.score_terms(X)["density"]


def normal_and_held_out(X):
    """X in the order of the normal images that the term compares with."""
    training, held_out = hold_out(len(X))
    return np.concatenate([X[training], X[held_out]]), X[held_out]


def test_density_of_images(fitted, zeros, digits):
    """Distances of pixels from training and held-out images alike, none weighted."""
    images, _ = digits
    normal, _ = normal_and_held_out(zeros)
    expected = [
        neighbours_by_hand(x, normal.reshape(-1, 64))
        for x in images[1:5].reshape(4, 64)
    ]
    np.testing.assert_allclose(of_term(fitted, images[1:5]), expected, rtol=1e-5)


def test_density_of_rows(rng, quick):
    """Columns are scaled by training rows alone, whatever their units."""
    units, centre = np.array([[1, 10, 0.1, 0], [0, 5, 5, 7]])
    X = units * rng.normal(size=(60, 4)) + centre
    new = rng.normal(size=(5, 4)) + centre  # the last column has been constant
    found = of_term(AnoGANDetector(**quick).fit(X), new)
    half_width = np.ptp(X, axis=0) / 2
    half_width[3] = 1
    normal, new = normal_and_held_out(X)[0] / half_width, new / half_width
    rows = X[hold_out(60)[0]] / half_width
    scale = np.sqrt(rows.std(axis=0) * np.ptp(rows, axis=0))
    scale[3] = np.median(scale[:3])
    expected = [neighbours_by_hand(x / scale, normal / scale, "cityblock") for x in new]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_normal_images_that_are_all_the_same():
    """As when images differ in what is lost when they are shrunk."""
    found = np.array([np.zeros(7), np.ones(7)])
    np.testing.assert_array_equal(relative_distances(found, np.zeros(7)), [0, 1])


def test_an_image_is_not_its_own_neighbour(quick, zeros, rng):
    """Neither a training image that is scored again, nor a held-out image."""
    X = zeros + 0.01 * rng.rand(*zeros.shape)  # no two distances are the same
    fitted = AnoGANDetector(**quick).fit(X)
    normal, held_out = normal_and_held_out(X)
    flat = normal.reshape(-1, 64)
    own = NearestNeighbors(n_neighbors=5).fit(flat).kneighbors()
    expected = own[0].mean(axis=1)
    expected /= expected[own[1]].mean(axis=1) + expected.mean()
    np.testing.assert_allclose(of_term(fitted, normal), expected, rtol=1e-4)
    of_held_out = fitted.calibration_.held_out["density"]
    np.testing.assert_allclose(of_held_out, expected[-len(held_out) :], rtol=1e-4)


def test_density_leaves_groups_out(zeros, quick):
    """Copies in the group of a held-out image do not make the image look usual."""
    X = np.repeat(zeros[:40], 3, axis=0)
    groups = np.repeat(np.arange(40), 3)
    detector = AnoGANDetector(**quick).fit(X, groups=groups)
    new = np.median(of_term(detector, zeros[60:120]))
    held_out = np.median(detector.calibration_.held_out["density"])
    assert held_out > 0.7 * new
    assert held_out < 1.4 * new


def test_copies_in_rows(rng, quick):
    """Of mostly the same row, no term is infinite, and others are still told apart."""
    X = np.concatenate([np.zeros((200, 3)), rng.normal(size=(20, 3))])
    X = X[rng.permutation(220)]
    detector = AnoGANDetector(**quick, contamination=0.1).fit(X)
    found = of_term(detector, np.array([[0.0, 0, 0], [0.1, 0, 0], [5, 5, 5]]))
    assert np.isfinite(found).all()
    assert found[0] == 0
    assert found[0] < found[1] < found[2]


def test_rows_that_are_all_copies_but_one(quick):
    X = np.zeros((40, 3))
    X[0] = 1
    found = of_term(AnoGANDetector(**quick).fit(X), np.array([[0.0, 0, 0], [9, 9, 9]]))
    assert np.isfinite(found).all()
    assert found[0] < found[1]


@pytest.mark.parametrize("n", [2, 3, 7, 8, 12])
def test_density_of_few_images(zeros, quick, n):
    detector = AnoGANDetector(**quick).fit(zeros[:n])
    found = of_term(detector, zeros[:20])
    assert np.isfinite(found).all()
    assert (found > 0).all()
    # Even if all of them train and are held out, each counts once.
    assert len(detector.calibration_.learned["density"]["distances"]) == n


@pytest.mark.parametrize(
    "chw, expected",
    [((4, 1, 1), 4), ((1, 8, 8), 4), ((3, 16, 16), 1), ((1, 32, 32), 0.25)],
)
def test_weight_of_the_density(chw, expected):
    """Distances of large images tell less."""
    model = SimpleNamespace(seen_share=1.0, seen_chw=chw)
    assert TERMS["density"].weight_in(model) == expected
    shrunk = SimpleNamespace(seen_share=0.25, seen_chw=chw)
    assert TERMS["density"].weight_in(shrunk) == expected / 4


def test_many_training_images_are_not_all_kept(zeros, quick, monkeypatch):
    monkeypatch.setattr(_samples, "_MOST", 20)
    detector = AnoGANDetector(**quick).fit(zeros)
    assert detector.model_.samples.shape == (20, 64)
    n_held_out = len(detector.calibration_.groups)
    assert detector.calibration_.learned["density"]["distances"].shape == (
        20 + n_held_out,
    )


def test_large_images_are_kept_small(rng, quick):
    detector = AnoGANDetector(**quick, network_side=12).fit(rng.rand(9, 40, 20, 3))
    assert detector.model_.samples.shape[1] == 8 * 4 * 3


def test_calibrate_replaces_the_held_out_neighbours(zeros, quick):
    detector = AnoGANDetector(**quick).fit(zeros[:80])
    detector.calibrate(zeros[100:120])
    learned = detector.calibration_.learned["density"]
    np.testing.assert_allclose(
        detector.model_.value_range.to_user(learned["samples"].reshape(-1, 1, 8, 8)),
        zeros[100:120, None],
        atol=1e-5,
    )


def test_images_that_networks_see_as_one_pixel(rng, quick):
    """Held-out and new images are measured by the same distance."""
    X = rng.rand(40, 6, 5, 3)
    detector = AnoGANDetector(**quick, network_side=1).fit(X)
    _, held_out = hold_out(40)
    np.testing.assert_allclose(
        of_term(detector, X[held_out]),
        detector.calibration_.held_out["density"],
        rtol=1e-5,
    )
