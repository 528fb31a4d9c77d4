import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan._image_files import _images, _readers
from sklearn_anogan.datasets import load_images


@pytest.fixture
def ramp():
    """Values of a ramp (6, 8), which every change of scale or orientation changes."""
    return np.arange(48).reshape(6, 8)


@pytest.fixture
def colours(rng):
    return rng.randint(0, 256, size=(6, 8, 3)).astype(np.uint8)


def save(values, path, **options):
    Image.fromarray(values).save(path, **options)
    return path


def test_values_of_grey_files(ramp, tmp_path):
    """8 and 16 bits, floating point and black and white, as the files hold them."""
    for values, name in [
        ((5 * ramp).astype(np.uint8), "8.png"),
        ((1000 * ramp).astype(np.uint16), "16.png"),
        ((1000 * ramp).astype(np.uint16), "16.tif"),
        ((100_000 * ramp).astype(np.int32), "32.tif"),
        ((ramp / 47 - 3).astype(np.float32), "float.tif"),
        (ramp % 3 == 0, "bits.png"),
    ]:
        found = load_images([save(values, tmp_path / name)])
        assert found.shape == (1, 6, 8)
        expected = 255 * values.astype(np.uint8) if values.dtype == bool else values
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(np.asarray(found), expected[np.newaxis])


def test_values_of_colour_files(colours, tmp_path):
    for name in ("a.png", "b.bmp", "c.tif"):
        found = load_images([save(colours, tmp_path / name)])
        assert found.shape == (1, 6, 8, 3)
        np.testing.assert_array_equal(found[0], colours)
    wide = 257 * colours.astype(np.uint16)
    tifffile.imwrite(tmp_path / "wide.tif", wide, photometric="rgb")
    found = load_images([tmp_path / "wide.tif"])
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], wide)


def test_palettes_become_colours(colours, tmp_path):
    two = np.where(colours[..., :1] > 99, [[[200, 10, 0]]], [[[0, 90, 30]]])
    image = Image.fromarray(two.astype(np.uint8)).convert("P", palette=1, colors=2)
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.mode == "P"
    np.testing.assert_array_equal(load_images(tmp_path)[0], two)


def test_transparent_places_become_black(colours, ramp, tmp_path):
    alpha = np.where(ramp % 2, 255, 0).astype(np.uint8)
    save(np.dstack([colours, alpha]), tmp_path / "a.png")
    found = load_images(tmp_path)[0]
    np.testing.assert_array_equal(found, colours * (ramp % 2)[..., np.newaxis])
    grey = np.dstack([(5 * ramp).astype(np.uint8), alpha])
    found = load_images([save(grey, tmp_path / "b.png")])
    assert found.shape == (1, 6, 8)
    np.testing.assert_array_equal(found[0], 5 * ramp * (ramp % 2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_images_are_turned_upright(tmp_path, name, orientation):
    values = np.zeros((16, 32), np.uint8)
    values[:8, :8], values[8:, :8] = 255, 99
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(values)
    image.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    options = {"tiffinfo": {274: orientation}} if name == "a.tif" else {"exif": exif}
    Image.fromarray(values).save(tmp_path / name, **options)
    found = load_images(tmp_path)
    assert found.shape == (1, *expected.shape)
    np.testing.assert_allclose(found[0], expected, atol=9)


def test_each_page_is_an_image(ramp, tmp_path):
    pages = [Image.fromarray((k * ramp).astype(np.uint8)) for k in (1, 2, 3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    save(ramp.astype(np.uint8), tmp_path / "b.png")
    found = load_images(tmp_path)
    assert [path.name for path in found.paths] == ["a.tif"] * 3 + ["b.png"]
    np.testing.assert_array_equal(found[:], [ramp, 2 * ramp, 3 * ramp, ramp])


def test_what_a_folder_holds_besides_images(ramp, tmp_path):
    """Hidden files, other files and folders are left out; names make the order."""
    for name in ("b.png", "a.PNG", ".hidden.png", "._b.png"):
        save(ramp.astype(np.uint8), tmp_path / name, format="PNG")
    for name in (".DS_Store", "labels.csv", "Thumbs.db"):
        (tmp_path / name).write_text("x")
    (tmp_path / "more.png").mkdir()
    found = load_images(str(tmp_path))
    assert [path.name for path in found.paths] == ["a.PNG", "b.png"]
    one = load_images(tmp_path / "b.png")
    assert len(one) == 1


def test_colour_and_grey_together(ramp, colours, tmp_path):
    grey = (5 * ramp).astype(np.uint8)
    save(grey, tmp_path / "a.png")
    save(colours, tmp_path / "b.png")
    found = load_images(tmp_path)
    assert found.shape == (2, 6, 8, 3)
    np.testing.assert_array_equal(found[0], np.dstack([grey] * 3))
    found = load_images(tmp_path, color="grey")
    assert found.shape == (2, 6, 8)
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    np.testing.assert_allclose(found[1], expected, atol=1)
    assert load_images([tmp_path / "a.png"], color="rgb").shape == (1, 6, 8, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_size(dtype, tmp_path):
    """Means where images shrink; the type and the scale stay."""
    high = 1000 if dtype == np.uint16 else 200
    values = np.zeros((40, 60), dtype)
    values[:, ::2] = high  # stripes, which vanish
    save(values, tmp_path / "a.tif")
    save(values[:20], tmp_path / "b.tif")
    found = load_images(tmp_path, size=(10, 12))
    assert found.shape == (2, 10, 12)
    assert found.dtype == dtype
    np.testing.assert_allclose(found[0][2:-2, 2:-2], high / 2, rtol=0.05)
    assert load_images(tmp_path, size=np.int64(9)).shape == (2, 9, 9)


def test_images_of_several_sizes(ramp, tmp_path):
    save(ramp.astype(np.uint8), tmp_path / "a.png")
    save(ramp[:5].astype(np.uint8), tmp_path / "b.png")
    found = load_images(tmp_path)
    assert not hasattr(found, "shape")
    assert [image.shape for image in found[:]] == [(6, 8), (5, 8)]
    assert [image.shape for image in found] == [(6, 8), (5, 8)]
    assert "of several sizes" in repr(found)


def test_indexing(ramp, tmp_path):
    for i in range(5):
        save((i + ramp).astype(np.uint8), tmp_path / f"{i}.png")
    found, X = load_images(tmp_path), np.stack([i + ramp for i in range(5)])
    for index in (2, -1, slice(1, 4), [3, 0], np.array([True, False] * 2 + [True]), []):
        np.testing.assert_array_equal(found[index], X[index])
    with pytest.raises(IndexError):
        found[5]
    found[2][:] = 0  # a copy
    np.testing.assert_array_equal(np.asarray(found, dtype=float), X)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again[:], X)


def test_few_files_are_decoded_once(ramp, tmp_path, monkeypatch):
    for i in range(5):
        save(ramp.astype(np.uint8), tmp_path / f"{i}.png")
    read, calls = _readers.ImageFile.read, []
    monkeypatch.setattr(
        _readers.ImageFile, "read", lambda *args: calls.append(args) or read(*args)
    )
    found = load_images(tmp_path)
    assert not calls
    found[:], found[:]
    assert len(calls) == 5
    monkeypatch.setattr(_images, "_MOST_KEPT", 2 * ramp.size)
    found = load_images(tmp_path)
    calls.clear()
    found[:], found[:]
    assert len(calls) == 5 + 3


def test_both_detectors_take_them(zeros, quick, tmp_path):
    X = (15 * zeros[:60]).astype(np.uint8)
    for i, image in enumerate(X):
        save(image, tmp_path / f"{i:02}.png")
    images = load_images(tmp_path)
    detector = AnoGANDetector(**quick).fit(images)
    expected = AnoGANDetector(**quick).fit(X)
    np.testing.assert_array_equal(
        detector.score_samples(images), expected.score_samples(X)
    )
    patches = PatchDetector(AnoGANDetector(**quick), 6, n_patches=60, random_state=0)
    scores = patches.fit(images).score_samples(images)
    np.testing.assert_array_equal(scores, patches.fit(X).score_samples(X))
    save(np.vstack([X[0], X[1]]), tmp_path / "60.png")
    several = load_images(tmp_path)
    assert patches.fit(several).score_samples(several).shape == (61,)
    with pytest.raises(ValueError, match="needs images of one shape"):
        AnoGANDetector(**quick).fit(several)


def test_files_that_cannot_be_used(ramp, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder or file"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"There is no image in.*\.png"):
        load_images(tmp_path)
    save(ramp.astype(np.uint8), tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ValueError, match=r"b\.png cannot be read as an image"):
        load_images(tmp_path)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[:45])
    with pytest.raises(ValueError, match=r"b\.png cannot be read as an image"):
        load_images(tmp_path)[:]
    save((1000 * ramp).astype(np.uint16), tmp_path / "b.png")
    with pytest.raises(
        ValueError, match=r"b\.png has values of type uint16, and .*a\."
    ):
        load_images(tmp_path)
    for size in ((3, 4, 5), (0, 3), (2.5, 3)):
        with pytest.raises(ValueError, match="size must be one or two"):
            load_images(tmp_path / "a.png", size=size)


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_anogan.datasets.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"Pillow: .*sklearn-anogan\[images\]"):
        load_images(tmp_path)


def test_pages_of_several_sizes(ramp, tmp_path):
    pages = [Image.fromarray(ramp[:k].astype(np.uint8)) for k in (6, 5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"Page 1 of .*a\.tif.*\(5, 8\).*Pass size"):
        load_images(tmp_path)[:]
    assert load_images(tmp_path, size=4)[:].shape == (2, 4, 4)


@pytest.mark.parametrize("folder", [5, None])
def test_what_is_no_folder(folder):
    with pytest.raises(TypeError, match=f"an iterable of paths, got {folder}"):
        load_images(folder)


def test_bytes_of_wide_colours_in_any_order(colours, tmp_path):
    wide = 257 * colours.astype(np.uint16)
    for order in ("<", ">"):
        path = tmp_path / f"{order == '<'}.tif"
        tifffile.imwrite(path, wide, photometric="rgb", byteorder=order)
    found = load_images(tmp_path)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[:], [wide, wide])


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint32, np.float64, np.float16, np.int64, np.uint16]
)
def test_types_that_pillow_does_not_have(dtype, tmp_path):
    """No value is wrapped around, whatever Pillow makes of the file."""
    info = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    values = np.array([[info.min, 0, 1], [3, 100, info.max]], dtype=dtype)
    tifffile.imwrite(tmp_path / "x.tif", values)
    found = load_images(tmp_path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[0], values)


def test_colours_one_by_one(tmp_path, rng):
    """A TIFF file may have all of red before all of green."""
    values = rng.randint(0, 60000, size=(3, 12, 16)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "x.tif", values, photometric="rgb", planarconfig="separate"
    )
    np.testing.assert_array_equal(load_images(tmp_path)[0], np.moveaxis(values, 0, -1))


def test_pages_of_two_types(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(np.zeros((4, 5), np.uint8))
        file.write(np.full((4, 5), 300, np.uint16))
    with pytest.raises(
        ValueError, match=r"x.tif .*: its pages have .* uint16 and uint8"
    ):
        load_images(tmp_path)
