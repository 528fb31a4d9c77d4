import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
)
from torch import nn

from sklearn_anogan._images import TrainingImages, ValueRange, check_images
from sklearn_anogan._networks import Discriminator, Generator
from sklearn_anogan._training import (
    RECORDS,
    resolve_device,
    sample_prior,
    train_gan,
)


@pytest.fixture
def dataset(zeros):
    images = check_images(
        zeros, None, n_features=None, min_samples=2, estimator_name="Detector"
    )
    return TrainingImages(images, ValueRange.measure(images), "cpu")


def train(dataset, generator=Generator, discriminator=Discriminator, **changes):
    settings = {
        "latent_dim": 6,
        "latent_prior": "uniform",
        "n_filters": 4,
        "adversarial_loss": "bce",
        "max_epochs": 2,
        "batch_size": 50,
        "lr": 2e-4,
        "callbacks": None,
        "device": "cpu",
        "verbose": 0,
        "seed": 0,
    }
    shape = (1, 8, 8)
    return train_gan(dataset, generator, discriminator, shape, **(settings | changes))


class Batches(Callback):
    """Keeps the net's weights and the batch before and after every step."""

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        self.before = weights(net)

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        self.after, self.batch, self.y_pred = weights(net), batch, y_pred


def weights(net):
    return [
        [parameter.detach().clone() for parameter in module.parameters()]
        for module in (net.module_, net.discriminator_)
    ]


def test_both_networks_learn_in_every_step(dataset):
    batches = Batches()
    train(dataset, callbacks=[batches])
    for before, after in zip(batches.before, batches.after, strict=True):
        for old, new in zip(before, after, strict=True):
            assert not torch.equal(old, new)
    assert batches.batch.shape == batches.y_pred.shape == (50, 1, 8, 8)


def test_discriminator_sees_real_and_generated_images(dataset):
    """Its loss compares a batch of training images with one from the generator."""
    seen = []

    class Witness(Discriminator):
        def forward(self, x):
            seen.append((x.detach(), x.requires_grad))
            return super().forward(x)

    train(dataset, discriminator=Witness, max_epochs=1)
    seen = seen[1:]  # the first is the check of the contract
    assert len(seen) == 3 * 3  # real, generated, generated for G; three batches
    real_images = dataset.__getitems__(slice(None)).unsqueeze(0)
    for real, for_D, for_G in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        is_real = (real[0].unsqueeze(1) == real_images).flatten(2).all(2).any(1)
        assert is_real.all()
        is_real = (for_D[0].unsqueeze(1) == real_images).flatten(2).all(2).any(1)
        assert not is_real.any()
        assert torch.equal(for_D[0], for_G[0])
        # Only G's own step reaches back into G.
        assert (real[1], for_D[1], for_G[1]) == (False, False, True)


@pytest.mark.parametrize("latent_prior", ["uniform", "normal"])
def test_training_by_hand(dataset, latent_prior):
    """Three steps, with the batches and codes of the net, in plain torch."""
    codes, batches = [], []

    class SpyGenerator(Generator):
        def forward(self, z):
            codes.append(z)
            return super().forward(z)

    class Spy(Callback):
        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            batches.append(batch)

        def on_train_begin(self, net, X=None, y=None, **kwargs):
            self.initial = copy.deepcopy((net.module_, net.discriminator_))

    spy = Spy()
    net = train(
        dataset,
        SpyGenerator,
        callbacks=[spy],
        max_epochs=1,
        lr=1e-2,
        latent_prior=latent_prior,
    )
    codes = codes[1:]  # the first are those of the check of the contract
    assert not torch.equal(codes[0], codes[1])
    assert (torch.cat(codes).abs().max() > 1) == (latent_prior == "normal")

    G, D = (network.train() for network in spy.initial)
    adam_G, adam_D = (
        torch.optim.Adam(network.parameters(), lr=1e-2, betas=(0.5, 0.999))
        for network in (G, D)
    )
    bce = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(50), torch.zeros(50)
    for i, (x, z) in enumerate(zip(batches, codes, strict=True)):
        G_z = Generator.forward(G, z)
        d_real, d_fake = D(x), D(G_z.detach())
        loss_D = bce(d_real, ones) + bce(d_fake, zeros)
        adam_D.zero_grad()
        loss_D.backward()
        adam_D.step()
        loss_G = bce(D(G_z), ones)
        adam_G.zero_grad()
        loss_G.backward()
        adam_G.step()
        by_hand = (loss_D, loss_G, d_real.sigmoid().mean(), d_fake.sigmoid().mean())
        for name, value in zip(RECORDS, by_hand, strict=True):
            recorded = net.history[0, "batches", i, name]
            np.testing.assert_allclose(recorded, value.item(), rtol=1e-3)
    for network, by_hand in [(net.module_, G), (net.discriminator_, D)]:
        for name, value in network.state_dict().items():
            torch.testing.assert_close(
                value, by_hand.state_dict()[name], rtol=1e-2, atol=1e-4
            )


def test_history(dataset):
    net = train(dataset, max_epochs=4)
    assert len(net.history) == 4
    for name in RECORDS:
        of_epoch = net.history[:, name]
        of_batches = net.history[:, "batches", :, name]
        np.testing.assert_allclose(of_epoch, np.mean(of_batches, axis=1), rtol=1e-6)
    assert all(0 < p < 1 for p in net.history[:, "d_real"])


def test_training_improves_the_images(dataset):
    """The mean generated image comes close to the mean training image."""
    target = dataset.__getitems__(slice(None)).mean(0)

    def distance(net):
        z = sample_prior(200, "uniform", 6, rng=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return (net.module_.eval()(z).mean(0) - target).abs().mean()

    trained = distance(train(dataset, max_epochs=200, n_filters=8))
    assert trained < distance(train(dataset, max_epochs=1, n_filters=8)) / 2


def test_quiet_unless_verbose(dataset, capsys):
    train(dataset)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    train(dataset, verbose=1)
    assert "generator_loss" in capsys.readouterr().out


def test_seed_decides_and_global_state_stays(dataset):
    state = torch.random.get_rng_state()
    nets = [train(dataset, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(17)
    nets.append(train(dataset, seed=0))
    first, again, other, elsewhere = (
        torch.cat([w.flatten() for network in weights(net) for w in network])
        for net in nets
    )
    assert torch.equal(first, again)
    assert torch.equal(first, elsewhere)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("batch_size", [2, 59, 177, 178, 1000])
def test_batch_sizes(dataset, batch_size):
    """A rest of one image would have no statistics for batch norm: it is left out."""
    net = train(dataset, batch_size=batch_size, max_epochs=1)
    sizes = net.history[0, "batches", :, "train_batch_size"]
    assert sizes == [min(batch_size, 178)] * max(1, 178 // batch_size)


def test_epochs_are_shuffled(dataset):
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
def test_auto_epochs(dataset, monkeypatch, batch_size, n_epochs):
    """As many epochs as make 1500 steps (50 here), and 10 at least."""
    monkeypatch.setattr("sklearn_anogan._training._AUTO_STEPS", 50)
    net = train(dataset, max_epochs="auto", n_filters=1, batch_size=batch_size)
    assert len(net.history) == n_epochs


def test_scoring_callback(dataset):
    def score(net, X, y):
        return len(X)

    callback = EpochScoring(score, name="n_images", on_train=True, use_caching=False)
    net = train(dataset, callbacks=[callback])
    assert net.history[:, "n_images"] == [178, 178]


@pytest.mark.parametrize("callback", [3, ("name", "callback")])
def test_what_is_no_callback(dataset, callback):
    with pytest.raises(ValueError, match=r"callbacks must hold skorch callbacks.*got"):
        train(dataset, callbacks=[callback])


def test_gradient_clipping(dataset):
    """Callbacks see the gradients of both networks, and may change them."""
    clipped = train(dataset, callbacks=[GradientNormClipping(1e-30)], max_epochs=1)
    free = train(dataset, max_epochs=1)
    initial = train(dataset, max_epochs=1, lr=1e-30)
    for a, b, c in zip(
        *(weights(net) for net in (clipped, free, initial)), strict=True
    ):
        for p, q, r in zip(a, b, c, strict=True):
            torch.testing.assert_close(p, r)
            assert not torch.equal(q, r)


def test_frozen_layers_stay_frozen(dataset):
    class Frozen(Discriminator):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            torch.nn.init.constant_(self.features.requires_grad_(False)[0][0].weight, 1)

    net = train(dataset, discriminator=Frozen)
    assert (net.discriminator_.features[0][0].weight == 1).all()


def test_threads_do_not_disturb_each_other(dataset):
    """Torch's random state is one for all threads; trainings take turns with it."""
    state = torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        nets = list(pool.map(lambda _: train(dataset), range(4)))
    assert torch.equal(torch.random.get_rng_state(), state)
    for net in nets[1:]:
        for a, b in zip(weights(net)[0], weights(nets[0])[0], strict=True):
            assert torch.equal(a, b)


def test_early_stopping_ends_the_training(dataset):
    stop = EarlyStopping("generator_loss", patience=2, threshold=1e9, sink=str)
    net = train(dataset, callbacks=[stop], max_epochs=20)
    assert len(net.history) == 3


@pytest.mark.parametrize("event", ["on_batch_end", "on_epoch_begin", "on_train_begin"])
def test_ctrl_c_is_not_the_end_of_training(dataset, event):
    class Interrupt(Callback):
        pass

    def interrupt(self, net, **kwargs):
        raise KeyboardInterrupt

    setattr(Interrupt, event, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, callbacks=[Interrupt()])


def test_divergence(dataset):
    class Explode(Callback):
        def on_train_end(self, net, **kwargs):
            next(net.module_.parameters()).data.fill_(torch.nan)

    with pytest.raises(FloatingPointError, match=r"Generator.*lr=0.0002"):
        train(dataset, callbacks=[Explode()])


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
    ],
)
def test_networks_that_break_the_contract(dataset, networks, message):
    with pytest.raises(ValueError, match=message):
        train(dataset, **networks)


@pytest.mark.parametrize(
    "latent_prior, mean_square, largest", [("uniform", 1 / 3, 1), ("normal", 1, 6)]
)
def test_prior(latent_prior, mean_square, largest):
    rng = torch.Generator().manual_seed(0)
    z = sample_prior(10_000, latent_prior, 3, rng=rng)
    assert z.shape == (10_000, 3)
    assert abs(z.mean()) < 0.02
    assert abs(z.square().mean() - mean_square) < 0.02
    assert 0.99 * min(largest, 3) < z.abs().max() <= largest


def test_resolve_device():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == resolve_device(torch.device("cpu"))
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda:99", "no such device", "meta"])
def test_device_that_cannot_be_used(device):
    with pytest.raises(ValueError, match=f"device='{device}' cannot be used.*'cpu'"):
        resolve_device(device)


@pytest.mark.gpu
def test_on_a_gpu(dataset):
    state = torch.cuda.get_rng_state()
    net = train(dataset, device="cuda")
    assert next(net.module_.parameters()).is_cuda
    assert torch.equal(torch.cuda.get_rng_state(), state)
