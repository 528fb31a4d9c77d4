import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from sklearn_anogan._devices import intraop_threads
from sklearn_anogan._images import (
    TrainingImages,
    check_image_shape,
    check_images,
    resized,
    tell_of_channels_first,
    within,
)
from sklearn_anogan._value_range import ValueRange


def check(X, image_shape=None, n_features=None, min_samples=1):
    return check_images(
        X,
        image_shape,
        n_features=n_features,
        min_samples=min_samples,
        estimator_name="Detector",
    )


def numbered(*shape):
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


#: The same two images (height 3, width 4, channels 2) in every layout.
HWC = numbered(2, 3, 4, 2)
CHW = np.moveaxis(HWC, -1, 1)


@pytest.mark.parametrize(
    "X, image_shape",
    [
        (HWC, None),
        (HWC, (3, 4, 2)),
        (HWC.tolist(), None),
        (list(HWC), None),
        (HWC.reshape(2, -1), (3, 4, 2)),
        (torch.tensor(HWC.reshape(2, -1)), (3, 4, 2)),
        (torch.tensor(CHW), None),
        (torch.tensor(CHW), (3, 4, 2)),
        (list(torch.tensor(CHW)), None),
        (torch.tensor(CHW, requires_grad=True), None),
        (np.asfortranarray(HWC), None),
        (np.array(HWC[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1], None),
        (pd.Series(list(HWC)), None),
        (pd.Series(list(HWC)).to_numpy(), None),
        (HWC.astype(np.int16), None),
        (HWC.astype(np.float16), None),
    ],
)
def test_every_layout_is_read_alike(X, image_shape):
    images = check(X, image_shape)
    assert images.layout.image_shape == (3, 4, 2)
    assert images.layout.chw == (2, 3, 4)
    assert len(images) == 2
    x = images.read([1, 0])
    assert x.dtype == torch.float64
    assert not x.requires_grad
    np.testing.assert_array_equal(x, CHW[::-1])


@pytest.mark.parametrize(
    "X, image_shape, expected",
    [
        (numbered(2, 3, 4), None, (3, 4)),
        (torch.tensor(numbered(2, 3, 4)), None, (3, 4)),
        (numbered(2, 12), (3, 4), (3, 4)),
        (numbered(2, 3, 4, 1), None, (3, 4, 1)),
        (numbered(2, 3, 4, 1), (3, 4), (3, 4)),
        (numbered(2, 3, 4), [3, 4, 1], (3, 4, 1)),
    ],
)
def test_grey_images(X, image_shape, expected):
    images = check(X, check_image_shape(image_shape))
    assert images.layout.image_shape == expected
    np.testing.assert_array_equal(
        images.read(slice(None)), numbered(2, 3, 4)[:, np.newaxis]
    )


def test_rows_are_images_of_one_pixel():
    images = check(numbered(3, 5))
    assert images.layout.image_shape == (5,)
    assert images.read(slice(None)).shape == (3, 5, 1, 1)


@pytest.mark.parametrize(
    "X, image_shape",
    [
        (HWC, None),
        (HWC.reshape(2, -1), (3, 4, 2)),
        (torch.tensor(CHW), None),
        (numbered(2, 3, 4), None),
        (torch.tensor(numbered(2, 3, 4)), None),
        (numbered(2, 5), None),
        (HWC.astype(np.uint8), None),
        (HWC.astype(np.float16), None),
        (HWC.astype(np.float32), None),
        (HWC.astype(np.int64) + 10**9, None),
        (torch.tensor(CHW).long() + 10**9, None),
        (HWC.astype(">f8"), None),
        (torch.tensor(CHW, dtype=torch.float32), None),
    ],
)
def test_restore_is_the_inverse_of_read(X, image_shape):
    images = check(X, image_shape)
    restored = images.layout.restore(images.read(slice(None)))
    assert type(restored) is type(X)
    assert restored.shape == X.shape
    assert "float" in str(restored.dtype)
    np.testing.assert_array_equal(restored, X)


@pytest.mark.parametrize(
    "X, image_shape, error, message",
    [
        (
            np.zeros((4, 3, 3, 1, 1)),
            None,
            ValueError,
            r"shape is \(4, 3, 3, 1, 1\).*images \(n, height, width, channels",
        ),
        (np.zeros(4), None, ValueError, "Expected 2D array, got 1D array"),
        (torch.zeros(4), None, ValueError, "Expected 2D array, got 1D tensor"),
        (np.zeros((4, 12)), (3, 5), ValueError, r"12 features, but image_shape=\(3, 5"),
        (np.zeros((4, 3, 4)), (4, 3), ValueError, r"shape \(3, 4\), but.*\(4, 3"),
        (torch.zeros(4, 2, 3, 4), (2, 3, 4), ValueError, r"shape \(3, 4, 2\), but"),
        (
            np.zeros((4, 3, 4, 3)),
            (3, 4),
            ValueError,
            r"shape \(3, 4, 3\), but.*\(3, 4\)",
        ),
        (np.zeros((0, 3, 4)), None, ValueError, "0 sample"),
        (torch.zeros(0, 3, 4), None, ValueError, "0 sample"),
        (np.zeros((4, 0)), None, ValueError, "0 feature"),
        (torch.zeros(4, 0), None, ValueError, "minimum of 1 is required"),
        (np.zeros((4, 0, 2)), None, ValueError, r"shape is \(4, 0, 2\).*none of them"),
        (np.zeros((4, 2, 2, 0)), None, ValueError, r"\(4, 2, 2, 0\).*none of them"),
        (np.zeros((4, 3, 4)), (12,), ValueError, "rows of 12 features: flatten"),
        (np.full((4, 3, 4), np.nan), None, ValueError, "Input X contains NaN"),
        (np.full((4, 3, 4), np.inf), None, ValueError, "contains NaN or infinity"),
        (torch.full((4, 3, 4), torch.nan), None, ValueError, "contains NaN or inf"),
        (np.zeros((4, 3, 4), complex), None, ValueError, "Complex data not supp"),
        (torch.zeros(4, 3, 4, dtype=torch.cfloat), None, ValueError, "Complex data"),
        (scipy.sparse.eye_array(4), None, TypeError, "Sparse data was passed"),
        (torch.eye(4).to_sparse(), None, TypeError, "Sparse data was passed"),
        (np.array([["a", "b"]]), None, ValueError, "arrays of bytes/strings"),
        (np.array([[{}, {}]]), None, TypeError, "argument must be"),
        ([np.zeros((3, 4)), np.zeros((5, 4))], None, ValueError, r"\(3, 4\), \(5, 4"),
        ([torch.zeros(3, 4), torch.zeros(4)], None, ValueError, r"\(3, 4\), \(4,\)"),
        (
            np.array([np.zeros((3, 4)), np.zeros((5, 4))], dtype=object),
            None,
            ValueError,
            "Detector needs images of one shape",
        ),
    ],
)
def test_bad_images(X, image_shape, error, message):
    with pytest.raises(error, match=message):
        check(X, image_shape)


def test_wrong_number_of_features():
    with pytest.raises(ValueError, match="X has 6 features, but Detector is expecting"):
        check(np.zeros((4, 6)), (5,), n_features=5)


@pytest.mark.parametrize("X", [np.zeros((1, 3, 4)), torch.zeros(1, 3, 4)])
def test_too_few_images(X):
    with pytest.raises(ValueError, match=r"1 sample\(s\).*minimum of 2 is required"):
        check(X, min_samples=2)


@pytest.mark.parametrize("value", [(8,), (8, 8, 3, 1), (8, 0), (8, -1), (8.0, 8), "88"])
def test_bad_image_shape(value):
    with pytest.raises(ValueError, match="image_shape must be"):
        check_image_shape(value)


def test_pillow_images():
    image = pytest.importorskip("PIL.Image")
    pictures = [image.fromarray(np.full((3, 4, 3), i, np.uint8)) for i in range(2)]
    images = check(pictures)
    assert images.layout.image_shape == (3, 4, 3)
    assert images.read([1]).unique() == 1


def test_training_images_come_in_batches():
    images = check(HWC)
    value_range = ValueRange.measure(images)
    dataset = TrainingImages(images, value_range, "cpu")
    assert len(dataset) == 2
    batch = dataset.__getitems__([1, 1, 0])
    expected = value_range.to_network(images.read([1, 1, 0]), "cpu")
    assert torch.equal(batch, expected)
    assert torch.equal(dataset[1], expected[0])


def test_training_images_are_shrunk():
    """To means over areas, of the values on the networks' scale."""
    images = check(numbered(3, 4, 6, 2))
    value_range = ValueRange.measure(images)
    dataset = TrainingImages(images, value_range, "cpu", np.array([2, 0]), (2, 3))
    assert dataset.size == (2, 3)
    assert TrainingImages(images, value_range, "cpu").size == (4, 6)
    whole = value_range.to_network(images.read([0, 2]), "cpu")
    expected = whole.reshape(2, 2, 2, 2, 3, 2).mean((3, 5))
    torch.testing.assert_close(dataset.__getitems__([1, 0]), expected)


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((20, 30), 32, (20, 30)),
        ((20, 30), 30, (20, 30)),
        ((20, 30), 15, (10, 15)),
        ((30, 20), 9, (9, 6)),
        ((200, 3), 10, (10, 1)),
        ((1, 500), 4, (1, 4)),
        ((64, 64), 1, (1, 1)),
    ],
)
def test_shrunk_in_proportion(size, longest, expected):
    assert within(*size, longest) == expected


@pytest.mark.parametrize("n_channels", [1, 3, 5])
@pytest.mark.parametrize(
    "size, other", [((32, 32), (128, 128)), ((21, 32), (85, 128)), ((37, 50), (20, 31))]
)
def test_resized_rounds_alike(n_channels, size, other):
    """In any batch, and with any number of threads."""
    x = torch.randn(9, n_channels, *size, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last)
    with intraop_threads(1):
        alone = torch.cat([resized(each, other) for each in x.split(1)])
    for n_threads in (1, 2, 4):
        with intraop_threads(n_threads):
            assert resized(x, other).equal(alone)


def test_resized(rng):
    """Means over areas; lines between the centres of enlarged pixels; no change."""
    x = torch.tensor(rng.normal(size=(2, 3, 6, 8)))
    assert resized(x, (6, 8)) is x
    expected = x.reshape(2, 3, 3, 2, 2, 4).mean((3, 5))
    torch.testing.assert_close(resized(x, (3, 2)), expected)
    # Areas that are no whole pixels still have all of the image in them.
    flat = resized(torch.ones(1, 1, 7, 9), (3, 5))
    torch.testing.assert_close(flat, torch.ones(1, 1, 3, 5))
    ramp = torch.arange(4.0).expand(1, 1, 2, 4)
    larger = resized(ramp, (4, 8))
    assert larger.shape == (1, 1, 4, 8)
    steps = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    torch.testing.assert_close(larger, steps.expand(1, 1, 4, 8))
    # One side larger, the other smaller.
    assert resized(x, (12, 4)).shape == (2, 3, 12, 4)


def test_memory_map_is_read_block_by_block(tmp_path):
    """Neither checking nor measuring copies a read-only uint8 map or makes it float."""
    shape = (40_000, 28, 28)
    X = np.memmap(tmp_path / "X", np.uint8, "w+", shape=shape)
    X[::1000] = 200
    X.flush()
    X = np.memmap(tmp_path / "X", np.uint8, "r", shape=shape)
    tracemalloc.start()
    images = check(X)
    ValueRange.measure(images)
    images.read([5, 39_999])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.shares_memory(images.data, X)
    assert peak < X.nbytes


def test_strides_of_sides_of_one_pixel():
    """They decide which convolution is taken, and so how a training rounds."""
    grey = torch.rand(5, 4, 4)
    for X in (
        grey[:, None],
        grey.numpy(),
        grey.permute(2, 1, 0).clone().permute(2, 1, 0),
    ):
        assert check(X).read([0, 1]).stride() == (16, 16, 4, 1)


@pytest.mark.parametrize("shape", [(20, 9, 3), (9, 20, 1), (9, 9, 4)])
def test_tensors_whose_channels_come_last(shape):
    images = check(torch.rand(5, *shape))
    with pytest.warns(UserWarning, match=r"pass X.movedim\(-1, 1\)"):
        tell_of_channels_first(images.layout, False)


@pytest.mark.parametrize("shape", [(3, 9, 9), (3, 9, 3), (9, 9, 9)])
def test_tensors_whose_channels_come_first(shape):
    tell_of_channels_first(check(torch.rand(5, *shape)).layout, False)


@pytest.mark.parametrize("wanted", [(8, 9, 3), (8, 9)])
def test_a_hint_at_the_order_of_channels(wanted):
    n_channels = (*wanted, 1)[2]
    with pytest.raises(ValueError, match=r"np.moveaxis\(X, 1, -1\)"):
        check(np.zeros((5, n_channels, 8, 9)), wanted)


def test_missing_values_of_flattened_images():
    """Imputers and trees are no help here."""
    X = np.zeros((5, 12))
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"first in sample 3.*replace them") as caught:
        check(X, (3, 4))
    assert "HistGradientBoosting" not in str(caught.value)
