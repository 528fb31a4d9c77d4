import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import sklearn_anogan.__main__ as command_line
from sklearn_anogan import AnoGANDetector, PatchDetector, __version__
from sklearn_anogan.datasets import load_images
from sklearn_anogan.inspection import _examining
from sklearn_anogan.persistence import load, save

main = command_line.main


def run(*arguments):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sklearn_anogan", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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


def test_from_a_folder_to_a_report(folders, tmp_path):
    model = tmp_path / "model.safetensors"
    done = run("fit", folders / "normal", "--output", model, "--size", 8, "--seed", 3)
    assert (done.returncode, done.stdout) == (0, "")
    assert "epochs/s" in done.stderr
    assert "images that were held out" in done.stderr
    assert "Traceback" not in done.stderr
    X = load_images(folders / "normal", 8)
    as_fitted = AnoGANDetector(random_state=3).fit(X)
    new = load_images(folders / "new", 8)
    expected = as_fitted.score_samples(new)
    np.testing.assert_array_equal(load(model).score_samples(new), expected)

    done = run(
        *("score", model, folders / "new", "--csv", tmp_path / "scores.csv"),
        *("--maps", tmp_path / "maps", "--report", tmp_path / "report.html"),
    )
    assert (done.returncode, done.stdout) == (0, "")
    rows = read_csv(tmp_path / "scores.csv")
    assert [row["file"] for row in rows] == [str(path) for path in new.paths]
    assert {row["page"] for row in rows} == {""}
    np.testing.assert_array_equal([float(row["score"]) for row in rows], expected)
    p = [float(row["p_value"]) for row in rows]
    np.testing.assert_array_equal(p, as_fitted.p_values(new))
    labels = [int(row["label"]) for row in rows]
    np.testing.assert_array_equal(labels, as_fitted.predict(new))
    n_marked = labels.count(-1)
    assert f"{n_marked} of 12 images marked" in done.stderr
    assert "12/12" in done.stderr  # progress
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names == [f"{i:02d}.png" for i in range(12)]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{n_marked} of 12 images" in text
    assert "Anomalies in new" in text


def test_errors_have_no_traceback(tmp_path):
    done = run("fit", tmp_path / "none", "--output", tmp_path / "model.safetensors")
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no folder")
    assert len(done.stderr.splitlines()) == 1
    done = run("fit", tmp_path)
    assert done.returncode == 2
    assert "--output" in done.stderr
    assert "Traceback" not in done.stderr


def test_scores_go_to_the_screen(model, folders, capsys):
    assert main(["score", str(model), str(folders / "new"), "--quiet"]) == 0
    said = capsys.readouterr()
    rows = list(csv.reader(said.out.splitlines()))
    assert rows[0] == ["file", "page", "score", "p_value", "label"]
    assert len(rows) == 13
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
    np.testing.assert_array_equal([float(row["score"]) for row in rows], scores)


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

    def fit(self, X):
        fitted.append((type(self).__name__, np.asarray(X[0]).shape, self.get_params()))
        raise ValueError("enough")

    monkeypatch.setattr(AnoGANDetector, "fit", fit)
    monkeypatch.setattr(PatchDetector, "fit", fit)
    start = ["fit", str(folders / "normal"), "--output", str(tmp_path / "model")]
    assert main([*start, "--color", "rgb", "--size", "6x12", "--device", "cpu"]) == 1
    name, shape, parameters = fitted.pop()
    assert (name, shape) == ("AnoGANDetector", (6, 12, 3))
    assert (parameters["device"], parameters["verbose"]) == ("cpu", True)
    assert main([*start, "--quiet"]) == 1
    name, shape, parameters = fitted.pop()
    assert (name, shape) == ("AnoGANDetector", (128, 128))
    assert (parameters["random_state"], parameters["verbose"]) == (0, False)
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
    np.testing.assert_array_equal(
        [float(row["score"]) for row in rows],
        detector.score_samples([*pages[::2], pages[1]]),
    )
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

    monkeypatch.setattr(command_line, "load_images", fail)
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
        assert said.endswith(f"No such file or directory: {no_folder}\n")
    a_folder = str(folders)
    for command in (
        ["fit", str(folders / "normal"), "--output", a_folder],
        ["score", str(model), str(folders / "new"), "--csv", a_folder],
        ["score", str(model), str(folders / "new"), "--report", a_folder],
    ):
        assert main(command) == 1
        assert "is a folder" in capsys.readouterr().err


def test_nothing_of_the_user_is_replaced(model, folders, capsys):
    def contents():
        return {path: path.read_bytes() for path in folders.rglob("*.*")}

    before, new = contents(), folders / "new"
    for options in (
        ["--csv", model],
        ["--csv", new / "00.png"],
        ["--report", new / ".." / "new" / "01.png"],
        ["--csv", folders / "x.csv", "--report", folders / "x.csv"],
        ["--maps", new],
    ):
        assert main(["score", *map(str, [model, new, *options]), "--quiet"]) == 1
        assert "replace" in capsys.readouterr().err
    assert contents() == before


def test_what_has_been_scored_is_kept(model, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_examining, "_BLOCK_VALUES", 5 * 64)
    for path in load_images(folders / "new").paths:
        shutil.copy(path, tmp_path)
    noise = np.random.RandomState(0).randint(256, size=(64, 64)).astype(np.uint8)
    damaged = tmp_path / "99.jpg"
    Image.fromarray(noise).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:-500])  # its header is whole
    table = tmp_path / "scores.csv"
    assert main(["score", str(model), str(tmp_path), "--csv", str(table)]) == 1
    assert "99.jpg cannot be read as an image" in capsys.readouterr().err
    assert len(read_csv(table)) == 10


def test_nobody_reads_the_table(model, folders):
    command = f"{sys.executable} -m sklearn_anogan score {model} {folders / 'new'}"
    done = subprocess.run(
        f"{command} --quiet | true", shell=True, capture_output=True, text=True
    )
    assert done.stderr == ""


def test_interruption(folders, tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "load_images", interrupt)
    command = ["fit", str(folders / "normal"), "--output", str(tmp_path / "model")]
    assert main(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == __version__
