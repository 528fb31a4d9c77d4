from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EpochScoring
from torch import nn

from sklearn_anogan._images import TrainingImages, ValueRange, check_images
from sklearn_anogan._nets import sample_prior
from sklearn_anogan._networks import Discriminator, Generator


def test_training_improves_the_images(dataset, train):
    """The mean generated image comes close to the mean training image."""
    target = dataset.__getitems__(slice(None)).mean(0)

    def distance(net):
        z = sample_prior(200, "uniform", 6, rng=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return (net.module_.eval()(z).mean(0) - target).abs().mean()

    trained = distance(train(dataset, max_epochs=200, n_filters=8))
    assert trained < distance(train(dataset, max_epochs=1, n_filters=8)) / 2


def test_quiet_unless_verbose(dataset, train, capsys):
    train(dataset)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    train(dataset, verbose=1)
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


@pytest.mark.parametrize("batch_size, n_epochs", [(178, 50), (59, 17), (2, 10)])
def test_auto_epochs(dataset, train, monkeypatch, batch_size, n_epochs):
    """As many epochs as make 1500 steps (50 here), and 10 at least."""
    monkeypatch.setattr("sklearn_anogan._training._AUTO_STEPS", 50)
    net = train(dataset, max_epochs="auto", n_filters=1, batch_size=batch_size)
    assert len(net.history) == n_epochs


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
