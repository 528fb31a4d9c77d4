import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan.inspection import (
    AnomalyMapDisplay,
    LatentSearchDisplay,
    LatentWalkDisplay,
    ScoreHistogramDisplay,
    TrainingDisplay,
    memorization_test,
)

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_matplotlib_is_imported_only_to_plot():
    code = (
        "import sys, sklearn_anogan.inspection; "
        "assert 'matplotlib' not in sys.modules, 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Maps


def test_anomaly_maps_are_those_of_the_detector(fitted, zeros):
    X = zeros[:3]
    display = AnomalyMapDisplay.from_estimator(fitted, X)
    maps, nearest = fitted.anomaly_map(X), fitted.reconstruct(X)
    assert display.axes_.shape == (3, 3)
    for i in range(3):
        np.testing.assert_array_equal(display.images_[i].get_array(), X[i])
        np.testing.assert_array_equal(display.maps_[i].get_array(), maps[i])
        (drawn,) = display.axes_[1, i].get_images()
        np.testing.assert_array_equal(drawn.get_array(), nearest[i])
        beneath, over = display.axes_[2, i].get_images()
        np.testing.assert_array_equal(beneath.get_array(), X[i])
        assert over is display.maps_[i]
        # One scale for all maps, from 0; one for all images.
        assert over.get_clim() == (0, maps.max())
        for image in (display.images_[i], drawn, beneath):
            assert image.get_clim() == (X.min(), X.max())
        score = fitted.score_samples(X)[i]
        assert display.axes_[0, i].get_title() == f"{score:.3g}"
    labels = [ax.get_ylabel() for ax in display.axes_[:, 0]]
    assert labels == ["image", "nearest\nnormal", "anomaly\nmap"]
    assert display.contours_ == []
    assert display.figure_ is display.axes_[0, 0].figure


def test_a_display_of_maps_searches_once(fitted, zeros, quick, rng, searched):
    """Maps of places need no search; those of patches that are too small do."""
    AnomalyMapDisplay.from_estimator(fitted, zeros[:3])
    assert sum(searched) == 3
    for side, patch_side, n_searched in [(12, 8, 0), (4, 3, 2 * 2 * 2)]:
        patches = PatchDetector(AnoGANDetector(**quick), patch_side, random_state=0)
        patches.set_params(n_patches=50).fit(rng.uniform(size=(5, side, side)))
        searched.clear()
        AnomalyMapDisplay.from_estimator(patches, rng.uniform(size=(2, side, side)))
        assert sum(searched) == n_searched  # two by two patches of an image


def test_a_detector_without_maps(zeros):
    forest = IsolationForest(n_estimators=5).fit(zeros.reshape(len(zeros), -1))
    with pytest.raises(TypeError, match=r"IsolationForest has no maps\. Use an AnoGAN"):
        AnomalyMapDisplay.from_estimator(forest, zeros)


def test_a_display_of_the_search_searches_once_for_each_step(fitted, zeros, searched):
    LatentSearchDisplay.from_estimator(fitted, zeros[0], steps=[0, 1, 5])
    assert searched == [1, 1, 1]


def test_contours_of_the_truth(rng):
    images, maps = rng.uniform(size=(2, 2, 9, 9))
    masks = np.zeros((2, 9, 9), bool)
    masks[1, 3:6, 2:8] = True
    display = AnomalyMapDisplay.from_predictions(images, maps, masks=masks)
    assert display.axes_.shape == (2, 2)
    (contour,) = display.contours_
    assert contour.axes is display.axes_[1, 1]
    (outline,) = contour.get_paths()
    (left, bottom), (right, top) = outline.vertices.min(0), outline.vertices.max(0)
    assert (left, right, bottom, top) == (1.5, 7.5, 2.5, 5.5)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels(rng, n_channels):
    X = rng.uniform(3, 5, size=(2, 6, 8, n_channels))
    display = AnomalyMapDisplay.from_predictions(X, rng.uniform(size=(2, 6, 8)))
    drawn = display.images_[0].get_array()
    if n_channels in (3, 4):
        np.testing.assert_allclose(drawn, (X[0] - X.min()) / np.ptp(X))
    else:
        np.testing.assert_allclose(drawn, X[0].mean(-1))


def test_bytes_keep_their_range():
    images = [np.full((4, 4), 100, np.uint8)]
    display = AnomalyMapDisplay.from_predictions(images, np.zeros((1, 4, 4)))
    assert display.images_[0].get_clim() == (0, 255)
    assert display.maps_[0].get_clim() == (0, 1)
    given = AnomalyMapDisplay.from_predictions(images, np.ones((1, 4, 4)), vmax=7)
    assert given.maps_[0].get_clim() == (0, 7)


def test_maps_of_tensors_and_patches(fitted, zeros, rng):
    X = torch.tensor(zeros[:2])[:, None]
    display = AnomalyMapDisplay.from_estimator(fitted, X)
    np.testing.assert_array_equal(display.images_[1].get_array(), zeros[1])
    images = [rng.uniform(size=(9, 12)), rng.uniform(size=(10, 8))]
    patches = PatchDetector(IsolationForest(n_estimators=5), 4, n_patches=50)
    display = AnomalyMapDisplay.from_estimator(patches.fit(images), images)
    assert display.axes_.shape == (2, 2)
    assert display.maps_[1].get_array().shape == (10, 8)


def test_flattened_images_are_refused(rng):
    with pytest.raises(ValueError, match=r"shape \(64,\): they must be \(height"):
        AnomalyMapDisplay.from_predictions(rng.uniform(size=(3, 64)), np.ones((3, 64)))


# Scores


def test_histogram_counts_every_score(fitted, digits):
    X, y = digits[0][:100], np.where(digits[1][:100] == 0, 1, -1)
    display = ScoreHistogramDisplay.from_estimator(fitted, X, y)
    scores = fitted.score_samples(X)
    assert list(display.bars_) == ["normal", "anomalous"]
    for label, name in [(1, "normal"), (-1, "anomalous")]:
        bars = display.bars_[name]
        heights = [bar.get_height() for bar in bars]
        assert sum(heights) == (y == label).sum()
        edges = [bar.get_x() for bar in bars] + [
            bars[-1].get_x() + bars[-1].get_width()
        ]
        assert edges[0] == pytest.approx(scores.min())
        assert edges[-1] == pytest.approx(scores.max())
        expected = np.histogram(scores[y == label], edges)[0]
        assert np.abs(np.array(heights) - expected).sum() <= 2  # at the edges
    assert display.line_.get_xdata()[0] == fitted.offset_
    assert "lower is more abnormal" in display.ax_.get_xlabel()
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[0].startswith("normal (")


def test_histogram_without_labels_on_given_axes(rng):
    _, ax = plt.subplots()
    forest = IsolationForest(n_estimators=5).fit(rng.normal(size=(50, 2)))
    display = ScoreHistogramDisplay.from_estimator(
        forest, rng.normal(size=(9, 2)), ax=ax
    )
    assert display.ax_ is ax
    assert list(display.bars_) == ["all"]
    assert display.line_.get_xdata()[0] == forest.offset_
    plain = ScoreHistogramDisplay.from_predictions([1.0, 2.0], bins=3)
    assert plain.line_ is None
    assert len(plain.bars_["all"]) == 3


def test_histogram_labels_are_checked():
    with pytest.raises(ValueError, match=r"1 for normal .* values \[0, 1\]"):
        ScoreHistogramDisplay.from_predictions([1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        ScoreHistogramDisplay.from_predictions([1.0, 2.0], [1])


# Training and latent space


def test_training(fitted):
    display = TrainingDisplay.from_estimator(fitted)
    assert len(display.axes_) == 3
    for name in ("discriminator_loss", "generator_loss", "d_real", "diversity"):
        x, y = display.lines_[name].get_data()
        np.testing.assert_array_equal(x, np.arange(1, len(fitted.history_) + 1))
        np.testing.assert_array_equal(y, fitted.history_[:, name])
    assert display.lines_["d_fake"].axes.get_xlabel() == "epoch"


def test_training_on_given_axes(fitted):
    figure = Figure()
    display = TrainingDisplay(fitted.history_).plot(figure.subplots(1, 3))
    assert display.figure_ is figure
    assert not plt.get_fignums()


def test_latent_search(fitted, zeros):
    before = fitted.get_params()
    display = LatentSearchDisplay.from_estimator(fitted, zeros[0], steps=[0, 3, 50])
    assert fitted.get_params() == before
    np.testing.assert_array_equal(display.line_.get_xdata(), [0, 3, 50])
    losses = display.line_.get_ydata()
    assert losses[0] > losses[1] > losses[2]
    assert len(display.axes_) == 4
    drawn = [ax.get_images()[0].get_array() for ax in display.axes_]
    np.testing.assert_array_equal(drawn[-1], zeros[0])
    residuals = [np.abs(image - zeros[0]).mean() / 8 for image in drawn[:-1]]
    np.testing.assert_allclose(losses, residuals, rtol=1e-4)
    titles = [ax.get_title() for ax in display.axes_]
    assert titles == ["0 steps", "3 steps", "50 steps", "query"]


def test_latent_walk(fitted):
    display = LatentWalkDisplay.from_estimator(
        fitted, n_walks=2, n_steps=30, random_state=0
    )
    assert display.axes_.shape == (2, 30)
    walk = np.stack([image.get_array() for image in display.images_[:30]])
    ways = np.abs(np.diff(walk, axis=0)).mean((1, 2))
    between_ends = np.abs(walk[-1] - walk[0]).mean()
    assert between_ends > 0
    assert ways.max() < between_ends / 3  # no jump
    assert {image.get_clim() for image in display.images_} == {
        display.images_[0].get_clim()
    }
    again = LatentWalkDisplay.from_estimator(
        fitted, n_walks=2, n_steps=30, random_state=0
    )
    np.testing.assert_array_equal(again.images_[0].get_array(), walk[0])


# Memorisation


class Drawing(AnoGANDetector):
    """A detector that draws what it is told."""

    def sample(self, n_samples=1, random_state=None):
        return self.drawn(n_samples, random_state)


@pytest.fixture
def drawing(zeros, quick):
    return Drawing(**quick).fit(zeros)


def test_copies_are_found(drawing, zeros, rng):
    train, unseen = zeros[:100], zeros[100:]
    drawing.drawn = lambda n, _: train[:n] + rng.normal(size=(n, 8, 8)) * 0.1
    result = memorization_test(drawing, train, unseen)
    assert result.statistic > 0.95
    assert result.pvalue < 1e-6
    assert result.generated_distances.max() < result.unseen_distances.min()
    assert len(result.generated_distances) == len(unseen)


def test_new_images_are_no_copies(drawing, digits):
    """Unseen images in the generator's place are as near as unseen ones."""
    ones = digits[0][digits[1] == 1]
    drawing.drawn = lambda n, _: ones[60 : 60 + n]
    result = memorization_test(drawing, ones[:60], ones[120:])
    assert 0.2 < result.statistic < 0.8
    assert result.pvalue > 0.01


def test_noise_is_no_copy(drawing, zeros, rng):
    drawing.drawn = lambda n, _: rng.uniform(0, 16, size=(n, 8, 8))
    result = memorization_test(drawing, zeros[:100], zeros[100:])
    assert result.statistic < 0.05
    assert result.pvalue > 0.99


def test_memorization_by_hand(fitted, zeros):
    train, unseen = zeros[:150], zeros[150:]
    result = memorization_test(fitted, train, unseen, random_state=0)
    drawn = fitted.sample(len(unseen), random_state=np.random.RandomState(0))

    def nearest(X):
        return np.sqrt(((X[:, None] - train) ** 2).sum((2, 3))).min(axis=1)

    np.testing.assert_allclose(result.generated_distances, nearest(drawn))
    np.testing.assert_allclose(result.unseen_distances, nearest(unseen))
    nearer = nearest(drawn)[:, None] < nearest(unseen)
    assert result.statistic == pytest.approx(nearer.mean())
    tensors = memorization_test(
        fitted, torch.tensor(train)[:, None], torch.tensor(unseen), random_state=0
    )
    assert tensors.pvalue == result.pvalue


def test_near_copies_are_not_unseen(drawing, zeros, rng):
    """Whatever the generator draws, such a test says nothing."""

    def noisy(X):
        return X + rng.normal(scale=0.3, size=X.shape)

    drawing.drawn = lambda n, _: noisy(zeros[:n])
    for train, unseen, where in (
        (zeros[:100], noisy(zeros[:60]), "X_train"),
        (zeros[:100], np.r_[noisy(zeros[:40]), zeros[100:130]], "X_train"),
        (noisy(np.repeat(zeros[:40], 3, 0)), noisy(zeros[:40]), "X_train"),
        (zeros[:100], noisy(np.repeat(zeros[100:120], 3, 0)), "X_unseen"),
    ):
        with pytest.warns(UserWarning, match=f"% of .* near-copies in {where}, so"):
            memorization_test(drawing, train, unseen)
    memorization_test(drawing, zeros[:100], np.r_[noisy(zeros[:10]), zeros[100:150]])
    memorization_test(drawing, zeros[:100], zeros[100:101])


def test_memorization_of_other_images(fitted, zeros):
    with pytest.raises(ValueError, match="expects images of shape"):
        memorization_test(fitted, zeros[:, :6], zeros)


# Bad input


def test_not_fitted(zeros):
    detector = AnoGANDetector()
    for ask in (
        lambda: memorization_test(detector, zeros, zeros),
        lambda: TrainingDisplay.from_estimator(detector),
        lambda: LatentWalkDisplay.from_estimator(detector),
        lambda: LatentSearchDisplay.from_estimator(detector, zeros[0]),
        lambda: AnomalyMapDisplay.from_estimator(detector, zeros[:2]),
    ):
        with pytest.raises(NotFittedError):
            ask()


def test_bad_numbers(fitted, zeros):
    with pytest.raises(ValueError, match="n_walks == 0, must be >= 1"):
        LatentWalkDisplay.from_estimator(fitted, n_walks=0)
    with pytest.raises(ValueError, match="n_steps == 1, must be >= 2"):
        LatentWalkDisplay.from_estimator(fitted, n_steps=1)
    with pytest.raises(ValueError, match="steps must be one or more"):
        LatentSearchDisplay.from_estimator(fitted, zeros[0], steps=[])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        AnomalyMapDisplay.from_predictions(zeros[:2], zeros[:2], masks=zeros[:1])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        AnomalyMapDisplay.from_predictions(zeros[:2], zeros[:3])


@pytest.mark.parametrize("layout", ["array", "one channel", "tensor", "list"])
def test_masks_in_every_layout(zeros, layout):
    masks = zeros[:3] > 8
    given = {
        "array": masks,
        "one channel": masks[..., np.newaxis],
        "tensor": torch.tensor(masks)[:, np.newaxis],
        "list": list(masks),
    }[layout]
    display = AnomalyMapDisplay.from_predictions(zeros[:3], zeros[:3], masks=given)
    assert len(display.contours_) == 3
    for mask, expected in zip(display.masks, masks, strict=True):
        np.testing.assert_array_equal(mask, expected)


def test_images_without_a_mask(fitted, zeros):
    mask = zeros[1] > 8
    for one in (mask, torch.tensor(mask)[np.newaxis], mask.tolist()):
        display = AnomalyMapDisplay.from_predictions(
            zeros[:3], zeros[:3], masks=[None, one, None]
        )
        assert len(display.contours_) == 1
        assert display.masks[0] is display.masks[2] is None
        np.testing.assert_array_equal(display.masks[1], mask)
    display = AnomalyMapDisplay.from_estimator(fitted, zeros[:2], masks=[None, None])
    assert display.contours_ == []
    display = AnomalyMapDisplay(zeros[:2], zeros[:2], masks=[None, mask]).plot()
    assert len(display.contours_) == 1
    with pytest.raises(ValueError, match="inconsistent numbers"):
        AnomalyMapDisplay.from_predictions(zeros[:2], zeros[:2], masks=[None])


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.ones((4, 4)), r"Mask 1 has the size \(4, 4\), but its image \(8, 8\)"),
        (np.ones(64), r"Mask 1 has the shape \(64,\): .*or None"),
        (np.ones((8, 8, 3)), r"Mask 1 has the shape \(8, 8, 3\): .*or None"),
        (True, r"Mask 1 has the shape \(\): .*or None"),
    ],
)
def test_masks_of_other_shapes(zeros, mask, message):
    with pytest.raises(ValueError, match=message):
        AnomalyMapDisplay.from_predictions(zeros[:2], zeros[:2], masks=[None, mask])


def test_pictures_of_other_sizes_are_not_drawn(zeros):
    other = np.ones((3, 4, 4))
    with pytest.raises(ValueError, match=r"Mask 0 has the size \(4, 4\).*\(8, 8\)"):
        AnomalyMapDisplay.from_predictions(zeros[:3], zeros[:3], masks=other)
    with pytest.raises(ValueError, match="Map 0 has the size"):
        AnomalyMapDisplay.from_predictions(zeros[:3], other)


def test_memorization_needs_unseen_images(fitted, zeros):
    with pytest.raises(ValueError, match="50 of 50 images of X_unseen are also in"):
        memorization_test(fitted, zeros, zeros[:50])


@pytest.mark.parametrize("offset", [0, 1000])
def test_copies_are_found_whatever_the_rounding(rng, quick, offset):
    """Distances of copies are not exactly 0 where images are large."""
    X = rng.rand(40, 64, 64) + offset
    detector = AnoGANDetector(**quick).fit(X)
    with pytest.raises(ValueError, match="30 of 30 images of X_unseen are also in"):
        memorization_test(detector, X, X[:30])
    half = np.concatenate([X[:10], rng.rand(10, 64, 64) + offset])
    with pytest.raises(ValueError, match="10 of 20 images"):
        memorization_test(detector, X, half)
