import linecache
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._networks import BUILT_IN, Generator
from sklearn_anogan._training._problems import find_problems


class AlwaysTheSame(Generator):
    """Collapsed from the beginning."""

    def forward(self, z):
        return super().forward(0 * z)


class TwoImages(Generator):
    def forward(self, z):
        return super().forward(z[:, :1].sign() * torch.ones_like(z))


class Blurred(Generator):
    """Cannot draw what the images have: all its images are flat."""

    def forward(self, z):
        return super().forward(z).mean((2, 3), keepdim=True).expand(-1, -1, 8, 8)


def warnings_of(X, **parameters):
    settings = {
        "latent_dim": 8,
        "n_filters": 8,
        "search_steps": 1,
        "n_candidates": 64,
        "random_state": 0,
    }
    detector = AnoGANDetector(**settings | parameters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.fit(X)
    for each in caught:
        assert_is_of_the_line(each, "detector.fit(X)")
    found = [str(each.message) for each in caught]
    assert found == list(detector.model_.problems)
    return found


def assert_is_of_the_line(warning, line):
    assert warning.category is ConvergenceWarning
    assert warning.filename == __file__
    assert linecache.getline(__file__, warning.lineno).strip() == line


@pytest.mark.parametrize("generator", [AlwaysTheSame, TwoImages])
def test_collapse(zeros, generator):
    (found,) = warnings_of(zeros, generator=generator, max_epochs=20)
    assert "generator has collapsed" in found
    assert "0.00 times" in found
    assert "epochs, or try another lr" in found


def test_training_that_has_hardly_begun(zeros):
    (found,) = warnings_of(zeros, max_epochs=1)
    assert "not trained yet: after 8 steps" in found


@pytest.mark.parametrize("lr", [100.0, 1e6])
def test_explosion(zeros, lr):
    exploded, collapsed = warnings_of(zeros, max_epochs=60, lr=lr)
    assert "losses have exploded" in exploded
    assert f"lr={lr}" in exploded
    assert "collapsed" in collapsed


@pytest.mark.slow
def test_winning_discriminator(digits):
    found = warnings_of(digits[0], generator=Blurred, max_epochs=20, lr=2e-3)
    assert "The discriminator has won: D(x) = " in found[0]
    assert not any("too few" in each for each in found)


def test_too_few_images(digits):
    found = warnings_of(digits[0][:20], generator=Blurred, max_epochs=200, lr=2e-3)
    assert "too few for networks of this width" in found[0]
    assert "2281 weights face 640 numbers" in found[0]
    assert not any("has won" in each for each in found)


def test_healthy_training_is_quiet(zeros):
    assert warnings_of(zeros, max_epochs=150, n_filters=16, lr=1e-3) == []


def test_detector_stays_usable_after_a_warning(zeros, quick):
    with pytest.warns(ConvergenceWarning):
        detector = AnoGANDetector(**quick).fit(zeros)
    assert np.isfinite(detector.score_samples(zeros)).all()


def test_warning_as_error_leaves_the_detector_as_it_was(zeros, quick):
    detector = AnoGANDetector(**quick)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning):
            detector.fit(zeros)
    assert not hasattr(detector, "generator_")


def test_warning_of_a_detector_within_another_estimator(zeros, quick):
    """The line is the user's, not one of scikit-learn's."""
    X = zeros.reshape(len(zeros), -1)
    pipeline = make_pipeline(StandardScaler(), AnoGANDetector((8, 8), **quick))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline.fit(X)
    (warning,) = caught
    assert_is_of_the_line(warning, "pipeline.fit(X)")
    search = GridSearchCV(pipeline, {}, scoring=lambda *args: 0.0, cv=2, refit=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X)
    for warning in caught:  # one a fold
        assert_is_of_the_line(warning, "search.fit(X)")
    assert len(caught) == 2


def test_the_generator_is_judged_as_it_is_in_the_end(dataset, train):
    """Whatever the last epoch said of it: a callback may have loaded other weights."""
    net = train(dataset)
    measured = net.history[:, "diversity"]
    for parameter in net.module_.parameters():
        parameter.zero_()
    (found,) = find_problems(net, n_values=10**9)
    assert "after 6 steps" in found
    assert "0.00 times" in found
    assert net.history[:, "diversity"] == [measured[0], 0]
    assert measured[1] > 0


class NarrowRows(BUILT_IN["rows"][0]):
    """Spans a third of what the rows span, in all directions."""

    def forward(self, z):
        return 0 * super().forward(z) + 0.2 * z[:, :5, None, None]


def test_rows_that_are_merely_hard(rng):
    """Long tails leave a generator less to span: it has not collapsed for that."""
    X = rng.normal(size=(200, 5))
    detector = AnoGANDetector(max_epochs=10, generator=NarrowRows, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.fit(X)
    assert 0.2 < detector.history_[-1, "diversity"] < 0.5


class SameRows(BUILT_IN["rows"][0]):
    """Collapsed from the beginning."""

    def forward(self, z):
        return super().forward(0 * z)


def test_collapse_on_rows(rng):
    (found,) = warnings_of(rng.normal(size=(200, 5)), max_epochs=60, generator=SameRows)
    assert "generator has collapsed" in found
