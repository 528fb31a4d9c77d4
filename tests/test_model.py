import dataclasses

import numpy as np
import pytest
import torch
from skorch.history import History

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._model import Model, UnknownNameError, class_of, frozen, name_of
from sklearn_anogan._networks import DenseGenerator, Generator
from sklearn_anogan._value_range import ValueRange


class OwnGenerator(Generator):
    pass


NO_CLASSES = {"generator": None, "discriminator": None}


@pytest.fixture(params=["fitted", "rows", "encoder", "shrunk"])
def model(request, fitted, quick, zeros):
    if request.param == "fitted":
        return fitted.model_
    if request.param == "shrunk":
        X = zeros[:60].repeat(2, axis=2)
        return AnoGANDetector(**quick, network_side=8).fit(X).model_
    if request.param == "rows":
        X = zeros[:60].reshape(60, 64)[:, 20:26]
        return AnoGANDetector(**quick | {"self_supervision": 1.0}).fit(X).model_
    return AnoGANDetector(**quick, inversion="encoder").fit(zeros[:60]).model_


def test_round_trip(model):
    """Every field comes back, and every tensor is taken out."""
    plain, tensors = model.to_plain()
    again = Model.from_plain(plain, tensors, NO_CLASSES)
    assert not tensors
    for field in dataclasses.fields(Model):
        before, after = (getattr(each, field.name) for each in (model, again))
        if isinstance(before, torch.nn.Module):
            assert type(after) is type(before)
            for a, b in zip(
                before.state_dict().values(), after.state_dict().values(), strict=True
            ):
                assert torch.equal(a, b)
        elif isinstance(before, History):
            kept = [
                {name: value for name, value in row.items() if value is not None}
                for row in before
            ]
            assert after == kept
        elif isinstance(before, torch.Tensor):
            assert torch.equal(after, before)
        elif isinstance(before, ValueRange):
            assert all(map(torch.equal, after, before))
        else:
            assert after == before, field.name


def test_nothing_can_be_changed(model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.seed = 3
    for network in model.networks.values():
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_what_networks_see(model):
    """The images as they are, or a share of their pixels."""
    n_channels, height, width = model.layout.chw
    n_seen = np.prod(model.network_shape)
    assert model.seen_share == n_seen / (height * width)
    assert model.seen_chw == (n_channels, *model.network_shape)
    if width == 16:
        assert model.network_shape == (4, 8)
        assert model.seen_share == 0.25
    else:
        assert model.network_shape == (height, width)
    z = model.draw(3, seed=0)
    with torch.no_grad():
        assert model.generator(z).shape == (3, *model.seen_chw)
        images = np.asarray(model.generate(z))
    assert images.size == 3 * n_channels * height * width


def test_a_file_cannot_claim_another_ruler(model):
    """Whether there is one is for the images to say."""
    plain, tensors = model.to_plain()
    assert plain["has_ruler"] == (model.layout.chw[1:] != (1, 1))
    changed = plain | {"has_ruler": not plain["has_ruler"]}
    if plain["has_ruler"]:  # then the ruler's tensors are left over
        left = dict(tensors)
        assert Model.from_plain(changed, left, NO_CLASSES).ruler is None
        assert all(name.startswith("ruler.") for name in left)
        assert left
        tensors["ruler.roots"] = tensors["ruler.roots"][1:]
        changed = plain
    with pytest.raises(Exception, match=r"ruler|whitening"):
        Model.from_plain(changed, tensors, NO_CLASSES)


def test_codes_are_drawn_from_the_prior(model):
    z = model.draw(2000, seed=0)
    assert z.shape == (2000, model.latent_dim)
    assert torch.equal(z, model.draw(2000, seed=0))
    assert -1 <= z.min() < -0.99
    assert 0.99 < z.max() <= 1
    normal = dataclasses.replace(model, latent_prior="normal").draw(2000, seed=0)
    assert normal.std().item() == pytest.approx(1, abs=0.05)


def test_what_is_drawn_after_the_training_depends_on_its_seed(model):
    other = dataclasses.replace(model, seed=model.seed + 1)
    assert model.search_seed == dataclasses.replace(model).search_seed
    assert model.search_seed != other.search_seed
    places = model.sample_of(100, 10)
    assert len({*places}) == 10
    np.testing.assert_array_equal(model.sample_of(100, 10), places)
    assert not np.array_equal(other.sample_of(100, 10), places)
    assert sorted(model.sample_of(5, 10)) == [0, 1, 2, 3, 4]


def test_epochs_of_an_earlier_model_come_first(model):
    both = model.continued_from(model)
    n = len(model.history)
    assert [row["epoch"] for row in both.history] == list(range(1, 2 * n + 1))
    assert both.history[n]["d_real"] == model.history[0]["d_real"]
    assert [row["epoch"] for row in model.history] == list(range(1, n + 1))


def test_names_of_classes():
    assert name_of(DenseGenerator) == "DenseGenerator"
    assert class_of("DenseGenerator", None) is DenseGenerator
    assert name_of(OwnGenerator).endswith("test_model.OwnGenerator")
    assert class_of(name_of(OwnGenerator), OwnGenerator) is OwnGenerator
    with pytest.raises(UnknownNameError, match="pass the class as generator"):
        class_of(name_of(OwnGenerator), None)


def test_a_file_cannot_claim_more_than_it_has(model):
    plain, tensors = model.to_plain()
    for name in ("latent_dim", "n_filters"):
        with pytest.raises(ValueError, match="should be larger than it is"):
            Model.from_plain(plain | {name: 2**40}, dict(tensors), NO_CLASSES)


def test_a_frozen_copy():
    network = torch.nn.Linear(2, 2)
    copy = frozen(network)
    assert copy is not network
    assert network.weight.requires_grad
    assert not copy.weight.requires_grad
    np.testing.assert_array_equal(copy.weight, network.weight.detach())
