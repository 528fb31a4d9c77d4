# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""One HTML file that shows what a detector finds in images, and what it has learned."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Sequence
from datetime import datetime
from html import escape
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import sklearn
import skorch
import torch
from sklearn.utils import Bunch, check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import _num_samples

from .. import __version__
from .._files import check_writable, unusable, write_whole
from .._types import ImagesLike
from ._anomalies import ScoreHistogramDisplay
from ._drawing import (
    fitted_to,
    in_colors,
    marked,
    own_limits,
    to_array,
    to_pictures,
)
from ._examining import (
    Heat,
    check_has_maps,
    examine,
    has_rows,
    names_of,
)
from ._learning import TrainingDisplay

if TYPE_CHECKING:
    from .._detector import AnoGANDetector
    from .._patches import PatchDetector

#: Pixels along the longer side of an image in a report, at least and at most.
_LEAST_SIDE, _MOST_SIDE = 192, 512

#: Rows of the table of all images, generated images, and features named for a row.
_MOST_ROWS, _N_SAMPLES, _N_FEATURES = 1000, 16, 3


def report(
    detector: AnoGANDetector | PatchDetector,
    X: ImagesLike,
    path: str | PathLike[str],
    *,
    n_images: int = 60,
    names: Sequence[str] | None = None,
    title: str = "Anomalies",
) -> Bunch:
    """Write one HTML file with what a detector finds in images, and has learned.

    The file shows the images by p-value, the most abnormal first, with their maps;
    the histogram of scores with the threshold; images that the generator draws, and
    how the training went; parameters and versions. It needs no other file and no
    network. Of rows of numbers, it names the features that deviate most.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
        Fitted.

    X : array-like, tensor or list of n images, or of n rows
        In any layout that `detector` takes, for example of
        :func:`~sklearn_anogan.datasets.load_images`. Read block by block.

    path : str or path
        File to write. A file that is there already is replaced once the new one is
        complete.

    n_images : int, default=60
        Number of images to show, at least 1.

    names : list of n str, default=None
        Names of the images. None takes the names of the files that `load_images` has
        read, the index of a data frame, or numbers from 0 on.

    title : str, default="Anomalies"
        Title of the report.

    Returns
    -------
    found : Bunch
        For each image of X, as ndarrays of shape (n,): ``scores`` (the lower, the more
        abnormal), ``p_values``, and ``labels``, 1 for normal and -1 for anomalous, as
        `predict` answers.

    Raises
    ------
    TypeError
        If the detector has no maps. Of a pipeline or a search, pass the detector.
    ValueError
        If X cannot be scored, if there are not n `names`, or if a parameter that scores
        or p-values depend on has been set since `fit`.
    OSError
        If the file cannot be written.
    ImportError
        If matplotlib is not installed.

    See Also
    --------
    AnomalyMapDisplay : Images and maps as a figure.

    Notes
    -----
    Contours surround what lies above ``detector.map_threshold()``, as at most 1 % of
    the pixels of held-out images do. Colours tell how far a map lies above the median
    of these pixels: they begin at half of the threshold's distance and end at ten times
    as much. Images of more than 512 pixels along a side are shrunk.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.inspection import report
    >>> images = load_digits().images
    >>> damaged = images[60:63].copy()
    >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
    >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
    >>> detector = detector.fit(images[:60])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = report(detector, damaged, Path(folder, "report.html"))
    ...     text = Path(folder, "report.html").read_text(encoding="utf-8")
    >>> int(found.labels[0]), "<h1>Anomalies</h1>" in text
    (-1, True)
    """
    check_matplotlib_support("report")
    check_has_maps(detector)
    check_scalar(n_images, "n_images", Integral, min_val=1)
    check_writable("path", path)
    n = _num_samples(X)
    names = names_of(X) if names is None else [str(name) for name in names]
    if len(names) != n:
        raise ValueError(f"X has {n} images, but there are {len(names)} names.")
    found, cards = gather(detector, examine(detector, X), n_images)
    write_report(detector, found, cards, names, path, title)
    return found


def gather(detector, blocks, n_shown):
    """Collect what `examine` yields, and what a report shows of some images.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
    blocks : iterable of Bunch
    n_shown : int
        Number of images to show: the most abnormal ones.

    Returns
    -------
    found : Bunch
        ``scores``, ``p_values`` and ``labels``, ndarrays of shape (n,).
    cards : list of `n_shown` Bunch
        The number of an image, score, p-value, label, and what is shown of the image.
    """
    heat = None if has_rows(detector) else Heat(detector)
    numbers, cards = [], []
    for block in blocks:
        numbers.append([block.scores, block.p_values, block.labels])
        if n_shown:
            of_each = (
                *(block.index, block.scores, block.p_values, block.labels),
                *(block.pictures, block.maps),
            )
            cards += [
                Bunch(
                    number=i,
                    score=score,
                    p=p,
                    is_marked=label == -1,
                    **_shown(picture, one, heat),
                )
                for i, score, p, label, picture, one in zip(*of_each, strict=True)
            ]
        cards = sorted(cards, key=lambda card: (card.p, card.score))[:n_shown]
    names = "scores", "p_values", "labels"
    columns = map(np.concatenate, zip(*numbers, strict=True))
    return Bunch(**dict(zip(names, columns, strict=True))), cards


def write_report(detector, found, cards, names, path, title):
    """Write what `gather` has collected; whole, or not at all."""
    path = Path(path)
    # Names of files may hold what is no text.
    text = _page(detector, found, names, cards, str(title))
    content = text.encode("utf-8", errors="backslashreplace")
    try:
        write_whole(path, [content], path.with_name(f"{uuid4().hex}.unfinished"))
    except OSError as error:
        raise unusable("path", path, error) from error


def _shown(picture, one, heat):
    """What a report keeps of an image: pixels, heat of the map, what is marked."""
    if heat is None:
        return {"deviations": one}
    colors, mask = heat.of(one)
    size = _LEAST_SIDE, _MOST_SIDE
    small = fitted_to(picture, *size)
    return {
        "picture": small if small.dtype == np.uint8 else small.astype(np.float32),
        "limits": own_limits(picture),
        "heat": fitted_to(colors, *size, merge=np.max),
        "mask": fitted_to(mask, *size, merge=np.any),
    }


def _page(detector, found, names, cards, title):
    """The text of the whole file."""
    what = "rows" if has_rows(detector) else "images"
    # One odd image does not make all others black.
    limits = np.median([card.get("limits", (0, 1)) for card in cards], axis=0)
    if what == "rows":
        shown = _rows(cards, names, detector)
    else:
        shown = _images(cards, names, limits)
    sections = {
        f"The most abnormal {what}": _HOW_TO_READ[what] + shown,
        "Scores": _histogram(found, detector, what),
        f"All {what}": _table(found, names),
        "What was learned": _learned(detector, limits, what),
        "Parameters and versions": _parameters(detector),
    }
    body = "\n".join(
        f"<section><h2>{heading}</h2>\n{content}</section>"
        for heading, content in sections.items()
        if content
    )
    title, date = escape(title), datetime.now().strftime("%Y-%m-%d %H:%M")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<header><h1>{title}</h1>\n<p class=date>{type(detector).__name__}, {date}"
        f"</p>\n{_lead(detector, found, what)}</header>\n{body}\n</body></html>\n"
    )


def _lead(detector, found, what):
    """How many are marked, and what the threshold rests on."""
    n, n_marked = len(found.scores), int((found.labels == -1).sum())
    known = detector.calibration_
    of_groups = "groups of " if known.has_groups else ""
    subject = "The p-values"
    if detector.contamination == "auto":
        subject = "The threshold and the p-values"
    trained = "has not been" if known.is_held_out else "has been"
    return (
        f"<p class=lead><strong>{n_marked} of {n} {what}</strong> marked as anomalous. "
        f"{subject} rest on {known.n_groups} {of_groups}normal {what} that the "
        f"detector {trained} trained on.</p>"
    )


def _images(cards, names, limits):
    """Each image beside its map."""
    parts = []
    for card in cards:
        colors = in_colors(card.picture, *limits)
        name = escape(names[card.number])
        pair = "".join(
            f'<img src="{_picture_data(each)}" alt="{what} of {name}">'
            for what, each in (
                ("Image", colors),
                ("Map", marked(colors, card.heat, card.mask)),
            )
        )
        parts.append(_card(card, name, f"<div class=pair>{pair}</div>"))
    return f"<div class=grid>{''.join(parts)}</div>"


def _rows(cards, names, detector):
    """Each row with the features that deviate most."""
    features = getattr(detector, "feature_names_in_", None)
    parts = []
    for card in cards:
        largest = np.argsort(card.deviations)[::-1][:_N_FEATURES]
        deviations = ", ".join(
            f"{escape(str(i if features is None else features[i]))} "
            f"({card.deviations[i]:.3g})"
            for i in largest
        )
        parts.append(_card(card, escape(names[card.number]), below=deviations))
    return f"<div class=grid>{''.join(parts)}</div>"


def _card(card, name, above="", below=""):
    mark, text = (" class=marked", "marked, ") if card.is_marked else ("", "")
    return (
        f"<figure{mark}>{above}<figcaption><b>{name}</b> {text}p = {card.p:.3g}, score "
        f"{card.score:.3g}{below and '<br>'}{below}</figcaption></figure>"
    )


def _histogram(found, detector, what):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    display = ScoreHistogramDisplay(found.scores, threshold=detector.offset_)
    display.plot(figure.subplots()).ax_.set_ylabel(what)
    return (
        "<p>The lower the score, the more abnormal. What lies left of the threshold, "
        f"{detector.offset_:.4g}, is marked.</p>\n"
        f"{_figure(figure, 'Histogram of scores')}"
    )


def _table(found, names):
    order = np.lexsort((found.scores, found.p_values))
    lines = [
        f"<tr{' class=marked' if found.labels[i] == -1 else ''}>"
        f"<td>{escape(names[i])}</td><td>{found.p_values[i]:.3g}</td>"
        f"<td>{found.scores[i]:.4g}</td>"
        f"<td>{'marked' if found.labels[i] == -1 else ''}</td></tr>"
        for i in order[:_MOST_ROWS]
    ]
    left_out = len(order) - len(lines)
    note = f"<p>{left_out} less abnormal ones are left out.</p>" if left_out else ""
    return (
        f"<details><summary>By p-value ({len(order)})</summary>\n<div class=scroll>"
        "<table><tr><th>name</th><th>p-value</th><th>score</th><th></th></tr>\n"
        f"{''.join(lines)}</table></div>{note}</details>"
    )


def _learned(detector, limits, what):
    """Generated images and the course of the training."""
    if not hasattr(detector, "sample"):
        return ""  # a PatchDetector, whose maps come from no generator
    parts = []
    if what == "images":
        images = detector.sample(_N_SAMPLES, random_state=0)
        if images.ndim == 2:  # flattened
            images = to_array(images).reshape(len(images), *detector.image_shape_)
        drawn = "".join(
            f'<img src="{_picture_data(in_colors(_sized(each), *limits))}" '
            f'alt="Generated image {number}">'
            for number, each in enumerate(to_pictures(images), 1)
        )
        parts.append(
            "<p>Images that the generator draws. They should look like the normal "
            f"images, and be as diverse.</p><div class=samples>{drawn}</div>"
        )
    diversity = detector.history_[-1]["diversity"]
    parts.append(
        f"<p>Diversity of what the generator draws: <b>{diversity:.2f}</b>. 1 is as "
        f"diverse as the {what} of the training, 0 is always the same.</p>"
    )
    parts.append(_training(detector.history_))
    return "\n".join(parts)


def _training(history):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3), layout="constrained")
    TrainingDisplay(history).plot(figure.subplots(1, 3))
    return f"<div class=wide>{_figure(figure, 'Course of the training')}</div>"


def _sized(picture):
    return fitted_to(picture, _LEAST_SIDE // 2, _LEAST_SIDE)


def _parameters(detector):
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in detector.get_params().items()
    )
    versions = {
        "Python": platform.python_version(),
        "sklearn-anogan": __version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
        "skorch": skorch.__version__,
        "numpy": np.__version__,
    }
    return (
        "<details><summary>Parameters</summary><div class=scroll><table>"
        f"{lines}</table></div></details>"
        f"<p>{', '.join(f'{name} {each}' for name, each in versions.items())}</p>"
    )


def _picture_data(colors):
    """An image of uint8 (height, width, 3) as text; PNG or JPEG, the shorter one."""
    from PIL import Image

    image = Image.fromarray(colors)
    files = {}
    for kind, options in (("png", {}), ("jpeg", {"quality": 90, "subsampling": 0})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        files[kind] = file.getvalue()
    kind = min(files, key=lambda kind: len(files[kind]))
    return f"data:image/{kind};base64,{base64.b64encode(files[kind]).decode()}"


def _figure(figure, name):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    text = base64.b64encode(file.getvalue()).decode()
    return f'<img class=plot src="data:image/png;base64,{text}" alt="{name}">'


_HOW_TO_READ = {
    "images": (
        "<p>The most abnormal come first. The p-value is the share of normal images "
        "that look at least as abnormal. A red frame marks images whose score is below "
        "the threshold, see the histogram. On the right, colours show where an image "
        "deviates: the brighter, the more. A line surrounds what lies above the "
        "threshold of the maps, as at most 1 % of the pixels of normal images do.</p>\n"
    ),
    "rows": (
        "<p>The most abnormal come first. The p-value is the share of normal rows that "
        "look at least as abnormal. A red frame marks rows whose score is below the "
        "threshold, see the histogram. Named are the features that differ most from "
        "the nearest generated row, relative to what is usual, and by how much.</p>\n"
    ),
}

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 1200px; margin: 0 auto; padding: 16px; overflow-wrap: anywhere; }
h1 { margin: 0; line-height: 1.2; }
h2 { margin: 32px 0 8px; border-bottom: 1px solid #ccc; }
p { max-width: 75ch; }
.date { color: #666; margin: 4px 0; }
.lead { font-size: 1.15em; }
.grid { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
figure { margin: 0; padding: 8px; border: 2px solid #ddd; border-radius: 6px; }
.marked { border-color: #c00; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; }
.pair img { width: 100%; max-height: 70vh; object-fit: contain; }
figcaption { font-size: .9em; margin-top: 4px; }
img { display: block; image-rendering: pixelated; }
.wide { overflow-x: auto; }
.plot { max-width: 100%; height: auto; image-rendering: auto; }
.wide .plot { max-width: none; width: 1100px; }
.samples { display: grid; gap: 4px;
  grid-template-columns: repeat(auto-fill, minmax(min(20%, 96px), 1fr)); }
.samples img { width: 100%; }
.scroll { max-height: 480px; overflow: auto; }
table { border-collapse: collapse; font-size: .9em; }
th, td { text-align: left; padding: 2px 16px 2px 0; border-bottom: 1px solid #eee; }
tr.marked td:first-child { color: #c00; font-weight: bold; }
summary { cursor: pointer; }
"""
