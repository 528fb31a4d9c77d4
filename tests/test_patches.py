import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_anogan import AnoGANDetector, PatchDetector, _patches
from sklearn_anogan._holding_out import check_groups, hold_out


class Echo(OutlierMixin, BaseEstimator):
    """A detector whose maps are the patches themselves."""

    def __init__(self, image_shape=None, random_state=None):
        self.image_shape = image_shape
        self.random_state = random_state

    def fit(self, X, y=None):
        self.rows_ = X
        return self

    def score_samples(self, X):
        return -X.max(axis=1).astype(float)

    def anomaly_map(self, X):
        return X.reshape(-1, *self.image_shape).mean(-1)


class NoMaps(Echo):
    """A detector that only scores patches, by minus their largest value."""

    anomaly_map = property()


@pytest.fixture
def images(rng):
    """Grey images of different sizes."""
    return [rng.uniform(size=size) for size in [(20, 31), (8, 8), (9, 50), (64, 17)]]


def patches_of(image, shape, stride):
    """All patches of an image, by hand: the last ones end with it."""
    tops, lefts = (
        sorted({*range(0, n - side + 1, step), n - side})
        for n, side, step in zip(image.shape[:2], shape, stride, strict=True)
    )
    return [
        image[top : top + shape[0], left : left + shape[1]]
        for top in tops
        for left in lefts
    ]


@pytest.mark.parametrize("stride", [None, 1, 3, 8, (5, 2)])
@pytest.mark.parametrize("patch_shape", [8, (4, 7), 1])
def test_map_is_aligned(images, patch_shape, stride):
    """Patches that are their own maps blend into the image itself."""
    if patch_shape == 1:
        stride = None
    elif patch_shape == (4, 7):
        stride = None if stride is None else np.minimum(stride, (4, 7))
    detector = PatchDetector(Echo(), patch_shape, stride, n_patches=50).fit(images)
    maps = detector.anomaly_map(images)
    assert isinstance(maps, list)
    for one, image in zip(maps, images, strict=True):
        np.testing.assert_allclose(one, image, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, bool])
def test_shrunk_patches_are_means(rng, dtype):
    """The detector gets means of blocks, in the units and type of the images."""
    X = rng.uniform(0, 255, size=(3, 12, 18, 2)).astype(dtype)
    X[0, :6] = 0
    detector = PatchDetector(
        Echo(), (12, 6), 6, n_patches=60, downsampling=3, random_state=0
    ).fit(X)
    assert detector.detector_.image_shape == (4, 2, 2)
    expected = {
        patch.reshape(4, 3, 2, 3, 2).mean((1, 3)).ravel().round(5).tobytes()
        for image in X.astype(float)
        for patch in patches_of(image, (12, 6), (1, 1))
    }
    rows = detector.detector_.rows_
    if dtype is np.uint8:
        assert rows.dtype == np.uint8
        means = [np.frombuffer(each).round() for each in expected]
        assert all((row == means).all(axis=1).any() for row in rows)
    else:
        assert rows.dtype == (np.float32 if dtype is bool else dtype)
        assert {row.astype(float).round(5).tobytes() for row in rows} <= expected
    # Scored patches are shrunk alike.
    seen = []
    detector.detector_.anomaly_map = lambda rows: (
        seen.extend(rows) or Echo.anomaly_map(detector.detector_, rows)
    )
    detector.score_samples(X)
    means = [
        patch.reshape(4, 3, 2, 3, 2).mean((1, 3)).ravel()
        for image in X.astype(float)
        for patch in patches_of(image, (12, 6), (6, 6))
    ]
    if dtype is np.uint8:
        means = np.round(means)
    np.testing.assert_allclose(np.array(seen, float), means, rtol=1e-6)


def test_map_of_shrunk_patches_is_aligned():
    """What varies slowly comes back as it was, apart from the half block at an edge."""
    image = np.add.outer(np.arange(40.0), 2 * np.arange(56.0))
    detector = PatchDetector(Echo(), 24, 4, n_patches=20, downsampling=4).fit([image])
    (one,) = detector.anomaly_map([image])
    assert one.shape == image.shape
    np.testing.assert_allclose(one[8:-8, 8:-8], image[8:-8, 8:-8], atol=0.2)
    (scores,) = (
        PatchDetector(NoMaps(), 24, 4, n_patches=20, downsampling=4)
        .fit([image])
        .anomaly_map([image])
    )
    assert scores.shape == image.shape


def test_map_is_smooth():
    """Patches count little at their edges: no step where one ends."""
    image = np.zeros((40, 40))
    detector = PatchDetector(NoMaps(), 16, 4, n_patches=50).fit([image])
    image[20, 20] = 1
    (one,) = detector.anomaly_map([image])
    assert one[20, 20] == pytest.approx(one.max()) == pytest.approx(1)
    assert np.abs(np.diff(one, axis=0)).max() < 0.25
    assert one[0, 0] == one[39, 39] == 0


@pytest.mark.parametrize("aggregation", ["max", "mean", 0.5, 0.9])
def test_scores_by_hand(images, aggregation):
    """Patches that are their own maps blend into the image, which is the score."""
    detector = PatchDetector(
        Echo(), (8, 6), (3, 4), n_patches=50, aggregation=aggregation
    ).fit(images)
    scores = detector.score_samples(images)
    assert scores.dtype == np.float64
    for score, image in zip(scores, images, strict=True):
        if aggregation == "mean":
            expected = image.mean()
        else:
            level = 1.0 if aggregation == "max" else aggregation
            expected = np.quantile(image, level, method="higher")
        assert score == pytest.approx(-expected)


@pytest.mark.parametrize("aggregation", ["max", "mean", 0.3, 1.0])
@pytest.mark.parametrize("downsampling", [1, 2])
@pytest.mark.parametrize("inner", [Echo, NoMaps])
def test_the_map_is_the_score(images, inner, downsampling, aggregation):
    """Minus one of its values, or its mean; whether or not the detector has maps."""
    detector = PatchDetector(
        inner(), 8, 3, 50, aggregation, downsampling=downsampling
    ).fit(images)
    for score, one in zip(
        detector.score_samples(images), detector.anomaly_map(images), strict=True
    ):
        ranked = np.sort(one, axis=None)
        if aggregation == "mean":
            assert score == pytest.approx(-one.mean())
        elif aggregation in ("max", 1.0):
            assert score == -ranked[-1]
        else:
            assert score in -ranked
            assert np.mean(ranked < -score) <= 0.3 + 1 / one.size
            assert np.mean(ranked <= -score) >= 0.3


def test_a_score_without_maps_is_minus_the_patches_scores(images):
    """Patches side by side: the map has the score of each in all its pixels."""
    image = images[3][:, :16]
    detector = PatchDetector(NoMaps(), 8, 8, n_patches=50).fit(images)
    (one,) = detector.anomaly_map([image])
    blocks = image.reshape(8, 8, 2, 8).max((1, 3))
    np.testing.assert_allclose(one, np.kron(blocks, np.ones((8, 8))), rtol=1e-12)
    assert detector.score_samples([image]) == pytest.approx(-image.max())


@pytest.mark.parametrize(
    ("inner", "sizes", "downsampling", "expected"),
    [
        (Echo(), [(200, 300), (150, 140)], 1, (128, 128)),
        (Echo(), [(90, 300), (150, 70)], 1, (90, 70)),
        (Echo(), [(90, 300), (150, 70)], 4, (88, 68)),
        (NoMaps(), [(90, 300), (150, 70)], 1, (32, 32)),
        (NoMaps(), [(90, 30), (150, 20)], 3, (30, 18)),
    ],
)
def test_default_patch_shape(rng, inner, sizes, downsampling, expected):
    """All that a detector of maps can see at once; little where there are none."""
    images = [rng.uniform(size=size) for size in sizes]
    detector = PatchDetector(inner, n_patches=3, downsampling=downsampling).fit(images)
    assert detector.patch_shape is None
    assert detector.patch_shape_ == expected
    height, width = (side // downsampling for side in expected)
    assert detector.detector_.image_shape == (height, width, 1)
    for one, size in zip(detector.anomaly_map(images), sizes, strict=True):
        assert one.shape == size
    smaller = np.zeros((expected[0], expected[1] - 1))
    with pytest.raises(ValueError, match="smaller than a patch of"):
        detector.score_samples([smaller])
    detector.set_params(patch_shape=12, downsampling=1).fit(images)
    assert detector.patch_shape_ == (12, 12)


def test_small_images_are_taken_as_a_whole(rng):
    """Then each is one patch, in `fit` and after it."""
    X = rng.uniform(size=(60, 12, 9))
    detector = PatchDetector(Echo()).fit(X)
    training, _ = hold_out(60)
    np.testing.assert_array_equal(
        detector.detector_.rows_, X[training].reshape(-1, 108)
    )
    np.testing.assert_allclose(detector.anomaly_map(X), X, rtol=1e-12)


def test_few_places_are_each_taken_once(images):
    detector = PatchDetector(Echo(), (7, 8), n_patches=10_000).fit(images)
    rows = detector.detector_.rows_
    expected = [patch for one in images for patch in patches_of(one, (7, 8), (1, 1))]
    assert len(rows) == len(expected)
    assert {row.tobytes() for row in rows} == {patch.tobytes() for patch in expected}


def test_every_form_of_the_same_images(rng, tmp_path):
    X = rng.randint(0, 256, size=(5, 12, 15, 3)).astype(np.uint8)
    detector = PatchDetector(Echo(), 6, n_patches=40, random_state=0).fit(X)
    assert detector.detector_.rows_.dtype == np.uint8
    assert detector.n_channels_ == 3
    scores, maps = detector.score_samples(X), detector.anomaly_map(X)
    assert isinstance(maps, np.ndarray)
    assert maps.shape == (5, 12, 15)
    np.testing.assert_allclose(maps, X.mean(-1), rtol=1e-5)
    np.save(tmp_path / "X.npy", X)
    torch_order = torch.tensor(X).permute(0, 3, 1, 2)
    for same in [
        list(X),
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        torch_order,
        list(torch_order),
        np.asfortranarray(X),
    ]:
        np.testing.assert_array_equal(detector.score_samples(same), scores)
        np.testing.assert_array_equal(np.stack(detector.anomaly_map(same)), maps)
        again = clone(detector).fit(same).detector_.rows_
        np.testing.assert_array_equal(again, detector.detector_.rows_)
    grey = PatchDetector(Echo(), 6, n_patches=40, random_state=0).fit(X[..., 0])
    np.testing.assert_array_equal(
        grey.score_samples(X[..., 0]), grey.score_samples(X[..., :1])
    )


@pytest.mark.parametrize("block_values", [1, 200, 1000])
def test_blocks_do_not_matter(images, monkeypatch, block_values):
    detector = PatchDetector(NoMaps(), 8, 3, n_patches=50).fit(images)
    scores, maps = detector.score_samples(images), detector.anomaly_map(images)
    sizes = []
    monkeypatch.setattr(
        NoMaps,
        "score_samples",
        lambda self, X: sizes.append(len(X)) or -X.max(axis=1).astype(float),
    )
    monkeypatch.setattr(_patches, "_BLOCK_VALUES", block_values)
    np.testing.assert_array_equal(detector.score_samples(images), scores)
    assert max(sizes) == max(1, block_values // 64)
    for one, expected in zip(detector.anomaly_map(images), maps, strict=True):
        np.testing.assert_array_equal(one, expected)


def test_patches_are_drawn_evenly():
    """Each place is as likely, in all images that are not held out; seeded."""
    # A pixel tells which one it is.
    images = [np.arange(30.0).reshape(5, 6) + 100 * i for i in range(60)]
    images[0] = np.arange(30_000.0).reshape(100, 300) + 100_000
    detector = PatchDetector(Echo(), 2, n_patches=30_000, random_state=0).fit(images)
    rows = detector.detector_.rows_
    assert rows.shape == (30_000, 4)
    np.testing.assert_array_equal(rows[:, 1], rows[:, 0] + 1)
    training, held_out = hold_out(60)
    assert 0 in training
    drawn = np.unique(rows[:, 0])
    assert not any(100 * i in drawn for i in held_out)
    n_places = 99 * 299 + 4 * 5 * (len(training) - 1)
    assert n_places > 30_000
    numbers, counts = np.unique(rows[:, 0], return_counts=True)
    expected = 30_000 / n_places
    assert counts.max() < 10
    assert len(numbers) / n_places == pytest.approx(1 - np.exp(-expected), rel=0.02)
    is_small = numbers < 100_000
    n_of_small = counts[is_small].sum() / (4 * 5 * (len(training) - 1))
    assert n_of_small == pytest.approx(expected, rel=0.15)
    tops = (numbers[~is_small] - 100_000) // 300
    by_third = np.histogram(tops, bins=3, weights=counts[~is_small])[0]
    np.testing.assert_allclose(by_third, by_third.mean(), rtol=0.05)
    again = clone(detector).fit(images).detector_.rows_
    np.testing.assert_array_equal(again, rows)
    other = clone(detector).set_params(random_state=1).fit(images).detector_.rows_
    assert not np.array_equal(other, rows)


def test_what_the_detector_is_given(images):
    detector = PatchDetector(Echo(), (8, 6), n_patches=9, random_state=0).fit(images)
    assert detector.detector_.image_shape == (8, 6, 1)
    assert isinstance(detector.detector_.random_state, int)
    assert detector.detector.image_shape is None
    own = PatchDetector(Echo(random_state=7), (8, 6), n_patches=9).fit(images)
    assert own.detector_.random_state == 7
    pipe = make_pipeline(StandardScaler(), Echo())
    inner = PatchDetector(pipe, (8, 6), n_patches=9).fit(images).detector_
    assert inner[-1].image_shape == (8, 6, 1)


@pytest.mark.parametrize("contamination", ["auto", 0.2])
def test_threshold(rng, contamination):
    """Of images that no patch was drawn of, or of all of them."""
    images = rng.normal(size=(200, 10, 10))
    detector = PatchDetector(
        IsolationForest(n_estimators=20),
        5,
        n_patches=100,
        contamination=contamination,
        random_state=0,
    ).fit(images)
    counted = images[hold_out(200)[1]] if contamination == "auto" else images
    share = np.mean(detector.predict(counted) == -1)
    # "auto" is for unseen images: of 39, the second is at the threshold.
    assert share == pytest.approx(1 / 39 if contamination == "auto" else 0.2, abs=0.006)
    decision = detector.decision_function(images)
    np.testing.assert_allclose(
        decision, detector.score_samples(images) - detector.offset_
    )
    assert set(detector.fit_predict(images)) == {-1, 1}


@pytest.mark.parametrize(
    "inner", [IsolationForest(random_state=0), LocalOutlierFactor(novelty=True)]
)
def test_finds_a_scratch(rng, inner):
    """Where detectors have no maps, the patches' scores make one."""
    images = list(rng.normal(size=(6, 30, 40)))
    detector = PatchDetector(inner, 6, 3, n_patches=500, random_state=0).fit(images)
    scratched = images[0].copy()
    scratched[15, 10:30] += 12
    scores = detector.score_samples([scratched, *images])
    assert scores[0] < scores[1:].min()
    (one,) = detector.anomaly_map([scratched])
    assert one[15, 12:28].min() > one[:5].max()
    assert one[15, 12:28].min() > one[25:].max()


def test_anogan_on_patches(rng, quick):
    """Its maps are blended pixel by pixel, and scores are of the blended maps."""
    images = list(rng.uniform(size=(5, 20, 24)))
    detector = PatchDetector(AnoGANDetector(**quick), 8, 6, 100, random_state=0)
    detector.fit(images)
    inner = detector.detector_
    assert inner.image_shape_ == (8, 8, 1)
    patches = np.stack(patches_of(images[0], (8, 8), (6, 6)))
    (score,) = detector.score_samples(images[:1])
    (one,) = detector.anomaly_map(images[:1])
    assert score == -one.max()
    np.testing.assert_allclose(
        one[:2, :2], inner.anomaly_map(patches[:1].reshape(1, -1))[0, :2, :2], rtol=1e-5
    )
    copied = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copied.score_samples(images[:1]), score)


def test_default_detector(images):
    detector = PatchDetector(patch_shape=8)
    assert detector.get_params()["detector"] is None
    detector.set_params(detector=AnoGANDetector(), detector__max_epochs=3)
    assert detector.detector.max_epochs == 3


@pytest.mark.parametrize("aggregation", ["max", "mean", 0.5])
def test_one_look_at_each_patch(images, rng, quick, aggregation):
    """What `explain` answers are the bits of the two methods."""
    forest = IsolationForest(n_estimators=5, random_state=0)
    small = rng.uniform(size=(4, 12, 16))
    for inner, X in [(forest, images), (AnoGANDetector(**quick), small)]:
        detector = PatchDetector(
            inner, 4, n_patches=80, aggregation=aggregation, random_state=0
        ).fit(X)
        rows, answering = [], detector.detector_
        name = "score_samples" if inner is forest else "anomaly_map"

        answer = getattr(answering, name)

        def counting(X, rows=rows, answer=answer):
            rows.append(len(X))
            return answer(X)

        setattr(answering, name, counting)
        found = detector.explain(X)
        n_seen = sum(rows)
        delattr(answering, name)
        np.testing.assert_array_equal(found.scores, detector.score_samples(X))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few images
            np.testing.assert_array_equal(found.p_values, detector.p_values(X))
        maps = detector.anomaly_map(X)
        for one, other in zip(found.maps, maps, strict=True):
            np.testing.assert_array_equal(one, other)
        patches = [
            len(range(0, side - 3, 2)) + (side % 2)
            for image in X
            for side in image.shape[:2]
        ]
        assert n_seen == np.prod(np.reshape(patches, (-1, 2)), axis=1).sum()


def test_explained_rows(rng, quick):
    X = rng.normal(size=(50, 3))
    detector = PatchDetector(AnoGANDetector(**quick)).fit(X)
    found = detector.explain(X)
    np.testing.assert_array_equal(found.scores, detector.score_samples(X))
    np.testing.assert_array_equal(found.p_values, detector.p_values(X))
    np.testing.assert_array_equal(found.maps, detector.anomaly_map(X))


def test_rows(rng):
    """Rows of numbers have no patches."""
    X = rng.normal(size=(50, 4))
    detector = PatchDetector(IsolationForest(), random_state=0).fit(X)
    expected = IsolationForest(random_state=detector.detector_.random_state)
    expected.fit(X[hold_out(50)[0]])
    np.testing.assert_array_equal(detector.score_samples(X), expected.score_samples(X))
    assert detector.n_features_in_ == 4
    with pytest.raises(ValueError, match="fitted to rows, but X holds images"):
        detector.score_samples(rng.normal(size=(3, 40, 40)))
    detector.fit(rng.normal(size=(3, 40, 40)))
    assert not hasattr(detector, "n_features_in_")
    with pytest.raises(ValueError, match="fitted to images, but X holds rows"):
        detector.score_samples(X)


def test_an_image_equal_everywhere(images):
    flat = np.full((20, 20), 0.5)
    detector = PatchDetector(Echo(), 8, n_patches=50).fit(images)
    assert detector.score_samples([flat]) == [-0.5]
    np.testing.assert_allclose(detector.anomaly_map([flat])[0], 0.5)
    forest = PatchDetector(IsolationForest(), 8, n_patches=50).fit([flat])
    assert np.isfinite(forest.score_samples([flat])).all()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "0 sample"),
        (np.empty((0, 9, 9)), "0 sample"),
        ([np.ones((9, 9)), np.ones((7, 9))], "Image 1 of X has 7 x 9 pixels and is sm"),
        ([np.ones((9, 9)), np.ones((9, 9, 3))], "images of 1 and 3"),
        ([np.ones((9, 9)), np.full((9, 9), np.nan)], "In image 1: Input X contains Na"),
        (
            [np.ones((9, 9)), np.full((9, 9), np.inf)],
            "image 1: Input X contains NaN or infinity",
        ),
        ([np.ones((9, 9)), np.ones(9)], "Image 1 of X has the shape"),
        ([np.ones((9, 9)), np.full((9, 9), "a")], "Image 1 of X has values of type"),
        ([np.ones((9, 9)) * 1j], "needs real numbers"),
        (np.ones((2, 9, 9, 3, 1)), "Image 0 of X has the shape"),
    ],
)
def test_what_is_no_image(X, message):
    good = [np.zeros((20, 20)), np.ones((9, 9))]
    detector = PatchDetector(Echo(), 8, n_patches=200, random_state=0).fit(good)
    before = vars(detector).copy()
    with pytest.raises(ValueError, match=message):
        detector.score_samples(X)
    with pytest.raises(ValueError, match=message):
        detector.fit(X)
    assert vars(detector) == before


def test_other_channels_than_fitted():
    detector = PatchDetector(Echo(), 8, n_patches=9).fit([np.ones((9, 9))])
    with pytest.raises(ValueError, match=r"images of 3 channel\(s\), but PatchDetect"):
        detector.anomaly_map([np.ones((9, 9, 3))])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"stride": 9}, "stride=9 is larger than patch_shape=8"),
        ({"stride": (8, 9)}, "would never be looked at"),
        ({"stride": (1, 2, 3)}, "stride must be a whole number"),
        ({"patch_shape": (8, 0)}, "patch_shape must be a whole number"),
        ({"patch_shape": (8.5, 8)}, "patch_shape must be a whole number"),
        ({"downsampling": 3}, "no multiple of downsampling=3"),
        ({"downsampling": 0}, "'downsampling' parameter"),
        ({"aggregation": "median"}, "'aggregation' parameter"),
        ({"aggregation": 1.5}, "'aggregation' parameter"),
        ({"n_patches": 1}, "'n_patches' parameter"),
        ({"detector": LocalOutlierFactor()}, "'detector' parameter"),
    ],
)
def test_bad_parameters(images, parameters, message):
    detector = PatchDetector(Echo(), 8, n_patches=9)
    with pytest.raises(ValueError, match=message):
        detector.set_params(**parameters).fit(images)


def test_not_fitted(images):
    for method in ("score_samples", "anomaly_map", "predict", "map_threshold"):
        with pytest.raises(NotFittedError):
            getattr(PatchDetector(Echo(), 8), method)(images)


def test_progress(images, capsys):
    """One bar, of all patches."""
    detector = PatchDetector(Echo(), 8, 8, n_patches=9, verbose=1).fit(images)
    capsys.readouterr()
    detector.score_samples(images)
    n_patches = sum(len(patches_of(image, (8, 8), (8, 8))) for image in images)
    shown = capsys.readouterr().err
    assert f"{n_patches}/{n_patches}" in shown
    assert shown.count("100%") == 1


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_map_threshold(images, rate):
    detector = PatchDetector(Echo(), 8, n_patches=9).fit(images)
    threshold = detector.map_threshold(images, rate)
    maps = detector.anomaly_map(images)
    is_beyond = np.concatenate([one.ravel() for one in maps]) > threshold
    assert rate - 0.002 < is_beyond.mean() <= rate
    with pytest.raises(ValueError, match="false_positive_rate"):
        detector.map_threshold(images, 1.0)


@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_p_values(rng, contamination):
    X = rng.uniform(size=(60, 8, 8))
    detector = PatchDetector(Echo(), 4, n_patches=50, contamination=contamination).fit(
        X
    )
    _, held_out = hold_out(60)
    highest = X[held_out].max(axis=(1, 2))
    # A little less than one of them: blending rounds.
    new = np.full((3, 8, 8), [[[0.0]], [[0.999999 * np.sort(highest)[-2]]], [[2.0]]])
    np.testing.assert_allclose(detector.p_values(new), [1, 3 / 20, 1 / 20])


def test_p_values_of_other_patches(rng):
    images = rng.uniform(size=(60, 8, 8))
    detector = PatchDetector(Echo(), np.array([4, 4]), n_patches=9).fit(images)
    p = detector.p_values(images)
    detector.set_params(aggregation=0.5, stride=2)
    with pytest.raises(ValueError, match="stride and aggregation, which have been"):
        detector.p_values(images)
    with pytest.raises(ValueError, match=r"threshold for aggregation='max'.*Fit again"):
        detector.predict(images)
    detector.set_params(aggregation="max", stride=2)
    assert detector.predict(images).shape == (60,)  # more patches, the same threshold
    detector.set_params(stride=None)
    np.testing.assert_array_equal(detector.p_values(images), p)


class Grouped(Echo):
    """It remembers the groups of its rows."""

    def fit(self, X, y=None, groups=None):
        self.groups_ = groups
        return super().fit(X)


def test_groups_of_images(rng):
    """None is on both sides, and each counts as one image."""
    groups = rng.permutation(np.repeat(np.arange(40), 3))
    X = groups[:, None, None] + rng.uniform(0.1, 0.2, size=(120, 8, 8))
    detector = PatchDetector(Grouped(), 4, n_patches=500, random_state=0)
    detector.fit(X, groups=groups)
    numbers = check_groups(groups, 120, least=2, name="fit")
    training, held_out = hold_out(120, numbers)
    assert {*detector.detector_.rows_.astype(int).ravel()} == {*groups[training]}
    calibration = detector.calibration_
    assert len(calibration.groups) == len(held_out)
    assert calibration.weights.sum() == pytest.approx(19)
    np.testing.assert_allclose(detector.p_values(X[:1] + 99), 1 / 20)
    with pytest.raises(ValueError, match=r"All images are of the group 0.0, but Patch"):
        detector.fit(X, groups=np.zeros(120))


@pytest.mark.parametrize("has_groups", [False, True])
@pytest.mark.parametrize("n_patches", [60, 100_000])
def test_the_detector_is_told_which_patches_are_of_one_image(
    rng, has_groups, n_patches
):
    X = np.arange(30)[:, None, None] + rng.uniform(0.1, 0.2, size=(30, 8, 9))
    groups = np.arange(30) // 2 if has_groups else None
    detector = PatchDetector(Grouped(), 5, n_patches=n_patches, random_state=0)
    detector.fit(X, groups=groups)
    numbers = detector.detector_.rows_[:, 0].astype(int)
    expected = numbers // 2 if has_groups else numbers
    np.testing.assert_array_equal(detector.detector_.groups_, expected)
    if not has_groups:  # of a single image, the patches are all that there is
        assert detector.fit(X[:1]).detector_.groups_ is None
        detector.set_params(patch_shape=None).fit(X.reshape(30, -1))
        np.testing.assert_array_equal(detector.detector_.groups_, hold_out(30)[0])


def test_map_threshold_of_held_out_images(rng, monkeypatch):
    X = rng.uniform(size=(60, 8, 8))
    detector = PatchDetector(Echo(), 4, n_patches=9, random_state=0).fit(X)
    _, held_out = hold_out(60)
    for rate in (0.1, 0.01):
        threshold = detector.map_threshold(false_positive_rate=rate)
        expected = detector.map_threshold(X[held_out], rate)
        assert threshold == pytest.approx(expected, rel=1e-3)
    monkeypatch.setattr(_patches, "_MOST_PIXELS", 600)  # of 19 * 64
    fewer = clone(detector).fit(X).map_threshold(false_positive_rate=0.1)
    assert fewer == pytest.approx(detector.map_threshold(false_positive_rate=0.1), 0.05)
    detector.set_params(stride=1, aggregation="mean")
    with pytest.raises(ValueError, match="Maps depend on stride, which has"):
        detector.map_threshold()
    detector.set_params(patch_shape=None).fit(X.reshape(60, -1))
    with pytest.raises(ValueError, match="no maps of held-out rows"):
        detector.map_threshold()


def test_a_single_image_is_not_taken_for_rows(rng):
    image = rng.normal(size=(40, 60))
    for X in (image, image.tolist(), torch.tensor(image)):
        with pytest.raises(ValueError, match=r"a single image, pass X\[None\]"):
            PatchDetector(Echo(), 8).fit(X)
    detector = PatchDetector(Echo(), 8, n_patches=50).fit(image[None])
    assert detector.anomaly_map(image[None]).shape == (1, 40, 60)


def test_calibrate(rng):
    X = rng.uniform(size=(60, 8, 8))
    detector = PatchDetector(Echo(), 4, n_patches=9, random_state=0).fit(X)
    brighter = X + 0.5
    assert (detector.predict(brighter) == -1).all()
    inner = detector.detector_
    with pytest.warns(UserWarning, match="less normal"):
        detector.calibrate(brighter[:40])
    assert detector.detector_ is inner
    assert (detector.predict(brighter[40:]) == -1).mean() < 0.3
    assert detector.map_threshold() > 1.4
    assert detector.shift_p_value_ < 0.001
    detector.set_params(stride=1)
    with pytest.raises(ValueError, match="stride, which has been set"):
        detector.p_values(X)
    detector.calibrate(list(X))
    assert detector.shift_p_value_ > 0.001
    assert detector.p_values(X).shape == (60,)


class Counting:
    """An array in a file, which counts what is read of it."""

    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype
        self.n_read = 0

    def __getitem__(self, index):
        assert isinstance(index, int | slice)
        part = self.X[index]
        self.n_read += 1 if isinstance(index, int) else len(part)
        return part


def test_an_image_is_read_once_for_all_its_patches(rng):
    X = rng.uniform(size=(30, 20, 24))
    detector = PatchDetector(Echo(), 6, n_patches=200, random_state=0)
    expected = detector.fit(X).anomaly_map(X)
    source = Counting(X)
    again = clone(detector).fit(source)
    np.testing.assert_array_equal(again.detector_.rows_, detector.detector_.rows_)
    source.n_read = 0
    np.testing.assert_array_equal(again.anomaly_map(source), expected)
    assert source.n_read == 30


def test_images_of_different_sizes_in_columns(rng):
    images = [rng.uniform(size=(20, 24)), rng.uniform(size=(22, 20))]
    column = np.empty(2, dtype=object)
    column[:] = images
    detector = PatchDetector(Echo(), 6, n_patches=50, random_state=0).fit(images)
    for same in (column, pd.Series(images, index=[7, 3])):
        np.testing.assert_array_equal(
            detector.score_samples(same), detector.score_samples(images)
        )
        again = clone(detector).fit(same)
        np.testing.assert_array_equal(again.detector_.rows_, detector.detector_.rows_)


def test_channels_first(rng):
    """As height, they would be patches of three pixels, and each column a channel."""
    X = rng.rand(6, 3, 20, 20)
    with pytest.raises(
        ValueError, match=r"3 x 20 pixels.*pass np.moveaxis\(X, 1, -1\)"
    ):
        PatchDetector(IsolationForest(), patch_shape=8).fit(X)
    with pytest.warns(
        UserWarning, match=r"\(3, 20, 20\).*pass np.moveaxis\(X, 1, -1\)"
    ):
        PatchDetector(IsolationForest(), patch_shape=3, n_patches=50).fit(X)


def test_a_single_image_in_colour(rng):
    with pytest.raises(ValueError, match=r"40 x 3 pixels.*in colour, pass X\[None\]"):
        PatchDetector(IsolationForest(), patch_shape=8).fit(rng.rand(40, 40, 3))
