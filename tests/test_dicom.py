"""DICOM files: the units and the brightness that they name, colours, frames."""

import builtins

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from sklearn_anogan.datasets import load_images


@pytest.fixture
def ramp():
    return np.arange(48).reshape(6, 8)


def dicom(values, path, **elements):
    """Write a file; values (height, width[, 3]), or more frames."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.3"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    is_color = values.shape[-1] == 3
    n_bits = 8 * values.dtype.itemsize
    shape = values.shape[:-1] if is_color else values.shape
    if len(shape) == 3:
        data.NumberOfFrames = shape[0]
    data.Rows, data.Columns = shape[-2:]
    data.SamplesPerPixel = 3 if is_color else 1
    if is_color:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = n_bits
    data.HighBit, data.PixelRepresentation = n_bits - 1, int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OW"
    for name, value in elements.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return data


def the_only(path):
    found = load_images([path])
    assert len(found) == 1
    assert found.shape[1:] == found[0].shape
    assert found.dtype == found[0].dtype
    return found[0]


@pytest.mark.parametrize("name", ["a.dcm", "A.DCM", "a", "a.ima", "IM0001.0", "a.png"])
def test_any_name(ramp, tmp_path, name):
    dicom(ramp.astype("u2"), tmp_path / name)
    found = load_images(tmp_path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], ramp)


def test_files_without_the_first_bytes(ramp, tmp_path):
    data = dicom(ramp.astype("u2"), tmp_path / "a.dcm")
    data.save_as(tmp_path / "a.dcm")
    assert b"DICM" not in (tmp_path / "a.dcm").read_bytes()
    np.testing.assert_array_equal(the_only(tmp_path / "a.dcm"), ramp)


def test_units(ramp, tmp_path):
    scale = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    dicom(ramp.astype("u2"), tmp_path / "a.dcm", **scale)
    np.testing.assert_array_equal(the_only(tmp_path / "a.dcm"), 2 * ramp - 1000)
    dicom(np.stack([ramp, 3 * ramp]).astype("u2"), tmp_path / "a.dcm", **scale)
    found = load_images(tmp_path)
    np.testing.assert_array_equal(found[:], [2 * ramp - 1000, 6 * ramp - 1000])


def test_units_of_each_frame(ramp, tmp_path):
    def group(slope):
        scale, found = Dataset(), Dataset()
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = slope, 5, "US"
        found.PixelValueTransformationSequence = [scale]
        return found

    frames = np.stack([ramp, ramp]).astype("u2")
    groups = {"PerFrameFunctionalGroupsSequence": [group(2), group(3)]}
    dicom(frames, tmp_path / "a.dcm", **groups)
    found = load_images(tmp_path)
    np.testing.assert_array_equal(found[:], [2 * ramp + 5, 3 * ramp + 5])
    groups = {"SharedFunctionalGroupsSequence": [group(4)]}
    dicom(frames, tmp_path / "a.dcm", **groups)
    found = load_images(tmp_path)
    np.testing.assert_array_equal(found[:], [4 * ramp + 5, 4 * ramp + 5])


@pytest.mark.parametrize("n_bits", [8, 12, 16])
@pytest.mark.parametrize("is_signed", [False, True])
def test_negatives(ramp, tmp_path, n_bits, is_signed):
    """Inverted by what can be stored, so that all files agree."""
    dtype = f"{'i' if is_signed else 'u'}{1 if n_bits == 8 else 2}"
    low, high = (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1) if is_signed else (0, 0)
    high = high or 2**n_bits - 1
    elements = {
        "PhotometricInterpretation": "MONOCHROME1",
        "BitsStored": n_bits,
        "HighBit": n_bits - 1,
    }
    for k in (1, 2):
        values = (k * ramp + low).astype(dtype)
        dicom(values, tmp_path / f"{k}.dcm", **elements)
    found = load_images(tmp_path)
    np.testing.assert_array_equal(found[:], [high - ramp, high - 2 * ramp])
    scale = {"RescaleSlope": 3, "RescaleIntercept": 7}
    dicom(values, tmp_path / "2.dcm", **elements, **scale)
    expected = 3 * (high - 2.0 * ramp) + 7
    np.testing.assert_array_equal(the_only(tmp_path / "2.dcm"), expected)


@pytest.mark.parametrize("n_bits", [8, 12, 16])
def test_tables_of_units(ramp, tmp_path, n_bits):
    rng = np.random.RandomState(0)
    table = rng.randint(0, 2**n_bits, 50).astype("u2")
    item = Dataset()
    item.LUTDescriptor = [50, 0, n_bits]
    item.ModalityLUTType = "US"
    item.add_new("LUTData", "OW", table.tobytes())
    elements = {"ModalityLUTSequence": [item]}
    dicom(ramp.astype("u2"), tmp_path / "a.dcm", **elements)
    np.testing.assert_array_equal(the_only(tmp_path / "a.dcm"), table[ramp])
    elements["PhotometricInterpretation"] = "MONOCHROME1"
    dicom(ramp.astype("u2"), tmp_path / "a.dcm", **elements)
    expected = 2**n_bits - 1 - table[ramp].astype(float)
    np.testing.assert_array_equal(the_only(tmp_path / "a.dcm"), expected)


def test_colours(rng, tmp_path):
    frames = rng.randint(0, 256, (2, 6, 8, 3)).astype(np.uint8)
    dicom(frames[0], tmp_path / "a.dcm")
    np.testing.assert_array_equal(the_only(tmp_path / "a.dcm"), frames[0])
    dicom(frames, tmp_path / "a.dcm")
    np.testing.assert_array_equal(load_images(tmp_path)[:], frames)
    planes = np.moveaxis(frames[0], -1, 0)
    dicom(
        frames[0], tmp_path / "a.dcm", PlanarConfiguration=1, PixelData=planes.tobytes()
    )
    np.testing.assert_array_equal(the_only(tmp_path / "a.dcm"), frames[0])


def test_ycbcr_becomes_colours(tmp_path):
    values = np.zeros((6, 8, 3), np.uint8)
    values[:] = (76, 85, 255)  # red
    dicom(values, tmp_path / "a.dcm", PhotometricInterpretation="YBR_FULL")
    found = the_only(tmp_path / "a.dcm")
    np.testing.assert_allclose(found.astype(int), found * 0 + [255, 0, 0], atol=3)


@pytest.mark.parametrize("n_bits", [8, 16])
def test_palettes_become_colours(ramp, rng, tmp_path, n_bits):
    table = rng.randint(0, 2**n_bits, (3, 256)).astype(f"u{n_bits // 8}")
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in zip(("Red", "Green", "Blue"), table, strict=True):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, n_bits]
        elements[f"{name}PaletteColorLookupTableData"] = values.tobytes()
    dicom(ramp.astype("u1"), tmp_path / "a.dcm", **elements)
    found = the_only(tmp_path / "a.dcm")
    assert found.dtype == table.dtype
    np.testing.assert_array_equal(found, np.moveaxis(table[:, ramp], 0, -1))


def test_compressed_frames(ramp, tmp_path):
    frames = np.stack([ramp, 3 * ramp]).astype("u2")
    data = dicom(frames, tmp_path / "a.dcm")
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(load_images(tmp_path)[:], frames)


def test_what_nothing_decodes(ramp, tmp_path):
    data = dicom(ramp.astype("u2"), tmp_path / "a.dcm")
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(ValueError, match=r"a\.dcm cannot be read.*pylibjpeg"):
        load_images(tmp_path)[:]


def test_files_without_pixels(ramp, tmp_path):
    data = dicom(ramp.astype("u2"), tmp_path / "a.dcm")
    del data.PixelData
    data.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    dicom(ramp.astype("u2"), tmp_path / "a.dcm")
    found = load_images(tmp_path)
    assert len(found) == 1
    assert found.left_out == {tmp_path / "DICOMDIR": "no image"}
    data.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    with pytest.raises(ValueError, match=r"b\.dcm .* without pixels"):
        load_images(tmp_path)


@pytest.mark.parametrize("length", [50, 200, 350, -10])
def test_truncated_files(ramp, tmp_path, length):
    dicom(np.dstack([ramp] * 50).astype("u2"), tmp_path / "a.dcm")
    path = tmp_path / "a.dcm"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.dcm cannot be read"):
        load_images(tmp_path)[:]


def test_without_pydicom(tmp_path, monkeypatch):
    (tmp_path / "a.dcm").write_bytes(b"DICM")
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pydicom":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"a\.dcm, install pydicom"):
        load_images(tmp_path)
    (tmp_path / "a.dcm").rename(tmp_path / "a")
    (tmp_path / "a").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(ImportError, match=r"a, install pydicom"):
        load_images(tmp_path)
