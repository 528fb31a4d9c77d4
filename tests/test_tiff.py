"""TIFF files: which of their pages are images, and all of their bands."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from sklearn_anogan.datasets import load_images


@pytest.fixture
def bands(rng):
    """Values of six bands with 16 bits (6, 8, 6), none of them at its ends."""
    return rng.randint(1, 60_000, size=(6, 8, 6)).astype(np.uint16)


def the_only(path, **options):
    """The only image of a file."""
    found = load_images([path], **options)
    assert len(found) == 1
    assert found.shape[1:] == found[0].shape
    assert found.dtype == found[0].dtype
    return found[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("n_bands", [2, 4, 5, 6])
def test_all_bands(bands, tmp_path, dtype, planar, n_bands):
    values = (bands[..., :n_bands] % 251).astype(dtype)
    for compression in (None, "zlib"):
        stored = np.moveaxis(values, -1, 0) if planar == "separate" else values
        tifffile.imwrite(
            tmp_path / "a.tif",
            stored,
            photometric="minisblack",
            planarconfig=planar,
            compression=compression,
        )
        np.testing.assert_array_equal(the_only(tmp_path / "a.tif"), values)


def test_bands_and_colours(bands, tmp_path):
    path = tmp_path / "a.tif"
    contig = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path, bands[..., :4], **contig)
    for color in ("grey", "rgb"):
        message = rf"a\.tif has 4 bands.*color='{color}'.*color='auto'"
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path, color=color)
    tifffile.imwrite(tmp_path / "b.tif", bands[..., :3], photometric="rgb")
    with pytest.raises(ValueError, match=r"b\.tif has 3 bands, and .*a\.tif has 4"):
        load_images(tmp_path)
    (tmp_path / "b.tif").unlink()
    tifffile.imwrite(path, bands[..., :2], **contig)
    assert load_images(path, size=4).shape == (1, 4, 4, 2)
    assert load_images(path, size=4)[0].shape == (4, 4, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_near_infrared(bands, tmp_path, dtype):
    """Whatever the file calls the fourth band, no band is dropped."""
    values = (bands[..., :4] % 251 + 1).astype(dtype)
    for kind in ("unspecified", "unassalpha", "assocalpha"):
        path = tmp_path / f"{kind}.tif"
        tifffile.imwrite(path, values, photometric="rgb", extrasamples=[kind])
        np.testing.assert_array_equal(the_only(path), values)
    tifffile.imwrite(
        path, values[..., :2], photometric="minisblack", extrasamples=["unassalpha"]
    )
    np.testing.assert_array_equal(the_only(path), values[..., :2])


def test_unspecified_bands_at_their_ends(bands, tmp_path):
    """A mask of clouds, for instance: the file does not call the band alpha."""
    bands[..., 3] = np.where(bands[..., 3] > 30_000, 65535, 0)
    path = tmp_path / "a.tif"
    values = bands[..., :4]
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(the_only(path), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_transparent_places_become_black(bands, tmp_path, dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    values = (bands[..., :4] / 60_000 * top).astype(dtype)
    shown = bands[..., 4] > 30_000
    values[..., 3] = np.where(shown, top, 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unassalpha"])
    expected = np.where(shown[..., np.newaxis], values[..., :3], 0)
    np.testing.assert_array_equal(the_only(path), expected)
    values[..., 3] = top // 2 if top > 1 else 0.5  # constant
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unassalpha"])
    expected = values[..., :3] * (values[0, 0, 3] / top)
    atol = 1e-6 if top == 1 else 0.5
    np.testing.assert_allclose(the_only(path), expected, atol=atol)
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(the_only(path), values[..., :3])
    tifffile.imwrite(
        path, values[..., 2:4], photometric="minisblack", extrasamples=["assocalpha"]
    )
    np.testing.assert_array_equal(the_only(path), values[..., 2])


def test_alpha_before_another_band(bands, tmp_path):
    bands[..., 3] = 65535
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        bands[..., :5],
        photometric="rgb",
        extrasamples=["unassalpha", "unspecified"],
    )
    np.testing.assert_array_equal(the_only(path), bands[..., [0, 1, 2, 4]])


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.uint16, np.uint32, np.int16, np.int8]
)
def test_white_is_zero(bands, tmp_path, dtype):
    values = bands[..., 0]
    values = values > 30_000 if dtype is bool else values.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    if dtype is bool:
        expected = np.where(values, 0, 255)
    else:
        info = np.iinfo(dtype)
        expected = info.max + info.min - values.astype(np.int64)
    np.testing.assert_array_equal(the_only(tmp_path / "a.tif"), expected)


def test_white_is_zero_for_floating_point(bands, tmp_path):
    values = bands[..., 0].astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(the_only(tmp_path / "a.tif"), -values)


def packed(values, n_bits, photometric, n_bands=1):
    """A TIFF file with samples of any number of bits, written byte by byte."""
    height = len(values)
    bits = np.unpackbits(values.astype(">u2")[..., np.newaxis].view(np.uint8), axis=-1)
    bits = bits.reshape(height, -1, 16)[..., -n_bits:].reshape(height, -1)
    data = np.packbits(bits, axis=1).tobytes()
    entries = [
        (256, 4, 1, values.shape[1]),
        (257, 4, 1, height),
        (258, 3, 1, n_bits),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1, n_bands),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    found = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    for tag, kind, count, value in entries:
        found += tag.to_bytes(2, "little") + kind.to_bytes(2, "little")
        found += count.to_bytes(4, "little") + int(value).to_bytes(4, "little")
    return found + bytes(4) + data


@pytest.mark.parametrize("n_bits", [2, 4, 12])
def test_odd_numbers_of_bits(bands, tmp_path, n_bits):
    values = bands[..., 0] % 2**n_bits
    path = tmp_path / "a.tif"
    path.write_bytes(packed(values, n_bits, photometric=1))
    scale = 1 if n_bits > 8 else 255 // (2**n_bits - 1)
    np.testing.assert_array_equal(the_only(path), scale * values)
    path.write_bytes(packed(values, n_bits, photometric=0))
    expected = scale * (2**n_bits - 1 - values)
    np.testing.assert_array_equal(the_only(path), expected)


@pytest.mark.parametrize("n_bands", [3, 5])
@pytest.mark.parametrize("n_bits", [10, 12, 14])
def test_bands_of_12_bits(bands, tmp_path, n_bits, n_bands):
    values = bands[..., :n_bands] % 2**n_bits
    path = tmp_path / "a.tif"
    photometric = 2 if n_bands == 3 else 1
    path.write_bytes(packed(values, n_bits, photometric, n_bands))
    np.testing.assert_array_equal(the_only(path), values)


def test_reduced_pages_and_masks_are_no_images(bands, tmp_path):
    page = bands[..., 0]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(page, metadata=None)
        file.write(page[::2, ::2], subfiletype=1, metadata=None)
        file.write(page > 30_000, subfiletype=4, photometric="mask", metadata=None)
        file.write(page + 1, subfiletype=2, metadata=None)
        file.write(page[::2, ::2] > 30_000, subfiletype=5, metadata=None)
    found = load_images(path)
    np.testing.assert_array_equal(found[:], [page, page + 1])


def test_reduced_pages_by_the_old_tag(bands, tmp_path):
    page = bands[..., 0]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for values, kind in ((page, 1), (page[::2, ::2], 2), (page + 1, 3)):
            tag = (255, "H", 1, kind, True)
            file.write(values, extratags=[tag], metadata=None)
    np.testing.assert_array_equal(load_images(path)[:], [page, page + 1])


@pytest.mark.parametrize("metadata", [{}, None])
def test_only_reduced_pages(bands, tmp_path, metadata):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, bands[..., 0], subfiletype=1, metadata=metadata)
    with pytest.raises(ValueError, match=r"a\.tif .* no whole image"):
        load_images(tmp_path)
    path.rename(tmp_path / "a.nef")
    tifffile.imwrite(path, bands[..., 0])
    found = load_images(tmp_path)
    assert found.left_out == {tmp_path / "a.nef": "no reader of .nef files"}


@pytest.mark.parametrize("kind", ["a.ome.tif", "a.tif"])
def test_pyramids(bands, tmp_path, kind):
    page = bands[..., 0]
    with tifffile.TiffWriter(tmp_path / kind) as file:
        file.write(page, subifds=1)
        file.write(page[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(the_only(tmp_path / kind), page)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["CYX", "TCYX", "ZCYX", "TZCYX", "ZYX", "TYX", "TZYX"])
@pytest.mark.parametrize("kind", ["imagej", "ome", "shaped"])
def test_channels_are_bands(rng, tmp_path, kind, axes, compression):
    """Steps of time and of depth are images."""
    if kind == "imagej" and compression:
        return
    sizes = {"T": 2, "Z": 3, "C": 4, "Y": 6, "X": 8}
    values = rng.randint(0, 60_000, [sizes[axis] for axis in axes]).astype(np.uint16)
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    tifffile.imwrite(
        path,
        values,
        imagej=kind == "imagej",
        photometric="minisblack",
        planarconfig=None,
        compression=compression,
        metadata={"axes": axes},
    )
    if "C" in axes:
        values = np.moveaxis(values, axes.index("C"), -1)
        expected = values.reshape(-1, 6, 8, 4)
    else:
        expected = values.reshape(-1, 6, 8)
    np.testing.assert_array_equal(load_images(path)[:], expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("axes, n_bands", [("ZCYX", 2), ("ZYX", 1)])
def test_stacks_of_imagej_with_a_single_page(rng, tmp_path, axes, n_bands, order):
    shape = (5, n_bands, 6, 8) if n_bands > 1 else (5, 6, 8)
    values = rng.randint(0, 60_000, shape).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        values,
        imagej=True,
        truncate=True,
        metadata={"axes": axes},
        byteorder=order,
    )
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
    found = load_images(path)
    expected = np.moveaxis(values, 1, -1) if n_bands > 1 else values
    np.testing.assert_array_equal(found[:], expected)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"a\.tif cannot be read"):
        load_images(path)[:]


def test_composite_of_two_channels(rng, tmp_path):
    values = rng.randint(0, 255, (2, 6, 8)).astype(np.uint8)
    metadata = {"axes": "CYX", "mode": "composite"}
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata=metadata)
    expected = np.moveaxis(values, 0, -1)
    np.testing.assert_array_equal(the_only(tmp_path / "a.tif"), expected)


def test_colours_in_a_hyperstack(rng, tmp_path):
    values = rng.randint(0, 255, (3, 6, 8, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZYXS"})
    np.testing.assert_array_equal(load_images(tmp_path)[:], values)


def test_files_of_ome_that_name_each_other(rng, tmp_path):
    """Each file has its own images alone."""
    values = rng.randint(0, 255, (2, 6, 8)).astype(np.uint8)
    names = ["a.ome.tif", "b.ome.tif"]
    parts = "".join(
        f'<TiffData FirstT="{i}" IFD="0"><UUID FileName="{name}">urn:uuid:{i}</UUID>'
        "</TiffData>"
        for i, name in enumerate(names)
    )
    for i, name in enumerate(names):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME '
            'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{i}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="6" SizeZ="1" '
            f'SizeC="1" SizeT="2"><Channel ID="Channel:0:0"/>{parts}</Pixels></Image>'
            "</OME>"
        )
        tifffile.imwrite(tmp_path / name, values[i], description=xml, metadata=None)
    np.testing.assert_array_equal(load_images(tmp_path)[:], values)


def test_inks_become_colours(rng, tmp_path):
    inks = rng.randint(0, 256, (6, 8, 4)).astype(np.uint8)
    image = Image.new("CMYK", (8, 6))
    image.frombytes(inks.tobytes())
    expected = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "8.tif")
    image.save(tmp_path / "8-lzw.tif", compression="tiff_lzw")
    for name in ("8.tif", "8-lzw.tif"):
        np.testing.assert_allclose(the_only(tmp_path / name), expected, atol=1)
    tifffile.imwrite(
        tmp_path / "16.tif", 257 * inks.astype(np.uint16), photometric="separated"
    )
    found = the_only(tmp_path / "16.tif")
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found / 257, expected, atol=1)


def test_palettes_become_colours(rng, tmp_path):
    numbers = rng.randint(0, 256, (6, 8)).astype(np.uint8)
    table = rng.randint(0, 256, (3, 256)).astype(np.uint16)
    expected = np.moveaxis(table[:, numbers], 0, -1)
    for scale in (1, 256, 257):  # writers do not agree
        tifffile.imwrite(
            tmp_path / "a.tif", numbers, photometric="palette", colormap=scale * table
        )
        np.testing.assert_array_equal(the_only(tmp_path / "a.tif"), expected)


def test_lab_and_ycbcr_become_colours(tmp_path):
    values = np.full((32, 32, 3), [200, 60, 30], np.uint8)
    image = Image.fromarray(values)
    image.save(tmp_path / "a.tif", compression="jpeg", quality=95)
    image.convert("YCbCr").save(tmp_path / "b.tif")
    for name in ("a.tif", "b.tif"):
        np.testing.assert_allclose(the_only(tmp_path / name), values, atol=3)
    lab = Image.new("LAB", (6, 8))
    lab.frombytes(bytes([137, 54, 54] * 48))
    lab.save(tmp_path / "c.tif")
    red, green, blue = the_only(tmp_path / "c.tif")[0, 0].astype(int)
    assert red > 150 > 100 > max(green, blue)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7, 8])
def test_what_only_pillow_decodes(rng, tmp_path, compression, orientation):
    smooth = np.add.outer(np.arange(32), 2 * np.arange(48)).astype(np.uint8)
    path = tmp_path / "a.tif"
    info = {274: orientation}
    for values in (smooth, np.dstack([smooth, smooth // 2, 255 - smooth])):
        Image.fromarray(values).save(path, compression=compression, tiffinfo=info)
        upright = {
            1: values,
            3: values[::-1, ::-1],
            6: np.rot90(values, -1),
            7: np.rot90(values, 2).swapaxes(0, 1),
            8: np.rot90(values),
        }[orientation]
        atol = 8 if compression == "jpeg" else 0
        found = the_only(path)
        assert found.shape == upright.shape
        np.testing.assert_allclose(found.astype(int), upright.astype(int), atol=atol)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_wide_values_that_only_pillow_decodes(bands, tmp_path, dtype):
    values = bands[..., 0].astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(the_only(tmp_path / "a.tif"), values)


def test_what_nothing_decodes(bands, tmp_path):
    """Pillow would drop the fourth band."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, bands[..., :4], photometric="rgb", extrasamples=["unspecified"]
    )
    content = bytearray(path.read_bytes())
    compression = content.index(b"\x03\x01\x03\x00\x01\x00\x00\x00\x01\x00")
    content[compression + 8] = 5  # LZW
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif cannot be read.*install imagecodecs"):
        load_images(path)[:]


def test_missing_values_stay(tmp_path):
    values = np.array([[np.nan, 1], [2, np.inf]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(the_only(tmp_path / "a.tif"), values)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("metadata", [{}, None])
def test_truncated_files(rng, tmp_path, share, compression, metadata):
    pages = rng.randint(0, 255, (5, 40, 50)).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pages, compression=compression, metadata=metadata)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.tif cannot be read"):
        load_images(path)[:]


def test_volumes_are_refused(bands, tmp_path):
    values = np.zeros((16, 16, 16), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, volumetric=True, tile=(16, 16, 16))
    with pytest.raises(ValueError, match=r"a\.tif cannot be read.*volumes"):
        load_images(tmp_path)[:]


def test_complex_values_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.complex64))
    with pytest.raises(ValueError, match=r"a\.tif cannot be read.*complex64"):
        load_images(tmp_path)


def test_pages_of_different_bands(bands, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(bands[..., 0], metadata=None)
        contig = {"photometric": "minisblack", "planarconfig": "contig"}
        file.write(bands[..., :4], **contig, metadata=None)
    with pytest.raises(ValueError, match=r"a\.tif .*: its pages .* bands 1 and 4"):
        load_images(tmp_path)
