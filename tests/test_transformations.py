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
        ((1, 1), 1),
    ],
)
def test_permutations(shape, n):
    """All are permutations and different; the first leaves images as they are."""
    table = transformations(*shape)
    pixels = torch.arange(shape[0] * shape[1])
    assert len(table) == n
    assert torch.equal(table[0], pixels)
    assert torch.equal(table.sort(1).values, pixels.expand(n, -1))
    assert len({tuple(row) for row in table.tolist()}) == n


def test_turns_and_moves():
    """In some order, all turns by quarters and all moves by a quarter."""
    x = torch.rand(1, 3, 8, 8)
    table = transformations(8, 8)
    found = [transform(x, row[None]) for row in table]
    for quarters in range(4):
        for down in (-2, 0, 2):
            for right in (-2, 0, 2):
                wanted = x.rot90(quarters, (2, 3)).roll((down, right), (2, 3))
                assert sum(torch.equal(each, wanted) for each in found) == 1


def test_mirror_images():
    x = torch.rand(1, 1, 4, 8)
    found = [transform(x, row[None]) for row in transformations(4, 8)]
    for dims in ((2,), (3,), (2, 3)):
        assert sum(torch.equal(each, x.flip(dims)) for each in found) == 1


def test_each_image_in_its_own_way():
    x, table = torch.rand(5, 2, 4, 4), transformations(4, 4)
    rows = table[torch.tensor([3, 0, 3, 35, 7])]
    together = transform(x, rows)
    assert together.shape == x.shape
    for i in range(5):
        assert torch.equal(together[i : i + 1], transform(x[i : i + 1], rows[i, None]))
    assert torch.equal(together[1], x[1])
