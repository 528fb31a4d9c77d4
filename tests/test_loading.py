"""Folders: which files are images, what is left out, and what is said of it."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from sklearn_anogan._image_files import _images
from sklearn_anogan.datasets import load_images

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


def save(path, values=GREY, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def names(found, folder):
    return [path.relative_to(folder).as_posix() for path in found.paths]


def test_subfolders(tmp_path):
    wanted = ["a/b/c.png", "a/d.png", "a.png", "b.png", "more.png/a.jpg"]
    for name in (*wanted, ".hidden/a.png", "a/.a.png", "__MACOSX/a.png"):
        save(tmp_path / name)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "a/Thumbs.db"):
        (tmp_path / name).write_text("x")
    found = load_images(tmp_path)
    assert names(found, tmp_path) == sorted(wanted, key=Path)
    assert found.left_out == {}


def test_a_hidden_folder_by_its_name(tmp_path):
    save(tmp_path / ".hidden" / "a.png")
    assert len(load_images(tmp_path / ".hidden")) == 1


def test_links(tmp_path):
    folder = tmp_path / "folder"
    save(folder / "a.png")
    save(tmp_path / "elsewhere" / "b.png")
    (folder / "b.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    (folder / "d").symlink_to(folder)
    (folder / "e").symlink_to("e")
    (folder / "f.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match="left out") as caught:
        found = load_images(folder)
    assert [str(warning.message) for warning in caught] == [
        "1 file left out: f.png (broken link)."
    ]
    assert caught[0].filename == __file__
    assert names(found, folder) == ["a.png", "b.png"]
    assert found.left_out == {
        folder / "c": "a link to a folder",
        folder / "d": "a link to a folder",
        folder / "e": "broken link",
        folder / "f.png": "broken link",
    }
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.warns(UserWarning, match="left out: f.png"):
        assert len(load_images(link)) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_are_not_read(tmp_path):
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    with pytest.warns(UserWarning, match=r"b\.png \(no file\)"):
        found = load_images(tmp_path)
    assert found.left_out == {tmp_path / "b.png": "no file"}
    with pytest.raises(ValueError, match=r"b\.png cannot be read.*no file"):
        load_images(tmp_path / "b.png")


@pytest.mark.parametrize(
    "name, kind",
    [
        ("a.jfif", "JPEG"),
        ("a.jpe", "JPEG"),
        ("a.JPG", "JPEG"),
        ("a.jpg_original", "JPEG"),
        ("a", "JPEG"),
        ("a.png", "JPEG"),
        ("a.tif", "PNG"),
        ("a.dcm", "PNG"),
        ("a.PNG", "PNG"),
        ("a.png.bak", "PNG"),
        ("a.tga", "PNG"),
        ("a.jpg", "TIFF"),
        ("a.Tiff", "TIFF"),
        ("a.0001", "TIFF"),
        ("a.btf", "TIFF"),
        ("a.bmp", "BMP"),
        ("a.webp", "WEBP"),
        ("a.tga", "TGA"),
        ("a.pcx", "PCX"),
        ("a.apng", "PNG"),
        ("a.pgm", "PPM"),
        ("a.J2K", "JPEG2000"),
        ("a.avif", "AVIF"),
        ("a.sgi", "SGI"),
        ("a.ico", "ICO"),
    ],
)
def test_any_name(tmp_path, name, kind):
    save(tmp_path / name, np.full((16, 16), 99, np.uint8), format=kind)
    found = load_images(tmp_path)
    assert names(found, tmp_path) == [name]
    np.testing.assert_allclose(np.unique(found[0]), 99, atol=2)


def test_other_files_of_the_user(tmp_path):
    """No warning, but a reason."""
    save(tmp_path / "a.png")
    contents = {
        "labels.csv": b"P1,P2\n1,2\n",
        "numbers.txt": b"P2 3 1 255\n1 2 3\n",
        "numbers": b"P1 3 1\n1 0 1\n",
        "notes.txt": b"hello",
        "empty": b"",
        "empty.json": b"{}",
        "photographs.zip": b"PK\3\4" + bytes(50),
        "model.safetensors": bytes(500),
        "drawing.svg": b"<svg/>",
        "film.mp4": b"\0\0\0\x18ftypmp42" + bytes(50),
        "noise": np.random.RandomState(0).bytes(5000),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "x.npy", GREY)
    (tmp_path / "photograph.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    for on_error in ("raise", "skip"):
        found = load_images(tmp_path, on_error=on_error)
        assert names(found, tmp_path) == ["a.png"]
        expected = {tmp_path / name: "no image" for name in (*contents, "x.npy")}
        expected[tmp_path / "photograph.HEIC"] = "no reader of .heic files"
        assert found.left_out == expected
        assert [*found.left_out] == sorted(expected)
    (tmp_path / "a.png").unlink()
    message = r"There is no image in .*13 files left out: drawing\.svg \(no image\), "
    with pytest.raises(FileNotFoundError, match=message):
        load_images(tmp_path)


def broken(path):
    content = save(path).read_bytes()
    path.write_bytes(content[:50])
    return path


def test_files_that_cannot_be_read(tmp_path):
    for name in ("a.png", "sub/b.png"):
        save(tmp_path / name)
    bad = [tmp_path / "c.png", tmp_path / "d.png", tmp_path / "sub" / "e.tif"]
    bad[0].write_text("no image")
    broken(bad[1])
    pages = np.stack([GREY] * 3)
    tifffile.imwrite(bad[2], pages, photometric="minisblack", metadata=None)
    bad[2].write_bytes(bad[2].read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"[cd]\.png cannot be read"):
        load_images(tmp_path)
    message = r"3 files left out: c\.png \(cannot .*, d\.png \(.*, sub/e\.tif \(.*\)\.$"
    with pytest.warns(UserWarning, match=message):
        found = load_images(tmp_path, on_error="skip")
    assert [*found.left_out] == bad
    np.testing.assert_array_equal(found[:], [GREY, GREY])
    broken(tmp_path / "f.png")
    with pytest.warns(UserWarning, match=r"4 files left out: .*, \.\.\.\.$"):
        load_images(tmp_path, on_error="skip")
    with pytest.warns(UserWarning, match=r"1 file left out: .*d\.png"):
        found = load_images([tmp_path / "a.png", bad[1]], on_error="skip")
    assert [*found.left_out] == [bad[1]]


def test_nothing_is_left(tmp_path):
    broken(tmp_path / "b.png")
    (tmp_path / "a.csv").write_text("x")
    for folder in (tmp_path, [tmp_path / "b.png"]):
        with pytest.raises(ValueError, match=r"b\.png cannot be read"):
            load_images(folder, on_error="skip")
    with pytest.raises(FileNotFoundError, match="There is no image in"):
        load_images([])


def test_skipped_files_leave_no_trace(tmp_path):
    """Neither in colours, nor in memory."""
    save(tmp_path / "a.png")
    path = save(tmp_path / "b.png", np.dstack([GREY] * 3))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="left out"):
        found = load_images(tmp_path, on_error="skip")
    assert found.shape == (1, 6, 8)
    np.testing.assert_array_equal(found[:], [GREY])


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_values_of_other_types(tmp_path, on_error):
    save(tmp_path / "a.png", GREY.astype(np.uint16))
    for name in ("b.png", "c.png"):
        save(tmp_path / name)
    if on_error == "raise":
        message = r"a\.png has values of type uint16, and .*b\.png of type uint8"
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path)
        return
    with pytest.warns(
        UserWarning, match=r"out: a\.png \(type uint16, most files uint8\)"
    ):
        found = load_images(tmp_path, on_error="skip")
    assert names(found, tmp_path) == ["b.png", "c.png"]
    assert found.dtype == np.uint8


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_other_numbers_of_bands(tmp_path, rng, on_error):
    bands = rng.randint(1, 255, size=(6, 8, 4)).astype(np.uint8)
    for name in ("a.png", "b.png"):
        save(tmp_path / name, bands)
    save(tmp_path / "c.png")
    if on_error == "raise":
        message = r"c\.png has 1 band, and .*a\.png has 4 bands"
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path)
        return
    with pytest.warns(UserWarning, match=r"out: c\.png \(bands: 1, most files 4\)"):
        found = load_images(tmp_path, on_error="skip")
    np.testing.assert_array_equal(found[:], [bands, bands])
    message = r"2 files left out: a\.png \(4 bands, which color='rgb'"
    with pytest.warns(UserWarning, match=message):
        found = load_images(tmp_path, on_error="skip", color="rgb")
    np.testing.assert_array_equal(found[:], [np.dstack([GREY] * 3)])


def test_grey_and_colours_are_of_one_kind(tmp_path, rng):
    colours = rng.randint(0, 256, size=(6, 8, 3)).astype(np.uint8)
    save(tmp_path / "a.png", colours)
    for name in ("b.png", "c.png"):
        save(tmp_path / name)
    found = load_images(tmp_path, on_error="skip")
    grey = np.dstack([GREY] * 3)
    np.testing.assert_array_equal(found[:], [colours, grey, grey])


def test_skipping_reads_once(tmp_path, monkeypatch):
    paths = [save(tmp_path / f"{i}.png") for i in range(4)]
    found = load_images(tmp_path, on_error="skip")
    for path in paths:
        path.unlink()
    np.testing.assert_array_equal(found[:], [GREY] * 4)
    for path in paths:
        save(path)
    monkeypatch.setattr(_images, "_MOST_KEPT", 2 * GREY.nbytes)
    found = load_images(tmp_path, on_error="skip")
    paths[0].unlink()
    np.testing.assert_array_equal(found[:2], [GREY] * 2)
    paths[3].unlink()
    with pytest.raises(FileNotFoundError, match=r"3\.png has been deleted"):
        found[3]


def test_files_that_change(tmp_path):
    path = save(tmp_path / "a.png")
    found = load_images(tmp_path)
    save(path, GREY[::-1])
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match=r"a\.png has changed since"):
        found[0]
    with pytest.raises(ValueError, match=r"a\.png has changed since"):
        pickle.loads(pickle.dumps(found))[0]
    found = load_images(tmp_path)
    time = os.stat(path).st_mtime_ns
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(time, time))
    with pytest.raises(ValueError, match=r"a\.png has changed since"):
        np.asarray(found)
    found = load_images(tmp_path)
    found[0]
    path.unlink()
    np.testing.assert_array_equal(found[0], GREY[::-1])


class PathLike:
    """A path that is no str; iterable, as those of py.path are."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)

    def __iter__(self):
        raise AssertionError("a folder is not to be iterated over")


def test_kinds_of_paths(tmp_path):
    paths = [save(tmp_path / f"{name}.png") for name in "cab"]
    assert len(load_images(PathLike(tmp_path))) == 3
    assert len(load_images(os.fsencode(tmp_path))) == 3
    for given in (
        [PathLike(path) for path in paths],
        [str(path) for path in paths],
        [os.fsencode(path) for path in paths],
        (path for path in paths),
        np.array([str(path) for path in paths]),
        dict.fromkeys(paths),
    ):
        assert load_images(given).paths == paths
    for given in ([5], [None], [GREY]):
        with pytest.raises(TypeError, match="needs paths of files, got"):
            load_images(given)
    with pytest.raises(ValueError, match="cannot be read as an image: it is a folder"):
        load_images([tmp_path])


def test_paths_are_taken_as_they_are(tmp_path):
    hidden = save(tmp_path / ".a.png")
    assert load_images([hidden, hidden]).shape == (2, 6, 8)
    other = tmp_path / "b.csv"
    other.write_text("x")
    for given in (other, [other]):
        with pytest.raises(ValueError, match=r"b\.csv cannot be read as an image"):
            load_images(given)
    missing = tmp_path / "c.png"
    with pytest.raises(FileNotFoundError, match=r"c\.png"):
        load_images([missing])
    with pytest.warns(UserWarning, match=r"c\.png"):
        assert len(load_images([hidden, missing], on_error="skip")) == 1


@pytest.mark.parametrize(
    "size",
    [
        np.int64(4),
        np.array(4),
        (np.int32(4), np.uint8(4)),
        np.array([4, 4]),
        [4, np.int64(4)],
        np.array([4, 4], dtype=object),
    ],
)
def test_sizes(tmp_path, size):
    save(tmp_path / "a.png")
    found = load_images(tmp_path, size)
    assert found.shape == (1, 4, 4)
    assert all(type(side) is int for side in found.shape)


@pytest.mark.parametrize("size", [0, -3, np.array([4.0, 4.0]), np.array([4, 4, 4])])
def test_bad_sizes(tmp_path, size):
    save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="size"):
        load_images(tmp_path, size)


def test_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path)
    content = save(tmp_path / "a.png").read_bytes()
    try:
        for name, data in ((b"\xff.png", content), (b"\xfe.png", content[:50])):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
    except OSError:
        pytest.skip("no such names here")
    with pytest.warns(UserWarning, match="1 file left out"):
        assert len(load_images(tmp_path, on_error="skip")) == 2
    with pytest.raises(ValueError, match="cannot be read"):
        load_images(tmp_path)[:]


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_may_not_be_read(tmp_path, monkeypatch, is_folder):
    save(tmp_path / "a.png")
    path = save(tmp_path / "b" / "c.png")
    forbidden = str(path.parent if is_folder else path)
    name = "scandir" if is_folder else "stat"
    original = getattr(os, name)

    def refuse(path, *args, **options):
        if str(path) == forbidden:
            raise PermissionError(13, "Permission denied", forbidden)
        return original(path, *args, **options)

    monkeypatch.setattr(os, name, refuse)
    with pytest.raises((ValueError, OSError), match="Permission denied"):
        load_images(tmp_path)
    if is_folder:
        found = load_images(tmp_path, on_error="skip")
    else:
        with pytest.warns(UserWarning, match="cannot be read: Permission denied"):
            found = load_images(tmp_path, on_error="skip")
    assert len(found) == 1
    assert [str(path) for path in found.left_out] == [forbidden]
