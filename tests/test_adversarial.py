import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch.nn.functional import softplus

from sklearn_anogan._networks import Generator
from sklearn_anogan._training import ADVERSARIAL_LOSSES
from sklearn_anogan._training._nets import GANNet

bce = ADVERSARIAL_LOSSES["bce"]


def constant_logits(real, fake):
    """A discriminator of two batches, x and G_z, that has answers for both."""
    x, G_z = torch.zeros(len(real), 1, 2, 2), torch.ones(len(fake), 1, 2, 2)
    return lambda images: real if images is x else fake, x, G_z


def test_bce_by_hand(rng):
    real, fake = rng.normal(size=(2, 7))
    p_real, p_fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    D, x, G_z = constant_logits(torch.tensor(real), torch.tensor(fake))
    loss_D, loss_G, d_real, d_fake = bce(D, x, G_z)
    np.testing.assert_allclose(loss_D, -np.mean(np.log(p_real) + np.log(1 - p_fake)))
    np.testing.assert_allclose(loss_G, -np.mean(np.log(p_fake)))
    np.testing.assert_array_equal(d_real, real)
    np.testing.assert_array_equal(d_fake, fake)


def test_bce_generator_loss_does_not_saturate():
    """Where D is sure that an image is generated, the gradient stays close to 1."""
    logit = torch.tensor([-30.0], requires_grad=True)
    _, loss_G, _, _ = bce(*constant_logits(torch.tensor([30.0]), logit))
    loss_G.backward()
    assert -1.001 < logit.grad < -0.999


class RelativisticWithR1:
    """D tells which of two images is the real one; gradients at real ones cost.

    A loss that asks for all that the training hands out: logits of both kinds of images
    in both steps, and the gradient of the discriminator in the images.
    """

    def __init__(self, gamma=1.0, with_real_logits=True):
        self.gamma, self.with_real_logits = gamma, with_real_logits

    def __call__(self, D, x, G_z):
        x = x.detach().requires_grad_()
        d_real, d_fake = D(x), D(G_z)
        (gradient,) = torch.autograd.grad(d_real.sum(), x, create_graph=True)
        r1 = gradient.square().sum((1, 2, 3)).mean()
        loss_D = softplus(d_fake - d_real).mean() + self.gamma / 2 * r1
        loss_G = softplus((d_real if self.with_real_logits else 0) - d_fake).mean()
        return loss_D, loss_G, d_real, d_fake


@pytest.fixture
def use(monkeypatch):
    """Make a loss known under the name "relativistic"."""

    def enter(loss):
        monkeypatch.setitem(ADVERSARIAL_LOSSES, "relativistic", loss)

    return enter


class Spy(Callback):
    """Keeps the networks before the training and the batches."""

    def on_train_begin(self, net, **kwargs):
        self.initial = copy.deepcopy((net.learner_, net.discriminator_))
        self.batches = []

    def on_batch_begin(self, net, batch=None, **kwargs):
        self.batches.append(batch)


def one_step(train, dataset, **changes):
    """A net after one step with all images, and what this step began with."""
    codes = []

    class SpyGenerator(Generator):
        def forward(self, z):
            codes.append(z)
            return super().forward(z)

    spy = Spy()
    net = train(
        dataset,
        generator=SpyGenerator,
        adversarial_loss="relativistic",
        callbacks=[spy],
        batch_size=178,
        max_epochs=1,
        lr=1e-2,
        **changes,
    )
    (x,) = spy.batches
    return net, *spy.initial, x, codes[1]  # the first are for the contract


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize(
    "changes", [{}, {"self_supervision": 1.0}, {"mixed_precision": True}]
)
def test_another_loss_trains(dataset, train, use, changes):
    use(RelativisticWithR1())
    changes = {"adversarial_loss": "relativistic", "max_epochs": 30} | changes
    net = train(dataset, lr=2e-3, **changes)
    assert len(net.history) == 30
    for name in GANNet.record_names:
        assert np.isfinite(net.history[:, name]).all()
    for name in ("discriminator_loss", "generator_loss"):
        assert len(set(net.history[:, name])) == 30
    start = train(dataset, lr=1e-30, **changes | {"max_epochs": 1})
    for trained, initial in [
        (net.module_, start.module_),
        (net.discriminator_, start.discriminator_),
    ]:
        moved = weights(trained) - weights(initial)
        assert moved.isfinite().all()
        assert (moved != 0).float().mean() > 0.9


@pytest.mark.parametrize("gamma", [0.0, 10.0])
def test_another_loss_by_hand(dataset, train, use, gamma):
    """One step of both networks, with the batch and codes of the net, in plain torch.

    The generator's gradient comes from the discriminator before its step.
    """
    use(RelativisticWithR1(gamma))
    net, G, D, x, z = one_step(train, dataset)
    adam_G, adam_D = (
        torch.optim.Adam(network.train().parameters(), lr=1e-2, betas=(0.5, 0.999))
        for network in (G, D)
    )
    G_z = Generator.forward(G, z)
    real = x.clone().requires_grad_()
    before = copy.deepcopy(D)
    d_real, d_fake = D(real), D(G_z.detach())
    (gradient,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
    r1 = gradient.square().sum((1, 2, 3)).mean()
    loss_D = softplus(d_fake - d_real).mean() + gamma / 2 * r1
    loss_D.backward()
    adam_D.step()
    loss_G = softplus(before(x).detach() - before(G_z)).mean()
    adam_G.zero_grad()
    loss_G.backward()
    adam_G.step()
    expected = [loss_D, loss_G, d_real.sigmoid().mean(), d_fake.sigmoid().mean()]
    names = ("discriminator_loss", "generator_loss", "d_real", "d_fake")
    np.testing.assert_allclose(
        net.history[0, names], [value.item() for value in expected], rtol=1e-4
    )
    for network, by_hand in [(net.module_, G), (net.discriminator_, D)]:
        for name, value in network.state_dict().items():
            torch.testing.assert_close(
                value, by_hand.state_dict()[name], rtol=1e-2, atol=5e-4
            )


def test_generator_learns_from_real_logits(dataset, train, use):
    """The same step of D, but other gradients of G."""
    gradients = {}

    class Gradients(Callback):
        def on_grad_computed(self, net, named_parameters=(), **kwargs):
            gradients.setdefault(with_real_logits, []).append(
                torch.cat([p.grad.flatten() for _, p in named_parameters])
            )

    for with_real_logits in (True, False):
        use(RelativisticWithR1(with_real_logits=with_real_logits))
        train(
            dataset,
            adversarial_loss="relativistic",
            callbacks=[Gradients()],
            batch_size=178,
            max_epochs=1,
        )
    (of_D, of_G), (other_of_D, other_of_G) = gradients[True], gradients[False]
    assert torch.equal(of_D, other_of_D)
    assert of_G.shape == other_of_G.shape
    assert (of_G - other_of_G).norm() > 1e-3 * of_G.norm() > 0


def test_penalty_on_gradients_reaches_the_discriminator(dataset, train, use):
    """One step with the penalty ends with other weights of D, and flatter ones."""
    penalty, found = {}, {}
    for gamma in (0.0, 100.0):
        use(RelativisticWithR1(gamma))
        net, _, _, x, _ = one_step(train, dataset)
        found[gamma] = weights(net.discriminator_)
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net.discriminator_.train()(x).sum(), x)
        penalty[gamma] = gradient.square().sum().item()
    assert (found[0.0] - found[100.0]).abs().max() > 1e-3
    assert penalty[100.0] < penalty[0.0]
