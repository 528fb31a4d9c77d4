from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EpochScoring
from torch import nn

from sklearn_anogan._images import TrainingImages, check_images
from sklearn_anogan._networks import Discriminator, Generator, sample_prior
from sklearn_anogan._training import (
    TrainingRun,
    TrainingSettings,
    train_encoder,
    train_gan,
)
from sklearn_anogan._training._description import describe_run
from sklearn_anogan._training._problems import find_problems
from sklearn_anogan._value_range import ValueRange

#: A part of the model that training passes on.
SAMPLES = torch.zeros(3, 64)


def test_training_improves_the_images(dataset, train):
    """The mean generated image comes close to the mean training image."""
    target = dataset.__getitems__(slice(None)).mean(0)

    def distance(net):
        z = sample_prior(200, "uniform", 6, rng=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return (net.module_.eval()(z).mean(0) - target).abs().mean()

    trained = distance(train(dataset, max_epochs=200, n_filters=8))
    assert trained < distance(train(dataset, max_epochs=1, n_filters=8)) / 2


def test_quiet_unless_verbose(dataset, brief_settings, capsys):
    train_gan(dataset, brief_settings, seed=0)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    train_gan(dataset, brief_settings, seed=0, verbose=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Training the GAN: 100%" in captured.err
    assert "generator_loss" in captured.err


def test_seed_decides_and_global_state_stays(dataset, train):
    state = torch.random.get_rng_state()
    nets = [train(dataset, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(17)
    nets.append(train(dataset, seed=0))
    first, again, other, elsewhere = (
        torch.cat(
            [
                w.flatten()
                for network in (net.module_, net.discriminator_)
                for w in network.parameters()
            ]
        )
        for net in nets
    )
    assert torch.equal(first, again)
    assert torch.equal(first, elsewhere)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("batch_size", [2, 59, 177, 178, 1000])
def test_batch_sizes(dataset, train, batch_size):
    """A rest of one image would have no statistics for batch norm: it is left out."""
    net = train(dataset, batch_size=batch_size, max_epochs=1)
    sizes = net.history[0, "batches", :, "train_batch_size"]
    assert sizes == [min(batch_size, 178)] * max(1, 178 // batch_size)


def test_epochs_are_shuffled(dataset, train):
    seen = []

    class Witness(Callback):
        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            seen.append(batch)

    train(dataset, callbacks=[Witness()], batch_size=89, max_epochs=2)
    first, second = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert not torch.equal(first, second)
    in_order = dataset.__getitems__(slice(None))
    for epoch in (first, second):
        torch.testing.assert_close(epoch.sum(0), in_order.sum(0))


@pytest.mark.parametrize(
    "batch_size, n_epochs, n_steps", [(178, 50, 50), (59, 17, 51), (2, 1, 50)]
)
def test_auto_epochs(dataset, train, monkeypatch, batch_size, n_epochs, n_steps):
    """As many epochs as make 50 steps here; an epoch has no more than these."""
    monkeypatch.setattr("sklearn_anogan._training._settings._FEWEST_STEPS", 50)
    monkeypatch.setattr("sklearn_anogan._training._settings._STEPS_OF_A_PIXEL", 6)
    net = train(dataset, max_epochs="auto", n_filters=1, batch_size=batch_size)
    assert len(net.history) == n_epochs
    assert sum(epoch["train_batch_count"] for epoch in net.history) == n_steps


@pytest.mark.parametrize(
    "shape, n_epochs",
    [
        ((1, 8, 8), 320),
        ((3, 20, 28), 672),
        ((1, 32, 1), 768),
        ((1, 99, 99), 1000),
        ((20, 1, 1), 500),  # rows
        ((36, 1, 1), 864),
        ((64, 1, 1), 1000),
    ],
)
def test_steps_by_shape(brief_settings, shape, n_epochs):
    settings = replace(brief_settings, max_epochs="auto")
    assert settings.n_epochs(50, shape) == n_epochs  # of one step each
    assert settings.n_epochs(10**7, shape) == 1
    assert settings.most_images_of_an_epoch(shape) == 50 * n_epochs
    assert brief_settings.most_images_of_an_epoch(shape) is None
    assert brief_settings.n_epochs(50, shape) == 2


def test_a_given_number_of_epochs_sees_all_images(dataset, train, monkeypatch):
    monkeypatch.setattr("sklearn_anogan._training._settings._FEWEST_STEPS", 50)
    net = train(dataset, max_epochs=1, batch_size=2)
    assert net.history[-1, "train_batch_count"] == 89


@pytest.mark.parametrize(
    "shape, n_filters", [((8, 8), 32), ((32, 20), 32), ((64, 50), 16), ((9, 999), 4)]
)
def test_auto_filters(brief_settings, shape, n_filters):
    assert brief_settings.n_filters_for(*shape) == 4
    settings = replace(brief_settings, n_filters="auto")
    assert settings.n_filters_for(*shape) == n_filters


def test_scoring_callback(dataset, train):
    def score(net, X, y):
        return len(X)

    callback = EpochScoring(score, name="n_images", on_train=True, use_caching=False)
    net = train(dataset, callbacks=[callback])
    assert net.history[:, "n_images"] == [178, 178]


def test_threads_do_not_disturb_each_other(dataset, train):
    """Torch's random state is one for all threads; trainings take turns with it."""
    state = torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        nets = list(pool.map(lambda _: train(dataset), range(4)))
    assert torch.equal(torch.random.get_rng_state(), state)
    for net in nets[1:]:
        for name, value in net.module_.state_dict().items():
            assert torch.equal(value, nets[0].module_.state_dict()[name])


def assert_same_weights(network, other):
    a, b = network.state_dict(), other.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name])


class Epochs(Callback):
    """Counts epochs."""

    def __init__(self):
        self.n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs += 1


@pytest.mark.parametrize("self_supervision", [0.0, 1.0])
@pytest.mark.parametrize("with_encoder", [False, True])
def test_run_makes_a_model(dataset, brief_settings, with_encoder, self_supervision):
    """Of the GAN with its seed, and of an encoder with the next seed."""
    settings = replace(brief_settings, self_supervision=self_supervision)
    epochs, reported = Epochs(), {}

    def report(name, as_model):
        reported[name] = Epochs(), as_model
        return reported[name][0]

    run = TrainingRun(
        dataset,
        replace(settings, callbacks=(epochs,)),
        samples=SAMPLES,
        seed=3,
        report=report,
    )
    model = run.train(with_encoder=with_encoder)
    gan = train_gan(dataset, settings, seed=3)
    assert_same_weights(model.generator, gan.module_)
    assert_same_weights(model.discriminator, gan.discriminator_)
    if self_supervision:
        assert_same_weights(model.recognizer, gan.recognizer_)
    else:
        assert model.recognizer is None
    assert list(model.problems) == find_problems(gan, 178 * 64)
    assert len(model.problems) == 1
    for name in ("generator_loss", "diversity"):  # the last after find_problems
        assert model.history[:, name] == gan.history[:, name]
    if with_encoder:
        G, D = model.generator, model.discriminator
        encoder = train_encoder(dataset, G, D, settings, seed=4)
        assert_same_weights(model.encoder, encoder.module_)
        losses = encoder.history[:, "encoder_loss"]
        assert model.encoder_history[:, "encoder_loss"] == losses
        assert list(reported) == ["GAN", "encoder"]
    else:
        assert model.encoder is None
        assert not model.encoder_history
        assert list(reported) == ["GAN"]
    for network in model.networks.values():
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
    assert model.seed == 3
    # The user's callbacks are for the GAN only, those of `report` for their training.
    assert epochs.n_epochs == 2
    assert {callback.n_epochs for callback, _ in reported.values()} == {2}
    # What `report` gets makes a model of its own of the net as it is.
    *_, as_model = reported["GAN"]
    snapshot = as_model(gan)
    assert_same_weights(snapshot.generator, gan.module_)
    assert snapshot.generator is not gan.module_
    assert snapshot.history is not gan.history


def test_run_goes_on_from_a_model(dataset, brief_settings):
    """With steps of no length, the weights stay what they were."""
    settings = replace(brief_settings, self_supervision=1.0, ema_decay=0.9)
    start = TrainingRun(dataset, settings, seed=0, samples=SAMPLES).train(
        with_encoder=False
    )
    still = replace(settings, lr=1e-30)
    for begins_with in (start, None):
        run = TrainingRun(dataset, still, 1, SAMPLES, start=begins_with)
        model = run.train(with_encoder=False)
        for network, earlier in [
            (model.generator, start.generator),
            (model.discriminator, start.discriminator),
            (model.recognizer, start.recognizer),
        ]:
            is_same = all(
                torch.allclose(p, q, atol=1e-12, rtol=0)
                for p, q in zip(network.parameters(), earlier.parameters(), strict=True)
            )
            assert is_same == (begins_with is start)


def test_description_names_every_setting(dataset, brief_settings):
    """But the number of epochs, which may be raised."""
    names = {field.name for field in fields(TrainingSettings)}
    described = describe_run(dataset, brief_settings)
    assert {*described} == names - {"max_epochs"} | {"X"}


class ReturnsFlatImages(Generator):
    def forward(self, z):
        return super().forward(z).flatten(1)


class ReturnsNaN(Generator):
    def forward(self, z):
        return super().forward(z) * torch.nan


class ReturnsTwoMaps(Discriminator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        del self.features

    def features(self, x):
        return x, x


class IsFrozen(Generator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.requires_grad_(False)


class HasNoFeatures(nn.Module):
    def __init__(self, n_channels, height, width, n_filters):
        super().__init__()
        self.layer = nn.Linear(n_channels * height * width, 1)

    def forward(self, x):
        return self.layer(x.flatten(1)).squeeze(1)


class ReturnsAColumn(Discriminator):
    def forward(self, x):
        return super().forward(x)[:, None]


class ReturnsOneFeature(Discriminator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.features.append(nn.Flatten(0))


class CannotBeCopied(Discriminator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        nn.utils.spectral_norm(self.features[0][0])


class ReturnsNumbers(Discriminator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))


@pytest.mark.parametrize(
    "networks, message",
    [
        (
            {"generator": ReturnsFlatImages},
            r"ReturnsFlatImages.forward must.*\(2, 1, 8, 8\)",
        ),
        ({"generator": ReturnsNaN}, "ReturnsNaN.forward must.*returned NaN or inf"),
        ({"generator": IsFrozen}, "IsFrozen has no parameters to train"),
        ({"generator": nn.Linear}, "generator=Linear must be.*keywords latent_dim"),
        ({"generator": int}, "generator=int must be a torch.nn.Module class"),
        ({"discriminator": ReturnsTwoMaps}, "features must.*returned a tuple"),
        ({"discriminator": HasNoFeatures}, "HasNoFeatures needs.*'features'"),
        ({"discriminator": ReturnsAColumn}, r"forward must.*shape \(2, 1\)"),
        ({"discriminator": ReturnsOneFeature}, "ReturnsOneFeature.features must"),
        ({"discriminator": ReturnsNumbers}, "ReturnsNumbers.features must"),
        ({"discriminator": CannotBeCopied}, r"CannotBeCopied cannot.*parametrizations"),
    ],
)
def test_networks_that_break_the_contract(dataset, train, networks, message):
    with pytest.raises(ValueError, match=message):
        train(dataset, **networks)


@pytest.mark.gpu
def test_on_a_gpu(dataset, train):
    state = torch.cuda.get_rng_state()
    net = train(dataset, device="cuda")
    assert next(net.module_.parameters()).is_cuda
    assert torch.equal(torch.cuda.get_rng_state(), state)


def train_with_little_memory(train, path, shape, n_bytes, results):
    """In a child process: train on a memory map larger than what may be allocated."""
    import resource

    import psutil

    torch.set_num_threads(1)

    def dataset(X):
        images = check_images(
            X, None, n_features=None, min_samples=2, estimator_name="Detector"
        )
        return TrainingImages(images, ValueRange.measure(images), "cpu")

    settings = {"n_filters": 1, "max_epochs": 1, "batch_size": 8}
    train(dataset(np.eye(8)[None].repeat(9, 0)), **settings)  # loads what it needs
    used = psutil.Process().memory_info().data
    resource.setrlimit(resource.RLIMIT_DATA, (used + n_bytes, used + n_bytes))
    X = np.memmap(path, np.uint8, "r", shape=shape)
    results.put(len(train(dataset(X), **settings).history))


@pytest.mark.slow
def test_memory_map_larger_than_memory(train, tmp_path):
    """450 MiB of images, with 400 MiB to work in."""
    shape = (1800, 512, 512)
    X = np.memmap(tmp_path / "X", np.uint8, "w+", shape=shape)
    X[:, 100:120, 100:120] = np.arange(len(X), dtype=np.uint8)[:, None, None]
    X.flush()
    context = get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(
        target=train_with_little_memory,
        args=(train, tmp_path / "X", shape, 400 * 2**20, results),
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    assert results.get() == 1
