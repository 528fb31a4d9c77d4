import pytest
import torch

from sklearn_anogan._transformations import AllAtOnce, transformations


@pytest.mark.parametrize(
    "shape, n",
    [
        ((28, 28), 36),
        ((4, 4), 36),
        ((5, 9), 36),  # mirror images instead of turns
        ((3, 3), 4),  # too small to be moved
        ((1, 8), 6),  # two mirror images, moved along one side
        ((2, 1), 2),
    ],
)
def test_all_are_different(shape, n):
    """All permute the pixels; the first leaves images as they are."""
    known = transformations(2, *shape)
    x = torch.randperm(2 * shape[0] * shape[1]).view(1, 2, *shape)
    found = [each(x) for each in known]
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
    found = [each(x) for each in transformations(3, 8, 8)]
    for quarters in range(4):
        for down in (-2, 0, 2):
            for right in (-2, 0, 2):
                wanted = x.rot90(quarters, (2, 3)).roll((down, right), (2, 3))
                assert sum(torch.equal(each, wanted) for each in found) == 1


def test_mirror_images():
    x = torch.rand(1, 1, 4, 8)
    found = [each(x) for each in transformations(1, 4, 8)]
    for dims in ((2,), (3,), (2, 3)):
        assert sum(torch.equal(each, x.flip(dims)) for each in found) == 1


@pytest.mark.parametrize(
    "n_features, n", [(1, 1), (2, 36), (12, 36), (700, 8), (2000, 1)]
)
def test_rotations_of_rows(n_features, n):
    """All keep lengths and angles; the first leaves rows as they are."""
    x = torch.randn(9, n_features, 1, 1)
    known = transformations(n_features, 1, 1)
    again = transformations(n_features, 1, 1)
    assert len(known) == n
    assert torch.equal(known[0](x), x)
    for i, each in enumerate(known):
        turned = each(x)
        assert turned.shape == x.shape
        assert torch.equal(turned, again[i](x))
        assert not any(p.requires_grad for p in each.parameters())
        rows, turned = x.flatten(1), turned.flatten(1)
        torch.testing.assert_close(
            turned @ turned.T, rows @ rows.T, rtol=1e-4, atol=1e-3
        )
        for other in known[:i]:
            assert not torch.allclose(turned, other(x).flatten(1), atol=1e-2)


@pytest.mark.parametrize("n", [1, 35, 36, 50])
@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 4, 9), (5, 1, 1), (1, 2, 1)])
def test_all_at_once(shape, n):
    """As one by one; each transformation as often, each image at least once."""
    x = torch.randn(n, *shape)
    known = transformations(*shape)
    views, t = AllAtOnce(known, *shape, x.device)(x)
    assert len(views) == len(t) >= n
    assert len(t) - n < len(known)
    assert t.bincount().tolist() == [len(t) // len(known)] * len(known)
    for i, (view, k) in enumerate(zip(views, t, strict=True)):
        wanted = known[k](x[[i % n]])[0]
        torch.testing.assert_close(view, wanted, rtol=0, atol=1e-6)
