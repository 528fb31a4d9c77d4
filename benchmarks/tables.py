"""Write the tables from the files in results/, where they are marked.

A table stands between the lines ``<!-- table: NAME -->`` and ``<!-- end -->`` of
README.md here and in the folder above. Tables of quality are made of the rows that
``quality.py --csv`` writes; other ones are what the benchmarks print, in the files of
`OUTPUTS`.

    python benchmarks/tables.py
    python benchmarks/tables.py --check
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent
PAGES = (FOLDER / "README.md", FOLDER.parent / "README.md")

END = "<!-- end -->"
BLOCK = re.compile(rf"(<!-- table: ([^>]+) -->).*?{END}", re.DOTALL)

OURS = "AnoGANDetector"
TITLES = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "digits": "digits 8x8, three seeds",
    "magnetic_tile_64": "magnetic tiles, whole images",
    "adbench": "ten tables of numbers",
}

#: Files of results whose last table is shown as it is.
OUTPUTS = (
    "false_alarms",
    "shift",
    *(f"localization_{name}" for name in ("bottle", "kolektor", "bsdata", "tiles")),
    "localization_tiles-random",
    "localization_memory",
    "training_time",
    "overhead",
    *(f"latency_{name}" for name in ("mnist", "fashion_mnist", "tiles")),
    "scaling",
    "scaling_sources",
    "scaling_workers",
)

#: Files of results of `thresholds.py`, and a title there.
THRESHOLDS = (
    "thresholds_digits_20",
    "thresholds_digits",
    "thresholds_mnist",
    "thresholds_fashion_mnist",
)
HELD_OUT = "images, held out"

#: A lead below this is not counted as one.
LEAD = 0.003


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="fail where a table is not up to date"
    )
    is_check = parser.parse_args().check
    rows = read_rows()
    outdated = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made = BLOCK.sub(
            lambda block: f"{block[1]}\n\n{TABLES[block[2]](rows)}\n\n{END}",
            text,
        )
        if made != text:
            outdated.append(str(page))
            if not is_check:
                page.write_text(made, encoding="utf-8")
    if is_check and outdated:
        sys.exit(
            f"Run benchmarks/tables.py: {' and '.join(outdated)} are not up to date."
        )


def read_rows():
    """All rows: dataset, what is normal, how it was changed, detector and figures."""
    files = sorted((FOLDER / "results").glob("*.csv"))
    rows = pd.concat([pd.read_csv(file) for file in files])
    names = rows.pop("task").str.extract(
        r"^(?P<dataset>\S+) ?(?P<normal>[^,+]*)(?:, |\+)?(?P<change>.*)$"
    )
    return rows.assign(**names)


def by_task(dataset):
    """A table of AUROC, a row for each class."""

    def table(rows):
        rows = rows[(rows.dataset == dataset) & (rows.change == "")]
        auroc = means(rows, "auroc")
        lines = {task: cells(values) for task, values in auroc.iterrows()}
        if len(auroc) > 1:
            if dataset != "adbench":
                lines["mean of 0-4"] = cells(auroc[:5].mean())
                lines["mean of 5-9"] = cells(auroc[5:].mean())
            lines["mean"] = cells(auroc.mean())
        else:
            lines = {"AUROC of images": cells(auroc.mean())}
        lines["average precision, mean"] = cells(means(rows, "ap").mean())
        fit, score = (means(rows, name).mean() for name in ("fit", "score"))
        lines["fit, score [s]"] = [
            f"{fit[name]:.1f}, {score[name]:.1f}" for name in auroc
        ]
        first = "table" if dataset == "adbench" else "normal class"
        return markdown([first, *auroc], lines)

    return table


def summary(rows):
    """The mean AUROC of each data set, the best one in bold."""
    rows = rows[rows.change == ""]
    table = pd.DataFrame(
        {
            title: means(rows[rows.dataset == dataset], "auroc").mean()
            for dataset, title in TITLES.items()
        },
        # Some detectors are compared on tables of numbers alone.
        index=list(means(rows[rows.dataset == "mnist"], "auroc")),
    )
    lines = {}
    for title, values in table.items():
        best = values.round(3) == values.max().round(3)
        lines[title] = [
            f"**{cell}**" if is_best else cell
            for cell, is_best in zip(cells(values), best, strict=True)
        ]
    return markdown(["mean over all classes", *table.index], lines)


def lost(rows):
    """Tasks on which another detector is better than ours."""
    lines = {}
    for dataset, title in TITLES.items():
        of_dataset = rows[(rows.dataset == dataset) & (rows.change == "")]
        for task, values in means(of_dataset, "auroc").iterrows():
            others = values.drop(OURS)
            if others.max() >= values[OURS] + LEAD:
                name = f"{title.split(',')[0]}, {task}".removesuffix(", ")
                name = task if dataset == "adbench" else name
                lines[name] = [
                    f"{values[OURS]:.3f}",
                    f"{others.max():.3f}",
                    others.idxmax(),
                ]
    return markdown(["", OURS, "another one", "which is"], lines)


def alarms(rows):
    """Unseen normal samples that `predict` takes for anomalies."""
    rows = rows[(rows.change == "") & (rows.detector == OURS)]
    lines = {}
    for dataset, title in TITLES.items():
        shares = means(rows[rows.dataset == dataset], "false_alarms")[OURS]
        spread = f"{shares.min():.1%} to {shares.max():.1%}" if len(shares) > 1 else "-"
        lines[title] = [f"{shares.mean():.1%}", spread]
    return markdown(["", "mean", "least to most"], lines)


def changed(pattern, head, whole, name):
    """A table of both classes that were tried with changed training images."""

    def table(rows):
        tried = rows[rows.change.str.fullmatch(pattern)]
        tasks = tried[["dataset", "normal"]].drop_duplicates().to_numpy()
        detectors = list(means(tried, "auroc"))
        unchanged = rows[(rows.change == "") & rows.detector.isin(detectors)]
        tried = pd.concat([tried, unchanged])
        columns, found = [], {}
        for dataset, normal in tasks:
            of_task = tried[(tried.dataset == dataset) & (tried.normal == normal)]
            for detector in detectors:
                column = f"{TITLES[dataset]} {normal}: {detector}"
                columns.append(column)
                of_detector = of_task[of_task.detector == detector]
                for change, value in zip(
                    of_detector.change, of_detector.auroc, strict=True
                ):
                    number = float(re.sub(r"\D", "", change)) if change else whole
                    found.setdefault(number, {})[column] = value
        lines = {
            name(number): [
                f"{found[number][c]:.3f}" if c in found[number] else "-"
                for c in columns
            ]
            for number in sorted(found)
        }
        return markdown([head, *columns], lines)

    return table


def means(rows, figure):
    """Means over the seeds: tasks x detectors, ours first, in the order of the file."""
    table = rows.pivot_table(figure, "normal", "detector", sort=False)
    names = [name for name in rows.detector.unique() if name != OURS]
    return table[[name for name in [OURS, *names] if name in table]]


def printed(*names, without=()):
    """The last table of each of the files, joined, without some columns."""

    def table(rows):
        heads, lines = [], []
        for name in names:
            head, *found = last_table(name)
            heads.append(head)
            lines += found
        if any(head != heads[0] for head in heads):
            raise ValueError(f"Columns of {names} differ.")
        kept = [i for i, title in enumerate(heads[0]) if title not in without]
        head, *lines = ([line[i] for i in kept] for line in [heads[0], *lines])
        return as_table([head, *lines])

    return table


def last_table(name):
    """Cells of the last table in a file of results, the head first."""
    text = (FOLDER / "results" / f"{name}.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in tables[-1].splitlines()
    ]
    return [lines[0], *lines[2:]]


def speed(rows):
    """The usual search and ours, from the tables of `latency.py`."""
    head = [
        "",
        "usual search, an image",
        "AnoGANDetector, an image",
        "times faster",
        "AUROC, usual",
        "AUROC, AnoGANDetector",
    ]
    lines = {}
    for title, name in {
        "MNIST, 8 is normal": "latency_mnist",
        "Fashion-MNIST, 0 is normal": "latency_fashion_mnist",
        "magnetic tiles, 64x64": "latency_tiles",
    }.items():
        found = {line[0]: line for line in last_table(name)}
        usual, ours = found["one image at a time"], found["AnoGANDetector, default"]
        lines[title] = [
            f"{float(usual[2]):.0f} ms",
            f"{float(ours[2]):.1f} ms",
            f"{float(ours[3]):.0f}",
            f"{float(usual[5]):.3f}",
            f"{float(ours[5]):.3f}",
        ]
    return markdown(head, lines)


def cells(values):
    return ["-" if pd.isna(value) else f"{value:.3f}" for value in values]


#: Name of a file of results of `localization.py` -> title.
PARTS = {
    "localization_bottle": "bottles",
    "localization_kolektor": "commutators, cracks",
    "localization_bsdata": "ball screws, pits",
    "localization_tiles": "magnetic tiles",
}


def parts(rows):
    """Sets of small defects side by side, the best figures in bold."""
    found = {}
    for name, title in PARTS.items():
        head, *lines = last_table(name)
        aupro, images = head.index("AUPRO"), head.index("AUROC of images")
        values = np.array([[float(line[i]) for i in (aupro, images)] for line in lines])
        best = values == values.max(axis=0)
        found[title] = {
            line[0]: " / ".join(
                f"**{value:.3f}**" if is_best else f"{value:.3f}"
                for value, is_best in zip(*pair, strict=True)
            )
            for line, *pair in zip(lines, values, best, strict=True)
        }
    names = [line[0] for line in lines]
    lines = {name: [found[title][name] for title in found] for name in names}
    return markdown(["AUPRO / AUROC of images", *found], lines)


def found(rows):
    """What `predict` finds, and its false alarms, detectors side by side."""
    lines, names = {}, []
    for name in THRESHOLDS:
        head, *of_file = last_table(name)
        images, detector, predict = (head.index(x) for x in (HELD_OUT, "", "predict"))
        for line in of_file:
            names += [line[detector]] * (line[detector] not in names)
            dataset, n = line[images].rpartition(",")[0].rsplit(" ", 1)
            title = f"{dataset}, {n} images"
            lines.setdefault(title, []).append(line[predict].partition(" (")[0])
    return markdown(["`predict`", *names], lines)


def markdown(head, lines):
    """A table of a dictionary: name -> cells."""
    return as_table([head, *([name, *line] for name, line in lines.items())])


def as_table(rows):
    head, *lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *lines])


TABLES = {dataset: by_task(dataset) for dataset in TITLES} | {
    "summary": summary,
    "lost": lost,
    "alarms": alarms,
    "sizes": changed(
        r"\d+ images",
        "training images",
        float("inf"),
        lambda n: "all" if n == float("inf") else f"{n:.0f}",
    ),
    "contamination": changed(r"\d+%", "anomalies", 0, lambda n: f"{n:.0f}%"),
    "speed": speed,
    "parts": parts,
    "found": found,
    "seconds": printed(
        "training_time",
        without=["share of training", "ms a step", "of matrix products"],
    ),
    "thresholds": printed(*THRESHOLDS, without=["seconds"]),
    "training": printed(
        "training_mnist",
        "training_fashion_mnist",
        "training_mnist_200",
        "training_fashion_mnist_200",
        "training_digits",
    ),
}
TABLES |= {name: printed(name) for name in OUTPUTS}


if __name__ == "__main__":
    main()
