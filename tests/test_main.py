import csv
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from sklearn_anogan import AnoGANDetector, PatchDetector, __version__
from sklearn_anogan._command_line import _reading, main
from sklearn_anogan.datasets import load_images
from sklearn_anogan.inspection import _examining
from sklearn_anogan.persistence import load, save


def run(*arguments):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sklearn_anogan", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def read_csv(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def check_rows(rows, scores, p_values, labels):
    """Rows say what the detector says, with as many digits as tell something."""
    np.testing.assert_allclose([float(row["score"]) for row in rows], scores, 1e-5)
    np.testing.assert_allclose([float(row["p_value"]) for row in rows], p_values, 1e-3)
    words = ["anomalous" if label == -1 else "normal" for label in labels]
    assert [row["label"] for row in rows] == words


@pytest.fixture(scope="module")
def folders(tmp_path_factory, zeros):
    """Normal images, and new ones of which the first two have a bright spot."""
    folder = tmp_path_factory.mktemp("folders")
    for name, images in {"normal": zeros[:60], "new": zeros[60:72].copy()}.items():
        (folder / name).mkdir()
        if name == "new":
            images[:2, 3:6, 3:6] = 16
        for i, image in enumerate(images):
            picture = Image.fromarray((15 * image).astype(np.uint8))
            picture.save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def model(folders):
    """File of a detector that was fitted for a moment."""
    X = load_images(folders / "normal")
    detector = AnoGANDetector(n_filters=4, max_epochs=5, verbose=1, random_state=0).fit(
        X
    )
    save(detector, folders / "model.safetensors")
    return folders / "model.safetensors"


def test_from_a_folder_to_a_report(folders, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    quick = {"max_epochs": 20, "n_filters": 8}
    done = run(
        *("fit", folders / "normal", "--output", model, "--size", 8, "--seed", 3),
        *(word for name in quick for word in ("--set", f"{name}={quick[name]}")),
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "epochs/s" in done.stderr
    assert "images that were held out" in done.stderr
    assert "Traceback" not in done.stderr
    X = load_images(folders / "normal", 8)
    as_fitted = AnoGANDetector(random_state=3, **quick).fit(X)
    new = load_images(folders / "new", 8)
    expected = as_fitted.score_samples(new)
    np.testing.assert_array_equal(load(model).score_samples(new), expected)

    command = ["score", model, folders / "new", "--csv", tmp_path / "scores.csv"]
    command += ["--maps", tmp_path / "maps", "--report", tmp_path / "report.html"]
    assert main([*map(str, command)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    rows = read_csv(tmp_path / "scores.csv")
    assert [row["file"] for row in rows] == [str(path) for path in new.paths]
    labels = as_fitted.predict(new)
    check_rows(rows, expected, as_fitted.p_values(new), labels)
    assert [*rows[0]] == ["file", "score", "p_value", "label"]  # and no pages
    n_marked = (labels == -1).sum()
    assert f"{n_marked} of 12 images marked" in said.err
    assert "12/12" in said.err  # progress
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names == [f"{i:02d}.png" for i in range(12)]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{n_marked} of 12 images" in text
    assert "Anomalies in new" in text


def test_errors_have_no_traceback(tmp_path, capsys):
    done = run("fit", tmp_path / "none", "--output", tmp_path / "model.safetensors")
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no folder")
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(SystemExit) as stopped:
        main(["fit", str(tmp_path)])
    assert stopped.value.code == 2
    assert "--output" in capsys.readouterr().err


def test_scores_go_to_the_screen(model, folders, tmp_path, capsys):
    assert main(["score", str(model), str(folders / "new"), "--quiet"]) == 0
    said = capsys.readouterr()
    rows = list(csv.reader(said.out.splitlines()))
    assert rows[0] == ["file", "score", "p_value", "label"]
    assert len(rows) == 13
    arguments = ["--csv", "-", "--report", str(tmp_path / "report.html")]
    assert main(["score", str(model), str(folders / "new"), "--quiet", *arguments]) == 0
    assert capsys.readouterr().out == said.out
    assert (tmp_path / "report.html").exists()
    assert said.err == ""


def test_images_are_read_as_those_of_the_fit(model, folders, tmp_path, capsys):
    """Colours become grey, and images get the size that the detector knows."""
    for path in load_images(folders / "new").paths:
        picture = Image.open(path).convert("RGB").resize((16, 16))
        picture.save(tmp_path / path.name)
    assert main(["score", str(model), str(tmp_path), "--quiet"]) == 0
    rows = csv.DictReader(capsys.readouterr().out.splitlines())
    X = load_images(tmp_path, 8, color="grey")
    scores = load(model).set_params(verbose=0).score_samples(X)
    np.testing.assert_allclose([float(row["score"]) for row in rows], scores, 1e-5)


def test_images_of_more_bits(model, folders, tmp_path, capsys):
    for path in load_images(folders / "new").paths:
        values = np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(257 * values).save(tmp_path / path.name)
    for folder in (folders / "new", tmp_path):
        assert main(["score", str(model), str(folder), "--quiet"]) == 0
        is_told = "All images are marked" in capsys.readouterr().err
        assert is_told == (folder == tmp_path)


def test_colours_and_sizes(folders, tmp_path, monkeypatch):
    fitted = []

    def fit(self, X, groups=None):
        fitted.append((type(self).__name__, np.asarray(X[0]).shape, self.get_params()))
        raise ValueError("enough")

    monkeypatch.setattr(AnoGANDetector, "fit", fit)
    monkeypatch.setattr(PatchDetector, "fit", fit)
    start = ["fit", str(folders / "normal"), "--output", str(tmp_path / "model")]
    assert main([*start, "--color", "rgb", "--size", "6x12", "--device", "cpu"]) == 1
    name, shape, parameters = fitted.pop()
    assert (name, shape) == ("AnoGANDetector", (6, 12, 3))
    assert (parameters["device"], parameters["verbose"]) == ("cpu", 1)
    assert main([*start, "--quiet"]) == 1
    name, shape, parameters = fitted.pop()
    assert (name, shape) == ("AnoGANDetector", (128, 128))
    assert (parameters["random_state"], parameters["verbose"]) == (0, 0)
    assert main([*start, "--patches", "4"]) == 1
    name, shape, parameters = fitted.pop()
    assert (name, shape) == ("PatchDetector", (8, 8))
    assert (parameters["patch_shape"], parameters["stride"]) == (4, None)


@pytest.mark.parametrize("size", ["0", "a", "1x2x3", "8x", "-1"])
def test_sizes_that_are_none(size, folders, model, capsys):
    fit = ["fit", str(folders / "normal"), "--output", "model"]
    score = ["score", str(model), str(folders / "new")]
    for command, option in ((fit, "size"), (fit, "patches"), (score, "n-images")):
        with pytest.raises(SystemExit) as stopped:
            main([*command, f"--{option}={size}"])
        assert stopped.value.code == 2
        assert f"--{option}: " in capsys.readouterr().err


def test_patches_of_large_images(rng, tmp_path, capsys):
    """Images of several sizes, and pages of a file."""
    pages = [rng.randint(0, 200, (20 + i % 2, 24)).astype(np.uint8) for i in range(10)]
    detector = PatchDetector(
        AnoGANDetector(n_filters=4, max_epochs=2, random_state=0), 16, random_state=0
    )
    detector.fit(pages)
    save(detector, tmp_path / "model.safetensors")
    (tmp_path / "new").mkdir()
    for name, chosen in {"a": pages[::2], "b": pages[1:2]}.items():
        first, *rest = map(Image.fromarray, chosen)
        path = tmp_path / "new" / f"{name}.tif"
        first.save(path, save_all=True, append_images=rest)
    csv_file, maps = tmp_path / "scores.csv", tmp_path / "maps"
    arguments = ["--csv", str(csv_file), "--maps", str(maps)]
    model, folder = str(tmp_path / "model.safetensors"), str(tmp_path / "new")
    with pytest.warns(UserWarning, match="held out"):
        detector.p_values(pages[:1])  # which the command tells of as well
    assert main(["score", model, folder, *arguments, "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert "warning: Number of images that are held out: 5" in said
    rows = read_csv(csv_file)
    assert [row["page"] for row in rows] == ["0", "1", "2", "3", "4", ""]
    scores = detector.score_samples([*pages[::2], pages[1]])
    np.testing.assert_allclose([float(row["score"]) for row in rows], scores, 1e-5)
    assert sorted(path.name for path in maps.iterdir()) == [
        *(f"a.tif, page {i}.png" for i in range(5)),
        "b.tif.png",
    ]
    size = np.asarray(Image.open(maps / "b.tif.png")).shape
    assert size == (21, 24, 3)


def test_what_was_not_fitted_to_images(rng, tmp_path, folders, capsys):
    rows = AnoGANDetector(n_filters=4, max_epochs=2, random_state=0)
    save(rows.fit(rng.normal(size=(30, 3))), tmp_path / "model.safetensors")
    code = main(["score", str(tmp_path / "model.safetensors"), str(folders / "new")])
    assert code == 1
    assert capsys.readouterr().err.startswith("error: The detector was not fitted to")


def test_nothing_is_begun_that_cannot_be_written(model, folders, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("should not have begun")

    monkeypatch.setattr(_reading, "load_images", fail)
    no_folder = str(folders / "none" / "file")
    commands = [["fit", str(folders / "normal"), "--output", no_folder]]
    commands += [
        ["score", str(model), str(folders / "new"), option, no_folder]
        for option in ("--csv", "--maps", "--report")
    ]
    for command in commands:
        assert main(command) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert "No such file or directory: " in said
    a_folder = str(folders)
    for command in (
        ["fit", str(folders / "normal"), "--output", a_folder],
        ["score", str(model), str(folders / "new"), "--csv", a_folder],
        ["score", str(model), str(folders / "new"), "--report", a_folder],
    ):
        assert main(command) == 1
        assert "is a folder" in capsys.readouterr().err


def test_inputs_are_never_replaced(model, folders, tmp_path, capsys):
    """By whatever name or link, and whatever --overwrite says."""

    def contents():
        return {path: path.read_bytes() for path in folders.rglob("*.*")}

    new, normal = folders / "new", folders / "normal"
    (new / "broken.png").write_bytes(b"")
    before = contents()
    link, table = tmp_path / "link", tmp_path / "groups.csv"
    link.symlink_to(new / "02.png")
    hard = tmp_path / "hard"
    hard.hardlink_to(normal / "03.png")
    table.write_text("file,group\n00.png,a")
    (tmp_path / "linked").mkdir()
    for i in range(12):  # a folder of maps whose files are images of the folder
        (tmp_path / "linked" / f"{i:02d}.png").hardlink_to(new / f"{i:02d}.png")
    for name in ("sub", "more"):
        (tmp_path / "deep" / name).mkdir(parents=True)
        shutil.copy(new / "00.png", tmp_path / "deep" / name / "00.png")
    score, fit = ["score", model, new], ["fit", normal]
    for command in (
        [*score, "--csv", model],
        [*score, "--csv", new / "00.png"],
        [*score, "--csv", link],
        [*score, "--report", new / ".." / "new" / "01.png"],
        [*score, "--csv", tmp_path / "x.csv", "--report", tmp_path / "x.csv"],
        [*score, "--maps", tmp_path / "x", "--report", tmp_path / "x"],
        [*score, "--maps", new],
        [*score, "--maps", tmp_path / "linked"],
        ["score", model, tmp_path / "deep", "--maps", tmp_path / "deep"],
        [*score, "--csv", tmp_path / "missing" / ".." / "hard"],
        [*score, "--csv", new / "broken.png"],
        [*fit, "--output", normal / "03.png"],
        [*fit, "--output", hard],
        [*fit, "--size", "8", "--output", table, "--groups", table],
        ["calibrate", model, new, "--output", new / "00.png"],
    ):
        for options in (["--quiet"], ["--quiet", "--overwrite"]):
            assert main([*map(str, [*command, *options])]) == 1
            said = capsys.readouterr().err
            assert re.search("replace|no group for|No such file", said), said
    calibrate = ["calibrate", str(model), str(new), "--output", str(model)]
    assert main(calibrate) == 1
    assert "would replace the model" in capsys.readouterr().err
    assert contents() == before
    assert table.read_text() == "file,group\n00.png,a"
    copy = (tmp_path / "deep" / "sub" / "00.png").read_bytes()
    assert copy == (new / "00.png").read_bytes()
    (new / "broken.png").unlink()


def test_files_of_another_kind_are_not_replaced(model, folders, tmp_path, capsys):
    maps = tmp_path / "maps"
    maps.mkdir()
    for path in (tmp_path / "a", maps / "00.png"):
        path.write_text("the user's own")
    own = str(tmp_path / "a")
    score = ["score", str(model), str(folders / "new"), "--quiet"]
    fit = ["fit", str(folders / "normal"), "--quiet", "--size", "8"]
    quick = ["--set", "max_epochs=1", "--set", "n_filters=4"]
    for command, path in (
        ([*score, "--csv", own], tmp_path / "a"),
        ([*score, "--report", own], tmp_path / "a"),
        ([*score, "--maps", str(maps)], maps / "00.png"),
        ([*fit, *quick, "--output", own], tmp_path / "a"),
    ):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert "of another kind" in said
        assert "--overwrite" in said
        assert path.read_text() == "the user's own"
        assert main([*command, "--overwrite"]) == 0
        assert main(command) == 0  # what the command has written itself
        (tmp_path / "a").write_text("the user's own")
    Image.open(maps / "00.png").close()


def test_a_table_is_whole_or_not_there(model, folders, tmp_path, monkeypatch, capsys):
    table = tmp_path / "scores.csv"
    command = ["score", str(model), str(folders / "new"), "--csv", str(table)]
    assert main(command) == 0
    before = table.read_bytes()
    monkeypatch.setattr(_examining, "_BLOCK_VALUES", 5 * 64)
    explain, calls = AnoGANDetector.explain, []

    def fail(self, X):
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError("no more")
        return explain(self, X)

    monkeypatch.setattr(AnoGANDetector, "explain", fail)
    options = ["--maps", str(tmp_path / "maps")]
    assert main([*command, *options]) == 1
    assert "no more" in capsys.readouterr().err
    assert table.read_bytes() == before
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["maps", "scores.csv"]


@pytest.fixture
def mixed(folders, tmp_path):
    """New images, and what else a folder may hold."""
    folder = tmp_path / "mixed"
    shutil.copytree(folders / "new", folder)
    noise = np.random.RandomState(0).randint(256, size=(64, 64)).astype(np.uint8)
    damaged = folder / "98.jpg"
    Image.fromarray(noise).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:-500])  # its header is whole
    (folder / "97.png").symlink_to("nowhere.png")
    (folder / "labels.csv").write_text("a,b")
    (folder / "sub").mkdir()
    (folder / "00.png").rename(folder / "sub" / "=1+1.png")
    return folder


def test_broken_files_are_named_and_all_others_judged(model, mixed, tmp_path, capsys):
    table, page = tmp_path / "scores.csv", tmp_path / "report.html"
    maps = tmp_path / "maps"
    command = ["score", str(model), str(mixed), "--csv", str(table)]
    command += ["--report", str(page), "--maps", str(maps)]
    assert main(command) == 3
    said = capsys.readouterr().err
    assert "2 files could not be used" in said
    assert "98.jpg" in said
    assert "97.png (broken link)" in said
    assert "1 file left out" in said
    assert "labels.csv" in said
    rows = read_csv(table)
    names = [f"{i:02d}.png" for i in range(1, 12)]
    assert [row["file"] for row in rows] == [
        *(str(mixed / name) for name in names),
        str(mixed / "sub" / "=1+1.png"),
    ]
    assert sorted(str(p.relative_to(maps)) for p in maps.rglob("*.png")) == [
        *names,
        "sub/=1+1.png",
    ]
    text = page.read_text(encoding="utf-8")
    assert "2 not judged" in text
    for name in ("98.jpg", "97.png", "labels.csv", "sub/=1+1.png"):
        assert name in text
    assert main([*command, "--strict"]) == 1
    assert "error:" in capsys.readouterr().err


def test_images_that_cannot_be_measured(rng, tmp_path, capsys, monkeypatch):
    """NaN in a file, and images smaller than a patch, end neither a score nor a fit."""
    normal, new = tmp_path / "normal", tmp_path / "new"
    for folder, n in ((normal, 12), (new, 5)):
        folder.mkdir()
        for i in range(n):
            image = rng.uniform(size=(12, 12)).astype(np.float32)
            image = image[:3] if i == 1 else image
            if i == 2:
                image[1, 1] = np.nan
            Image.fromarray(image).save(folder / f"{i}.tif")
    model, table = tmp_path / "model", tmp_path / "scores.csv"
    fit = ["fit", str(normal), "--output", str(model), "--patches", "8"]
    fit += ["--set", "detector__max_epochs=1", "--set", "detector__n_filters=4"]
    assert main([*fit, "--strict"]) == 1
    assert "1.tif" in capsys.readouterr().err
    assert not model.exists()
    assert main(fit) == 3
    said = capsys.readouterr().err
    assert "1.tif (is smaller than a patch of 8 x 8 pixels)" in said
    assert "2.tif (has NaN or infinity)" in said
    assert main(["score", str(model), str(new), "--csv", str(table)]) == 3
    said = capsys.readouterr().err
    assert "2 files could not be used: 1.tif" in said
    assert [row["file"][-5:] for row in read_csv(table)] == ["0.tif", "3.tif", "4.tif"]
    anew = ["calibrate", str(model), str(normal), "--output", str(tmp_path / "anew")]
    assert main(anew) == 3  # from the same images, which is told of
    said = capsys.readouterr().err
    assert "2.tif (has NaN or infinity)" in said
    assert load(tmp_path / "anew").calibration_.n_groups == 10
    report = ["--report", str(tmp_path / "report.html")]
    assert main(["score", str(model), str(new), *report, "--quiet"]) == 3
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    reasons = dict(re.findall(r"<td>(\d\.tif)</td><td>([^<]*)</td></tr>", text))
    assert {*reasons} == {"1.tif", "2.tif"}
    for name, reason in reasons.items():
        assert name in reason
        assert " X " not in reason
    assert "NaN" in reasons["2.tif"]
    for path in (new / "0.tif", new / "3.tif", new / "4.tif"):
        path.unlink()
    assert main(["score", str(model), str(new), "--csv", str(table)]) == 1
    assert "None of the 2 images" in capsys.readouterr().err
    assert len(read_csv(table)) == 3


def test_maps_of_an_earlier_run_go(model, folders, tmp_path, capsys):
    maps = tmp_path / "maps"
    command = ["score", str(model), str(folders / "new"), "--maps", str(maps)]
    assert main([*command, "--quiet"]) == 0
    for other in ("kept", "sub"):  # another run, for another folder
        (maps / other).mkdir()
        shutil.copy(maps / "00.png", maps / other / "00.png")
    (tmp_path / "fewer").mkdir()
    shutil.copy(folders / "new" / "03.png", tmp_path / "fewer" / "03.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(maps / "own.png")
    command[2] = str(tmp_path / "fewer")
    assert main([*command, "--quiet"]) == 0
    assert "own.png. They stay" in capsys.readouterr().err
    names = sorted(str(path.relative_to(maps)) for path in maps.rglob("*.png"))
    assert names == ["03.png", "kept/00.png", "own.png", "sub/00.png"]
    # A folder of maps within the images is none of them.
    shutil.copytree(maps, tmp_path / "new" / "maps")
    shutil.copytree(folders / "new", tmp_path / "new", dirs_exist_ok=True)
    (tmp_path / "new" / "maps" / "own.png").unlink()
    assert main(["score", str(model), str(tmp_path / "new"), "--csv", "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 13


def test_maps_stay_in_their_folder(model, folders, tmp_path, capsys):
    """A link leads elsewhere, files and folders stand in the way."""
    images, maps = tmp_path / "images", tmp_path / "maps"
    (images / "sub").mkdir(parents=True)
    shutil.copy(folders / "new" / "00.png", images / "sub" / "a.png")
    shutil.copy(folders / "new" / "01.png", images / "sub.png")
    maps.mkdir()
    command = ["score", str(model), str(images), "--maps", str(maps), "--quiet"]
    (maps / "sub").symlink_to(images / "sub")
    before = (images / "sub" / "a.png").read_bytes()
    for options in ([], ["--overwrite"]):
        assert main([*command, *options]) == 1
        assert "leads elsewhere" in capsys.readouterr().err
    assert (images / "sub" / "a.png").read_bytes() == before
    (maps / "sub").unlink()
    (images / "sub.png").rename(images / "sub.jpg")  # its map is no folder
    (images / "sub").rename(images / "sub.png")
    assert main(command) == 0
    names = sorted(str(path.relative_to(maps)) for path in maps.rglob("*.png"))
    assert names == ["sub.jpg.png", "sub.png", "sub.png/a.png.png"]
    with pytest.raises(SystemExit):
        main([*command[:3], "--maps", ""])
    assert main([*command[:3], "--maps", str(model)]) == 1
    assert "--maps is no folder" in capsys.readouterr().err


def test_outputs_among_the_images(model, folders, tmp_path, capsys):
    """The next run replaces what the last one has written beside the images."""
    folder = tmp_path / "new"
    shutil.copytree(folders / "new", folder)
    command = ["score", str(model), str(folder), "--csv", str(folder / "scores.csv")]
    command += ["--report", str(folder / "a.html"), "--maps", str(folder / "maps")]
    for _ in range(3):
        assert main(command) == 0
        assert "12 images marked" in capsys.readouterr().err
    assert len(read_csv(folder / "scores.csv")) == 12
    assert len([*(folder / "maps").iterdir()]) == 12


def test_an_own_map_as_input_stays(model, folders, tmp_path):
    maps = tmp_path / "maps"
    command = ["score", str(model), str(folders / "new"), "--maps", str(maps)]
    assert main([*command, "--quiet"]) == 0
    one = maps / "00.png"
    command[2] = str(one)
    assert main([*command, "--quiet"]) == 1
    assert one.exists()


def test_a_file_that_goes_meanwhile(model, folders, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "new"
    shutil.copytree(folders / "new", folder)
    monkeypatch.setattr("sklearn_anogan._image_files._images._MOST_KEPT", 0)
    monkeypatch.setattr(_examining, "_BLOCK_VALUES", 5 * 64)
    explain = AnoGANDetector.explain

    def removing(self, X):
        (folder / "09.png").unlink(missing_ok=True)
        return explain(self, X)

    monkeypatch.setattr(AnoGANDetector, "explain", removing)
    table = tmp_path / "scores.csv"
    assert main(["score", str(model), str(folder), "--csv", str(table)]) == 3
    assert "09.png" in capsys.readouterr().err
    assert len(read_csv(table)) == 11


def test_all_broken_files_are_named(model, folders, tmp_path, capsys):
    shutil.copytree(folders / "new", tmp_path / "new")
    for i in range(20, 26):
        (tmp_path / "new" / f"{i}.png").write_bytes(b"")
    assert main(["score", str(model), str(tmp_path / "new"), "--csv", "-"]) == 3
    said = capsys.readouterr().err
    assert all(f"{i}.png" in said for i in range(20, 26))


def test_transparent_images_beside_grey_ones(model, folders, tmp_path, capsys, rng):
    folder = tmp_path / "new"
    shutil.copytree(folders / "new", folder)
    values = rng.randint(1, 255, (8, 8, 4)).astype(np.uint8)
    Image.fromarray(values).save(folder / "bands.png")
    assert main(["score", str(model), str(folder), "--csv", "-"]) == 3
    said = capsys.readouterr().err
    assert "bands.png (4 bands" in said
    assert "matmul" not in said


def test_levels(model, folders, tmp_path, capsys):
    """26 of 60 images are held out: 19 of them, for p-values of .05."""
    command = ["score", str(model), str(folders / "new"), "--quiet"]
    page = tmp_path / "report.html"
    p = load(model).p_values(load_images(folders / "new"))
    for level in (0.3, 0.05):
        options = ["--level", str(level), "--csv", "-", "--report", str(page)]
        assert main([*command, *options]) == 0
        rows = csv.DictReader(capsys.readouterr().out.splitlines())
        marked = np.array([row["label"] == "anomalous" for row in rows])
        np.testing.assert_array_equal(marked, p <= level)
        assert f"p-value is at most {level}" in page.read_text(encoding="utf-8")
    assert main([*command, "--level", "0.04"]) == 1
    said = capsys.readouterr().err
    assert "No p-value is 0.04 or less: the 19 held-out images allow 0.05" in said
    assert "use the command calibrate with at least 24 other normal images" in said
    for level in ("0", "1.5", "x"):
        with pytest.raises(SystemExit):
            main([*command, "--level", level])
        assert "a number above 0" in capsys.readouterr().err


def test_calibrate(model, folders, tmp_path, capsys):
    new = tmp_path / "new.safetensors"
    command = ["calibrate", str(model), str(folders / "normal"), "--output", str(new)]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "rest on 60 images of this folder" in said
    X = load_images(folders / "normal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = load(model).set_params(verbose=0).calibrate(X)
    found = load(new)
    assert found.offset_ == expected.offset_
    assert found.calibration_.n_groups == 60
    assert main([*command[:-1], str(model), "--quiet"]) == 1
    copied = tmp_path / "copy.safetensors"
    shutil.copy(model, copied)
    command = ["calibrate", str(copied), str(folders / "normal"), "--output"]
    assert main([*command, str(copied), "--quiet", "--overwrite"]) == 0
    assert load(copied).offset_ == expected.offset_


def test_groups(folders, tmp_path, monkeypatch, capsys):
    """By subfolder, and by a table that a spreadsheet has written."""
    fitted = []

    def fit(self, X, groups=None):
        fitted.append(groups)
        raise ValueError("enough")

    monkeypatch.setattr(AnoGANDetector, "fit", fit)
    normal = tmp_path / "normal"
    for i in range(6):
        path = normal / f"part {i // 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folders / "normal" / "00.png", path)
    start = ["fit", str(normal), "--output", str(tmp_path / "model"), "--groups"]
    assert main([*start, "folders"]) == 1
    assert fitted.pop() == [str(normal / f"part {i}") for i in (0, 0, 1, 1, 2, 2)]
    table = tmp_path / "groups.csv"
    table.write_text(
        "\ufeffFile;Group;note\npart 0/0.png;a;x\n1.png;a\n\npart 1/2.png; b ;\n"
        f"{normal / 'part 1' / '3.png'};b\n4.png;c\n5.png;d\nmore.png;e\n"
    )
    assert main([*start, str(table)]) == 1
    assert fitted.pop() == ["a", "a", "b", "b", "c", "d"]
    table.write_text("file,group\n0.png,a\n")
    assert main([*start, str(table)]) == 1
    said = capsys.readouterr().err
    assert "has no group for" in said
    assert "1.png" in said
    table.write_text("name,group\n0.png,a\n")
    assert main([*start, str(table)]) == 1
    assert "needs the columns file and group; it has name, group" in (
        capsys.readouterr().err
    )
    assert fitted == []


def test_tables_of_groups(folders, tmp_path, monkeypatch, capsys):
    fitted = []

    def fit(self, X, groups=None):
        fitted.append(groups)
        raise ValueError("enough")

    monkeypatch.setattr(AnoGANDetector, "fit", fit)
    normal, table = tmp_path / "normal", tmp_path / "groups.csv"
    for name in ("a.png", "b.png"):
        normal.mkdir(exist_ok=True)
        shutil.copy(folders / "normal" / "00.png", normal / name)
    start = ["fit", str(normal), "--output", str(tmp_path / "model"), "--groups"]
    for text, told in (
        ("file,group\na.png,1\na.png,2\nb.png,1\n", "a.png has two groups, 1 and 2"),
        ("file,group\na.png,\nb.png,1\n", "a.png has no group in"),
        ("file,file,group\na.png,b.png,1\n", "needs the columns file and group"),
        ("file,group\nä.png,1\n".encode("latin-1"), "is no text in UTF-8"),
        ("", "needs the columns file and group"),
    ):
        table.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert main([*start, str(table)]) == 1
        assert told in capsys.readouterr().err
    assert not fitted
    for text in (
        "sep=;\r\nfile;group\r\na.png;1\r\nb.png;2\r\n",
        "file,group,a;b;c;d\n./a.png,1,\n./b.png,2,\n",
        '"group","file"\n"1","a.png"\n"2","b.png"\n',
    ):
        table.write_text(text)
        assert main([*start, str(table)]) == 1
        assert fitted.pop() == ["1", "2"]


def test_a_level_that_is_advised_works(model, folders, tmp_path, capsys):
    """20 images allow 1 / 21 = .0476..., which is more than .0476."""
    anew, few = tmp_path / "anew", tmp_path / "few"
    few.mkdir()
    for i in range(20):
        shutil.copy(folders / "normal" / f"{i:02d}.png", few)
    assert main(["calibrate", str(model), str(few), "--output", str(anew)]) == 0
    score = ["score", str(anew), str(folders / "new"), "--csv", "-", "--level"]
    assert main([*score, "0.01"]) == 1
    (least,) = re.findall(r"allow ([\d.]+) at the least", capsys.readouterr().err)
    assert main([*score, least]) == 0


def test_parameters(folders, tmp_path, monkeypatch, capsys):
    fitted = []

    def fit(self, X, groups=None):
        fitted.append(self.get_params())
        raise ValueError("enough")

    monkeypatch.setattr(AnoGANDetector, "fit", fit)
    start = ["fit", str(folders / "normal"), "--output", str(tmp_path / "model")]
    options = ["--set", "lr=2e-4", "--set", "anomaly_score=anogan", "--set", "n_jobs=2"]
    assert main([*start, *options]) == 1
    found = fitted.pop()
    assert [found[name] for name in ("lr", "anomaly_score", "n_jobs")] == [
        *(2e-4, "anogan", 2)
    ]
    assert main([*start, "--set", "learning_rate=1"]) == 1
    assert "there is no parameter learning_rate" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*start, "--set", "lr"])


def test_a_saved_detector_is_silent(folders, tmp_path, capsys):
    path = tmp_path / "model"
    command = ["fit", str(folders / "normal"), "--output", str(path), "--size", "8"]
    options = ["--set", "max_epochs=1", "--set", "n_filters=4"]
    for more in ([], ["--patches", "4"]):
        names = options
        if more:
            command = command[:-2]
            names = [each.replace("max", "detector__max") for each in options]
            names = [each.replace("n_f", "detector__n_f") for each in names]
        assert main([*command, *names, *more]) == 0
        assert "epochs/s" in capsys.readouterr().err
        detector = load(path)
        X = load_images(folders / "new")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector.predict(X)
        assert capsys.readouterr().err == ""


def test_large_images(model, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name)
    command = ["score", str(model), str(tmp_path)]
    assert main(command) == 1
    assert "--max-pixels" in capsys.readouterr().err
    assert main([*command, "--max-pixels", "255"]) == 1
    assert main([*command, "--max-pixels", "256"]) == 0


def test_nobody_reads_the_table(model, folders):
    command = f"{sys.executable} -m sklearn_anogan score {model} {folders / 'new'}"
    done = subprocess.run(
        f"{command} --quiet | true", shell=True, capture_output=True, text=True
    )
    assert done.stderr == ""


def test_interruption(folders, tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_reading, "load_images", interrupt)
    command = ["fit", str(folders / "normal"), "--output", str(tmp_path / "model")]
    assert main(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == __version__
