import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, uniform_filter

from sklearn_anogan import _ruler
from sklearn_anogan._devices import intraop_threads
from sklearn_anogan._images import check_images
from sklearn_anogan._inference import FrozenNetworks
from sklearn_anogan._ruler import (
    Ruler,
    brightness,
    expected_shapes,
    learn_ruler,
    measured_size,
    views_of,
)
from sklearn_anogan._value_range import ValueRange


def stripes(n, height, width, n_channels=1, seed=0):
    """Woven stripes, each image under a light and with noise of its own, in [-1, 1]."""
    rng = np.random.RandomState(seed)
    rows, columns = np.mgrid[:height, :width]
    weave = 2 + np.sin(2 * np.pi * rows / 6) * np.sin(2 * np.pi * columns / 5)
    tints = np.linspace(1, 0.7, n_channels)[:, None, None]
    lights = rng.uniform(0.8, 1.1, size=(n, 1, 1, 1))
    x = lights * tints * weave / 4 + rng.normal(
        scale=0.02, size=(n, n_channels, height, width)
    )
    return torch.tensor(2 * x - 1).float()


def learned(X, index=None, scale=1.0):
    """The ruler of a user's images, whose values span [-scale, scale]."""
    images = check_images(
        X, None, n_features=None, min_samples=1, estimator_name="Detector"
    )
    high = torch.full((images.layout.chw[0], 1, 1), scale).double()
    index = np.arange(len(X)) if index is None else index
    return learn_ruler(images, ValueRange(-high, high), index)


# What is measured, compared with the plainest computation


def plain_responses(x, filters):
    """Responses and their sizes (n, rows, columns, d), of (n, height, width, c)."""
    value = (x + 1) / 2
    y = np.sign(value) * np.log1p(np.abs(value) / 0.05)
    mean = blurred(y)
    scale = blurred(np.abs(y - mean).mean(-1, keepdims=True)) + 0.02
    relative = mean - mean.mean((1, 2), keepdims=True)
    views = np.concatenate([(y - mean) / scale, relative, np.log(scale)], -1)
    found = []
    for factor, weights in filters.items():
        shrunk = halved(views) if factor == 2 else views
        r = np.stack(
            [
                sum(
                    correlate(shrunk[..., c], weight[c][None], mode="mirror")
                    for c in range(views.shape[-1])
                )
                for weight in weights.numpy().astype(float)
            ],
            -1,
        )
        r = np.concatenate([r, np.abs(r)], -1)
        found.append(halved(r) if factor == 1 else r)
    return y, uniform_filter(np.concatenate(found, -1), (1, 3, 3, 1), mode="nearest")


def blurred(y):
    for _ in range(2):
        y = uniform_filter(y, (1, 9, 9, 1), mode="mirror")
    return y


def halved(x):
    n, height, width, c = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, c).mean((2, 4))


def left_of(flat, of_learned, n_components):
    """What the leading components of the learned rows leave of rows."""
    leading = np.linalg.svd(of_learned, full_matrices=False)[2][:n_components]
    return flat - flat @ leading.T @ leading


def plain_distances(x, new, filters):
    """Coarse and fine distances of new images by normal ones (n, height, width, c)."""
    (y, r), (new_y, new_r) = (plain_responses(each, filters) for each in (x, new))
    n, rows, columns, d = r.shape
    flat = r.reshape(-1, d)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    is_kept = values > 1e-6 * values[-1]
    whitening = (vectors[:, is_kept] / np.sqrt(values[is_kept]))[:, -64:]
    k = whitening.shape[1]
    f, new_f = (
        ((each.reshape(-1, d) - flat.mean(0)) @ whitening).reshape(len(each), -1)
        for each in (r, new_r)
    )
    new_f = left_of(new_f - f.mean(0), f - f.mean(0), n // 10)
    f = left_of(f - f.mean(0), f - f.mean(0), n // 10)
    f = f.reshape(n, rows, columns, k)
    covariances = np.einsum("nrci,nrcj->rcij", f, f) / n
    covariances = uniform_filter(covariances, (3, 3, 1, 1), mode="nearest")
    inverses = np.linalg.inv(covariances + 0.1 * np.eye(k))
    new_f = new_f.reshape(len(new), rows, columns, k)
    coarse = np.sqrt(np.einsum("nrci,rcij,nrcj->nrc", new_f, inverses, new_f))
    y, new_y = y.reshape(n, -1), new_y.reshape(len(new), -1)
    left = left_of(new_y - y.mean(0), y - y.mean(0), min(16, n // 2))
    squares = (left**2).reshape(new.shape).mean(-1)
    return coarse, np.sqrt(uniform_filter(squares, (1, 3, 3), mode="nearest"))


@pytest.mark.parametrize(
    ("n", "shape"), [(40, (1, 8, 8)), (25, (3, 10, 12)), (40, (2, 16, 24))]
)
def test_equals_a_plain_computation(n, shape):
    """In float64, with all inverses and components as in a textbook."""
    rng = torch.Generator().manual_seed(0)
    x, new = (torch.rand(m, *shape, generator=rng) * 2 - 1 for m in (n, 5))
    new[0, :, :4] = 0.9
    ruler = Ruler.learn(x)
    assert [*ruler.filters] == ([1, 2] if shape[1] == 16 else [1])
    assert ruler.grid == (shape[1] // 2, shape[2] // 2)
    last = (each.movedim(1, -1).numpy().astype(float) for each in (x, new))
    expected = plain_distances(*last, ruler.filters)
    for found, wanted in zip(ruler(new), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-3)
        assert found.min() >= 0


def test_filters_are_leading_components():
    """Orthonormal, and they explain more of patches than any other 20 numbers."""
    x = stripes(30, 12, 12)
    (weights,) = Ruler.learn(x).filters.values()
    assert weights.shape == (20, 3, 6, 6)
    flat = weights.flatten(1).double().numpy()
    np.testing.assert_allclose(flat @ flat.T, np.eye(20), atol=1e-5)
    patches = views_of(x).unfold(2, 6, 1).unfold(3, 6, 1).movedim(1, 3).reshape(-1, 108)
    covariance = np.cov(patches.double().numpy().T)
    explained = np.trace(flat @ covariance @ flat.T)
    most = np.linalg.eigvalsh(covariance)[-20:].sum()
    assert 0.98 * most < explained <= most * (1 + 1e-6)


# Light


def test_a_stronger_light_adds_the_same_everywhere():
    x = torch.linspace(-0.4, 0.4, 50)
    added = brightness(2 * (x + 1) - 1) - brightness(x)
    assert added.max() - added.min() < 0.1
    assert added.mean() > 0.6
    torch.testing.assert_close(brightness(-2 - x), -brightness(x))
    assert brightness(torch.tensor([-1.0])) == 0


def test_a_stronger_light_changes_less_than_a_defect():
    x = stripes(60, 32, 32)
    ruler, new = Ruler.learn(x), stripes(5, 32, 32, seed=1)
    defect = new.clone()
    defect[..., 10:16, 10:16] = defect[..., 10:16, 10:16].mean()
    coarse, of_light, of_defect = (
        ruler(each)[0] for each in (new, 2 * (new + 1) - 1, defect)
    )
    change = (of_light - coarse).abs().amax((1, 2))
    assert (change < (of_defect - coarse).abs().amax((1, 2)) / 2).all()


@pytest.mark.parametrize("value", [1e3, -1e3, 1e30, -1e30])
def test_far_outside_the_range(value):
    ruler = Ruler.learn(stripes(20, 8, 8))
    x = stripes(2, 8, 8)
    x[0, :, :3] = value
    x[1] = value
    for found in ruler(x):
        assert found.isfinite().all()


# Defects


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("top, left", [(5, 22), (24, 10), (0, 0)])
def test_finds_a_small_defect(top, left, n_channels):
    """Threads in the wrong direction, with the brightness of the others."""
    x, others = stripes(80, 40, 36, n_channels), stripes(40, 40, 36, n_channels, seed=1)
    ruler = Ruler.learn(x)
    image = stripes(1, 40, 36, n_channels, seed=2)
    place = ..., slice(top, top + 7), slice(left, left + 7)
    image[place] = image[place].flip(-2) * 0.5 + image[place].mT * 0.5
    for found, usual in zip(ruler(image), ruler(others), strict=True):
        deviation = ((found - usual.mean(0)) / usual.std(0))[0]
        row, column = divmod(int(deviation.argmax()), deviation.shape[1])
        scale = 40 / len(deviation)
        assert top - 2 <= scale * (row + 0.5) <= top + 9
        assert left - 2 <= scale * (column + 0.5) <= left + 9


# Bits


def test_an_image_never_sees_the_others():
    """The same bits alone and in any block, whatever the number of threads."""
    ruler, x = Ruler.learn(stripes(30, 40, 36, 3)), stripes(9, 40, 36, 3, seed=1)
    networks = FrozenNetworks(
        None, None, None, None, ruler, 1, (8, 8), torch.device("cpu")
    )
    together = networks.distances(x)
    for images in ([4], [8, 0, 4, 4], range(8, -1, -1)):
        for n_threads in (1, 2):
            with intraop_threads(n_threads):
                found = networks.distances(x[[*images]])
            for some, all_of_them in zip(found, together, strict=True):
                assert torch.equal(some, all_of_them[[*images]])


def test_learns_the_same_twice():
    """And leaves the images and the global random state alone."""
    x = stripes(30, 12, 12)
    before, state = x.clone(), torch.get_rng_state()
    first, second = Ruler.learn(x), Ruler.learn(x)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


# Sizes


@pytest.mark.parametrize(
    ("size", "measured", "grid"),
    [
        ((4, 4), (4, 4), (2, 2)),
        ((5, 9), (5, 9), (3, 5)),
        ((9, 5), (9, 5), (5, 3)),
        ((200, 120), (128, 77), (32, 19)),
        ((7, 130), (7, 128), (2, 32)),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_sizes(size, measured, grid, n_channels):
    x = stripes(12, *size, n_channels)
    ruler = learned(x)
    assert measured_size(*size) == ruler.size == measured
    assert ruler.grid == grid
    networks = FrozenNetworks(
        None, None, None, None, ruler, 1, (4, 4), torch.device("cpu")
    )
    coarse, fine = networks.distances(x[:2])
    assert coarse.shape == (2, *grid)
    assert fine.shape == (2, *measured)
    assert coarse.isfinite().all()
    assert (coarse > 0).all()
    assert fine.isfinite().all()
    tensors = ruler.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert expected_shapes(tensors, n_channels, measured) == shapes
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


@pytest.mark.parametrize("size", [(3, 3), (3, 40), (40, 3), (1, 1), (8, 400)])
def test_images_without_places(size):
    assert measured_size(*size) is None
    ruler = learned(stripes(5, *size))
    assert ruler is None


def test_rows_have_no_ruler(rng):
    X = rng.uniform(-1, 1, size=(9, 20))
    assert learned(X) is None


# What it learns from


@pytest.mark.parametrize("n", [1, 2, 3, 11])
def test_few_images(n):
    x = stripes(n, 8, 8)
    ruler = learned(x)
    defect = x[:1].clone()
    defect[..., 2:5, 2:5] = -1
    for found, usual in zip(ruler(defect), ruler(x), strict=True):
        assert found.isfinite().all()
        assert usual.isfinite().all()
        assert found.max() > usual.max()


def test_one_image_again_and_again():
    """There are no components; whatever is different is a deviation."""
    x = stripes(1, 8, 8).repeat(30, 1, 1, 1)
    ruler = learned(x)
    for found, usual in zip(ruler(stripes(2, 8, 8, seed=1)), ruler(x), strict=True):
        assert found.isfinite().all()
        assert found.max() > 10 * usual.max()


@pytest.mark.parametrize("n_constant", [1, 3])
def test_constant_channels(n_constant):
    x = stripes(20, 8, 8, 3)
    x[:, :n_constant] = 0.3
    ruler = learned(x)
    changed = x[:1].clone()
    changed[:, 0, 3, 3] = -1
    for found, usual in zip(ruler(changed), ruler(x), strict=True):
        assert found.isfinite().all()
        assert usual.isfinite().all()
        # Where nothing ever varies, there is no variance to compare with.
        is_comparable = n_constant < 3 or found.shape[1:] == x.shape[2:]
        assert found.max() > usual.max() if is_comparable else found.max() == 0


def test_rounding_errors_are_no_variance():
    """Images without any structure, each of another grey."""
    x = torch.linspace(-1, 1, 20)[:, None, None, None].expand(20, 1, 16, 16)
    coarse, _ = learned(x.contiguous())(stripes(5, 16, 16))
    assert coarse.max() < 1000


def test_learns_from_the_images_named(monkeypatch):
    """At most so many, evenly; on the scale of the networks, in blocks of any size."""
    X = stripes(30, 8, 8)
    index = np.arange(29, -1, -2)
    for most, rows in ((1000, index), (5, index[[0, 4, 7, 10, 14]])):
        monkeypatch.setattr(_ruler, "MOST_IMAGES", most)
        monkeypatch.setattr(_ruler, "_BLOCK", 4)
        found = learned(5 * X, index, scale=5.0)
        monkeypatch.undo()
        expected = Ruler.learn(X[rows])
        for some, others in zip(found(X), expected(X), strict=True):
            torch.testing.assert_close(some, others, rtol=1e-2, atol=1e-3)


# Many bands


def bands(n, side, n_bands, seed=0):
    """Stripes under smooth spectra of four substances, in [-1, 1]."""
    rng = np.random.RandomState(seed)
    substances = stripes(n, side, side, 4, seed).numpy()
    at = np.linspace(0, 1, n_bands)
    spectra = np.stack([np.exp(-(((at - m) / 0.3) ** 2)) for m in (0, 0.3, 0.6, 1)])
    mixed = np.einsum("nshw,sb->nbhw", substances, spectra) / 2
    mixed += rng.normal(scale=0.01, size=mixed.shape)
    return torch.tensor(mixed).float().clamp(-1, 1)


def test_matrices_do_not_grow_with_patches_of_all_bands(monkeypatch):
    """What is decomposed has a row for each band, or for each number of mixed bands."""
    n_rows, solve = [], {"torch": torch.linalg.eigh, "scipy": _ruler.eigh}

    def counted(name):
        def eigh(matrix, *args, **kwargs):
            n_rows.append(len(matrix))
            return solve[name](matrix, *args, **kwargs)

        return eigh

    monkeypatch.setattr(torch.linalg, "eigh", counted("torch"))
    monkeypatch.setattr(_ruler, "eigh", counted("scipy"))
    ruler = Ruler.learn(bands(12, 8, 120))
    assert max(n_rows) == (2 * 12 + 1) * 4**2
    assert ruler.filters[1].shape == (20, 241, 4, 4)


@pytest.mark.parametrize("n_bands", [13, 20])
def test_mixing_bands_loses_nothing(n_bands, monkeypatch):
    """The filters explain as much of patches, and the distances are about the same."""
    x, new = bands(40, 8, n_bands), bands(6, 8, n_bands, seed=1)
    new[0, :, 2:5, 2:5] = new[0, :, 2:5, 2:5].flip(0)
    mixed = Ruler.learn(x)
    monkeypatch.setattr(_ruler, "_MOST_BANDS", n_bands)
    plain = Ruler.learn(x)
    patches = views_of(x).unfold(2, 4, 1).unfold(3, 4, 1).movedim(1, 3)
    covariance = torch.cov(patches.reshape(-1, (2 * n_bands + 1) * 16).T).double()
    explained = []
    for ruler in (mixed, plain):
        flat = ruler.filters[1].flatten(1).double()
        torch.testing.assert_close(
            flat @ flat.T, torch.eye(20).double(), atol=1e-5, rtol=0
        )
        explained.append(torch.trace(flat @ covariance @ flat.T))
    assert explained[0] > 0.999 * explained[1]
    for found, wanted in zip(mixed(new), plain(new), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(("n_channels", "side"), [(1, 16), (3, 16), (12, 8)])
def test_few_bands_are_not_mixed(n_channels, side, monkeypatch):
    """The same bits as from all views at once."""
    x = stripes(40, side, side, n_channels)
    views = torch.cat([views_of(block) for block in x.split(32)])
    monkeypatch.setattr(_ruler, "_leading_mixes", None)
    for factor, found in Ruler.learn(x).filters.items():
        assert torch.equal(found, _ruler._leading_filters(views, factor))


def test_blocks_of_many_bands_are_small(monkeypatch):
    """A few numbers at once; the blocks of few bands stay as they are."""
    assert [len(b) for b in _ruler._blocks(torch.empty(70, 12, 128, 128))] == [
        32,
        32,
        6,
    ]
    assert len(_ruler._blocks(torch.empty(70, 200, 128, 128))[0]) == 2
    assert len(_ruler._blocks(torch.empty(2, 2000, 128, 128))[0]) == 1
    x = bands(12, 8, 20)
    expected = Ruler.learn(x)
    monkeypatch.setattr(_ruler, "_BLOCK_VALUES", 5000)
    for some, others in zip(Ruler.learn(x)(x), expected(x), strict=True):
        torch.testing.assert_close(some, others, rtol=1e-2, atol=1e-2)


def test_large_images_of_many_bands_are_fewer(monkeypatch):
    """As many as memory has room for, but not less than some."""
    x, taken = bands(20, 8, 30), []
    monkeypatch.setattr(Ruler, "learn", lambda x: taken.append(len(x)))
    for most_values, least in ((2**28, 5), (9 * 30 * 64, 5), (30 * 64, 5)):
        monkeypatch.setattr(_ruler, "_MOST_VALUES", most_values)
        monkeypatch.setattr(_ruler, "_LEAST_MANY", least)
        learned(x)
    assert taken == [20, 9, 5]


def test_constant_images_of_many_bands():
    x = bands(20, 8, 30)
    x[:, 3:9] = 0.2
    for each in (x, x[:1].repeat(20, 1, 1, 1), torch.zeros_like(x)):
        for found in Ruler.learn(each)(x):
            assert found.isfinite().all()


def other_spectra(x, size=3):
    """Images in which a square of pixels has a spectrum of its own, as bright."""
    x = x.clone()
    square = x[:, :, 2 : 2 + size, 2 : 2 + size] + 1
    comb = torch.arange(x.shape[1]).fmod(2)[:, None, None] * 2
    x[:, :, 2 : 2 + size, 2 : 2 + size] = 0.95 * square + 0.05 * comb * square - 1
    return x


@pytest.mark.parametrize("change", ["spectrum", "band"])
def test_pixels_see_spectra_and_single_bands(change):
    """The fine distance is largest where the spectrum is unlike those of all pixels."""
    ruler, x, usual = (
        Ruler.learn(bands(40, 10, 30)),
        bands(8, 10, 30, seed=1),
        bands(20, 10, 30, seed=2),
    )
    if change == "spectrum":
        x = other_spectra(x)
    else:
        x[:, 17, 2:5, 2:5] += 0.2
    fine, others = ruler(x)[1], ruler(usual)[1]
    assert fine.amax((1, 2)).min() > 1.2 * others.amax((1, 2)).max()
    assert (fine.flatten(1).argmax(1) == 33).sum() >= 6
    tensors = ruler.state_dict()
    del tensors["band_whitening"]
    fine, others = Ruler(tensors)(x)[1], Ruler(tensors)(usual)[1]
    assert fine.amax((1, 2)).min() < 1.2 * others.amax((1, 2)).max()


def test_bands_are_compared_as_in_a_textbook():
    """Mean square of what is left, and of what is left of it after whitening."""
    x, new = bands(30, 8, 14), bands(4, 8, 14, seed=1)
    ruler = Ruler.learn(x)
    y, new_y = (brightness(each).double().numpy() for each in (x, new))
    of_learned = (y - y.mean(0)).reshape(30, -1)
    left, new_left = (
        left_of((each - y.mean(0)).reshape(len(each), -1), of_learned, 15).reshape(
            each.shape
        )
        for each in (y, new_y)
    )
    bands_last = np.moveaxis(left, 1, -1).reshape(-1, 14)
    covariance = bands_last.T @ bands_last
    covariance /= np.trace(covariance) / 14
    inverse = np.linalg.inv(covariance + 0.01 * np.eye(14))
    squares = np.einsum("nihw,ij,njhw->nhw", new_left, inverse, new_left) / 14
    squares += (new_left**2).mean(1)
    wanted = np.sqrt(uniform_filter(squares, (1, 3, 3), mode="nearest"))
    np.testing.assert_allclose(ruler(new)[1], wanted, rtol=1e-2)


@pytest.mark.parametrize(("n_channels", "has_it"), [(12, False), (13, True)])
def test_whitening_of_bands_may_be_missing(n_channels, has_it):
    """Files of version 0.1.0 have none: pixels are then compared without."""
    x = stripes(20, 8, 8, n_channels)
    ruler = Ruler.learn(x)
    tensors = dict(ruler.state_dict())
    assert ("band_whitening" in tensors) == has_it
    without = tensors | {}
    without.pop("band_whitening", None)
    for each in (tensors, without):
        shapes = {name: tuple(tensor.shape) for name, tensor in each.items()}
        assert expected_shapes(each, n_channels, (8, 8)) == shapes
    earlier = Ruler(without)
    assert torch.equal(earlier(x)[0], ruler(x)[0])
    assert torch.equal(earlier(x)[1], ruler(x)[1]) == (not has_it)
    more = without | {"band_whitening": torch.eye(n_channels)}
    assert ("band_whitening" in expected_shapes(more, n_channels, (8, 8))) == has_it
