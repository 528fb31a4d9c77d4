"""Whether the archives hold what they should, and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Files of the tree that an sdist does not have.
LEFT_OUT = (".ci/", ".gitignore", ".pre-commit", "docs/images/parts.png")


def main(sdist, wheel):
    command = ["git", "-C", str(ROOT), "ls-files"]
    tracked = subprocess.run(command, capture_output=True, text=True, check=True)
    tracked = {*tracked.stdout.splitlines()}
    package = {name for name in tracked if name.startswith("sklearn_anogan/")}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    compare("wheel", names, package)
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    made = {"PKG-INFO"} | {name for name in names if ".egg-info/" in name}
    compare(
        "sdist",
        names - made,
        {name for name in tracked if not name.startswith(LEFT_OUT)},
    )


def compare(what, found, wanted):
    if missing := sorted(wanted - found):
        sys.exit(f"The {what} lacks {', '.join(missing)}.")
    if unwanted := sorted(found - wanted):
        sys.exit(f"The {what} should not have {', '.join(unwanted)}.")


if __name__ == "__main__":
    main(*sorted(sys.argv[1:], key=lambda path: path.endswith(".whl")))
