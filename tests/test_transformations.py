import pytest
import torch

from sklearn_anogan._transformations import transform, transformations


@pytest.mark.parametrize(
    "shape, n",
    [
        ((28, 28), 36),
        ((4, 4), 36),
        ((5, 9), 36),  # mirror images instead of turns
        ((3, 3), 4),  # too small to be moved
        ((1, 8), 6),  # two mirror images, moved along one side
        ((2, 1), 2),
        ((1, 1), 1),
    ],
)
def test_all_are_different(shape, n):
    """All permute the pixels; the first leaves images as they are."""
    known = transformations(*shape)
    x = torch.randperm(2 * shape[0] * shape[1]).view(1, 2, *shape)
    found = [transform(x, each) for each in known]
    assert len(known) == len({tuple(each.flatten().tolist()) for each in found}) == n
    assert torch.equal(found[0], x)
    for each in found:
        assert each.shape == x.shape
        assert torch.equal(
            each.flatten(2).sort().values, x.flatten(2).sort().values
        )  # in each channel


def test_turns_and_moves():
    """In some order, all turns by quarters and all moves by a quarter."""
    x = torch.rand(2, 3, 8, 8)
    found = [transform(x, each) for each in transformations(8, 8)]
    for quarters in range(4):
        for down in (-2, 0, 2):
            for right in (-2, 0, 2):
                wanted = x.rot90(quarters, (2, 3)).roll((down, right), (2, 3))
                assert sum(torch.equal(each, wanted) for each in found) == 1


def test_mirror_images():
    x = torch.rand(1, 1, 4, 8)
    found = [transform(x, each) for each in transformations(4, 8)]
    for dims in ((2,), (3,), (2, 3)):
        assert sum(torch.equal(each, x.flip(dims)) for each in found) == 1
