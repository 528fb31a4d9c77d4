import dask.array
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
import zarr
from PIL import Image
from skimage.io import ImageCollection

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan._images import check_images
from sklearn_anogan._sources import PiecewiseArray, is_read_in_pieces


class File:
    """An array that takes slices only, and is too large to be read at once."""

    most = 0

    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, index):
        assert isinstance(index, slice)
        self.most = max(self.most, len(self.X[index]))
        return self.X[index]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read as a whole")


class Series(list):
    """Lists as in a series of polars, whose types are not those of numpy."""

    dtype = "List(Float64)"
    to_list = list.copy

    def to_numpy(self):
        return np.array([*map(np.array, self), None], dtype=object)[:-1]

    def __array__(self, dtype=None, copy=None):
        return self.to_numpy()


class Collection:
    """A sequence of images without a shape, as a data set of torch."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError
        return self.items[i]


@pytest.fixture
def folder(zeros, tmp_path):
    for i, image in enumerate(zeros[:60]):
        Image.fromarray((15 * image).astype(np.uint8)).save(tmp_path / f"{i:03}.png")
    return tmp_path


def sources_of(X):
    file = h5py.File("X.h5", "w", driver="core", backing_store=False)
    file["X"] = X
    return [
        file["X"],
        zarr.array(X, chunks=(7, *X.shape[1:])),
        dask.array.from_array(X, chunks=(7, *X.shape[1:])),
        File(X),
        Collection(list(X)),
        Collection([*map(torch.tensor, X)]),
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_every_source_has_the_same_bits(zeros, quick, dtype):
    X = (15 * zeros[:60]).astype(dtype)
    expected = AnoGANDetector(**quick).fit(X)
    scores = expected.score_samples(X)
    for source in sources_of(X):
        assert is_read_in_pieces(source)
        detector = AnoGANDetector(**quick).fit(source)
        np.testing.assert_array_equal(detector.score_samples(source), scores)
        np.testing.assert_array_equal(detector.score_samples(X), scores)
        assert detector.reconstruct(source).dtype == expected.reconstruct(X).dtype


@pytest.mark.filterwarnings("ignore:The plugin infrastructure:FutureWarning")
def test_a_collection_of_files(folder, zeros, quick):
    collection = ImageCollection(str(folder / "*.png"))
    X = (15 * zeros[:60]).astype(np.uint8)
    detector = AnoGANDetector(**quick).fit(collection)
    scores = AnoGANDetector(**quick).fit(X).score_samples(X)
    np.testing.assert_array_equal(detector.score_samples(collection), scores)
    patches = PatchDetector(AnoGANDetector(**quick), 8, n_patches=60, random_state=0)
    patches.fit(collection)
    np.testing.assert_array_equal(
        patches.score_samples(collection), patches.score_samples(X)
    )


def test_little_is_read_at_a_time(rng, quick, monkeypatch):
    X = rng.normal(size=(400, 16, 16)).astype(np.float32)
    monkeypatch.setattr("sklearn_anogan._images._BLOCK_VALUES", 64 * 256)
    source = File(X)
    detector = AnoGANDetector(**quick | {"max_epochs": 1}).fit(source)
    detector.score_samples(source)
    assert source.most == 64


def test_pieces():
    X = np.arange(24).reshape(6, 2, 2)
    for source in (PiecewiseArray(File(X), "D"), PiecewiseArray(Collection(X), "D")):
        assert source.shape == X.shape
        assert source.ndim == 3
        assert source.dtype == X.dtype
        assert len(source) == 6
        for index in (slice(None), slice(1, 5), [3], [0, 1, 4, 2, 2], np.array([5, 0])):
            np.testing.assert_array_equal(source[index], X[index])
        np.testing.assert_array_equal(source[4], X[4])
    assert PiecewiseArray(File(X), "D")[[]].shape == (0, 2, 2)


def test_what_is_in_memory_is_not_read_in_pieces(zeros):
    frame = pd.DataFrame(zeros.reshape(len(zeros), -1))
    for X in (zeros, frame, torch.tensor(zeros), list(zeros), frame[0], "X", {}):
        assert not is_read_in_pieces(X)
    assert not is_read_in_pieces(scipy.sparse.csr_array(frame.to_numpy()))
    assert not is_read_in_pieces(memoryview(b"abc"))


@pytest.mark.parametrize(
    "X, message",
    [
        (lambda X: File(np.where(X > 15.5, np.nan, X)), "contains NaN or infinity"),
        (lambda X: File(X.astype(complex)), "needs real numbers"),
        (lambda X: File(X[:1]), "minimum of 2 is required"),
        (lambda X: Collection([*X[:5], X[0][:4]]), r"image 5 of X has \(4, 8\)"),
    ],
)
def test_pieces_that_cannot_be_used(zeros, quick, X, message):
    with pytest.raises(ValueError, match=message):
        AnoGANDetector(**quick).fit(X(zeros))


@pytest.mark.parametrize("cls", [AnoGANDetector, PatchDetector])
@pytest.mark.parametrize(
    "X, message",
    [
        (lambda X: "folder", "holds file names"),
        (lambda X: ["a.png", "b.png"], "holds file names"),
        (lambda X: iter(X), "an iterator, which can be read only once"),
        (lambda X: (image for image in X), "an iterator"),
        (lambda X: torch.utils.data.DataLoader(list(X)), "a DataLoader"),
        (lambda X: Collection([(image, 0) for image in X]), "Item 0 of X is a tuple"),
        (lambda X: [(image, 0) for image in X], "tuples of an image and more"),
        (lambda X: pd.DataFrame({"image": list(X)}), r"Pass X\['image'\].to_list\(\)"),
        (
            lambda X: pd.DataFrame({"name": "a", "image": X.tolist()}),
            r"a frame of lists or arrays. Pass X\['image'\]",
        ),
        (lambda X: Series(X.tolist()), r"Pass X.to_list\(\)"),
    ],
)
def test_what_is_no_image(zeros, cls, X, message):
    with pytest.raises(TypeError, match=message):
        cls().fit(X(zeros))


@pytest.mark.parametrize("cls", [AnoGANDetector, PatchDetector])
@pytest.mark.parametrize(
    "X, message",
    [
        (
            lambda X: [*X[:5], X[5].astype(np.uint8)],
            "image 0 is of type floating point",
        ),
        (
            lambda X: [X[0].astype(np.uint8), X[1].astype(np.uint16)],
            "image 0 is of type uint8, and image 1 of type uint16",
        ),
        (
            lambda X: [torch.tensor(X[0]), torch.tensor(X[1]).to(torch.uint8)],
            "image 1 of type torch.uint8",
        ),
        (lambda X: np.ma.masked_array(X, X > 15.5), "masked values.*X.filled"),
        (lambda X: [X[0], np.ma.masked_array(X[1], X[1] > 5)], "masked values"),
        (
            lambda X: Collection([X[0], np.ma.masked_array(X[1], X[1] > 5)]),
            "masked values",
        ),
        (
            lambda X: Collection([X[0].astype(np.uint8), X[1].astype(np.uint16)]),
            "image 0 is of type uint8, and image 1 of type uint16",
        ),
        (
            lambda X: pd.Series([X[0].astype(np.uint8), X[1] / 255]),
            "image 0 is of type uint8, and image 1 of type floating point",
        ),
        (
            lambda X: [
                Image.fromarray(X[0].astype(np.uint8)),
                Image.fromarray(X[1].astype(np.float32)),
            ],
            "image 0 is of type uint8, and image 1 of type floating point",
        ),
        (
            lambda X: [Image.fromarray(x.astype(np.uint8)).convert("PA") for x in X],
            "Image 0 of X has a palette",
        ),
        (
            lambda X: [Image.fromarray(x.astype(np.uint8)).convert("P") for x in X],
            r"Image 0 of X has a palette.*convert\('RGB'\)",
        ),
    ],
)
def test_values_that_mean_something_else(zeros, cls, X, message):
    with pytest.raises(ValueError, match=message):
        cls().fit(X(zeros))


DATES = pd.date_range("2020-01-01", periods=30)


@pytest.mark.parametrize(
    "column, message",
    [
        (DATES, "type datetime64.*seconds since the first"),
        (DATES.tz_localize("UTC"), "type datetime64.*UTC.*seconds since the first"),
        (DATES.to_period("D"), "type period.*seconds since the first"),
        (DATES - DATES[0], "type timedelta64.*dividing it"),
        (["a"] * 30, "type (str|object).*'a'.*OneHotEncoder"),
        (pd.Categorical(["a", "b"] * 15), "type category.*'a'.*OneHotEncoder"),
        (pd.array(["a"] * 30, dtype="string"), "type string.*'a'.*OneHotEncoder"),
        ([{}] * 30, "type object.*OneHotEncoder"),
    ],
)
@pytest.mark.parametrize("cls", [AnoGANDetector, PatchDetector])
def test_columns_that_are_no_numbers(rng, cls, column, message):
    X = pd.DataFrame(rng.uniform(size=(30, 2)), columns=["a", "b"])
    X.insert(1, "odd", column)
    with pytest.raises((TypeError, ValueError), match=f"column 'odd' of X.*{message}"):
        cls().fit(X)


def test_columns_that_can_be_numbers(rng):
    X = pd.DataFrame({"a": rng.uniform(size=30)})
    X["b"], X["c"] = pd.Categorical([1, 2] * 15), [True, False] * 15
    X["d"], X["e"] = ["1.5"] * 30, pd.array([1, 2] * 15, dtype="Int64")
    AnoGANDetector(n_filters=4, max_epochs=1).fit(X)


@pytest.mark.parametrize("cls", [AnoGANDetector, PatchDetector])
def test_times_are_no_numbers(cls):
    dates = np.array(DATES)
    images = np.resize(dates, (30, 8, 8))
    for X, what in [
        (dates[:, np.newaxis], "X"),
        (images, "X"),
        (images - dates[0], "X"),
        ([*images], "image 0 of X"),
        (pd.Series([*images]), "image 0 of X"),
    ]:
        with pytest.raises(TypeError, match=f"needs numbers, but {what} holds .*64"):
            cls().fit(X)


def test_lists_of_one_kind(zeros):
    """Nothing is masked; float32 beside float64; images of Pillow."""

    def read(X):
        return check_images(
            X, None, n_features=None, min_samples=2, estimator_name="D"
        ).read(slice(None))[:, 0]

    X = zeros[:5].astype(np.float32)
    for same in (
        np.ma.masked_array(X),
        [X[0], *zeros[1:5]],
        [Image.fromarray(x.astype(np.uint8)) for x in X],
    ):
        np.testing.assert_array_equal(read(same), X)


def test_a_single_image(fitted, zeros):
    with pytest.raises(ValueError, match=r"8 features.*a single image, pass X\[None\]"):
        fitted.predict(zeros[0])


def test_a_single_image_in_colour(rng, quick):
    X = rng.uniform(size=(20, 8, 9, 3))
    detector = AnoGANDetector(**quick | {"max_epochs": 1}).fit(X)
    with pytest.raises(ValueError, match=r"\(9, 3\).* a single image, pass X\[None\]"):
        detector.predict(X[0])


def test_tensors_of_a_collection_have_channels_first(rng, quick):
    X = rng.uniform(size=(40, 3, 8, 10))
    items = Collection([*map(torch.tensor, X)])
    detector = AnoGANDetector(**quick).fit(items)
    assert detector.image_shape_ == (8, 10, 3)
    expected = AnoGANDetector(**quick).fit(torch.tensor(X))
    np.testing.assert_array_equal(
        detector.score_samples(items), expected.score_samples(torch.tensor(X))
    )
