import copy
import inspect
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
import torch
from scipy.ndimage import uniform_filter
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    StandardScaler,
)
from skorch.callbacks import Callback
from torch import nn

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._calibration import folds_of
from sklearn_anogan._holding_out import check_groups, hold_out, n_held_out
from sklearn_anogan._losses import smooth
from sklearn_anogan._networks import DenseGenerator, Discriminator, Generator
from sklearn_anogan._score._joins import surprise
from sklearn_anogan._score._largest_residual import residual_scale
from sklearn_anogan._search import _searcher
from sklearn_anogan._training import _settings
from sklearn_anogan.model_selection import InlierSplit, make_outlier_scorer
from sklearn_anogan.persistence import load, save


@pytest.fixture(scope="module")
def fitted_rows(papers_score):
    X = np.random.RandomState(0).normal(size=(90, 10))
    detector = AnoGANDetector(
        latent_dim=3,
        n_filters=4,
        max_epochs=5,
        search_steps=20,
        random_state=0,
        **papers_score,
    )
    return detector.fit(X), X


@pytest.fixture(scope="module")
def encoded(zeros, papers_score):
    """A detector with an encoder, trained for a moment on zeros."""
    detector = AnoGANDetector(
        latent_dim=8,
        n_filters=8,
        max_epochs=100,
        search_steps=20,
        inversion="encoder",
        random_state=0,
        **papers_score,
    )
    return detector.fit(zeros)


@pytest.fixture(scope="module")
def encoded_rows(fitted_rows):
    detector, X = fitted_rows
    return clone(detector).set_params(inversion="encoder+search").fit(X), X


# Quality


def mean_auroc(digits, n_seeds, n_test, **parameters):
    """Mean AUROC of three digits, each against the other nine, over several seeds."""
    images, labels = digits
    train, test = np.arange(0, len(images), 2), np.arange(1, len(images), 2)[:n_test]
    aurocs = []
    for normal in (0, 3, 8):
        for seed in range(n_seeds):
            detector = AnoGANDetector(random_state=seed, **parameters)
            detector.fit(images[train[labels[train] == normal]])
            scores = detector.score_samples(images[test])
            aurocs.append(roc_auc_score(labels[test] == normal, scores))
    return np.mean(aurocs)


def test_tells_digits_apart(digits):
    """A shorter training of smaller networks, to be quick."""
    assert mean_auroc(digits, n_seeds=1, n_test=300, n_filters=16, max_epochs=250) > 0.9


@pytest.mark.slow
def test_encoder_tells_digits_apart(digits):
    settings = {"n_filters": 16, "max_epochs": 250, "inversion": "encoder"}
    assert mean_auroc(digits, n_seeds=1, n_test=300, **settings) > 0.9


@pytest.mark.slow
def test_tells_digits_apart_by_default(digits):
    assert mean_auroc(digits, n_seeds=3, n_test=None) > 0.9


@pytest.mark.slow
def test_few_images_are_not_copied(zeros):
    """Generated images lie as far from the training images as unseen ones do."""
    train, unseen = zeros[::2].reshape(-1, 64), zeros[1::2].reshape(-1, 64)
    detector = AnoGANDetector(image_shape=(8, 8), random_state=0).fit(train)
    drawn = detector.sample(len(unseen), random_state=0)
    to_train = [np.median(cdist(X, train).min(axis=1)) for X in (drawn, unseen)]
    assert to_train[0] > 0.7 * to_train[1]


def test_maps_mark_the_anomaly(zeros):
    """A bright spot where zeros are dark stands out of both maps.

    One is in standard deviations, of filters that reach far in such small images; the
    other one is in the units of X.
    """
    detector = AnoGANDetector(
        latent_dim=16, n_filters=8, max_epochs=150, random_state=0
    ).fit(zeros)
    X = zeros[:20].copy()
    before = detector.anomaly_map(X), detector.residual_map(X)
    X[:, 3:5, 3:5] = 16  # the hole of a zero
    after = detector.anomaly_map(X), detector.residual_map(X)
    limits = [(2, 5), (3, 16 / 8)]
    for maps, earlier, (ratio, least) in zip(after, before, limits, strict=True):
        difference = (maps - earlier).mean(0)
        assert difference[3:5, 3:5].min() > ratio * difference[:, [0, 7]].max()
        assert difference[3:5, 3:5].min() > least


# What the methods answer


def test_scores_are_the_papers_loss(fitted, zeros):
    terms = fitted.score_terms(zeros)
    scores = fitted.score_samples(zeros)
    assert scores.dtype == np.float64
    assert scores.shape == (len(zeros),)
    expected = -(0.9 * terms.residual + 0.1 * terms.discrimination)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_terms_by_hand(fitted, zeros):
    """Both terms, computed in numpy from the code and the fitted networks."""
    X = zeros[:5]
    scaled = X / 8 - 1  # the digits hold 0 to 16
    z = torch.tensor(fitted.invert(X))
    G_z = fitted.generator_(z).numpy().astype(float)
    x = torch.tensor(scaled[:, np.newaxis], dtype=torch.float32)
    f_x = fitted.discriminator_.features(x).numpy().astype(float)
    f_G_z = fitted.discriminator_.features(torch.tensor(G_z, dtype=torch.float32))
    terms = fitted.score_terms(X)
    for i in range(5):
        residual = np.abs(scaled[i] - G_z[i, 0]).mean()
        discrimination = np.abs(f_x[i] - f_G_z[i].numpy()).mean()
        np.testing.assert_allclose(terms.residual[i], residual, rtol=1e-5)
        np.testing.assert_allclose(terms.discrimination[i], discrimination, rtol=1e-4)


def usual_residual(detector):
    """By how much normal images differ from generated ones in each place, (c, h, w)."""
    return detector.calibration_.learned["largest_residual"]["scale"]


@pytest.fixture(scope="module")
def supervised(zeros):
    """A detector whose discriminator has its second task, trained for a moment."""
    detector = AnoGANDetector(
        latent_dim=8,
        n_filters=8,
        max_epochs=60,
        self_supervision=1.0,
        anomaly_score="calibrated",
        search_steps=5,
        random_state=0,
    )
    return detector.fit(zeros)


def test_calibrated_terms_by_hand(supervised, zeros):
    X = zeros[:3]
    x = torch.tensor(X[:, np.newaxis] / 8 - 1, dtype=torch.float32)
    difference = x - supervised.generator_(torch.tensor(supervised.invert(X)))
    D, R = supervised.discriminator_, supervised.recognizer_
    surprise = torch.zeros(3)
    for t, transformation in enumerate(R.transformations):
        logits = R(D.features(transformation(x)))
        surprise -= logits.log_softmax(1)[:, t]
    terms = supervised.score_terms(X)
    squares = smooth(difference).square()
    squares = squares.mean((1, 2, 3))
    np.testing.assert_allclose(terms.squared_residual, squares, rtol=1e-4)
    np.testing.assert_allclose(terms.recognition, surprise / 36, rtol=1e-3)
    relative = smooth(difference / usual_residual(supervised)).abs()
    largest = relative.amax((1, 2, 3))
    np.testing.assert_allclose(terms.largest_residual, largest, rtol=1e-4)
    maps = supervised.residual_map(X)
    average = usual_residual(supervised).square().mean().sqrt()
    np.testing.assert_allclose(maps, 8 * average * relative[:, 0], rtol=1e-3)
    coarse, _ = supervised.model_.ruler(x)
    deviation = coarse.square().mean((1, 2)).sqrt()
    np.testing.assert_allclose(terms.deviation, deviation, rtol=1e-4)
    largest = supervised.anomaly_map(X).max((1, 2))
    np.testing.assert_allclose(terms.largest_deviation, largest, rtol=1e-12)


def test_calibrated_scores_by_hand(supervised, zeros):
    """Sum of log p: of places, residual, second task and density, with weights."""
    held_out = zeros[hold_out(len(zeros))[1]]
    usual = supervised.score_terms(held_out)
    # The largest residual of each, relative to what all others leave.
    left = (held_out - supervised.reconstruct(held_out))[:, np.newaxis] / 8
    squares = torch.tensor(left).square()
    scales = [
        residual_scale(squares[np.arange(len(left)) != i].mean(0))
        for i in range(len(left))
    ]
    relative = smooth(torch.tensor(left) / torch.stack(scales)).abs()
    usual.largest_residual = relative.amax((1, 2, 3)).numpy()
    from_others = supervised.calibration_.held_out["largest_deviation"]
    assert from_others.max() > 1.1 * usual.largest_deviation.max()
    usual.largest_deviation = from_others
    for name, values in supervised.calibration_.held_out.items():
        np.testing.assert_allclose(values, usual[name], rtol=1e-4)
    terms = supervised.score_terms(zeros[:5])
    log_p = {name: -surprise(terms[name], usual[name]) for name in terms}
    of_places = np.minimum(log_p["deviation"], log_p["largest_deviation"])
    expected = of_places + log_p["squared_residual"] / 4 + log_p["recognition"]
    expected += 4 * log_p["density"]
    np.testing.assert_allclose(supervised.score_samples(zeros[:5]), expected, rtol=1e-4)


def test_calibrated_scores_belong_to_their_images(supervised, zeros):
    scores = supervised.score_samples(zeros[:70])
    for i in (0, 63, 69):
        assert supervised.score_samples(zeros[[i]]) == scores[i]
    np.testing.assert_array_equal(supervised.score_samples(zeros[69::-1]), scores[::-1])


@pytest.mark.parametrize("n_features", [3, 10])
def test_calibrated_scores_of_rows(rng, quick, n_features):
    """Rows have a second task too; their scores do not depend on their places."""
    X = rng.normal(size=(90, n_features))
    settings = {"self_supervision": 1.0, "anomaly_score": "calibrated"}
    detector = AnoGANDetector(**quick | settings).fit(X)
    assert len(detector.recognizer_.transformations) == 36
    assert detector.history_[-1, "recognition_loss"] > 0
    scores = detector.score_samples(X)
    for i in (0, 63, 64, 89):
        assert detector.score_samples(X[[i]]) == scores[i]
    np.testing.assert_array_equal(detector.score_samples(X[::-1]), scores[::-1])
    x = torch.tensor(X[:5, :, None, None], dtype=torch.float32)
    x = detector.model_.value_range.to_network(x, "cpu")
    D, R = detector.discriminator_, detector.recognizer_
    surprise = torch.zeros(5)
    for t, rotate in enumerate(R.transformations):
        surprise -= R(D.features(rotate(x))).log_softmax(1)[:, t]
    terms = detector.score_terms(X[:5])
    np.testing.assert_allclose(terms.recognition, surprise / 36, rtol=1e-3)


def test_without_a_second_task(fitted, fitted_rows, zeros):
    """The calibrated score takes the paper's discrimination term instead."""
    rows, X = fitted_rows
    for detector, images in [(fitted, zeros[:9]), (rows, X[:9])]:
        terms = detector.score_terms(images)
        assert "recognition" not in terms
        calibrated = copy.copy(detector).set_params(anomaly_score="calibrated")
        usual = calibrated.calibration_.held_out
        log_p = {name: -surprise(terms[name], usual[name]) for name in terms}
        expected = log_p["discrimination"] + 4 * log_p["density"]
        if detector is fitted:
            expected += np.minimum(log_p["deviation"], log_p["largest_deviation"])
            expected += log_p["squared_residual"] / 4
        else:  # rows have no places
            assert not any("deviation" in name for name in terms)
            expected += log_p["squared_residual"]
        scores = calibrated.score_samples(images)
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_terms_have_the_same_names_whatever_the_score(fitted, supervised, zeros):
    """The names depend on what was trained, and a name means one thing."""
    names = ["residual", "squared_residual", "largest_residual", "discrimination"]
    of_places = ["deviation", "largest_deviation"]
    for detector, wanted in [
        (fitted, [*names, *of_places, "density"]),
        (supervised, [*names, "recognition", *of_places, "density"]),
    ]:
        papers, calibrated = (
            copy.copy(detector)
            .set_params(anomaly_score=anomaly_score)
            .score_terms(zeros[:5])
            for anomaly_score in ("anogan", "calibrated")
        )
        assert list(papers) == list(calibrated) == wanted
        for name in wanted:
            np.testing.assert_array_equal(papers[name], calibrated[name])


def test_one_search_for_all_answers(fitted, supervised, fitted_rows, zeros, searched):
    """What `explain` answers are the bits of the methods that search on their own."""
    rows, X = fitted_rows
    for detector, images in [(fitted, zeros), (supervised, zeros), (rows, X)]:
        images = images[:70]
        searched.clear()
        found = detector.explain(images)
        assert sum(searched) == 70
        np.testing.assert_array_equal(found.scores, detector.score_samples(images))
        np.testing.assert_array_equal(found.p_values, detector.p_values(images))
        np.testing.assert_array_equal(found.maps, detector.anomaly_map(images))
        np.testing.assert_array_equal(
            found.residual_maps, detector.residual_map(images)
        )
        np.testing.assert_array_equal(found.codes, detector.invert(images))
        np.testing.assert_array_equal(
            found.reconstructions, detector.reconstruct(images)
        )
        terms = detector.score_terms(images)
        assert list(found.terms) == list(terms)
        for name, values in terms.items():
            np.testing.assert_array_equal(found.terms[name], values)
    other = copy.copy(fitted).set_params(search_steps=1)
    assert "p_values" not in other.explain(zeros[:2])  # for which nothing is held out


def test_held_out_images_are_searched_once(zeros, quick, searched):
    for changes in ({}, {"self_supervision": 1.0, "anomaly_score": "calibrated"}):
        searched.clear()
        AnoGANDetector(**quick | changes).fit(zeros)
        assert sum(searched) == len(hold_out(len(zeros))[1])


def test_another_score_needs_another_threshold(fitted, zeros):
    other = copy.copy(fitted).set_params(anomaly_score="calibrated")
    assert other.score_samples(zeros[:3]).shape == (3,)
    for method in ("decision_function", "predict"):
        with pytest.raises(ValueError, match=r"threshold for.*'anogan'.*Fit again"):
            getattr(other, method)(zeros[:3])


def test_weight_of_another_papers_score_needs_another_threshold(fitted, zeros):
    """The calibrated score does not depend on the weight, but for the search."""
    other = copy.copy(fitted).set_params(discrimination_weight=0.5)
    for method in ("decision_function", "predict"):
        with pytest.raises(ValueError, match=r"discrimination_weight=0\.1.*to 0\.5"):
            getattr(other, method)(zeros[:3])
    other = AnoGANDetector(max_epochs=1, n_filters=4, random_state=0).fit(zeros)
    assert other.set_params(discrimination_weight=0.5).predict(zeros).shape == (178,)


def test_nothing_is_kept_for_a_task_that_is_not_there(fitted, supervised):
    assert not hasattr(fitted, "recognizer_")
    assert list(supervised.recognizer_.parameters())


def test_recognizer_that_answers_nan(supervised, zeros):
    broken = copy.deepcopy(supervised)
    broken.recognizer_.layers[1].weight.data *= torch.inf
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        broken.score_samples(zeros[:3])


def test_warm_start_takes_on_the_second_task(zeros, quick):
    detector = AnoGANDetector(**quick, warm_start=True).fit(zeros)
    detector.set_params(self_supervision=1.0).fit(zeros)
    assert len(detector.recognizer_.transformations) == 36
    losses = detector.history_[:, "recognition_loss"]
    assert losses[:3] == [0, 0, 0]
    assert min(losses[3:]) > 0
    before = copy.deepcopy(detector.recognizer_)
    detector.set_params(lr=1e-12).fit(zeros)
    for a, b in zip(
        before.parameters(), detector.recognizer_.parameters(), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_second_task_is_learned_and_helps_ranking(supervised, digits, zeros):
    """Other digits are recognized worse, turned and moved, than unseen zeros."""
    losses = supervised.history_[:, "recognition_loss"]
    assert losses[-1] < 0.5 * losses[0]
    images, labels = digits
    _, held_out = hold_out(len(zeros))
    others = images[labels != 0][:200]
    terms = [supervised.score_terms(X).recognition for X in (zeros[held_out], others)]
    assert np.median(terms[1]) > 1.5 * np.median(terms[0])


def test_threshold(fitted, digits):
    images, _ = digits
    decision = fitted.decision_function(images[:100])
    np.testing.assert_array_equal(
        decision, fitted.score_samples(images[:100]) - fitted.offset_
    )
    np.testing.assert_array_equal(
        fitted.predict(images[:100]), np.where(decision >= 0, 1, -1)
    )


def test_image_on_the_threshold_is_normal(fitted, zeros):
    detector = pickle.loads(pickle.dumps(fitted))
    detector.offset_ = detector.score_samples(zeros[:1])[0]
    assert detector.decision_function(zeros[:1]) == 0
    assert detector.predict(zeros[:1]) == 1


@pytest.mark.parametrize(
    "contamination, share", [("auto", 0.05), (0.2, 0.2), (0.5, 0.5)]
)
@pytest.mark.parametrize("anomaly_score", ["anogan", "calibrated"])
def test_contamination(zeros, quick, contamination, share, anomaly_score):
    """The share of all images, or with "auto" at most that of those held out."""
    detector = AnoGANDetector(
        **quick | {"anomaly_score": anomaly_score}, contamination=contamination
    ).fit(zeros)
    X = zeros[hold_out(len(zeros))[1]] if contamination == "auto" else zeros
    found = np.mean(detector.predict(X) == -1)
    if contamination == "auto":  # for unseen images: of 39, the second is at 5 %
        share = 1 / len(X)
        if anomaly_score == "calibrated":  # maps of these images are too usual here
            assert found <= share
            return
    assert share - 1 / len(X) <= found < share + 1 / len(X)


def test_held_out_images_are_not_trained_on(zeros, quick):
    _, held_out = hold_out(len(zeros))
    changed = zeros.copy()
    changed[held_out] = changed[held_out][:, ::-1]
    a, b = (AnoGANDetector(**quick).fit(X) for X in (zeros, changed))
    assert a.history_[:, "generator_loss"] == b.history_[:, "generator_loss"]
    assert a.offset_ != b.offset_


def test_threshold_comes_from_a_sample_of_many_images(rng, quick, searched):
    """Fitting does not search for all of a large training set."""
    X = rng.normal(size=(3000, 2))
    detector = AnoGANDetector(**quick | {"max_epochs": 1}, contamination=0.1)
    detector.set_params(n_candidates=1).fit(X)
    assert sum(searched) == 299 + 1000  # held-out images, and a sample of all
    assert 0.05 < np.mean(detector.predict(X) == -1) < 0.15


def test_map_and_reconstruction_agree(fitted, zeros):
    """The map is made of the difference to the reconstruction, in the units of X."""
    reconstructed = fitted.reconstruct(zeros)
    assert reconstructed.shape == zeros.shape
    assert 0 <= reconstructed.min() < reconstructed.max() <= 16
    maps = fitted.residual_map(zeros)
    assert maps.min() >= 0
    difference = zeros - reconstructed
    residual = np.abs(difference).mean((1, 2)) / 8
    np.testing.assert_allclose(residual, fitted.score_terms(zeros).residual, rtol=1e-5)
    scale = usual_residual(fitted).numpy()[0]
    relative = uniform_filter(difference / scale, (0, 3, 3), mode="nearest")
    expected = np.abs(relative) * np.sqrt(np.mean(scale**2))
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_map_is_relative_to_what_is_usual(fitted, zeros):
    """Unseen normal images leave about the same in every place of the map."""
    held_out = zeros[hold_out(len(zeros))[1]]
    difference = uniform_filter(held_out - fitted.reconstruct(held_out), (0, 3, 3))
    plain = np.sqrt(np.mean(difference**2, axis=0))
    relative = np.sqrt(np.mean(fitted.residual_map(held_out) ** 2, axis=0))
    assert relative.std() / relative.mean() < 0.9 * plain.std() / plain.mean()


def test_map_of_channels_is_their_mean(rng, quick):
    X = rng.uniform(size=(20, 6, 5, 3)) * [1, 10, 100]
    detector = AnoGANDetector(**quick).fit(X)
    scale = usual_residual(detector).permute(1, 2, 0).numpy()
    relative = (X - detector.reconstruct(X)) / scale
    relative = np.abs(uniform_filter(relative, (0, 3, 3, 0), mode="nearest"))
    expected = (relative * np.sqrt(np.mean(scale**2, axis=(0, 1)))).mean(-1)
    np.testing.assert_allclose(detector.residual_map(X), expected, rtol=1e-3)


def test_maps_of_places_search_nothing(fitted, zeros, searched, monkeypatch):
    """Nor is an image generated; the map is the same whatever the search."""
    maps = fitted.anomaly_map(zeros)
    assert not searched
    assert maps.min() > 0
    assert maps.shape == zeros.shape
    other = copy.copy(fitted).set_params(search_steps=0, n_candidates=7)
    np.testing.assert_array_equal(other.anomaly_map(zeros), maps)
    np.testing.assert_array_equal(fitted.anomaly_map(zeros[[5]]), maps[[5]])
    assert not searched
    with monkeypatch.context() as patch:  # no candidates for a search either
        patch.setattr("sklearn_anogan._search._searcher.explore", None)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.anomaly_map(zeros), maps)
    fitted.residual_map(zeros[:3])
    fitted.explain(zeros[:3])
    assert searched == [3, 3]


@pytest.mark.parametrize("shape", [(12,), (3, 9), (9, 3, 2)])
def test_maps_without_places_are_of_the_residual(rng, quick, searched, shape):
    X = rng.normal(size=(30, *shape))
    detector = AnoGANDetector(**quick).fit(X)
    assert detector.model_.ruler is None
    assert not any("deviation" in name for name in detector.score_terms(X))
    searched.clear()
    maps = detector.anomaly_map(X)
    assert sum(searched) == 30
    assert maps.shape == X.shape[:3]
    np.testing.assert_array_equal(maps, detector.residual_map(X))
    np.testing.assert_array_equal(maps, detector.explain(X).maps)


def test_map_finds_what_the_networks_cannot_see(rng, quick):
    """One thread of a weave in the wrong direction, in images that are shrunk."""
    rows, columns = np.mgrid[:64, :48]
    weave = np.sin(rows * 1.3) + np.sin(columns * 1.1)
    X = weave * rng.uniform(0.8, 1.2, size=(60, 1, 1)) + 0.1 * rng.normal(
        size=(60, 64, 48)
    )
    detector = AnoGANDetector(**quick, network_side=8).fit(X)
    image = X[:1].copy()
    image[0, 40:47, 20:27] = image[0, 41:48, 22:29].T
    (one,) = detector.anomaly_map(image)
    row, column = divmod(one.argmax(), 48)
    assert 38 <= row < 49
    assert 18 <= column < 29
    assert detector.score_terms(image).largest_deviation == one.max()


# Images that are shrunk for the networks


@pytest.mark.parametrize(
    ("network_side", "seen"), [(32, (32, 20)), (7, (7, 4)), (None, (40, 25))]
)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_networks_see_shrunk_images(rng, quick, network_side, seen, n_channels):
    """All answers have the size of the user's images."""
    X = rng.uniform(3, 5, size=(20, 40, 25, n_channels))
    detector = AnoGANDetector(**quick | {"self_supervision": 1.0})
    detector.set_params(network_side=network_side, anomaly_score="calibrated").fit(X)
    model = detector.model_
    assert model.network_shape == seen
    assert model.seen_share == pytest.approx(np.prod(seen) / 1000)
    codes = detector.invert(X[:3])
    with torch.no_grad():
        small = detector.generator_(torch.tensor(codes))
    assert small.shape == (3, n_channels, *seen)
    for images in (
        detector.reconstruct(X[:3]),
        detector.generate(codes),
        detector.sample(3, 0),
    ):
        assert images.shape == (3, 40, 25, n_channels)
        assert 2.99 < images.min() <= images.max() < 5.01
    np.testing.assert_allclose(
        detector.reconstruct(X[:3]), detector.generate(codes), atol=1e-4
    )
    for method in ("residual_map", "anomaly_map"):
        assert getattr(detector, method)(X[:3]).shape == (3, 40, 25)
    assert detector.calibration_.learned["largest_residual"]["scale"].shape == (
        n_channels,
        *seen,
    )
    # What the networks see is the mean over areas, on their own scale.
    x = model.value_range.to_network(
        torch.tensor(X[:3]).movedim(3, 1), torch.device("cpu")
    )
    x = torch.nn.functional.adaptive_avg_pool2d(x, seen)
    residual = (x - small).abs().mean((1, 2, 3))
    np.testing.assert_allclose(
        detector.score_terms(X[:3]).residual, residual, rtol=1e-4
    )


def test_scores_weigh_what_networks_see(rng, quick):
    """A third of the pixels counts for a third; the image itself counts in full."""
    X = rng.uniform(size=(60, 12, 16))
    quick |= {"self_supervision": 1.0, "anomaly_score": "calibrated"}
    detector = AnoGANDetector(**quick, network_side=8).fit(X)
    assert detector.model_.seen_share == 0.25
    usual, terms = detector.calibration_.held_out, detector.score_terms(X)
    log_p = {name: -surprise(terms[name], usual[name]) for name in terms}
    of_networks = log_p["squared_residual"] / 4 + log_p["recognition"]
    of_networks += 4 * log_p["density"]
    of_places = np.minimum(log_p["deviation"], log_p["largest_deviation"])
    np.testing.assert_allclose(
        detector.score_samples(X), of_places + of_networks / 4, rtol=1e-9
    )


def test_small_images_are_seen_as_they_are(zeros, quick):
    """And a larger side changes no bit."""
    scores = AnoGANDetector(**quick).fit(zeros).score_samples(zeros)
    for network_side in (8, 1000, None):
        detector = AnoGANDetector(**quick, network_side=network_side).fit(zeros)
        assert detector.model_.network_shape == (8, 8)
        np.testing.assert_array_equal(detector.score_samples(zeros), scores)


def test_shrunk_images_belong_to_their_scores(rng, quick):
    X = rng.uniform(size=(70, 20, 12))
    quick |= {"anomaly_score": "calibrated"}
    detector = AnoGANDetector(**quick, network_side=8).fit(X)
    scores, maps = detector.score_samples(X), detector.anomaly_map(X)
    for i in (0, 63, 69):
        assert detector.score_samples(X[[i]]) == scores[i]
        np.testing.assert_array_equal(detector.anomaly_map(X[[i]])[0], maps[i])
    np.testing.assert_array_equal(detector.score_samples(X[::-1]), scores[::-1])


def test_generated_images_of_codes(fitted, fitted_rows, zeros):
    """Codes as arrays, tensors and lists; in the layout and units of `fit`."""
    z = fitted.invert(zeros[:5])
    images = fitted.generate(z)
    np.testing.assert_allclose(images, fitted.reconstruct(zeros[:5]), atol=1e-4)
    np.testing.assert_array_equal(fitted.generate(torch.tensor(z)), images)
    np.testing.assert_array_equal(fitted.generate(z.tolist()), images)
    np.testing.assert_array_equal(fitted.generate(z[::-1]), images[::-1])
    z.flags.writeable = False
    np.testing.assert_array_equal(fitted.generate(z), images)
    rows, X = fitted_rows
    assert rows.generate(rows.invert(X[:3])).shape == (3, 10)


@pytest.mark.parametrize(
    "z, message",
    [
        (np.zeros((2, 9)), "codes of 9 numbers.*fitted with latent_dim=8"),
        (np.zeros(8), "1D array"),
        (np.zeros((0, 8)), "0 sample"),
        (np.full((1, 8), np.nan), "z contains NaN"),
    ],
)
def test_codes_that_are_none(fitted, z, message):
    with pytest.raises(ValueError, match=message):
        fitted.generate(z)


def test_inversion_is_inverted(fitted):
    """The code of a generated image generates about that image."""
    X = fitted.sample(10, random_state=1)
    assert X.shape == (10, 8, 8)
    detector = clone(fitted)
    vars(detector).update(vars(fitted))
    detector.set_params(search_steps=500)
    assert detector.invert(X).shape == (10, 8)
    assert np.abs(detector.reconstruct(X) - X).mean() < np.abs(X - X.mean(0)).mean() / 2


def test_sample(fitted):
    one = fitted.sample(random_state=3)
    assert one.shape == (1, 8, 8)
    assert one.dtype == np.float64
    many = fitted.sample(70, random_state=3)
    assert many.shape == (70, 8, 8)
    assert (many.std(0) > 0).any()
    np.testing.assert_array_equal(many, fitted.sample(70, random_state=3))
    assert not np.array_equal(fitted.sample(), fitted.sample())
    with pytest.raises(ValueError, match="n_samples == 0, must be >= 1"):
        fitted.sample(0)
    with pytest.raises(TypeError, match="n_samples must be an instance of int"):
        fitted.sample(2.5)


def test_rows(fitted_rows):
    detector, X = fitted_rows
    assert detector.image_shape_ == (10,)
    assert isinstance(detector.generator_, DenseGenerator)
    assert detector.anomaly_map(X).shape == X.shape
    np.testing.assert_allclose(
        detector.anomaly_map(X), np.abs(X - detector.reconstruct(X)), atol=1e-5
    )
    far = X[:5] + 100
    assert detector.score_samples(far).max() < detector.score_samples(X).min()


# Kinds of input


def test_every_layout_of_grey_images(fitted, zeros):
    """Other layouts of the same images have the same scores and keep their layout."""
    scores, images = fitted.score_samples(zeros), fitted.reconstruct(zeros)
    maps = fitted.anomaly_map(zeros)
    n = len(zeros)
    for X in [
        zeros.reshape(n, 64),
        zeros[..., np.newaxis],
        zeros.astype(np.float32),
        zeros.astype(np.uint8),
        zeros.astype(int),
        torch.tensor(zeros),
        torch.tensor(zeros)[:, None],
        torch.tensor(zeros, dtype=torch.bfloat16),
        torch.tensor(zeros, requires_grad=True),
        np.asfortranarray(zeros),
        np.pad(zeros, 3)[3:-3, 3:-3, 3:-3],
    ]:
        np.testing.assert_array_equal(fitted.score_samples(X), scores)
        reconstructed = fitted.reconstruct(X)
        assert type(reconstructed) is type(X)
        assert reconstructed.shape == X.shape
        np.testing.assert_allclose(reconstructed.ravel(), images.ravel(), rtol=1e-5)
        anomaly_map = fitted.anomaly_map(X)
        assert type(anomaly_map) is type(X)
        np.testing.assert_allclose(anomaly_map, maps, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(fitted.score_samples(zeros.tolist()), scores)


@pytest.mark.parametrize(
    "shape", [(9, 6), (6, 9, 3), (1, 1), (1, 30), (5, 5, 2), (4, 4, 7), (32, 20)]
)
def test_any_image_shape(rng, quick, shape):
    X = rng.uniform(size=(30, *shape))
    detector = AnoGANDetector(**quick).fit(X)
    assert detector.image_shape_ == shape
    assert detector.n_features_in_ == np.prod(shape)
    assert detector.score_samples(X).shape == (30,)
    assert detector.reconstruct(X).shape == X.shape
    assert detector.anomaly_map(X).shape == (30, *shape[:2])
    assert detector.sample(2).shape == (2, *shape)


def test_channels_of_flattened_and_torch_images(rng, quick):
    """Channels come last in rows and arrays, first in tensors: the same images."""
    X = rng.uniform(size=(30, 6, 5, 3))
    scores = AnoGANDetector(**quick).fit(X).score_samples(X)
    flat = X.reshape(30, -1)
    detector = AnoGANDetector((6, 5, 3), **quick).fit(flat)
    np.testing.assert_array_equal(detector.score_samples(flat), scores)
    assert detector.sample(2).shape == (2, 90)
    tensor = torch.tensor(np.moveaxis(X, -1, 1), dtype=torch.float32)
    detector = AnoGANDetector(**quick).fit(tensor)
    np.testing.assert_allclose(detector.score_samples(tensor), scores, rtol=1e-3)
    assert detector.image_shape_ == (6, 5, 3)
    assert detector.reconstruct(tensor).dtype == torch.float32
    assert detector.sample(2).shape == (2, 3, 6, 5)


def test_units_do_not_matter(zeros, quick):
    """uint8, 0 to 255, and the same images between 0 and 1 have the same scores."""
    X = (zeros * 15.9375).astype(np.uint8)
    assert X.max() == 255
    first = AnoGANDetector(**quick).fit(X)
    second = AnoGANDetector(**quick).fit(X / 255)
    np.testing.assert_allclose(
        first.score_samples(X), second.score_samples(X / 255), rtol=1e-4
    )
    np.testing.assert_allclose(
        first.reconstruct(X), 255 * second.reconstruct(X / 255), atol=0.1
    )


def test_memory_map(zeros, quick, tmp_path):
    X = np.memmap(tmp_path / "X", np.uint8, "w+", shape=zeros.shape)
    X[:] = 15 * zeros
    X.flush()
    X = np.memmap(tmp_path / "X", np.uint8, "r", shape=zeros.shape)
    expected = AnoGANDetector(**quick).fit(np.array(X)).score_samples(np.array(X))
    np.testing.assert_array_equal(
        AnoGANDetector(**quick).fit(X).score_samples(X), expected
    )


def test_data_frame(zeros, quick):
    names = [f"pixel {i}" for i in range(64)]
    X = pd.DataFrame(zeros.reshape(-1, 64), columns=names)
    detector = AnoGANDetector((8, 8), **quick).fit(X)
    assert list(detector.feature_names_in_) == names
    assert isinstance(detector.generator_, Generator)
    expected = AnoGANDetector(**quick).fit(zeros).score_samples(zeros)
    np.testing.assert_array_equal(detector.score_samples(X), expected)
    with pytest.raises(ValueError, match="feature names should match"):
        detector.predict(X[names[::-1]])


def test_input_is_left_alone(fitted, zeros):
    X, tensor = zeros.copy(), torch.tensor(zeros)
    for method in ("score_samples", "reconstruct", "anomaly_map", "residual_map"):
        getattr(fitted, method)(X)
        getattr(fitted, method)(tensor)
    np.testing.assert_array_equal(X, zeros)
    np.testing.assert_array_equal(tensor, zeros)


def test_far_outside_the_training_range(fitted, zeros):
    """Values far off are not clipped: the further, the more abnormal, and finite."""
    scores = [
        fitted.score_samples(zeros[:3] + offset).mean()
        for offset in (0, 10, 1000, 1e6, 1e20)
    ]
    assert np.all(np.diff(scores) < 0)
    assert np.isfinite(scores).all()
    scale = usual_residual(fitted)[0]
    expected = 1e6 * smooth(1 / scale[None, None])[0, 0] * scale.square().mean().sqrt()
    maps = fitted.residual_map(zeros[:3] + 1e6)
    np.testing.assert_allclose(maps, np.tile(expected, (3, 1, 1)), rtol=1e-4)
    for offset in (1e6, 1e20, -1e20):
        maps = fitted.anomaly_map(zeros[:3] + offset)
        assert np.isfinite(maps).all()
        assert maps.max() > 10
    with pytest.raises(ValueError, match="too far outside the range"):
        fitted.score_samples(zeros[:3] + 1e300)


# A score belongs to its image


@pytest.mark.parametrize(
    "kind, inversion",
    [
        ("images", "search"),
        ("rows", "search"),
        ("images", "encoder"),
        ("rows", "encoder"),
        ("images", "encoder+search"),
    ],
)
def test_a_score_belongs_to_its_image(
    kind, inversion, fitted, encoded, fitted_rows, encoded_rows, digits
):
    if kind == "images":
        X = digits[0][:90]
        detector = encoded if "encoder" in inversion else fitted
    else:
        detector, X = encoded_rows if "encoder" in inversion else fitted_rows
    detector = copy.copy(detector).set_params(inversion=inversion)
    scores, codes = detector.score_samples(X), detector.invert(X)
    order = np.random.RandomState(0).permutation(len(X))
    np.testing.assert_array_equal(detector.score_samples(X[order]), scores[order])
    np.testing.assert_array_equal(detector.invert(X[order]), codes[order])
    np.testing.assert_array_equal(detector.score_samples(X[5:40]), scores[5:40])
    alone = [detector.score_samples(X[i : i + 1])[0] for i in range(40)]
    np.testing.assert_array_equal(alone, scores[:40])


def test_n_jobs(fitted, digits):
    X = digits[0][:200]
    for n_jobs in (2, -1):
        parallel = pickle.loads(pickle.dumps(fitted)).set_params(n_jobs=n_jobs)
        np.testing.assert_array_equal(
            parallel.score_samples(X), fitted.score_samples(X)
        )


def test_worker_processes(fitted, digits):
    X = digits[0][:100]
    parallel = pickle.loads(pickle.dumps(fitted)).set_params(n_jobs=2)
    with joblib.parallel_config(backend="loky"):
        scores = parallel.score_samples(X)
    np.testing.assert_array_equal(scores, fitted.score_samples(X))


# The encoder


def test_encoder_takes_one_pass(encoded, zeros):
    """The code is the encoder's, whatever the parameters of the search say."""
    x = torch.tensor(zeros[:, None] / 8 - 1, dtype=torch.float32)
    with torch.no_grad():
        z = encoded.encoder_(x)
        G_z = encoded.generator_(z)
    np.testing.assert_allclose(encoded.invert(zeros), z, atol=1e-5)
    reconstructed = encoded.reconstruct(zeros)
    np.testing.assert_allclose(reconstructed, 8 * (G_z[:, 0] + 1), atol=1e-4)
    other = copy.copy(encoded).set_params(n_restarts=3, search_steps=50, n_candidates=9)
    np.testing.assert_array_equal(
        other.score_samples(zeros), encoded.score_samples(zeros)
    )
    calls = []
    hook = encoded.generator_.layers[0].register_forward_hook(
        lambda module, z, answer: calls.append(len(z[0]))
    )
    with_hook = copy.deepcopy(encoded)
    hook.remove()
    with_hook.score_samples(zeros[:1])  # measures batches
    calls.clear()
    with_hook.score_samples(zeros[:64])
    assert calls.count(64) == 1
    assert sum(calls) < 64 + 5  # a few to measure memory and to check the shape


def test_search_from_the_encoder(encoded, zeros):
    """It starts from the encoder's code and only comes closer."""
    search = copy.copy(encoded).set_params(inversion="encoder+search")
    search.set_params(search_steps=0)
    np.testing.assert_array_equal(search.invert(zeros), encoded.invert(zeros))
    closer = search.set_params(search_steps=20).score_samples(zeros)
    assert (closer >= encoded.score_samples(zeros)).all()
    assert np.median(closer / encoded.score_samples(zeros)) < 0.9
    # Further starts are the nearest candidates.
    more = search.set_params(n_restarts=2).score_samples(zeros)
    assert (more >= closer - 1e-6).all()
    assert (more > closer).any()
    nearest = copy.copy(encoded).set_params(inversion="search", search_steps=0)
    both = search.set_params(n_restarts=1, search_steps=0).score_samples(zeros)
    np.testing.assert_array_equal(
        both,
        np.maximum(encoded.score_samples(zeros), nearest.score_samples(zeros)),
    )


def test_encoder_is_there_only_if_asked_for(fitted, zeros, quick):
    with pytest.raises(ValueError, match="inversion='encoder' needs an encoder, which"):
        copy.copy(fitted).set_params(inversion="encoder").score_samples(zeros)
    detector = AnoGANDetector(**quick, inversion="encoder+search").fit(zeros)
    assert len(detector.encoder_history_) == 3
    detector.set_params(inversion="search").fit(zeros)
    assert not hasattr(detector, "encoder_")
    assert not hasattr(detector, "encoder_history_")


@pytest.mark.parametrize("random_state", [0, None])
def test_random_states(zeros, quick, random_state):
    """Global states are neither used nor changed; an int makes all reproducible."""
    quick["random_state"] = random_state
    X = zeros[:40]
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    torch_state = torch.random.get_rng_state()
    first = AnoGANDetector(**quick).fit(X)
    scores = first.score_samples(X)
    first.sample(2)
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    np.testing.assert_equal(after, numpy_state)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    second = AnoGANDetector(**quick).fit(X)
    is_same = np.array_equal(second.score_samples(X), scores)
    assert is_same == (random_state == 0)
    np.testing.assert_array_equal(first.score_samples(X), scores)


def test_random_state_instance(zeros, quick):
    """An instance is drawn from: the same state, the same model."""
    X = zeros[:40]
    quick["random_state"] = np.random.RandomState(5)
    detector = AnoGANDetector(**quick)
    first, second = (detector.fit(X).score_samples(X) for _ in range(2))
    assert not np.array_equal(first, second)
    quick["random_state"] = np.random.RandomState(5)
    again = AnoGANDetector(**quick).fit(X).score_samples(X)
    np.testing.assert_array_equal(first, again)


def test_scoring_changes_no_bit_of_the_networks(fitted, digits):
    def bits():
        networks = (fitted.generator_, fitted.discriminator_)
        return [
            value.clone()
            for network in networks
            for value in network.state_dict().values()
        ]

    before = bits()
    for method in ("predict", "reconstruct", "anomaly_map", "invert", "score_terms"):
        getattr(fitted, method)(digits[0][:40])
    fitted.sample(3)
    for old, new in zip(before, bits(), strict=True):
        assert torch.equal(old, new)
    for network in (fitted.generator_, fitted.discriminator_):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_candidates", 0),
        ("n_candidates", "many"),
        ("search_steps", -1),
        ("search_lr", 0.0),
        ("n_restarts", 1.5),
        ("tol", 1),
        ("device", 3),
    ],
)
def test_search_settings_are_checked_when_they_are_used(fitted, zeros, name, value):
    changed = pickle.loads(pickle.dumps(fitted)).set_params(**{name: value})
    with pytest.raises(ValueError, match=f"The '{name}' parameter of AnoGANDetector"):
        changed.score_samples(zeros[:2])


def test_what_is_explored_is_kept_until_it_changes(fitted, zeros, monkeypatch):
    """Once a fit, and again for other candidates or a copy; never in a pickle."""
    calls = []
    explore = _searcher.explore
    monkeypatch.setattr(
        _searcher, "explore", lambda *args: calls.append(1) or explore(*args)
    )
    detector = pickle.loads(pickle.dumps(fitted))
    for changes, n_calls in [
        ({}, 1),
        ({}, 1),
        ({"search_steps": 3, "n_restarts": 2, "tol": 0.1}, 1),
        ({"n_candidates": 100}, 2),
        ({"n_candidates": 1}, 3),
    ]:
        detector.set_params(**changes).score_samples(zeros[:2])
        assert len(calls) == n_calls
    copy.deepcopy(detector).score_samples(zeros[:2])
    assert len(calls) == 4


@pytest.mark.parametrize(
    "changes, least",
    [
        ({"n_restarts": 3}, -1e-6),
        ({"search_steps": 80}, -1e-6),
        ({"search_steps": 80, "tol": 1e-3}, -0.01),  # some end before others' 20 steps
    ],
)
def test_search_settings(fitted, zeros, changes, least):
    """More starts or steps come closer to the images; settings hold without a refit."""
    longer = pickle.loads(pickle.dumps(fitted)).set_params(**changes)
    gain = longer.score_samples(zeros) - fitted.score_samples(zeros)
    assert gain.min() >= least
    assert gain.mean() > 1e-3


def test_tol_ends_the_search(fitted, zeros):
    """The search without it comes closer; search settings need no refit."""
    detector = pickle.loads(pickle.dumps(fitted)).set_params(search_steps=200)
    full = detector.score_samples(zeros)
    ended = detector.set_params(tol=0.2).score_samples(zeros)
    assert (ended <= full + 1e-6).all()
    assert ended.mean() < full.mean()


# Fitting


@pytest.mark.parametrize("is_fitted", [False, True])
def test_parts_of_the_model_are_there_once_they_are_learned(fitted, is_fitted):
    """And cannot be set: the methods would not know of it."""
    detector = copy.copy(fitted) if is_fitted else AnoGANDetector()
    always = {"generator_", "discriminator_", "history_", "image_shape_"}
    for name in always | {"recognizer_", "encoder_", "encoder_history_"}:
        is_there = is_fitted and name in always
        assert hasattr(detector, name) == (name in dir(detector)) == is_there
        with pytest.raises(AttributeError, match=f"{name} is a part of what fit"):
            setattr(detector, name, None)
    assert "property" not in detector._repr_html_()


def test_parameters_are_checked_by_every_method(fitted, zeros):
    changed = copy.copy(fitted).set_params(anomaly_score="bogus")
    for method in ("predict", "decision_function", "p_values", "score_samples"):
        with pytest.raises(ValueError, match="The 'anomaly_score' parameter of AnoGAN"):
            getattr(changed, method)(zeros[:2])


def test_own_networks(zeros, quick):
    """Classes that keep the documented contract replace the built-in networks."""

    class MyGenerator(nn.Module):
        def __init__(self, latent_dim, n_channels, height, width, n_filters):
            super().__init__()
            self.shape = (n_channels, height, width)
            self.layer = nn.Linear(latent_dim, n_channels * height * width)

        def forward(self, z):
            return self.layer(z).tanh().view(-1, *self.shape)

    class MyDiscriminator(nn.Module):
        def __init__(self, n_channels, height, width, n_filters):
            super().__init__()
            self.first = nn.Linear(n_channels * height * width, n_filters)
            self.last = nn.Linear(n_filters, 1)

        def features(self, x):
            return self.first(x.flatten(1)).relu()

        def forward(self, x):
            return self.last(self.features(x)).squeeze(1)

    detector = AnoGANDetector(
        generator=MyGenerator, discriminator=MyDiscriminator, **quick
    ).fit(zeros)
    assert type(detector.generator_) is MyGenerator
    assert type(detector.discriminator_) is MyDiscriminator
    scores = detector.score_samples(zeros[:40])
    np.testing.assert_array_equal(detector.score_samples(zeros[7:8])[0], scores[7])
    assert clone(detector).generator is MyGenerator


def test_network_instances_are_refused(zeros):
    instance = Generator(2, 1, 8, 8, 4)
    with pytest.raises(ValueError, match=r"'generator' parameter.*instance of 'type'"):
        AnoGANDetector(generator=instance).fit(zeros)


def test_warm_start(zeros, quick):
    """A second fit goes on from the first; a cold one starts again."""
    detector = AnoGANDetector(**quick, warm_start=True).fit(zeros)
    before = [w.clone() for w in detector.generator_.parameters()]
    detector.set_params(max_epochs=2, lr=1e-9).fit(zeros)
    assert [row["epoch"] for row in detector.history_] == [1, 2, 3, 4, 5]
    for old, new in zip(before, detector.generator_.parameters(), strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=1e-6)
    detector.set_params(warm_start=False).fit(zeros)
    assert len(detector.history_) == 2


def test_warm_start_with_other_networks(zeros, quick):
    detector = AnoGANDetector(**quick, warm_start=True).fit(zeros)
    scores = detector.score_samples(zeros)
    with pytest.raises(ValueError, match=r"warm_start=True continues.*Generator"):
        detector.set_params(latent_dim=9).fit(zeros)
    detector.set_params(latent_dim=8)
    with pytest.raises(ValueError, match=r"warm_start=True continues.*Generator"):
        detector.set_params(network_side=4).fit(zeros)
    detector.set_params(network_side=32)
    for X in (zeros[:, :6], zeros.reshape(-1, 4, 16), zeros.reshape(-1, 64)):
        with pytest.raises(ValueError, match=r"warm_start=True.*Use warm_start=False"):
            detector.fit(X)
    with pytest.raises(ValueError, match="constant and equal"):
        detector.fit(np.ones((5, 8, 8)))
    np.testing.assert_array_equal(detector.score_samples(zeros), scores)


class Stop(Callback):
    def __init__(self, error):
        self.error = error

    def on_batch_end(self, net, **kwargs):
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError("no memory")])
@pytest.mark.parametrize("warm_start", [False, True])
def test_failed_fit_leaves_the_fitted_state(zeros, quick, error, warm_start):
    detector = AnoGANDetector(**quick, warm_start=warm_start).fit(zeros)
    scores, before = detector.score_samples(zeros), vars(detector).copy()
    detector.set_params(callbacks=[Stop(error)])
    other = zeros if warm_start else zeros[:, :5, :6]
    with pytest.raises(error if isinstance(error, type) else type(error)):
        detector.fit(other)
    detector.set_params(callbacks=None)
    assert vars(detector) == before
    np.testing.assert_array_equal(detector.score_samples(zeros), scores)


def test_failed_first_fit_leaves_nothing(zeros, quick):
    detector = AnoGANDetector(**quick, callbacks=[Stop(KeyboardInterrupt)])
    before = set(vars(detector))
    with pytest.raises(KeyboardInterrupt):
        detector.fit(zeros)
    assert set(vars(detector)) == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients(zeros, quick, mode):
    with mode():
        scores = AnoGANDetector(**quick).fit(zeros).score_samples(torch.tensor(zeros))
    expected = AnoGANDetector(**quick).fit(zeros).score_samples(zeros)
    np.testing.assert_array_equal(scores, expected)


def test_networks_are_float32_whatever_the_default(zeros, quick):
    torch.set_default_dtype(torch.float64)
    try:
        detector = AnoGANDetector(**quick).fit(zeros)
        scores = detector.score_samples(zeros)
    finally:
        torch.set_default_dtype(torch.float32)
    assert next(detector.generator_.parameters()).dtype == torch.float32
    np.testing.assert_array_equal(detector.score_samples(zeros), scores)


def test_set_params_after_fit(fitted, zeros):
    """Parameters of the training wait for the next fit, also where they are used."""
    detector = pickle.loads(pickle.dumps(fitted))
    detector.set_params(latent_dim=3, latent_prior="normal", n_filters=2)
    np.testing.assert_array_equal(
        detector.score_samples(zeros), fitted.score_samples(zeros)
    )
    np.testing.assert_array_equal(
        detector.sample(3, random_state=0), fitted.sample(3, random_state=0)
    )
    detector.set_params(discrimination_weight=1.0)
    assert not np.array_equal(detector.invert(zeros), fitted.invert(zeros))


def test_normal_prior(zeros, quick):
    detector = AnoGANDetector(**quick, latent_prior="normal", n_restarts=20).fit(zeros)
    z = detector.set_params(search_steps=0).invert(zeros)
    assert np.abs(z).max() > 1


def test_n_jobs_is_checked_before_the_training(zeros, quick):
    stop = [Stop(KeyboardInterrupt)]
    with pytest.raises(ValueError, match="n_jobs == 0"):
        AnoGANDetector(**quick, n_jobs=0, callbacks=stop).fit(zeros)


def test_scoring_reads_block_by_block(fitted, zeros, monkeypatch):
    """A block of images is read at a time, whatever their number."""
    monkeypatch.setattr("sklearn_anogan._images._BLOCK_VALUES", 64 * 64)
    sizes = []

    class Counting(np.ndarray):
        def __getitem__(self, index):
            block = super().__getitem__(index)
            sizes.append(len(block))
            return block

    images = fitted._check_images(zeros, reset=False)
    images.data = zeros.view(Counting)
    fitted._find(images, "terms", terms=fitted._terms())
    assert max(sizes) == 64
    assert sum(sizes) == len(zeros)


# Bad input


@pytest.mark.parametrize(
    "X, error, message",
    [
        (np.full((5, 4, 4), np.nan), ValueError, "Input X contains NaN"),
        (np.full((5, 4, 4), -np.inf), ValueError, "contains NaN or infinity"),
        (np.zeros((0, 4, 4)), ValueError, "0 sample"),
        (np.zeros((1, 4, 4)), ValueError, "1 sample"),
        (torch.rand(1, 4, 4), ValueError, "1 sample"),
        (np.ones((5, 4, 4)), ValueError, "constant and equal"),
        (np.ones((5, 4)), ValueError, "constant and equal"),
        (
            [np.eye(3), np.eye(4)],
            ValueError,
            r"images of one shape, X has \(3, 3\), \(4, 4\)",
        ),
        (np.ones((5, 4, 4), complex), ValueError, "Complex data not supported"),
        (scipy.sparse.eye_array(5), TypeError, "Sparse data"),
        (np.array([[object()] * 3] * 3), TypeError, "float"),
        (np.zeros((5, 2, 2, 2, 2)), ValueError, r"shape is \(5, 2, 2, 2, 2\)"),
        (None, ValueError, "Expected 2D array, got scalar array"),
    ],
)
def test_bad_training_images(X, error, message, quick):
    with pytest.raises(error, match=message):
        AnoGANDetector(**quick).fit(X)


@pytest.mark.parametrize(
    "X, message",
    [
        (np.zeros((2, 8, 9)), r"shape \(8, 9\), but AnoGANDetector expects.*\(8, 8\)"),
        (np.zeros((2, 8, 8, 3)), r"shape \(8, 8, 3\), but.*\(8, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"shape \(8, 8, 3\), but.*\(8, 8\)"),
        (np.zeros((2, 63)), "X has 63 features, but AnoGANDetector is expecting 64"),
        (np.zeros((0, 8, 8)), "0 sample"),
        (np.full((2, 8, 8), np.nan), "Input X contains NaN"),
        (torch.full((2, 8, 8), torch.inf), "Input X contains NaN or infinity"),
    ],
)
def test_bad_images_to_score(X, message, fitted):
    for method in ("score_samples", "predict", "anomaly_map", "invert", "reconstruct"):
        with pytest.raises(ValueError, match=message):
            getattr(fitted, method)(X)


@pytest.mark.parametrize(
    "image_shape, message",
    [
        ((8, 9), r"64 features, but image_shape=\(8, 9\).*needs rows of 72"),
        ((64,), r"image_shape must be \(height, width\)"),
        ((8, 8.0), r"image_shape must be \(height, width\)"),
        ((-8, -8), r"image_shape must be \(height, width\)"),
    ],
)
def test_bad_image_shape(zeros, image_shape, message):
    with pytest.raises(ValueError, match=message):
        AnoGANDetector(image_shape).fit(zeros.reshape(-1, 64))


@pytest.mark.parametrize(
    "parameter, values",
    [
        ("image_shape", [8, "8x8"]),
        ("latent_dim", [0, -1, 2.5, "8", None]),
        ("latent_prior", ["gaussian", None, 1]),
        ("n_filters", [0, 1.5]),
        ("generator", ["Generator", 3]),
        ("discriminator", [Discriminator(1, 8, 8, 4)]),
        ("adversarial_loss", ["wgan", None]),
        ("max_epochs", [0, -1, 1.0, "many"]),
        ("batch_size", [1, 0, 32.0]),
        ("lr", [0, -1e-3, "auto"]),
        ("self_supervision", [-1, None]),
        ("callbacks", ["disable", 1]),
        ("inversion", ["newton", None]),
        ("search_steps", [-1, 1.5, "some"]),
        ("search_lr", [0, -1]),
        ("n_restarts", [-1, 0.5]),
        ("tol", [-0.1, 1, "auto"]),
        ("anomaly_score", ["gan", None]),
        ("discrimination_weight", [-0.1, 1.1, None]),
        ("contamination", [0, 0.6, -0.1, "none"]),
        ("warm_start", ["yes", 2]),
        ("device", [None, 0]),
        ("n_jobs", [1.5, "all"]),
        ("verbose", ["yes", -1]),
        ("random_state", ["zero", -1, 1.5]),
    ],
)
def test_bad_parameters(zeros, quick, parameter, values):
    for value in values:
        detector = AnoGANDetector(**quick | {parameter: value})
        with pytest.raises(ValueError, match=f"'{parameter}' parameter of AnoGANDet"):
            detector.fit(zeros)


def test_device_that_does_not_exist(zeros, quick):
    for device in ("cuda:99", torch.device("cuda:99"), "gpu"):
        detector = AnoGANDetector(**quick, device=device)
        with pytest.raises(ValueError, match=r"cannot be used here.*'auto' or 'cpu'"):
            detector.fit(zeros)


# At home in scikit-learn


def test_pipeline_and_grid_search(digits):
    """Flattened images behind a scaler; labels 1 for normal and -1 for anomalies."""
    images, labels = digits
    X = images[labels < 2].reshape(-1, 64)
    y = np.where(labels[labels < 2] == 1, 1, -1)
    pipeline = make_pipeline(
        MinMaxScaler(),
        AnoGANDetector((8, 8), n_filters=4, max_epochs=2, random_state=0),
    )
    grid = GridSearchCV(
        pipeline,
        {"anogandetector__search_steps": [0, 5]},
        scoring="roc_auc",
        cv=StratifiedKFold(2),
    ).fit(X, y)
    assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
    assert grid.decision_function(X).shape == (len(X),)
    scaled = make_pipeline(StandardScaler(), clone(pipeline[-1])).fit(X[y == 1])
    assert set(scaled.predict(X)) == {-1, 1}


@pytest.mark.parametrize("dumps", [pickle.dumps, None])
def test_pickle_and_joblib(fitted, zeros, tmp_path, dumps):
    if dumps is None:
        joblib.dump(fitted, tmp_path / "detector.joblib")
        loaded = joblib.load(tmp_path / "detector.joblib")
    else:
        loaded = pickle.loads(dumps(fitted))
    np.testing.assert_array_equal(
        loaded.score_samples(zeros), fitted.score_samples(zeros)
    )
    assert loaded.history_ == fitted.history_


def test_import_is_light():
    """Importing the package imports no matplotlib."""
    code = "import sys, sklearn_anogan; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_parameter_and_attribute_is_documented(fitted):
    text = inspect.getdoc(AnoGANDetector)
    documented = re.findall(r"^(\w[\w, ]*) : ", text, flags=re.MULTILINE)
    documented = set(", ".join(documented).split(", "))
    fitted_to = {name for name in dir(fitted) if name.endswith("_")}
    public = {*fitted.get_params(), *fitted_to}
    public = {name for name in public if not name.startswith("_")}
    only_sometimes = {
        "feature_names_in_",
        "recognizer_",
        "encoder_",
        "encoder_history_",
        "shift_p_value_",
    }
    assert documented == public | only_sometimes


@pytest.mark.gpu
def test_on_a_gpu(zeros, quick):
    detector = AnoGANDetector(**quick, device="cuda").fit(zeros)
    X = torch.tensor(zeros, device="cuda")
    assert detector.anomaly_map(X).is_cuda
    np.testing.assert_allclose(
        detector.score_samples(X),
        detector.set_params(device="cpu").score_samples(zeros),
        rtol=1e-2,
    )


@pytest.mark.parametrize(
    "shape, n_steps",
    [((28, 28), 5), ((64, 64, 3), 10), ((100, 36), 10), ((8, 8), 5), ((900,), 5)],
)
def test_steps_grow_with_the_side(shape, n_steps, rng):
    detector = AnoGANDetector(
        n_filters=1, max_epochs=1, n_candidates=1, search_steps=0, random_state=0
    )
    X = rng.normal(size=(4, *shape))
    detector.set_params(network_side=None).fit(X).set_params(search_steps="auto")
    assert detector._n_steps() == n_steps
    if shape == (64, 64, 3):  # the side that the networks see
        shrunk = clone(detector).set_params(network_side=48, search_steps=0).fit(X)
        assert shrunk.set_params(search_steps="auto")._n_steps() == 8
    assert detector.set_params(search_steps=3)._n_steps() == 3


@pytest.mark.parametrize("anomaly_score", ["anogan", "calibrated"])
def test_p_values(quick, digits, anomaly_score):
    """Unseen zeros are spread over the held-out ones; other digits are below them."""
    images, labels = digits
    zeros, others = images[labels == 0], images[labels == 1][:50]
    quick |= {"max_epochs": 100, "anomaly_score": anomaly_score}
    detector = AnoGANDetector(**quick).fit(zeros[:128])
    _, held_out = hold_out(128)
    p = detector.p_values(zeros[128:])
    n_possible = len(held_out) + 1
    np.testing.assert_allclose(p * n_possible, np.round(p * n_possible))
    assert 0.25 < p.mean() < 0.75
    assert detector.p_values(others).mean() < 2 / n_possible
    # Another score has held-out scores of its own.
    other = {"anogan": "calibrated", "calibrated": "anogan"}[anomaly_score]
    detector.set_params(anomaly_score=other)
    assert 0.25 < detector.p_values(zeros[128:]).mean() < 0.75
    if anomaly_score == "anogan":  # whose held-out scores depend on nothing else
        detector.set_params(anomaly_score="anogan")
        scores = detector.score_samples(zeros[:128][held_out])
        expected = (1 + (scores <= scores[0]).sum()) / n_possible
        assert detector.p_values(zeros[:128][held_out][:1]) == expected


@pytest.mark.parametrize("anomaly_score", ["anogan", "calibrated"])
def test_a_held_out_image_has_no_advantage(fitted, zeros, anomaly_score):
    """It is compared with a new image by the other held-out images alone."""
    detector = copy.deepcopy(fitted).set_params(anomaly_score=anomaly_score)
    new, n_at_most = zeros[:100], np.ones(100)
    usual, terms = detector.calibration_.held_out, detector.score_terms(new)
    folds = folds_of(detector.calibration_.groups)
    assert len(folds) == 10
    for is_in_fold in folds:
        of_others = {name: each[~is_in_fold] for name, each in usual.items()}
        one = copy.copy(detector)
        one.calibration_ = replace(one.calibration_, held_out=of_others)
        own = one._scores({name: each[is_in_fold] for name, each in usual.items()})
        n_at_most += (own[:, None] <= one._scores(terms)).sum(axis=0)
    expected = n_at_most / (1 + len(detector.calibration_.groups))
    np.testing.assert_allclose(detector.p_values(new), expected)
    if anomaly_score == "calibrated":
        held_out, scores = detector._held_out_scores(), detector.score_samples(new)
        with_advantage = 1 + (held_out[:, None] <= scores).sum(axis=0)
        assert (with_advantage != n_at_most).any()


def test_p_values_of_another_search(fitted, zeros):
    detector = copy.deepcopy(fitted).set_params(search_steps=1, tol=0.5)
    with pytest.raises(ValueError, match="search_steps and tol, which have been set"):
        detector.p_values(zeros)


@pytest.mark.parametrize("is_fitted", [False, True])
def test_html_links_to_the_documentation(fitted, is_fitted):
    detector = fitted if is_fitted else AnoGANDetector()
    link = "/api/sklearn_anogan.AnoGANDetector.html"
    assert link in detector._repr_html_()
    search = GridSearchCV(make_pipeline(MinMaxScaler(), detector), {})
    html = search._repr_html_()
    assert link in html
    assert "scikit-learn.org" in html  # the scaler keeps its own


# Groups, near-copies, and another calibration


@pytest.fixture
def copies(zeros, rng):
    """Sixty zeros, each three times with a little noise, and the number of each."""
    groups = rng.permutation(np.repeat(np.arange(60), 3))
    return zeros[groups] + rng.normal(scale=0.1, size=(180, 8, 8)), groups


def hold_out_groups(groups):
    n = len(groups)
    return hold_out(n, check_groups(groups, n, least=2, name="fit"))


def test_groups(copies, quick):
    """No group is on both sides, each counts as one image, whatever its label is."""
    X, groups = copies
    detector = AnoGANDetector(**quick).fit(X, groups=groups)
    _, held_out = hold_out_groups(groups)
    assert len(detector.calibration_.groups) == len(held_out) == 3 * n_held_out(60)
    assert detector.calibration_.weights.sum() == pytest.approx(19)
    assert detector.p_values(X[:1] + 90) == 1 / 20
    changed = X.copy()
    changed[held_out] = changed[held_out][:, ::-1]
    other = AnoGANDetector(**quick).fit(changed, groups=groups)
    assert other.history_[:, "generator_loss"] == detector.history_[:, "generator_loss"]
    named = AnoGANDetector(**quick).fit(X, groups=[f"part {i}" for i in groups])
    assert named.offset_ == detector.offset_
    np.testing.assert_array_equal(named.p_values(X), detector.p_values(X))
    alone = AnoGANDetector(**quick).fit(X[:60], groups=np.arange(60))
    assert alone.offset_ == AnoGANDetector(**quick).fit(X[:60]).offset_


def test_held_out_images_are_compared_with_other_groups(copies, quick):
    """Copies of an image do not make the image usual."""
    X, groups = copies
    quick |= {"anomaly_score": "calibrated"}
    detector = AnoGANDetector(**quick).fit(X, groups=groups)
    calibration = detector.calibration_
    _, held_out = hold_out_groups(groups)
    is_own = calibration.groups == 4
    others = copy.copy(detector)
    others._calibrate(detector._check_images(X, reset=False), held_out[~is_own])
    found = others.score_terms(X[held_out[is_own]])
    for name in ("largest_deviation", "largest_residual"):
        own = calibration.held_out[name][is_own]
        np.testing.assert_allclose(own, found[name], rtol=1e-5)


def test_groups_of_one_label_are_refused(zeros, quick):
    with pytest.raises(ValueError, match="All images are of the group 7, but AnoGAN"):
        AnoGANDetector(**quick).fit(zeros, groups=np.full(len(zeros), 7))
    with pytest.raises(ValueError, match=r"groups has the shape \(3,\), but X has 178"):
        AnoGANDetector(**quick).fit(zeros, groups=[1, 2, 3])


@pytest.mark.parametrize("is_routed", [False, True])
def test_groups_go_through_pipelines_and_searches(copies, quick, is_routed):
    """By scikit-learn's metadata routing, and by the name of the step without it."""
    X, groups = copies
    rows = X.reshape(len(X), -1)
    quick |= {"image_shape": (8, 8)}
    expected = AnoGANDetector(**quick).fit(rows, groups=groups)
    with sklearn.config_context(enable_metadata_routing=is_routed):
        if is_routed:
            step = AnoGANDetector(**quick).set_fit_request(groups=True)
            pipe = make_pipeline(FunctionTransformer(), step)
            pipe.fit(rows, groups=groups)
            y = np.r_[np.full(170, 1), np.full(10, -1)]
            search = GridSearchCV(
                step,
                {"search_lr": [0.1, 0.2]},
                scoring=make_outlier_scorer(),
                cv=InlierSplit(GroupKFold(2)),
                refit=False,
                error_score="raise",
            )
            # Ten groups more, of anomalies.
            more = np.r_[groups[:170], 100 + np.arange(10)]
            search.fit(rows, y, groups=more)
        else:
            pipe = make_pipeline(FunctionTransformer(), AnoGANDetector(**quick))
            pipe.fit(rows, anogandetector__groups=groups)
    assert pipe[-1].offset_ == expected.offset_


def test_near_copies_are_told_of(copies, zeros, quick):
    """Only where they are on both sides, and only of images."""
    X, groups = copies
    with pytest.warns(UserWarning, match=r"% of the images held out.*groups=labels"):
        AnoGANDetector(**quick).fit(X)
    rows = X.reshape(len(X), -1)
    with pytest.warns(UserWarning, match="near-copies"):
        AnoGANDetector((8, 8), **quick).fit(rows)
    with pytest.warns(UserWarning, match="Give near-copies the same label in groups"):
        AnoGANDetector(**quick).fit(X, groups=np.arange(len(X)))
    AnoGANDetector(**quick).fit(rows)
    AnoGANDetector(**quick).fit(X, groups=groups)
    AnoGANDetector(**quick).fit(zeros)


def test_calibrate(zeros, quick, rng):
    """Everything but the networks comes from the new images, each as if new."""
    quick |= {"anomaly_score": "calibrated", "max_epochs": 30}
    noisy = zeros + rng.normal(scale=3, size=zeros.shape)  # of a worse camera
    detector = AnoGANDetector(**quick).fit(zeros[:100])
    before = copy.deepcopy(detector)
    with pytest.warns(UserWarning, match="look less normal"):
        assert detector.calibrate(noisy[100:140]) is detector
    assert detector.model_.history == before.model_.history
    assert detector.shift_p_value_ < 0.001
    assert len(detector.calibration_.groups) == 40
    unseen = noisy[140:]
    assert (before.predict(unseen) == -1).mean() > 0.5
    assert (detector.predict(unseen) == -1).mean() < 0.25
    assert detector.p_values(unseen).mean() > 0.3
    # The same images again, and in fit.
    again = copy.deepcopy(before)
    with pytest.warns(UserWarning, match="less normal"):
        again.calibrate(noisy[100:140])
    np.testing.assert_array_equal(again.p_values(unseen), detector.p_values(unseen))
    held_out = zeros[:100][hold_out(100)[1]]
    again.calibrate(held_out)
    assert again.offset_ == before.offset_
    assert again.shift_p_value_ > 0.9
    np.testing.assert_array_equal(again.p_values(unseen), before.p_values(unseen))


def test_calibrate_after_other_parameters_have_been_set(zeros, quick):
    """Then p-values hold again; the shift is told by the parameters of fit."""
    detector = AnoGANDetector(**quick).fit(zeros[:100])
    expected = copy.deepcopy(detector).calibrate(zeros[100:]).shift_p_value_
    detector.set_params(search_steps=1, anomaly_score="calibrated")
    with pytest.raises(ValueError, match="search_steps, which has been set"):
        detector.p_values(zeros)
    detector.calibrate(zeros[100:])
    assert detector.search_steps == 1
    assert detector.shift_p_value_ == expected > 0.001
    assert detector.p_values(zeros[100:]).shape == (78,)
    assert detector.predict(zeros).shape == (178,)


@pytest.mark.parametrize("shape", [(8, 8), (64,)])
def test_map_threshold_of_held_out_images(zeros, quick, shape):
    """Without X, by the maps that held-out images would have if they were new."""
    X = zeros.reshape(len(zeros), *shape)
    quick |= {"max_epochs": 100}
    detector = AnoGANDetector(**quick).fit(X[:138])
    for rate in (0.2, 0.05):
        threshold = detector.map_threshold(false_positive_rate=rate)
        share = np.mean(detector.anomaly_map(X[138:]) > threshold)
        assert 0.4 * rate < share < 2 * rate
    seen = detector.anomaly_map(X[:138][hold_out(138)[1]])
    assert np.mean(seen > detector.map_threshold(None, 0.05)) < 0.05
    detector.set_params(search_steps=1)
    if len(shape) == 2:  # the ruler needs no search
        assert detector.map_threshold(None, 0.05) == threshold
    else:
        with pytest.raises(ValueError, match="Maps depend on search_steps, which has"):
            detector.map_threshold()
    few = AnoGANDetector(**quick).fit(X[:5])
    with pytest.warns(UserWarning, match="fewer than 8 images"):
        few.map_threshold()


def test_a_calibrated_detector_is_saved(zeros, quick, rng, tmp_path):
    quick |= {"anomaly_score": "calibrated"}
    detector = AnoGANDetector(**quick).fit(zeros[:100])
    noisy = zeros[100:140] + rng.normal(scale=3, size=(40, 8, 8))
    with pytest.warns(UserWarning, match="less normal"):
        detector.calibrate(noisy, groups=np.arange(40) // 2)
    save(detector, tmp_path / "detector.safetensors")
    loaded = load(tmp_path / "detector.safetensors")
    assert loaded.shift_p_value_ == detector.shift_p_value_
    assert loaded.map_threshold() == detector.map_threshold()
    X = zeros[140:]
    np.testing.assert_array_equal(loaded.p_values(X), detector.p_values(X))
    # What fit has held out is still known.
    for each in (loaded, detector):
        each.calibrate(zeros[140:])
    assert loaded.shift_p_value_ == detector.shift_p_value_ > 0.001
    few = AnoGANDetector(**quick).fit(zeros[:5]).calibrate(zeros[100:140])
    save(few, tmp_path / "detector.safetensors")
    assert np.isnan(load(tmp_path / "detector.safetensors").shift_p_value_)


@pytest.mark.parametrize("n_channels", [None, 3])
def test_the_same_numbers_train_the_same_model(rng, quick, n_channels):
    """Whatever their order in memory: C, Fortran, reversed, or a tensor of torch."""
    shape = (60, 8, 10) if n_channels is None else (60, 8, 10, n_channels)
    X = rng.uniform(size=shape)
    expected = AnoGANDetector(**quick).fit(X)
    scores = expected.score_samples(X)
    tensor = torch.tensor(X) if n_channels is None else torch.tensor(X).movedim(-1, 1)
    for same in (
        np.asfortranarray(X),
        X[:, ::-1].copy()[:, ::-1],
        tensor,
        tensor.contiguous(),
    ):
        detector = AnoGANDetector(**quick).fit(same)
        np.testing.assert_array_equal(detector.score_samples(same), scores)
        for a, b in zip(
            detector.generator_.state_dict().values(),
            expected.generator_.state_dict().values(),
            strict=True,
        ):
            assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 9), (4, 5, 5)])
def test_channels_first_are_told_of(rng, quick, shape):
    X = rng.uniform(size=(20, *shape))
    with pytest.warns(UserWarning, match=r"\(height, width, channels\).*moveaxis\(X"):
        AnoGANDetector(**quick | {"max_epochs": 1}).fit(X)
    message = rf"image_shape=\({shape[1]}, {shape[2]}, {shape[0]}\)"
    with pytest.warns(UserWarning, match=message):
        AnoGANDetector(shape, **quick | {"max_epochs": 1}).fit(X.reshape(20, -1))


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((20, 3, 9)),  # grey, and 3 pixels high
        np.zeros((20, 3, 9, 3)),
        np.zeros((20, 8, 8, 1)),
        torch.zeros(20, 3, 8, 8),
        np.zeros((20, 2, 8, 8)),
    ],
)
def test_channels_last_are_not(rng, quick, X):
    noise = rng.uniform(size=X.shape)
    X = X + (torch.tensor(noise) if isinstance(X, torch.Tensor) else noise)
    AnoGANDetector(**quick | {"max_epochs": 1}).fit(X)


def test_where_a_number_is_missing(zeros, quick):
    """Which image is told, and nothing of imputers, which are for tables."""
    X = zeros[:40].copy()
    X[7, 3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity, first in sample 7") as info:
        AnoGANDetector(**quick).fit(X)
    assert "impute" not in str(info.value)


@pytest.mark.parametrize(
    "network_side, message",
    [
        (
            32,
            "600 x 9 pixels are shrunk to 128 .* to 32 .* less than 5 pixels disappear",
        ),
        (None, "600 x 9 pixels are seen whole by the networks"),
    ],
)
def test_large_images(rng, quick, network_side, message):
    """Small defects are lost in them, or time and memory: PatchDetector is named."""
    X = rng.rand(9, 600, 9)
    with pytest.warns(UserWarning, match=f"{message}.*PatchDetector"):
        AnoGANDetector(**quick | {"network_side": network_side, "n_filters": 1}).fit(X)


def test_finds_another_spectrum_among_many_bands(quick):
    """Where pixels have an unusual spectrum, as bright as ever: by score and by map."""
    rng = np.random.RandomState(0)
    at = np.linspace(0, 1, 100)
    spectra = np.stack([np.exp(-(((at - m) / 0.3) ** 2)) for m in (0.1, 0.5, 0.9)])
    lights, places = rng.uniform(0.8, 1, (80, 1, 1, 3)), rng.uniform(0.3, 1, (8, 8, 3))
    X = lights * places @ spectra
    X += rng.normal(scale=0.02, size=X.shape)
    detector = AnoGANDetector(**quick | {"anomaly_score": "calibrated"}).fit(X[:60])
    normal, odd = X[60:70], X[70:].copy()
    square = odd[:, 3:5, 4:6]
    odd[:, 3:5, 4:6] += 0.15 * square.mean(-1, keepdims=True) * np.sin(40 * at)
    assert detector.score_samples(odd).max() < detector.score_samples(normal).min()
    maps = detector.anomaly_map(odd)
    mask = np.zeros((8, 8), bool)
    mask[3:5, 4:6] = True
    assert roc_auc_score(np.tile(mask, (10, 1, 1)).ravel(), maps.ravel()) > 0.95


def test_a_long_training_on_many_channels(rng, quick, monkeypatch):
    """Told before the work begins; not of a short one, nor of networks of one's own."""

    class OwnGenerator(Generator):
        pass

    X = rng.rand(60, 8, 8, 20)
    AnoGANDetector(**quick).fit(X)
    n_steps = quick["max_epochs"] * (len(hold_out(60, None)[0]) // 16)
    work = n_steps * 20 * 8 * 8 * quick["n_filters"]
    monkeypatch.setattr(_settings, "_A_MINUTE", work / 2.6)
    with pytest.warns(UserWarning, match="20 channels and 8 x 8 pixels takes about 3"):
        AnoGANDetector(**quick).fit(X)
    AnoGANDetector(**quick | {"max_epochs": 2}).fit(X)
    AnoGANDetector(**quick, generator=OwnGenerator).fit(X)
    AnoGANDetector(**quick).fit(X[..., :12])
    AnoGANDetector(**quick).fit(X[:, 0, 0])


def test_images_that_are_not_large(rng, quick):
    AnoGANDetector(**quick).fit(rng.rand(9, 512, 9))
    AnoGANDetector(**quick).fit(rng.rand(9, 600))  # rows
