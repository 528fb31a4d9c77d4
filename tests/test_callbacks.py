import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sklearn_anogan import AnoGANDetector, _compat
from sklearn_anogan._images import TrainingImages, check_images
from sklearn_anogan._networks import DenseDiscriminator, DenseGenerator
from sklearn_anogan._training import train_gan
from sklearn_anogan._training._callbacks import Diversity, _spread
from sklearn_anogan._value_range import ValueRange


@pytest.fixture
def sklearn_callback():
    """scikit-learn's module of callbacks, which it has from version 1.9 on."""
    return pytest.importorskip("sklearn.callback")


def test_spread():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [0.0, 9.0]])
    assert _spread(points) == pytest.approx((1 + 18**0.5 + 1 + 34**0.5) / 4)
    assert _spread(points[:1]) == 0


class Draws(nn.Module):
    """Takes the place of a net whose generator always draws the same images."""

    batch_size = 100

    def __init__(self, images):
        super().__init__()
        self.images = images
        self.device = "cpu"

    @property
    def module_(self):
        return self

    def sample_prior(self, n, rng):
        return torch.arange(n)

    def forward(self, z):
        return self.images[z % len(self.images)]


def diversity(dataset, images):
    callback, net = Diversity(), Draws(images)
    callback.on_train_begin(net, X=dataset)
    return callback.measure(net)


def test_diversity(dataset):
    """1 for the training images themselves; few that come again and again are none."""
    images = dataset.__getitems__(slice(None))
    assert diversity(dataset, images) == pytest.approx(1)
    mean = images.mean(0)
    assert diversity(dataset, mean + 0.3 * (images - mean)) == pytest.approx(0.3, 1e-5)
    assert diversity(dataset, images[:1]) == 0
    assert diversity(dataset, images[:50]) < 0.01
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    assert diversity(dataset, images + 10 * noise) > 3


@pytest.mark.parametrize("n_distinct", [1, 2, 30])
def test_diversity_of_copies(dataset, zeros, n_distinct):
    """Training images that come several times do not count as close neighbours."""
    dataset.images.data = np.resize(zeros[:n_distinct], (90, 8, 8))
    dataset.index = np.arange(90)
    images = dataset.__getitems__(slice(0, n_distinct))
    measured = diversity(dataset, images)
    if n_distinct == 1:
        assert np.isnan(measured)  # nothing to compare with
    else:
        assert measured == pytest.approx(1)


def test_diversity_is_measured_now_and_then(dataset, train, monkeypatch):
    """Not after epochs of a few steps each, but after the last."""
    measured = []
    measure = Diversity.measure

    def spy(self, net):
        measured.append(len(net.history))
        return measure(self, net)

    monkeypatch.setattr(Diversity, "measure", spy)
    monkeypatch.setattr("sklearn_anogan._training._callbacks._DIVERSITY_EVERY", 25)
    net = train(dataset, max_epochs=20)  # of 3 steps
    assert measured == [1, 10, 19, 20]
    figures = net.history[:, "diversity"]
    assert figures[:9] == figures[:1] * 9
    assert figures[9] not in (figures[0], figures[19])


class Recorder:
    """A callback of scikit-learn's protocol."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.begun, self.ended, self.scores, self.is_over = [], [], [], False

    def setup(self, estimator, context):
        assert isinstance(estimator, AnoGANDetector)

    def on_fit_task_begin(self, estimator, context, *, X=None):
        assert X is not None
        self.begun.append((context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append(context.task_name)
        self.scores.append(fitted_estimator.decision_function(X))
        return self.ended.count("epoch") == self.stop_at

    def teardown(self, estimator, context):
        self.is_over = True


@pytest.mark.usefixtures("sklearn_callback")
@pytest.mark.parametrize("inversion", ["search", "encoder"])
def test_callbacks_of_sklearn(zeros, quick, inversion):
    recorder = Recorder()
    detector = AnoGANDetector(**quick, inversion=inversion).set_callbacks(recorder)
    scores = detector.fit(zeros).decision_function(zeros)
    trainings = ["GAN"] if inversion == "search" else ["GAN", "encoder"]
    begun, ended = [("fit", None)], []
    for name in trainings:
        begun += [(name, 3), *[("epoch", 0)] * 3]
        ended += [*["epoch"] * 3, name]
    assert recorder.begun == begun
    assert recorder.ended == [*ended, "fit"]
    assert recorder.is_over
    # As if fit had stopped there: the last ones are the detector's own.
    for last in recorder.scores[-2:]:
        np.testing.assert_array_equal(last, scores)
    assert not np.array_equal(recorder.scores[0], recorder.scores[1])
    other = AnoGANDetector(**quick, inversion=inversion).fit(zeros)
    np.testing.assert_array_equal(other.decision_function(zeros), scores)


@pytest.mark.usefixtures("sklearn_callback")
def test_callback_of_sklearn_ends_the_training(zeros, quick):
    recorder = Recorder(stop_at=2)
    detector = AnoGANDetector(**quick).set_callbacks(recorder).fit(zeros)
    assert len(detector.history_) == 2


@pytest.mark.usefixtures("sklearn_callback")
def test_callbacks_of_sklearn_are_told_of_a_failure(zeros, quick):
    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise ZeroDivisionError

    recorder = Recorder()
    detector = AnoGANDetector(**quick, callbacks=[Fail()]).set_callbacks(recorder)
    with pytest.raises(ZeroDivisionError):
        detector.fit(zeros)
    assert recorder.is_over
    assert set(vars(detector)) == set(detector.get_params()) | {"_skl_callbacks"}


def test_scoring_monitor(digits, quick, sklearn_callback):
    """The area under the curve after every epoch, as scikit-learn records it."""
    images, labels = digits
    monitor = sklearn_callback.ScoringMonitor(scoring="roc_auc")
    detector = AnoGANDetector(**quick).set_callbacks(monitor)
    detector.fit(images[:100], np.where(labels[:100] == 0, 1, -1))
    log = monitor.get_logs().data
    epochs = [row["roc_auc"] for row in log if row["task_name"] == "epoch"]
    assert len(epochs) == 3
    assert all(0 <= auroc <= 1 for auroc in epochs)


def test_without_callbacks_of_sklearn(monkeypatch):
    """Before version 1.9 there are none, and everything else is as it is."""
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    spec = importlib.util.spec_from_file_location(
        "sklearn_anogan._compat_of_old", _compat.__file__
    )
    old = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(old)
    assert not hasattr(old.CallbackSupportMixin, "set_callbacks")
    assert old.with_callbacks(len) is len
    estimator = old.CallbackSupportMixin()
    assert old.fit_context(estimator, {"estimator": estimator}) is None


@pytest.mark.parametrize("seconds, words", [(0, "seconds"), (301, "5 minutes")])
def test_forecast(dataset, brief_settings, capsys, caplog, monkeypatch, seconds, words):
    """A training is announced if it is verbose, or if it takes long, by the log."""
    now = [0.0]
    monkeypatch.setattr(
        "sklearn_anogan._training._callbacks.time.perf_counter", lambda: now[0]
    )

    class Clock(Callback):
        def on_batch_begin(self, net, **kwargs):
            now[0] += seconds / 12

    settings = replace(brief_settings, max_epochs=4, callbacks=(Clock(),))
    with caplog.at_level("INFO", "sklearn_anogan"):
        net = train_gan(dataset, settings, seed=0, verbose=1)
        train_gan(dataset, settings, seed=0)
    n_weights = sum(
        p.numel()
        for network in (net.learner_, net.discriminator_)
        for p in network.parameters()
    )
    message = (
        f"Training the GAN: {n_weights:,} weights, batches of 50 images of 8 x 8 "
        "pixels, 12 steps in 4 epochs, about "
    )
    assert capsys.readouterr().err.count(message) == 1
    is_long = seconds > 300
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"] * is_long
    for record in caplog.records:
        assert record.getMessage().startswith(message + words)
        assert "Fewer max_epochs" in record.getMessage()


def test_forecast_of_rows(brief_settings, capsys, rng):
    images = check_images(
        rng.normal(size=(500, 3)),
        None,
        n_features=None,
        min_samples=2,
        estimator_name="Detector",
    )
    rows = TrainingImages(images, ValueRange.measure(images), "cpu")
    settings = replace(
        brief_settings, generator=DenseGenerator, discriminator=DenseDiscriminator
    )
    train_gan(rows, settings, seed=0, verbose=1)
    message = "batches of 50 rows of 3 numbers, 20 steps in 2 epochs"
    assert message in capsys.readouterr().err


def test_progress_bar_shows_the_losses(dataset, brief_settings, capsys):
    train_gan(dataset, replace(brief_settings, max_epochs=3), seed=0, verbose=1)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "3/3" in last
    for name in ("discriminator_loss", "generator_loss", "diversity"):
        assert f"{name}=" in last
