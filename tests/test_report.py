import base64
import copy
import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.svm import OneClassSVM
from sklearn.utils import Bunch

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan.datasets import load_images, make_retina
from sklearn_anogan.inspection import _examining, _report, report
from sklearn_anogan.inspection._drawing import (
    draw_scale,
    fitted_to,
    in_colors,
    marked,
)
from sklearn_anogan.inspection._examining import names_of


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of headings and captions."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.stack, self.text = [], [], {}
        self.feed(path.read_text(encoding="utf-8"))
        assert self.stack == []  # every tag is closed

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "!DOCTYPE"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack:
            self.text.setdefault(self.stack[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def pictures(self):
        """Images (height, width, 3) of the cards, with their alternative texts."""
        return {each["alt"]: decoded(each["src"]) for each in self.all("img")}


def decoded(text):
    kind, _, data = text.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.fixture(scope="module")
def ruled(zeros):
    """A detector of zeros that draws maps by its ruler."""
    detector = AnoGANDetector(n_filters=8, max_epochs=20, random_state=0)
    return detector.fit(zeros[:100])


def damage(images):
    """A bright spot in every other image."""
    images = images.copy()
    images[::2, 3:6, 3:6] = 50
    return images


def test_a_report_says_what_the_detector_says(ruled, zeros, tmp_path, searched):
    X, path = damage(zeros[100:120]), tmp_path / "report.html"
    searched.clear()
    found = report(ruled, X, path, n_images=7, names=[f"<{i}>" for i in range(20)])
    assert sum(searched) == len(X) + 2  # and one each of `predict` and `p_values`
    np.testing.assert_array_equal(found.scores, ruled.score_samples(X))
    np.testing.assert_array_equal(found.p_values, ruled.p_values(X))
    np.testing.assert_array_equal(found.labels, ruled.predict(X))

    page = Parsed(path)
    order = np.lexsort((found.scores, found.p_values))
    bold = [text for text in page.text["b"] if text.startswith("<")]
    assert bold == [f"<{i}>" for i in order[:7]]
    classes = [figure.get("class") for figure in page.all("figure")]
    is_marked = found.labels[order[:7]] == -1
    assert classes == ["marked" if mark else None for mark in is_marked]
    assert page.text["strong"] == [f"{(found.labels == -1).sum()} of 20 images"]
    assert page.text["td"][:3] == [
        f"<{order[0]}>",
        f"{found.p_values[order[0]]:.3g}",
        f"{found.scores[order[0]]:.4g}",
    ]
    assert f"{ruled.history_[-1]['diversity']:.2f}" in page.text["b"]
    everything = " ".join(text for texts in page.text.values() for text in texts)
    assert f"{ruled.offset_:.4g}" in everything
    assert "max_epochs" in everything
    assert "that the detector has not been trained on" in everything
    assert "scikit-learn" in everything


def test_a_report_needs_nothing_else(ruled, zeros, tmp_path):
    before = plt.get_fignums()
    report(ruled, zeros[:5], tmp_path / "report.html")
    page = Parsed(tmp_path / "report.html")
    assert not page.all("link")
    assert not page.all("script")
    assert all(each["src"].startswith("data:image/") for each in page.all("img"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import", text)
    assert "width=device-width" in text
    assert plt.get_fignums() == before
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_the_place_is_marked(tmp_path):
    scans = make_retina(61, (32, 48), random_state=0).images
    detector = AnoGANDetector(n_filters=4, max_epochs=2, random_state=0)
    detector.fit(scans[:60])
    X = scans[60:].copy()
    X[0, 20:24, 30:34] = 255
    report(detector, X, tmp_path / "report.html")
    pictures = Parsed(tmp_path / "report.html").pictures()
    image, drawn = pictures["Image of 0"].astype(int), pictures["Map of 0"].astype(int)
    assert image.shape == drawn.shape == (128, 192, 3)
    is_line = (drawn[..., 0] < 60) & (drawn[..., 1:].min(axis=2) > 200)  # cyan
    mask = detector.anomaly_map(X)[0] > detector.map_threshold()
    assert mask[20:24, 30:34].mean() > 0.5
    assert mask.mean() < 0.5
    around = binary_dilation(mask.repeat(4, axis=0).repeat(4, axis=1), np.ones((3, 3)))
    around &= ~mask.repeat(4, axis=0).repeat(4, axis=1)
    assert is_line[around].mean() > 0.9
    assert is_line[~around].mean() < 0.02


def test_large_images_are_shrunk_with_what_is_marked(tmp_path, monkeypatch):
    scans = make_retina(61, (32, 48), random_state=0).images
    detector = AnoGANDetector(n_filters=4, max_epochs=2, random_state=0)
    detector.fit(scans[:60])
    X = scans[60:].copy()
    X[0, 20:24, 30:34] = 255
    monkeypatch.setattr(_report, "_LEAST_SIDE", 12)
    monkeypatch.setattr(_report, "_MOST_SIDE", 24)
    report(detector, X, tmp_path / "report.html")
    drawn = Parsed(tmp_path / "report.html").pictures()["Map of 0"].astype(int)
    assert drawn.shape == (16, 24, 3)
    is_line = (drawn[..., 0] < 60) & (drawn[..., 1:].min(axis=2) > 200)  # cyan
    assert is_line[7:15, 12:20].any()


@pytest.mark.parametrize("layout", ["rgb", "tensor", "flat", "frame", "many", "series"])
def test_every_layout(zeros, tmp_path, layout):
    images = np.stack([zeros, zeros / 2, 16 - zeros], axis=-1)
    X, settings = images, {}
    if layout == "tensor":
        X = torch.from_numpy(images).movedim(-1, 1)
    elif layout in ("flat", "frame"):
        settings = {"image_shape": (8, 8, 3)}
        X = images.reshape(len(images), -1)
        X = (
            pd.DataFrame(X).set_index(np.arange(len(X)) + 0.5)
            if layout == "frame"
            else X
        )
    elif layout == "many":
        X = np.concatenate([images, images[..., :2]], axis=-1)
    elif layout == "series":
        X = pd.Series([*images], index=[f"image {i}" for i in range(len(images))])
    detector = AnoGANDetector(n_filters=4, max_epochs=2, random_state=0, **settings)
    unseen = slice(100, 110)
    detector.fit(X.iloc[:100] if hasattr(X, "iloc") else X[:100])
    found = report(
        detector,
        X.iloc[unseen] if hasattr(X, "iloc") else X[unseen],
        tmp_path / "report.html",
    )
    assert found.scores.shape == (10,)
    page = Parsed(tmp_path / "report.html")
    names = {"frame": "100.5", "series": "image 100"}
    drawn = page.pictures()[f"Image of {names.get(layout, '0')}"]
    if layout != "many":
        expected = images[100] * 255 / images[unseen].max()
        shown = drawn[12::24, 12::24].astype(float)
        np.testing.assert_allclose(shown, expected, atol=12)  # JPEG, perhaps
    else:  # the mean of five channels
        assert (drawn[..., 0] == drawn[..., 1]).all()


def test_rows_are_named_by_their_features(rng, quick, tmp_path):
    X = pd.DataFrame(rng.normal(size=(80, 3)), columns=["width", "height", "a<b"])
    detector = AnoGANDetector(**quick).fit(X[:60])
    X.iloc[60, 2] = 30
    found = report(detector, X[60:], tmp_path / "report.html")
    page = Parsed(tmp_path / "report.html")
    assert found.p_values[0] == found.p_values.min()
    assert page.text["b"][0] == "60"
    captions = page.text["figcaption"]
    assert captions[1].startswith("a<b (")  # deviates most
    assert page.text["strong"][0].endswith("of 20 rows")
    assert not [each for each in page.all("img") if "class" not in each]


def test_patches_of_images_of_several_sizes(rng, tmp_path):
    X = [rng.uniform(size=(20 + i % 3, 30)) for i in range(12)]
    X[3][5:10, 5:10] += 5
    inner = AnoGANDetector(n_filters=4, max_epochs=2, random_state=0)
    for detector in (
        PatchDetector(inner, 16, random_state=0),
        PatchDetector(IsolationForest(random_state=0), 8, random_state=0),
    ):
        detector.fit([*X[:3], *X[4:]])
        with pytest.warns(UserWarning, match="Number of images that are held out"):
            found = report(detector, X[3:6], tmp_path / "report.html")
        np.testing.assert_array_equal(found.scores, detector.score_samples(X[3:6]))
        page = Parsed(tmp_path / "report.html")
        assert page.text["b"][0] == "0"
        assert not [each for each in page.all("img") if "Generated" in each["alt"]]


def test_maps_of_any_sign(rng, tmp_path):
    """One-class SVMs have positive scores, and so negative maps and thresholds."""
    X = rng.uniform(size=(60, 24, 24))
    detector = PatchDetector(
        OneClassSVM(gamma=1e-3), 8, n_patches=300, random_state=0
    ).fit(X[:59])
    assert detector.map_threshold() < 0
    X[59, 8:16, 8:16] += 20
    report(detector, X[59:], tmp_path / "report.html")
    pictures = Parsed(tmp_path / "report.html").pictures()
    change = abs(pictures["Map of 0"].astype(int) - pictures["Image of 0"]).mean(axis=2)
    assert change[80:112, 80:112].mean() > 2 * change[:40, :40].mean()


def test_what_is_odd_does_not_hide_the_rest(rng, zeros, tmp_path):
    """A hot pixel does not make other images black; neither do few grey levels."""
    detector = AnoGANDetector(n_filters=4, max_epochs=2, random_state=0)
    detector.fit(zeros[:60])
    hot = np.concatenate([zeros[60:65], np.full((1, 8, 8), 1e6)])
    report(detector, hot, tmp_path / "report.html")
    assert Parsed(tmp_path / "report.html").pictures()["Image of 0"].max() > 200
    few = zeros.astype(np.uint8)
    with pytest.warns(UserWarning, match="this range is learned"):
        detector.fit(few[:60])
    report(detector, few[60:65], tmp_path / "report.html")
    assert Parsed(tmp_path / "report.html").pictures()["Image of 0"].max() > 200


def test_few_images_are_no_held_out_ones(zeros, tmp_path):
    detector = AnoGANDetector(n_filters=4, max_epochs=2, random_state=0).fit(zeros[:5])
    with pytest.warns(UserWarning, match="fewer than 8 images"):
        report(detector, zeros[:5], tmp_path / "report.html")
    text = " ".join(Parsed(tmp_path / "report.html").text["p"])
    assert "rest on 5 normal images that the detector has been trained on" in text


def test_names_that_are_no_text(ruled, zeros, tmp_path):
    report(ruled, zeros[:2], tmp_path / "report.html", names=["a\udcff", "b"])
    bold = Parsed(tmp_path / "report.html").text["b"]
    assert {*bold[:2]} == {r"a\udcff", "b"}


def test_tensors_of_half_the_bits(zeros, tmp_path):
    X = torch.from_numpy(zeros).bfloat16()
    for layout in (X, X.flatten(1)):
        detector = AnoGANDetector(
            (8, 8), n_filters=4, max_epochs=2, verbose=0, random_state=0
        ).fit(layout[:60])
        found = report(detector, layout[60:64], tmp_path / "report.html")
        np.testing.assert_array_equal(
            found.scores, detector.score_samples(layout[60:64])
        )


def test_no_bar_for_each_block(ruled, zeros, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_examining, "_BLOCK_VALUES", 64)
    loud = copy.copy(ruled).set_params(verbose=1)
    report(loud, zeros[:3], tmp_path / "report.html")
    assert capsys.readouterr().err == ""
    assert loud.verbose == 1


def test_files_are_named(ruled, zeros, tmp_path):
    images = [Image.fromarray((15 * each).astype(np.uint8)) for each in zeros[:4]]
    images[0].save(tmp_path / "a.png")
    images[1].save(tmp_path / "b.tif", save_all=True, append_images=images[2:])
    X = load_images(tmp_path)
    detector = AnoGANDetector(n_filters=4, max_epochs=2, random_state=0)
    detector.fit((15 * zeros).astype(np.uint8))
    report(detector, X, tmp_path / "report.html")
    bold = Parsed(tmp_path / "report.html").text["b"]
    names = {"a.png", "b.tif, page 0", "b.tif, page 1", "b.tif, page 2"}
    assert {*bold[:4]} == names


def test_blocks_change_nothing(ruled, zeros, tmp_path, monkeypatch):
    X = damage(zeros[100:120])
    whole = report(ruled, X, tmp_path / "whole.html", n_images=9)
    monkeypatch.setattr(_examining, "_BLOCK_VALUES", 3 * 64)
    pieces = report(ruled, X, tmp_path / "pieces.html", n_images=9)
    for name in whole:
        np.testing.assert_array_equal(whole[name], pieces[name])
    texts = [Parsed(tmp_path / f"{name}.html").tags for name in ("whole", "pieces")]
    assert texts[0] == texts[1]


def test_the_table_has_an_end(ruled, zeros, tmp_path, monkeypatch):
    monkeypatch.setattr(_report, "_MOST_ROWS", 6)
    report(ruled, zeros[:20], tmp_path / "report.html")
    page = Parsed(tmp_path / "report.html")
    assert any("14 less abnormal ones" in text for text in page.text["p"])
    report(ruled, zeros[:20], tmp_path / "report.html", n_images=2)
    text = re.sub(r"\s+", " ", " ".join(Parsed(tmp_path / "report.html").text["p"]))
    assert "the table below has more" in text


def test_what_cannot_be_reported(ruled, zeros, tmp_path):
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match="X has 5 images, but there are 4 names"):
        report(ruled, zeros[:5], path, names="abcd")
    with pytest.raises(ValueError, match="n_images == 0, must be >= 1"):
        report(ruled, zeros[:5], path, n_images=0)
    with pytest.raises(TypeError, match="got <class 'generator'>"):
        report(ruled, (image for image in zeros[:5]), path)
    with pytest.raises(TypeError, match="IsolationForest has no maps"):
        report(IsolationForest(), zeros[:5], path)
    with pytest.raises(NotFittedError):
        report(AnoGANDetector(), zeros[:5], path)
    other = AnoGANDetector(**ruled.get_params())
    vars(other).update(vars(ruled), search_steps=3)
    with pytest.raises(ValueError, match="P-values depend on search_steps"):
        report(other, zeros[:5], path)
    assert not path.exists()
    with pytest.raises(FileNotFoundError, match="path cannot be used"):
        report(ruled, None, tmp_path / "none" / "report.html")  # before X is read
    with pytest.raises(IsADirectoryError, match="path is a folder"):
        report(ruled, None, tmp_path)
    forest = PatchDetector(IsolationForest(random_state=0)).fit(zeros[:60, 0])
    with pytest.raises(TypeError, match="PatchDetector has no maps"):
        report(forest, zeros[:5, 0], path)
    X = zeros[:70].copy()
    X[66, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"images 64 to 69 of X: .*sample 2"):
        report(ruled, X, path)
    path.write_text("before")
    with pytest.raises(ValueError, match="NaN"):
        report(ruled, np.full((2, 8, 8), np.nan), path)
    assert path.read_text() == "before"


def test_what_is_not_shown_is_said(ruled, zeros, tmp_path):
    """The marked images without a card, and the smallest p-value that there is."""
    X, path = damage(zeros[100:120]), tmp_path / "report.html"
    found = report(ruled, X, path, n_images=3)
    n_marked, smallest = (found.labels == -1).sum(), found.p_values.min()
    assert n_marked > 3
    assert smallest == 1 / 40
    page = Parsed(path)
    text = re.sub(r"\s+", " ", " ".join(page.text["p"]))
    assert f"Of the {n_marked} marked ones, 3 are shown" in text
    assert "so that 0.025 is the smallest p-value possible" in text
    captions = re.sub(r"\s+", " ", " ".join(page.text["figcaption"]))
    assert captions.count("p = 0.025 (the smallest possible), score") == 3
    report(ruled, X, path, n_images=n_marked)
    text = re.sub(r"\s+", " ", " ".join(Parsed(path).text["p"]))
    assert f"Of the 20 images, {n_marked} are shown, all marked ones among" in text
    report(ruled, X, path)
    text = " ".join(Parsed(path).text["p"])
    assert "are shown" not in text
    captions = Parsed(path).text["figcaption"]
    assert sum("(the smallest possible)" in each for each in captions) < len(X)


def test_the_colours_have_a_scale(ruled, zeros, tmp_path):
    report(ruled, zeros[:3], tmp_path / "report.html")
    scale = Parsed(tmp_path / "report.html").pictures()["Scale of the colours"]
    is_threshold = (scale[..., 0] < 60) & (scale[..., 1:].min(axis=2) > 200)
    assert is_threshold.any(axis=0).sum() in range(1, 9)  # an upright line


def test_the_scale_says_what_colours_mean(ruled, zeros):
    heat = _examining.Heat(ruled)
    one = ruled.anomaly_map(damage(zeros[:1]))[0]
    colors, _ = heat.of(one)
    inside = (colors > 0) & (colors < 1)
    np.testing.assert_allclose(heat.value_of(colors[inside]), one[inside], rtol=1e-4)
    axes = plt.figure().subplots()
    draw_scale(axes, heat)
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks[0] == f"≤ {heat.value_of(0):.3g}"
    assert ticks[-1] == f"≥ {heat.value_of(1):.3g}"
    (at,) = {*axes.lines[0].get_xdata()}
    np.testing.assert_allclose(heat.value_of(at / 399), heat.threshold, rtol=0.02)
    plt.close()


def test_marks_by_p_values(ruled, zeros, tmp_path):
    X, path = damage(zeros[100:120]), tmp_path / "report.html"
    found = report(ruled, X, path, level=0.3)
    np.testing.assert_array_equal(found.labels == -1, found.p_values <= 0.3)
    everything = " ".join(text for each in Parsed(path).text.values() for text in each)
    assert "those with a p-value of at most 0.3" in everything
    assert "What lies left of the threshold" not in everything
    with pytest.raises(
        ValueError, match=r"No p-value is 0\.01 or less: the 39 held-out"
    ):
        report(ruled, X, path, level=0.01)
    for level in (0, 1.5):
        with pytest.raises(ValueError, match=f"level == {level}"):
            report(ruled, X, path, level=level)


def test_files_left_out_are_listed(ruled, zeros, tmp_path):
    folder, path = tmp_path / "images", tmp_path / "report.html"
    folder.mkdir()
    for name in ("a.png", "sub.png"):
        Image.fromarray(zeros[0].astype(np.uint8)).save(folder / name)
    (folder / "<b>.csv").write_text("a,b")
    X = load_images(folder)
    report(ruled, X, path)
    page = Parsed(path)
    assert "Files left out (1)" in page.text["h2"]
    assert any(text.endswith("<b>.csv") for text in page.text["td"])
    with pytest.raises(ValueError, match=r"path is a file of X: .*a\.png"):
        report(ruled, X, folder / "a.png")
    (tmp_path / "link").symlink_to(folder / "a.png")
    with pytest.raises(ValueError, match="path is a file of X"):
        report(ruled, X, tmp_path / "link")
    report(ruled, zeros[:2], path)
    assert "Files left out" not in path.read_text(encoding="utf-8")


def test_images_that_fail_are_left_out(ruled, zeros, monkeypatch):
    monkeypatch.setattr(_examining, "_BLOCK_VALUES", 4 * 64)
    X = zeros[:10].copy()
    X[[0, 5], 3, 3] = np.nan
    failed = {}
    blocks = [*_examining.examine(ruled, X, failed=failed)]
    index = np.concatenate([block.index for block in blocks])
    assert [*index] == [1, 2, 3, 4, 6, 7, 8, 9]
    scores = np.concatenate([block.scores for block in blocks])
    np.testing.assert_array_equal(scores, ruled.score_samples(zeros[index]))
    assert {*failed} == {0, 5}
    assert "NaN" in failed[5]
    X[:] = np.nan
    with pytest.raises(ValueError, match="None of the 10 images can be judged"):
        [*_examining.examine(ruled, X, failed={})]


def test_names_of_several_folders(tmp_path):
    paths = [tmp_path / name for name in ("a/1.png", "a/b/1.png", "a/b/1.png")]
    X = Bunch(paths=paths)
    assert names_of(X) == ["1.png", "b/1.png, page 0", "b/1.png, page 1"]
    assert names_of(Bunch(paths=paths[1:2])) == ["1.png"]


def test_pictures_are_fitted():
    small = np.arange(6.0).reshape(2, 3)
    large = fitted_to(small, 12, 20)
    assert large.shape == (8, 12)
    np.testing.assert_array_equal(large[::4, ::4], small)
    wide = np.zeros((5, 50), bool)
    wide[4, 49] = True
    merged = fitted_to(wide, 12, 20, merge=np.any)
    assert merged.shape == (2, 17)
    assert merged.sum() == 1
    assert merged[1, 16]
    assert fitted_to(wide, 12, 20)[1, 16] == pytest.approx(4 / 9)
    colors = np.full((50, 30, 3), 7, np.uint8)
    assert (fitted_to(colors, 12, 20) == 7).all()
    assert fitted_to(colors, 12, 50) is colors


def test_colors():
    grey = in_colors(np.array([[0, 5], [10, 20]]), 0, 10)
    np.testing.assert_array_equal(grey[..., 0], [[0, 128], [255, 255]])
    assert (grey == grey[..., :1]).all()
    with_alpha = np.zeros((1, 1, 4))
    with_alpha[..., 1] = 1
    np.testing.assert_array_equal(in_colors(with_alpha, 0, 1), [[[0, 255, 0]]])


def test_heat_and_contour():
    colors = np.full((5, 5, 3), 100, np.uint8)
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    heat = np.zeros((5, 5))
    heat[2, 2] = 1
    drawn = marked(colors, heat, mask)
    assert (drawn[0] == 100).all()  # no heat, no change
    assert (drawn[1:4, 1:4] == (0, 255, 255)).all(axis=2).sum() == 8
    assert drawn[2, 2, 0] > 150  # yellow
    drawn = marked(colors, heat, np.ones((5, 5), bool))
    assert (drawn == (0, 255, 255)).all(axis=2).sum() == 16  # along the border
    assert (colors == 100).all()
