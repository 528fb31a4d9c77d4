import numpy as np
import pytest
import torch

from sklearn_anogan._calibration import Calibration

SHAPES = {"a": {}, "b": {"scale": (1, 2, 3), "n": ()}}


@pytest.fixture
def calibration(rng):
    learned = {"scale": torch.rand(1, 2, 3).double(), "n": torch.tensor(4.0).double()}
    held_out = {"a": rng.uniform(size=5), "b": rng.uniform(size=5)}
    return Calibration(held_out, True, {"tol": 0.1}, {"a": {}, "b": learned})


def test_round_trip(calibration):
    plain, tensors = calibration.to_plain()
    again = Calibration.from_plain(plain, tensors, {"tol": 0.1}, SHAPES)
    assert not tensors
    assert again.is_held_out
    assert again.parameters == calibration.parameters
    for name, values in calibration.held_out.items():
        np.testing.assert_array_equal(again.held_out[name], values)
        for key, tensor in calibration.learned[name].items():
            assert torch.equal(again.learned[name][key], tensor)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("held_out.a"),
        lambda tensors: tensors.pop("learned.b.n"),
        lambda tensors: tensors.update({"held_out.b": torch.rand(4).double()}),
        lambda tensors: tensors.update({"held_out.a": torch.rand(0).double()}),
        lambda tensors: tensors.update({"held_out.a": torch.rand(5)}),
        lambda tensors: tensors["learned.b.scale"].fill_(float("nan")),
        lambda tensors: tensors.update({"learned.b.n": torch.rand(1).double()}),
    ],
)
def test_what_does_not_fit_together(calibration, change):
    plain, tensors = calibration.to_plain()
    change(tensors)
    with pytest.raises((ValueError, KeyError)):
        Calibration.from_plain(plain, tensors, {}, SHAPES)
