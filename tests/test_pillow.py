"""Files that Pillow reads: what a person sees, and all of the bands."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from sklearn_anogan.datasets import load_images


@pytest.fixture
def colours(rng):
    return rng.randint(0, 256, size=(6, 8, 3)).astype(np.uint8)


@pytest.fixture
def smooth():
    """Colours that a JPEG file changes little, (32, 48, 3)."""
    plane = np.add.outer(2 * np.arange(32), 3 * np.arange(48)).astype(np.uint8)
    return np.dstack([plane, plane // 2, 255 - plane])


def save(values, path, mode=None, **options):
    image = Image.fromarray(np.asarray(values))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def the_only(path, **options):
    found = load_images([path], **options)
    assert len(found) == 1
    assert found.shape[1:] == found[0].shape
    assert found.dtype == found[0].dtype
    return found[0]


@pytest.mark.parametrize("name", ["a.jpg", "a.mpo", "a.png", "a"])
def test_previews_of_photographs_are_no_images(smooth, tmp_path, name):
    photograph, preview = (Image.fromarray(x) for x in (smooth, smooth[::4, ::4]))
    path = tmp_path / name
    photograph.save(path, format="MPO", save_all=True, append_images=[preview])
    with Image.open(path) as image:
        assert image.n_frames == 2
    np.testing.assert_allclose(the_only(path), smooth, atol=20)


def test_frames_are_images(colours, tmp_path):
    frames = [Image.fromarray(np.roll(colours, k, axis=1)) for k in range(3)]
    for name, options in (
        ("a.gif", {}),
        ("a.webp", {"lossless": True}),
        ("a.png", {}),
        ("a.avif", {"quality": 100}),
    ):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        found = load_images([path])
        assert found.shape == (3, 6, 8, 3)
        if name != "a.avif":
            expected = [np.roll(colours, k, axis=1) for k in range(3)]
            np.testing.assert_array_equal(found[:], expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TGA"])
@pytest.mark.parametrize("n_bands", [2, 4])
def test_bands_that_are_stored_as_alpha(rng, tmp_path, kind, n_bands):
    if (kind, n_bands) == ("WEBP", 2):
        return
    values = rng.randint(1, 255, size=(16, 16, n_bands)).astype(np.uint8)
    path = tmp_path / f"a.{kind.lower()}"
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    save(values, path, **options)
    np.testing.assert_array_equal(the_only(path), values)
    with pytest.raises(ValueError, match=rf"a\..* has {n_bands} bands"):
        load_images(path, color="rgb")


@pytest.mark.parametrize("is_grey", [False, True])
def test_transparency(rng, tmp_path, is_grey):
    """Places of most pixels at the ends, or of all pixels alike, are transparency."""
    colours = rng.randint(0, 256, size=(16, 16, 1 if is_grey else 3)).astype(np.uint8)
    soft = np.where(np.arange(256) < 140, 255 * (np.arange(256) % 2), np.arange(256))
    for alpha in (soft, np.full(256, 128), np.zeros(256), np.full(256, 255)):
        alpha = alpha.reshape(16, 16).astype(np.uint8)
        values = np.dstack([colours, alpha])
        found = the_only(save(values, tmp_path / "a.png"))
        expected = np.rint(colours * (alpha[..., np.newaxis] / 255))
        np.testing.assert_array_equal(found, expected[..., 0] if is_grey else expected)


def test_colours_that_stand_for_transparency(colours, tmp_path):
    key = tuple(int(value) for value in colours[2, 3])
    path = save(colours, tmp_path / "a.png", transparency=key)
    expected = colours.copy()
    expected[(colours == key).all(-1)] = 0
    np.testing.assert_array_equal(the_only(path), expected)
    grey = colours[..., 0]
    path = save(grey, tmp_path / "a.png", transparency=int(grey[2, 3]))
    np.testing.assert_array_equal(the_only(path), np.where(grey == grey[2, 3], 0, grey))
    bits = grey > 99
    path = save(bits, tmp_path / "a.png", transparency=1)
    np.testing.assert_array_equal(the_only(path), 0 * grey)
    wide = grey.astype(np.uint16) + 1000
    path = save(wide, tmp_path / "a.png")
    key = struct.pack(">H", int(wide[2, 3]))
    with_chunk(path, b"tRNS", key)
    np.testing.assert_array_equal(the_only(path), np.where(wide == wide[2, 3], 0, wide))


def with_chunk(path, name, data):
    """Put a chunk before the pixels of a PNG file."""
    content = path.read_bytes()
    at = content.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(data)) + name + data
    chunk += struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content[:at] + chunk + content[at:])


def test_palettes_with_alpha(tmp_path):
    """Always transparency: a palette holds no band."""
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8), "L")
    image = image.convert("P")
    image.putpalette([x for i in range(64) for x in (i, 255 - i, 2 * i)])
    alpha = np.arange(64, dtype=np.uint8) + 100
    path = tmp_path / "a.png"
    image.save(path, transparency=alpha.tobytes())
    i = np.arange(64).reshape(8, 8)
    expected = np.dstack([i, 255 - i, 2 * i]) * (i + 100)[..., np.newaxis] / 255
    np.testing.assert_array_equal(the_only(path), np.rint(expected))


def test_inks_become_colours(smooth, tmp_path):
    image = Image.fromarray(smooth).convert("CMYK")
    image.save(tmp_path / "a.jpg", quality=95)  # inverted, as Adobe does
    found = the_only(tmp_path / "a.jpg").astype(int)
    np.testing.assert_allclose(found, smooth, atol=25)


def test_progressive_and_grey_jpeg(smooth, tmp_path):
    path = save(smooth, tmp_path / "a.jpg", progressive=True, quality=95)
    np.testing.assert_allclose(the_only(path).astype(int), smooth, atol=25)
    path = save(smooth[..., 0], tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(the_only(path).astype(int), smooth[..., 0], atol=10)


def test_16_bits_in_any_order(tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    for mode, order in (("I;16", "<u2"), ("I;16B", ">u2")):
        image = Image.frombytes(mode, (8, 6), values.astype(order).tobytes())
        image.save(
            tmp_path / f"{mode[-1]}.png" if mode == "I;16" else tmp_path / "b.tif"
        )
    np.testing.assert_array_equal(load_images(tmp_path)[:], [values, values])


@pytest.mark.parametrize("n_bands, kind", [(2, 4), (3, 2), (4, 6)])
def test_wide_bands_of_png_files(rng, tmp_path, n_bands, kind):
    """Pillow reads the upper 8 of the 16 bits, with alpha as in files of 8 bits."""
    values = rng.randint(256, 65_000, size=(16, 16, n_bands)).astype(np.uint16)
    path = tmp_path / "a.png"

    def write(values):
        rows = [b"\0" + row.astype(">u2").tobytes() for row in values]
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
        for name, data in (
            (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, kind, 0, 0, 0)),
            (b"IDAT", zlib.compress(b"".join(rows))),
            (b"IEND", b""),
        ):
            crc = struct.pack(">I", zlib.crc32(name + data))
            with open(path, "ab") as file:
                file.write(struct.pack(">I", len(data)) + name + data + crc)

    write(values)
    np.testing.assert_array_equal(the_only(path), values >> 8)
    if kind != 2:
        shown = values[..., -1] > 30_000
        values[..., -1] = np.where(shown, 65535, 0)
        write(values)
        expected = (values[..., :-1] >> 8) * shown[..., np.newaxis]
        expected = expected[..., 0] if n_bands == 2 else expected
        np.testing.assert_array_equal(the_only(path), expected)


def test_damaged_tags_of_cameras(smooth, tmp_path):
    """The image can be seen, whatever is the matter with its tags."""
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth).save(path, exif=b"Exif\0\0garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(the_only(path).astype(int), smooth, atol=25)


def test_profiles_of_colours_change_nothing(colours, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = save(colours, tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(the_only(path), colours)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("name", "a.png a.jpg a.gif a.bmp a.webp a.jp2 a.pgm".split())
def test_truncated_files(rng, tmp_path, name, share):
    values = rng.randint(0, 256, size=(64, 64)).astype(np.uint8)
    path = save(values, tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name} cannot be read as an image: ."):
        load_images(tmp_path)[:]
    save(values, tmp_path / "b.png")
    with pytest.warns(UserWarning, match=rf"1 file left out: {name} \(cannot be read"):
        found = load_images(tmp_path, on_error="skip")
    assert [*found.left_out] == [path]
    np.testing.assert_array_equal(found[:], [values])


@pytest.mark.parametrize("n_bands", [1, 3, 4])
def test_a_single_wrong_bit(rng, tmp_path, n_bands):
    values = rng.randint(1, 255, size=(64, 64, n_bands)).astype(np.uint8)
    path = save(values if n_bands > 1 else values[..., 0], tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image"):
        load_images(tmp_path)


def test_large_images(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    values = np.arange(150, dtype=np.uint8).reshape(10, 15)
    for name in ("a.png", "b.tif", "c.bmp"):
        save(values, tmp_path / name)
    np.testing.assert_array_equal(load_images(tmp_path)[:], [values] * 3)
    save(np.zeros((20, 15), np.uint8), tmp_path / "d.png")
    message = r"d\.png cannot be read.*300 pixels.*PIL\.Image\.MAX_IMAGE_PIXELS"
    with pytest.raises(ValueError, match=message):
        load_images(tmp_path)


def test_maps_of_this_library(colours, tmp_path):
    own = PngImagePlugin.PngInfo()
    own.add_text("Software", "sklearn-anogan")
    other = PngImagePlugin.PngInfo()
    other.add_text("Software", "sklearn-anogan-like")
    save(colours, tmp_path / "a.png", pnginfo=own)
    with pytest.raises(FileNotFoundError, match=r"a\.png \(a map of this library\)"):
        load_images(tmp_path)
    save(colours, tmp_path / "b.png", pnginfo=other)
    for on_error in ("raise", "skip"):
        found = load_images(tmp_path, on_error=on_error)
        assert [path.name for path in found.paths] == ["b.png"]
        assert found.left_out == {tmp_path / "a.png": "a map of this library"}
    assert len(load_images(tmp_path / "a.png")) == 1
    assert len(load_images([tmp_path / "a.png"])) == 1


def test_what_is_no_image_of_pixels(tmp_path, colours):
    """Stubs and programs of Pillow's are not asked."""
    save(colours, tmp_path / "a.png")
    contents = {
        "b.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "b.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "b.fits": b"SIMPLE  =                    T" + b" " * 2850,
        "b.grib": b"GRIB" + bytes(3) + b"\1" + bytes(100),
        "b.mpeg": b"\0\0\1\xb3" + bytes(100),
        "b.wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(100),
        "b.pdf": b"%PDF-1.4",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = load_images(tmp_path)
    assert len(found) == 1
    assert found.left_out == {tmp_path / name: "no image" for name in sorted(contents)}
    buffer = io.BytesIO(contents["b.eps"])
    assert Image.open(buffer).format == "EPS"
