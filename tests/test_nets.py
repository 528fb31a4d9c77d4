import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from skorch.callbacks import Checkpoint as BestWeights
from torch import nn

from sklearn_anogan._networks import (
    DenseDiscriminator,
    DenseGenerator,
    Discriminator,
    Encoder,
    Generator,
)
from sklearn_anogan._training import train_encoder
from sklearn_anogan._training._nets import EncoderNet, GANNet


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


def test_both_networks_learn_in_every_step(dataset, train):
    batches = Batches()
    train(dataset, callbacks=[batches])
    for before, after in zip(batches.before, batches.after, strict=True):
        for old, new in zip(before, after, strict=True):
            assert not torch.equal(old, new)
    assert batches.batch.shape == batches.y_pred.shape == (50, 1, 8, 8)


def test_discriminator_sees_real_and_generated_images(dataset, train):
    """Its loss compares a batch of training images with one from the generator."""
    seen = []

    class Witness(Discriminator):
        def forward(self, x):
            seen.append((x.detach(), x.requires_grad))
            return super().forward(x)

    train(dataset, discriminator=Witness, max_epochs=1)
    seen = seen[1:]  # the first is the check of the contract
    assert len(seen) == 3 * 2  # real, generated; three batches
    real_images = dataset.__getitems__(slice(None)).unsqueeze(0)
    for real, generated in zip(seen[::2], seen[1::2], strict=True):
        is_real = (real[0].unsqueeze(1) == real_images).flatten(2).all(2).any(1)
        assert is_real.all()
        is_real = (generated[0].unsqueeze(1) == real_images).flatten(2).all(2).any(1)
        assert not is_real.any()
        assert (real[1], generated[1]) == (False, True)  # G learns from the same pass


@pytest.mark.parametrize("latent_prior", ["uniform", "normal"])
@pytest.mark.parametrize("self_supervision", [0.0, 0.5])
def test_training_by_hand(dataset, train, latent_prior, self_supervision):
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
            self.initial = copy.deepcopy(
                (net.learner_, net.discriminator_, net.recognizer_)
            )

    spy = Spy()
    net = train(
        dataset,
        generator=SpyGenerator,
        callbacks=[spy],
        max_epochs=1,
        lr=1e-2,
        latent_prior=latent_prior,
        self_supervision=self_supervision,
    )
    # The first are those of the check of the contract, the last of the diversity.
    codes = codes[1:4]
    assert not torch.equal(codes[0], codes[1])
    assert (torch.cat(codes).abs().max() > 1) == (latent_prior == "normal")

    G, D, R = spy.initial
    assert (R is None) == (net.recognizer_ is None) == (self_supervision == 0)
    networks_of_D = [D.train()] if R is None else [D.train(), R.train()]
    adam_G, adam_D = (
        torch.optim.Adam(weights, lr=1e-2, betas=(0.5, 0.999))
        for weights in (
            G.train().parameters(),
            [p for network in networks_of_D for p in network.parameters()],
        )
    )
    known = [] if R is None else list(net.recognizer_.transformations)
    bce = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(50), torch.zeros(50)
    records = []
    for x, z in zip(batches, codes, strict=True):
        G_z = Generator.forward(G, z)
        before = copy.deepcopy(D)
        d_real, d_fake = D(x), D(G_z.detach())
        loss_D = bce(d_real, ones) + bce(d_fake, zeros)
        loss_R = torch.tensor(0.0)
        if self_supervision:
            # 36 transformations show 50 images twice each, in turn.
            t = torch.arange(72) // 2
            turned = torch.cat([known[k](x[[i % 50]]) for i, k in enumerate(t)])
            loss_R = nn.functional.cross_entropy(R(D.features(turned)), t)
        adam_D.zero_grad()
        (loss_D + self_supervision * loss_R).backward()
        adam_D.step()
        loss_G = bce(before(G_z), ones)  # of D before its step
        adam_G.zero_grad()
        loss_G.backward()
        adam_G.step()
        answers = d_real.sigmoid().mean(), d_fake.sigmoid().mean()
        records.append([value.item() for value in (loss_D, loss_G, loss_R, *answers)])
    recorded = net.history[0, GANNet.record_names]
    np.testing.assert_allclose(recorded, np.mean(records, axis=0), rtol=1e-3)
    trained = [(net.module_, G), (net.discriminator_, D)]
    if self_supervision:
        trained.append((net.recognizer_, R))
    for network, by_hand in trained:
        for name, value in network.state_dict().items():
            # A step is 1e-2 long. Adam blows up the rounding of gradients near zero.
            torch.testing.assert_close(
                value, by_hand.state_dict()[name], rtol=1e-2, atol=5e-4
            )


def test_history(dataset, train):
    net = train(dataset, max_epochs=4)
    assert net.history[:, "epoch"] == [1, 2, 3, 4]
    assert net.history[:, "train_batch_count"] == [3] * 4
    for name in ("d_real", "d_fake"):
        assert all(0 < p < 1 for p in net.history[:, name])
    for name in (*GANNet.record_names, "diversity"):
        assert all(isinstance(value, float) for value in net.history[:, name])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_average_of_the_generator(dataset, train, decay):
    """Weights and statistics follow the learner's, at first faster than later on."""
    states = []

    class Spy(Callback):
        def on_batch_end(self, net, **kwargs):
            states.append(copy.deepcopy(net.learner_.state_dict()))

        def on_train_begin(self, net, **kwargs):
            states.append(copy.deepcopy(net.learner_.state_dict()))

    net = train(dataset, callbacks=[Spy()], ema_decay=decay)
    average, *after_steps = states
    for step, state in enumerate(after_steps, 1):
        weight = 1 - min(decay, step / (step + 9))
        for name, value in state.items():
            if value.is_floating_point():
                average[name] = average[name] + weight * (value - average[name])
            else:
                average[name] = value
    assert len(after_steps) == 6
    for name, value in net.module_.state_dict().items():
        torch.testing.assert_close(value, average[name])
    is_same = torch.equal(net.module_.layers[1].weight, net.learner_.layers[1].weight)
    assert is_same == (decay == 0)
    assert not torch.equal(net.module_.layers[2].running_mean, torch.zeros(8))


def test_mixed_precision(dataset, train):
    """Convolutions in bfloat16, weights and losses in float32."""
    seen = []

    class Witness(Discriminator):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            hook = lambda module, x, answer: seen.append(answer.dtype)  # noqa: E731
            self.features[0][0].register_forward_hook(hook)

    settings = {"discriminator": Witness, "self_supervision": 1.0}
    net = train(dataset, mixed_precision=True, **settings)
    assert torch.bfloat16 in seen
    assert all(p.dtype == torch.float32 for p in net.module_.parameters())
    exact = train(dataset, **settings)
    for name in GANNet.record_names:
        a, b = net.history[:, name], exact.history[:, name]
        assert a != b
        np.testing.assert_allclose(a, b, rtol=0.05)


@pytest.fixture
def encode(brief_settings):
    def train_briefly(dataset, gan, *, callbacks=(), **changes):
        frozen = (
            copy.deepcopy(network).eval().requires_grad_(False)
            for network in (gan.module_, gan.discriminator_)
        )
        settings = replace(brief_settings, lr=2e-3, **changes)
        return train_encoder(dataset, *frozen, settings, seed=0, callbacks=callbacks)

    return train_briefly


def test_encoder_learns_to_reconstruct(dataset, train, encode):
    gan = train(dataset, max_epochs=200, n_filters=8, lr=1e-3)
    net = encode(dataset, gan, max_epochs=100)
    G, E = gan.module_.eval(), net.module_.eval()
    x = dataset.__getitems__(slice(None))
    with torch.no_grad():
        distance = (x - G(E(x))).square().mean()
        shuffled = (x - G(E(x.roll(1, 0)))).square().mean()
    assert distance < 0.7 * shuffled
    losses = net.history[:, "encoder_loss"]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:2])


def test_encoder_training_by_hand(dataset, train, encode):
    """One step with the batch of the net, in plain torch; G and D do not move."""

    class Spy(Callback):
        def on_train_begin(self, net, **kwargs):
            self.E = copy.deepcopy(net.module_)

        def on_batch_begin(self, net, batch=None, **kwargs):
            self.x = batch

    spy, gan = Spy(), train(dataset, latent_prior="normal")
    net = encode(
        dataset,
        gan,
        callbacks=[spy],
        max_epochs=1,
        batch_size=178,
        latent_prior="normal",
    )
    G, f = gan.module_.eval(), gan.discriminator_.eval().features
    E = spy.E.train()
    adam = torch.optim.Adam(E.parameters(), lr=2e-3)
    G_z = G(E(spy.x))
    loss = (spy.x - G_z).square().mean() + (f(spy.x) - f(G_z)).square().mean()
    loss.backward()
    adam.step()
    np.testing.assert_allclose(net.history[0, "encoder_loss"], loss.item(), rtol=1e-5)
    for name, value in net.module_.state_dict().items():
        torch.testing.assert_close(value, E.state_dict()[name])
    for frozen, network in [
        (net.generator, gan.module_),
        (net.discriminator, gan.discriminator_),
    ]:
        for name, value in frozen.state_dict().items():
            assert torch.equal(value, network.state_dict()[name])


@pytest.mark.parametrize("latent_prior", ["uniform", "normal"])
def test_codes_of_the_encoder_are_in_reach(dataset, train, encode, latent_prior):
    net = encode(dataset, train(dataset), latent_prior=latent_prior)
    z = net.module_.eval()(1000 * dataset.__getitems__(slice(None)))
    assert (z.abs().max() <= 1) == (latent_prior == "uniform")


def test_gradient_clipping(dataset, train):
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


def test_frozen_layers_stay_frozen(dataset, train):
    class Frozen(Discriminator):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            torch.nn.init.constant_(self.features.requires_grad_(False)[0][0].weight, 1)

    net = train(dataset, discriminator=Frozen)
    assert (net.discriminator_.features[0][0].weight == 1).all()


def test_early_stopping_by_a_validation_score(dataset, train):
    """The score is of the generator that is kept, on images of the user's own."""
    unseen = dataset.__getitems__(slice(0, 20))

    @torch.no_grad()
    def distance(net, X, y):
        images = net.module_.eval()(net.sample_prior(50, torch.Generator()))
        return torch.cdist(unseen.flatten(1), images.flatten(1)).amin(1).mean().item()

    score = EpochScoring(distance, name="distance", on_train=True, use_caching=False)
    best = EarlyStopping("distance", patience=3, sink=str, load_best=True)
    net = train(dataset, callbacks=[score, best], max_epochs=40, lr=0.01)
    distances = net.history[:, "distance"]
    assert len(distances) == 3 + 1 + np.argmin(distances[:-3])
    assert distance(net, None, None) == min(distances)


def test_best_weights_are_loaded(dataset, train, tmp_path):
    best = BestWeights("diversity_best", dirname=tmp_path, load_best=True)
    score = EpochScoring(
        lambda net, X, y: net.history[-1, "diversity"],
        lower_is_better=False,
        name="diversity",
        on_train=True,
        use_caching=False,
    )
    seen = []

    class Spy(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(copy.deepcopy(net.module_.state_dict()))

    net = train(dataset, callbacks=[score, best, Spy()], max_epochs=12, batch_size=7)
    wanted = seen[np.argmax(net.history[:, "diversity"])]
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, wanted[name])


def test_learning_rate_schedule_moves_both_networks(dataset, train):
    still = LRScheduler("LambdaLR", lr_lambda=lambda epoch: float(epoch < 1))
    one, three = (
        train(dataset, callbacks=[still], max_epochs=n_epochs) for n_epochs in (1, 3)
    )
    assert three.history[:, "event_lr"] == [2e-4, 0, 0]
    for a, b in zip(weights(one), weights(three), strict=True):
        for p, q in zip(a, b, strict=True):
            assert torch.equal(p, q)


class Rates(Callback):
    """Keeps the learning rate of every step."""

    def on_train_begin(self, net, **kwargs):
        self.rates = []

    def on_batch_end(self, net, **kwargs):
        (group,) = net.optimizer_.param_groups
        self.rates.append(group["lr"])


@pytest.mark.parametrize("lr_schedule", ["linear", "constant"])
def test_learning_rate_of_every_step(dataset, train, encode, lr_schedule):
    """Of two epochs with three steps each."""
    is_linear = lr_schedule == "linear"
    shares = [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6] if is_linear else [1] * 6
    rates = Rates()
    gan = train(dataset, callbacks=[rates], lr_schedule=lr_schedule)
    np.testing.assert_allclose(rates.rates, 2e-4 * np.array(shares))
    encode(dataset, gan, callbacks=[rates], lr_schedule=lr_schedule)
    np.testing.assert_allclose(rates.rates, 2e-3 * np.array(shares))


def test_own_schedule_replaces_ours(dataset, train):
    own, rates = LRScheduler("LambdaLR", lr_lambda=lambda epoch: 0.5**epoch), Rates()
    train(dataset, callbacks=[("own", own), rates], lr_schedule="linear")
    np.testing.assert_allclose(rates.rates, 2e-4 * np.array([1, 1, 1, 0.5, 0.5, 0.5]))


@pytest.mark.parametrize("lr", [1e15, 1e30])
def test_divergence_is_seen_at_once(dataset, train, lr):
    """Networks without batch norm, whose weights soon overflow."""
    with pytest.raises(FloatingPointError, match=r"diverged in epoch \d+: .*nan.*lr="):
        train(
            dataset,
            generator=DenseGenerator,
            discriminator=DenseDiscriminator,
            lr=lr,
            max_epochs=500,
        )


def test_steps_never_wait_for_the_host(dataset, train):
    """Tensors of the meta device raise when the host asks for a value."""
    for_both = {"n_channels": 1, "height": 8, "width": 8, "n_filters": 4}
    gan = GANNet(
        Generator,
        Discriminator,
        module__latent_dim=6,
        **{f"module__{name}": value for name, value in for_both.items()},
        **{f"discriminator__{name}": value for name, value in for_both.items()},
        ema_decay=0.9,
        device="meta",
        callbacks=[],
    ).initialize()
    encoder = EncoderNet(
        Encoder,
        gan.module_,
        gan.discriminator_,
        module__latent_dim=6,
        **{f"module__{name}": value for name, value in for_both.items()},
        module__is_bounded=True,
        device="meta",
    ).initialize()
    batches = [dataset.__getitems__(range(50)).to("meta")] * 3
    for net in (gan, encoder):
        net.history.new_epoch()
        # Only the means of the epoch are read.
        with pytest.raises(RuntimeError, match=r"meta"):
            net.run_single_epoch(batches, True, "train", net.train_step)
        assert len(net.history[-1, "batches"]) == 3
        assert net.history[-1, "train_batch_count"] == 3
