import pytest
import torch

from sklearn_anogan._findings import find_all, in_layout, make_finders, need_search


@pytest.mark.parametrize(
    "names, expected",
    [
        (["maps"], False),
        (["maps", "terms"], True),
        (["residual_maps"], True),
        (["codes"], True),
    ],
)
def test_only_maps_of_the_ruler_need_no_search(fitted, names, expected):
    assert fitted.model_.ruler is not None
    assert need_search(names, fitted.model_) is expected


def test_without_a_ruler_maps_need_the_search(fitted):
    class WithoutRuler:
        ruler = None

    assert need_search(["maps"], WithoutRuler())


def test_all_is_found(fitted, zeros):
    model, learned = fitted.model_, fitted.calibration_.learned
    finders = make_finders(model, learned, model.layout, [])
    x = model.value_range.to_network(
        torch.from_numpy(zeros[:2])[:, None].double(), "cpu"
    )
    z = torch.zeros(2, model.latent_dim)
    names = ["codes", "reconstructions"]
    found = find_all([finders[name] for name in names], x, z, 0 * x, None)
    assert [*found] == names
    found = in_layout(found, model.layout, [])
    assert found["codes"].shape == (2, model.latent_dim)
    centre = float(model.value_range.centre)  # what 0 stands for
    assert (found["reconstructions"] == centre).all()
    assert found["reconstructions"].shape == zeros[:2].shape
