# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""One HTML file that shows what a detector finds in images, and what it has learned."""

from __future__ import annotations

import base64
import io
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib.metadata import version
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from sklearn.utils import Bunch, check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from .._files import unusable, write_whole
from .._types import ImagesLike
from ._anomalies import ScoreHistogramDisplay
from ._drawing import fitted_to, in_colors, marked, shared_limits, to_pictures
from ._learning import TrainingDisplay

if TYPE_CHECKING:
    from .._detector import AnoGANDetector
    from .._patches import PatchDetector

#: Values of images that are looked at together, and images at most.
_BLOCK_VALUES, _BLOCK = 2**23, 64

#: Pixels along the longer side of an image in a report, at least and at most.
_LEAST_SIDE, _MOST_SIDE = 192, 384

#: Rows of the table of all images, generated images, and features named for a row.
_MOST_ROWS, _N_SAMPLES, _N_FEATURES = 1000, 16, 3

#: Shares of the map's threshold at which colours of a map begin and end.
_COLD, _HOT = 0.5, 10.0

_PACKAGES = ("sklearn-anogan", "scikit-learn", "torch", "skorch", "numpy")


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
        :func:`~sklearn_anogan.datasets.load_images`. Read block by block, and each
        image is searched once.

    path : str or path
        Of the file to write. A file that is there already is replaced once the new one
        is complete.

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
        If the detector has no maps.
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
    Contours surround what lies above ``detector.map_threshold()``. Of the pixels of
    normal images, 1 % lies above. Maps are red to yellow; yellow is ten times the
    threshold or more. Large images are shrunk to 384 pixels.

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
    n = n_samples_of(X)
    names = names_of(X) if names is None else [str(name) for name in names]
    if len(names) != n:
        raise ValueError(f"X has {n} images, but there are {len(names)} names.")
    found, cards = gather(detector, examine(detector, X), n_images)
    write_report(detector, found, cards, names, path, title)
    return found


def check_has_maps(detector):
    """Refuse what has no maps, or has not been fitted."""
    if not hasattr(detector, "explain"):
        raise TypeError(
            f"A {type(detector).__name__} has no maps. Use an AnoGANDetector, or a "
            "PatchDetector of any detector."
        )
    check_is_fitted(detector)


def examine(detector, X):
    """Search the images of X, block by block.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
    X : array-like, tensor or list

    Yields
    ------
    found : Bunch
        ``index``: numbers of the images. ``pictures``: arrays (height, width[,
        channels]); of rows, (n_features,). ``scores``, ``p_values`` and ``maps`` as
        `explain` answers.
    """
    one = _part(X, 0, 1)
    # Both warn, or refuse, as they would for all images.
    detector.predict(one)
    detector.p_values(one)
    size = _block_size(one)
    for begin in range(0, n_samples_of(X), size):
        block = _part(X, begin, begin + size)
        found = detector.explain(block)
        yield Bunch(
            index=np.arange(begin, begin + len(found.scores)),
            pictures=_pictures(block, getattr(detector, "image_shape_", None)),
            scores=found.scores,
            p_values=found.p_values,
            maps=[np.asarray(each) for each in found.maps],
        )


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
        The number of an image, score, p-value, and what is shown of the image.
    """
    threshold = None if _has_rows(detector) else detector.map_threshold()
    scores, p_values, cards = [], [], []
    for found in blocks:
        scores.append(found.scores)
        p_values.append(found.p_values)
        if not n_shown:
            continue
        cards += [
            Bunch(number=i, score=score, p=p, **_shown(picture, one, threshold))
            for i, score, p, picture, one in zip(
                found.index,
                found.scores,
                found.p_values,
                found.pictures,
                found.maps,
                strict=True,
            )
        ]
        cards = sorted(cards, key=lambda card: (card.p, card.score))[:n_shown]
    found = Bunch(scores=np.concatenate(scores), p_values=np.concatenate(p_values))
    found["labels"] = np.where(found.scores < detector.offset_, -1, 1)
    return found, cards


def write_report(detector, found, cards, names, path, title):
    """Write what `gather` has collected; whole, or not at all."""
    path = Path(path)
    text = _page(detector, found, names, cards, title)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.unfinished")
    try:
        write_whole(path, [text.encode("utf-8")], unfinished)
    except OSError as error:
        raise unusable("path", path, error) from error


def heat_and_mask(one, threshold):
    """How hot the places of a map are, in [0, 1], and which ones are marked."""
    relative = np.log(np.maximum(one / threshold, _COLD) / _COLD)
    heat = np.minimum(relative / np.log(_HOT / _COLD), 1)
    return heat, one > threshold


def n_samples_of(X):
    """Number of images in X."""
    return X.shape[0] if hasattr(X, "shape") else len(X)


def names_of(X):
    """Names of the images: of files or of a data frame's index, or numbers."""
    if hasattr(X, "paths"):
        return [
            path.name if page is None else f"{path.name}, page {page}"
            for path, page in pages_of(X.paths)
        ]
    if hasattr(X, "iloc"):
        return [str(label) for label in X.index]
    return [str(i) for i in range(n_samples_of(X))]


def pages_of(paths):
    """Path and page of each image; no page where a file has a single one."""
    times = Counter(paths)
    seen: Counter[Path] = Counter()
    found = []
    for path in paths:
        found.append((path, seen[path] if times[path] > 1 else None))
        seen[path] += 1
    return found


def _part(X, begin, end):
    return X.iloc[begin:end] if hasattr(X, "iloc") else X[begin:end]


def _block_size(one):
    first = one.iloc[0] if hasattr(one, "iloc") else one[0]
    return max(1, min(_BLOCK, _BLOCK_VALUES // max(1, int(np.prod(np.shape(first))))))


def _pictures(block, image_shape):
    """Images of a block as arrays; flattened ones in their shape, rows as they are."""
    if hasattr(block, "iloc") or np.ndim(block[0]) == 1:
        rows = np.asarray(block)
        if rows.dtype == object:  # a series of images
            return to_pictures(rows)
        return list(rows.reshape(len(rows), *(image_shape or rows.shape[1:])))
    return to_pictures(block)


def _has_rows(detector):
    """Whether the detector was fitted to rows of numbers."""
    shape = getattr(detector, "image_shape_", None)
    return not hasattr(detector, "n_channels_") if shape is None else len(shape) == 1


def _shown(picture, one, threshold):
    """What a report keeps of an image: pixels, heat of the map, what is marked."""
    if threshold is None:
        return {"deviations": one}
    heat, mask = heat_and_mask(one, threshold)
    size = _LEAST_SIDE, _MOST_SIDE
    return {
        "picture": fitted_to(picture, *size),
        "limits": shared_limits([picture]),
        "heat": fitted_to(heat, *size),
        "mask": fitted_to(mask, *size),
    }


def _page(detector, found, names, cards, title):
    """The text of the whole file."""
    n, n_marked = len(found.scores), int((found.labels == -1).sum())
    what = "rows" if _has_rows(detector) else "images"
    known = detector.calibration_
    usual = f"groups of normal {what}" if known.has_groups else f"normal {what}"
    lead = (
        f"<p class=lead><strong>{n_marked} of {n} {what}</strong> are marked as "
        f"anomalous. The threshold and the p-values rest on {known.n_groups} {usual} "
        "that the detector has not been trained on.</p>"
    )
    shown = (_rows if what == "rows" else _images)(cards, names, found, detector)
    sections = {
        f"The most abnormal {what}": _HOW_TO_READ[what] + shown,
        "Scores": _histogram(found, detector),
        f"All {what}": _table(found, names),
        "What was learned": _learned(detector),
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
        f"</p>\n{lead}</header>\n{body}\n</body></html>\n"
    )


def _images(cards, names, found, detector):
    """Each image beside its map."""
    limits = [card.limits for card in cards]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    parts = []
    for card in cards:
        colors = in_colors(card.picture, low, high)
        name = escape(names[card.number])
        pair = "".join(
            f'<img src="{_picture_data(each)}" alt="{what} of {name}">'
            for what, each in (
                ("Image", colors),
                ("Map", marked(colors, card.heat, card.mask)),
            )
        )
        parts.append(
            f"<figure{_mark(found, card)}><div class=pair>{pair}</div><figcaption>"
            f"<b>{name}</b> {_numbers(card)}</figcaption></figure>"
        )
    return f"<div class=grid>{''.join(parts)}</div>"


def _rows(cards, names, found, detector):
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
        parts.append(
            f"<figure{_mark(found, card)}><figcaption><b>"
            f"{escape(names[card.number])}</b> {_numbers(card)}<br>{deviations}"
            "</figcaption></figure>"
        )
    return f"<div class=grid>{''.join(parts)}</div>"


def _mark(found, card):
    return " class=marked" if found.labels[card.number] == -1 else ""


def _numbers(card):
    return f"p = {card.p:.3g}, score {card.score:.3g}"


def _histogram(found, detector):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    display = ScoreHistogramDisplay(found.scores, threshold=detector.offset_)
    display.plot(figure.subplots())
    return (
        "<p>The lower the score, the more abnormal. What lies left of the threshold, "
        f"{detector.offset_:.4g}, is marked.</p>\n{_figure(figure, 'Histogram')}"
    )


def _table(found, names):
    order = np.lexsort((found.scores, found.p_values))
    lines = [
        f"<tr{' class=marked' if found.labels[i] == -1 else ''}>"
        f"<td>{escape(names[i])}</td><td>{found.p_values[i]:.3g}</td>"
        f"<td>{found.scores[i]:.4g}</td></tr>"
        for i in order[:_MOST_ROWS]
    ]
    left_out = len(order) - len(lines)
    note = f"<p>{left_out} less abnormal ones are left out.</p>" if left_out else ""
    return (
        f"<details><summary>By p-value ({len(order)})</summary>\n<div class=scroll>"
        "<table><tr><th>name</th><th>p-value</th><th>score</th></tr>\n"
        f"{''.join(lines)}</table></div>{note}</details>"
    )


def _learned(detector):
    """Generated images and the course of the training, of the detector inside."""
    inner = getattr(detector, "detector_", detector)
    history = getattr(inner, "history_", None)
    if not hasattr(inner, "sample"):
        return ""
    parts = []
    if not _has_rows(inner):
        images = inner.sample(_N_SAMPLES, random_state=0)
        pictures = _pictures(images, inner.image_shape_)
        limits = shared_limits(pictures)
        drawn = "".join(
            f'<img src="{_picture_data(in_colors(_sized(each), *limits))}" '
            'alt="Generated image">'
            for each in pictures
        )
        parts.append(
            "<p>Images that the generator draws. They should look like the normal "
            f"images, and be as diverse.</p><div class=samples>{drawn}</div>"
        )
    if history:
        diversity = history[-1]["diversity"]
        parts.append(
            f"<p>Diversity of what the generator draws: <b>{diversity:.2f}</b>. 1 is "
            "as diverse as the training images, 0 is always the same.</p>"
        )
        parts.append(_training(history))
    return "\n".join(parts)


def _training(history):
    import matplotlib.pyplot as plt

    display = TrainingDisplay(history).plot()
    plt.close(display.figure_)
    return _figure(display.figure_, "Course of the training")


def _sized(picture):
    return fitted_to(picture, _LEAST_SIDE // 2, _LEAST_SIDE)


def _parameters(detector):
    inner = {}
    for name, value in detector.get_params().items():
        inner[name] = value if np.isscalar(value) or value is None else repr(value)
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in inner.items()
    )
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        "<details><summary>Parameters</summary><div class=scroll><table>"
        f"{lines}</table></div></details>"
        f"<p>Python {platform.python_version()}, {versions}</p>"
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
        "<p>The most abnormal come first; marked ones have a red frame. On the right, "
        "colours tell how far a place deviates from what is usual there: dark where it "
        "begins to, yellow at ten times the threshold. A line surrounds what lies "
        "above the threshold, as 1 % of the pixels of normal images do. The p-value is "
        "the share of normal images that look at least as abnormal.</p>\n"
    ),
    "rows": (
        "<p>The most abnormal come first; marked ones have a red frame. The features "
        "that deviate most are named, with their deviation. The p-value is the share "
        "of normal rows that look at least as abnormal.</p>\n"
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
.pair img { width: 100%; }
figcaption { font-size: .9em; margin-top: 4px; }
img { display: block; image-rendering: pixelated; }
.plot { max-width: 100%; height: auto; image-rendering: auto; }
.samples { display: grid; gap: 4px;
  grid-template-columns: repeat(auto-fill, minmax(min(20%, 96px), 1fr)); }
.samples img { width: 100%; }
.scroll { max-height: 480px; overflow: auto; }
table { border-collapse: collapse; font-size: .9em; }
th, td { text-align: left; padding: 2px 16px 2px 0; border-bottom: 1px solid #eee; }
tr.marked td:first-child { color: #c00; font-weight: bold; }
summary { cursor: pointer; }
"""
