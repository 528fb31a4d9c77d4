"""The installed package, from a folder of images to a report."""

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from PIL import Image

import sklearn_anogan
from sklearn_anogan.datasets import make_retina
from sklearn_anogan.persistence import load

here = Path(__file__).resolve().parent
package = Path(sklearn_anogan.__file__).resolve().parent
assert package.parent.name == "site-packages", package
assert (package / "py.typed").is_file()
found = distribution("sklearn-anogan")
assert found.version == sklearn_anogan.__version__

retina = make_retina(60, (32, 48), anomalous=0.2, random_state=0)
for image, target, i in zip(retina.images, retina.target, range(60), strict=True):
    folder = here / ("normal" if target == 1 and i < 40 else "new")
    folder.mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / f"{i}.png")

command = [sys.executable, "-m", "sklearn_anogan"]
model, report = here / "model.safetensors", here / "report.html"
subprocess.run(
    [*command, "fit", here / "normal", "--output", model, "--size", "16x24", "--quiet"],
    check=True,
)
subprocess.run(
    [*command, "score", model, here / "new", "--report", report, "--quiet"], check=True
)
assert "of 20 images" in report.read_text(encoding="utf-8")
assert load(model).image_shape_ == (16, 24)
print(f"sklearn-anogan {found.version} works.")
