import io
import json
import os
import pickle
import pickletools
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from skorch.callbacks import LRScheduler

from sklearn_anogan import AnoGANDetector, PatchDetector, persistence
from sklearn_anogan._networks import Discriminator, Generator
from sklearn_anogan.persistence import load, save


class OwnGenerator(Generator):
    pass


class OwnDiscriminator(Discriminator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.made_in_init = torch.ones(1)  # not among the weights

    def forward(self, x):
        return super().forward(x * self.made_in_init)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "detector.safetensors"


KINDS = {
    "paper": {},
    "calibrated": {"self_supervision": 1.0, "anomaly_score": "calibrated"},
    "encoder": {"inversion": "encoder+search"},
    "normal prior": {"latent_prior": "normal"},
    "flat": {"image_shape": (8, 8)},
    "rows": {"self_supervision": 1.0},
    "frame": {},
    "special": {},
    "shrunk": {"network_side": 5, "anomaly_score": "calibrated"},
    "colour": {"contamination": 0.2, "device": torch.device("cpu")},
    "tensor": {"n_restarts": np.int64(1), "device": ["cpu", "cpu"]},
}


def fit_kind(kind, quick, zeros):
    X = zeros[:60]
    if kind in ("flat", "rows", "frame", "special"):
        X = X.reshape(60, 64)[:, 8:16] if kind != "flat" else X.reshape(60, 64)
    if kind == "special":
        X = X.copy()
        X[::5, 2:4] = -9999
    if kind == "frame":
        X = pd.DataFrame(X, columns=list("abcdefgh"))
    if kind == "colour":
        X = (np.stack([X, X, X / 2], -1) * 15).astype(np.uint8)
    if kind == "tensor":
        X = torch.tensor(X[:, None])
    return AnoGANDetector(**quick | KINDS[kind]).fit(X), X


@pytest.mark.filterwarnings("ignore:X has values far from all others")
@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_after_a_round_trip(quick, zeros, path, kind):
    detector, X = fit_kind(kind, quick, zeros)
    detector.set_params(n_filters=5, latent_dim=3)  # of no consequence until fit
    save(detector, path)
    loaded = load(path)
    assert vars(loaded).keys() == vars(detector).keys()
    detector.set_params(n_restarts=int(detector.n_restarts))  # numpy's is saved so
    assert str(loaded.get_params()) == str(detector.get_params())
    assert type(loaded.image_shape) is type(detector.image_shape)
    for method in (
        "score_samples",
        "predict",
        "p_values",
        "anomaly_map",
        "residual_map",
        "reconstruct",
        "invert",
    ):
        np.testing.assert_array_equal(
            getattr(loaded, method)(X), getattr(detector, method)(X)
        )
    ruler, same = detector.model_.ruler, loaded.model_.ruler
    are_rows = kind in ("rows", "frame", "special")
    assert (ruler is None) == (same is None) == are_rows
    special = loaded.model_.value_range.special
    assert torch.equal(special, detector.model_.value_range.special)
    assert len(special) == (2 if kind == "special" else 0)
    if ruler is not None:
        tensors = same.state_dict()
        assert tensors.keys() == ruler.state_dict().keys()
        for name, tensor in ruler.state_dict().items():
            assert torch.equal(tensors[name], tensor), name
    assert loaded.model_.network_shape == detector.model_.network_shape
    np.testing.assert_array_equal(loaded.sample(3, 0), detector.sample(3, 0))
    assert type(loaded.sample()) is type(detector.sample())
    assert loaded.history_ == [
        {k: v for k, v in row.items() if v is not None} for row in detector.history_
    ]
    assert [*os.listdir(path.parent)] == [path.name]
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))
    assert not loaded.generator_.training
    assert not any(p.requires_grad for p in loaded.generator_.parameters())


def test_loaded_detector_is_fitted_on(quick, zeros, path):
    detector, X = fit_kind("encoder", quick, zeros)
    save(detector, path)
    loaded = load(path).set_params(warm_start=True).fit(X)
    detector.set_params(warm_start=True).fit(X)
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    assert len(loaded.history_) == 2 * 3


SCRIPT = """
import sys, numpy as np
from sklearn_anogan.persistence import load
np.save(sys.argv[3], load(sys.argv[1]).score_samples(np.load(sys.argv[2])))
"""


@pytest.mark.parametrize("how", ["save", "joblib"])
def test_same_bits_in_another_process(fitted, zeros, tmp_path, path, how):
    script = SCRIPT
    if how == "joblib":
        script = script.replace("sklearn_anogan.persistence", "joblib")
        joblib.dump(fitted, path)
    else:
        save(fitted, path)
    np.save(tmp_path / "X.npy", zeros)
    files = [str(path), str(tmp_path / "X.npy"), str(tmp_path / "scores.npy")]
    subprocess.run([sys.executable, "-c", script, *files], check=True)
    scores = np.load(tmp_path / "scores.npy")
    np.testing.assert_array_equal(scores, fitted.score_samples(zeros))


@pytest.mark.parametrize("inner", [None, AnoGANDetector()])
def test_patches(quick, zeros, path, inner):
    if inner is not None:
        inner.set_params(**quick | {"random_state": None})
    else:
        quick = {"n_patches": 60}
    detector = PatchDetector(inner, 4, n_patches=60, random_state=0)
    if inner is None:
        detector = PatchDetector(AnoGANDetector(max_epochs=1), 4, n_patches=60)
    detector.fit(zeros[:50])
    if inner is None:
        detector.set_params(detector=None)
    save(detector, path)
    loaded = load(path, device="cpu")
    for method in ("score_samples", "anomaly_map", "predict", "p_values"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(zeros), getattr(detector, method)(zeros)
        )
    assert loaded.detector_.device == "cpu"
    assert vars(loaded).keys() == vars(detector).keys()
    if inner is not None:
        assert loaded.detector.get_params() == inner.get_params() | {"device": "cpu"}


def test_own_networks(quick, zeros, path):
    detector = AnoGANDetector(
        **quick, generator=OwnGenerator, discriminator=OwnDiscriminator
    ).fit(zeros)
    save(detector, path)
    for given in ({}, {"generator": OwnGenerator}):
        with pytest.raises(
            ValueError, match=r"test_persistence\.Own.*: pass the class"
        ):
            load(path, **given)
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(path, generator=torch.nn.Linear, discriminator=OwnDiscriminator)
    loaded = load(path, generator=OwnGenerator, discriminator=OwnDiscriminator)
    assert type(loaded.discriminator_) is OwnDiscriminator
    assert loaded.generator is OwnGenerator
    np.testing.assert_array_equal(
        loaded.score_samples(zeros), detector.score_samples(zeros)
    )


def test_patches_of_the_default_size(quick, rng, path):
    """The size that `fit` has found is read again, and checked."""
    X = rng.uniform(size=(5, 12, 9))
    detector = PatchDetector(AnoGANDetector(**quick), n_patches=60, random_state=0)
    save(detector.fit(X), path)
    loaded = load(path)
    assert loaded.patch_shape is None
    assert loaded.patch_shape_ == detector.patch_shape_ == (12, 9)
    larger = rng.uniform(size=(2, 20, 20))
    np.testing.assert_array_equal(
        loaded.anomaly_map(larger), detector.anomaly_map(larger)
    )
    for damaged in (None, [12], [0, 9], [12.0, 9], 12):
        save(detector, path)
        signed(path, put(damaged, "detector", "learned", "patch_shape_"))
        with pytest.raises(ValueError, match="cannot be loaded as a detector"):
            load(path)


@pytest.mark.parametrize("size", [None, (3, 9)])
def test_a_ruler_that_cannot_be(quick, rng, path, size):
    """Rows and small images have no places."""
    X = rng.normal(size=(50, 6) if size is None else (50, *size))
    save(AnoGANDetector(**quick).fit(X), path)
    assert load(path).model_.ruler is None
    signed(path, put(True, *MODEL, "has_ruler"))
    with pytest.raises(ValueError, match="cannot be loaded as a detector"):
        load(path)


def test_a_ruler_of_many_bands(quick, rng, path):
    """An earlier version wrote no whitening of bands; such files can still be read."""
    X = rng.uniform(size=(30, 6, 6, 14))
    detector = AnoGANDetector(**quick).fit(X)
    save(detector, path)
    np.testing.assert_array_equal(load(path).anomaly_map(X), detector.anomaly_map(X))
    damaged = path.with_name("damaged")
    damaged.write_bytes(path.read_bytes())
    name = "ruler.band_whitening"
    signed(damaged, change_arrays=lambda arrays: arrays.update({name: torch.eye(13)}))
    with pytest.raises(ValueError, match="cannot be loaded as a detector"):
        load(damaged)
    signed(path, change_arrays=lambda arrays: arrays.pop(name))
    earlier = load(path)
    assert np.isfinite(earlier.anomaly_map(X)).all()
    assert np.isfinite(earlier.score_samples(X)).all()


def test_own_networks_in_patches(quick, zeros, path):
    inner = AnoGANDetector(**quick, generator=OwnGenerator)
    detector = PatchDetector(inner, 4, n_patches=60, random_state=0).fit(zeros[:50])
    save(detector, path)
    with pytest.raises(ValueError, match="pass the class as generator"):
        load(path)
    loaded = load(path, generator=OwnGenerator)
    assert loaded.detector.generator is OwnGenerator
    np.testing.assert_array_equal(
        loaded.score_samples(zeros), detector.score_samples(zeros)
    )


def test_what_is_no_plain_value_is_left_out(quick, zeros, tmp_path, path):
    quick["random_state"] = np.random.RandomState(0)
    detector = AnoGANDetector(
        **quick,
        callbacks=[LRScheduler("StepLR", step_size=1)],
        memory=joblib.Memory(tmp_path / "memory", verbose=0),
        checkpoint_dir=tmp_path / "checkpoints",
    ).fit(zeros)
    save(detector, path)
    loaded = load(path)
    assert loaded.callbacks is loaded.memory is loaded.random_state is None
    assert loaded.checkpoint_dir == tmp_path / "checkpoints"
    np.testing.assert_array_equal(
        loaded.score_samples(zeros), detector.score_samples(zeros)
    )


def test_detector_of_a_gpu_is_loaded_elsewhere(fitted, zeros, path):
    detector = clone(fitted)
    vars(detector).update(vars(fitted) | {"device": "cuda:7"})
    save(detector, path)
    with pytest.raises(ValueError, match="device='cuda:7' cannot be used here"):
        load(path).score_samples(zeros)
    np.testing.assert_array_equal(
        load(path, device="cpu").score_samples(zeros), fitted.score_samples(zeros)
    )


def test_what_cannot_be_saved(fitted, zeros, path):
    with pytest.raises(NotFittedError):
        save(AnoGANDetector(), path)
    patches = PatchDetector(IsolationForest(), 4, n_patches=9).fit(zeros)
    for other in (IsolationForest().fit([[0], [1]]), patches):
        with pytest.raises(TypeError, match="IsolationForest cannot be saved"):
            save(other, path)
    with pytest.raises(FileNotFoundError, match=r"path cannot be used.*missing/file"):
        save(fitted, path.parent / "missing" / "file")
    with pytest.raises(IsADirectoryError, match="path cannot be used"):
        save(fitted, path.parent)
    with pytest.raises(FileNotFoundError):
        load(path)
    assert not os.listdir(path.parent)


def test_others_may_read_what_they_may_read_elsewhere(fitted, path):
    (path.parent / "other").write_bytes(b"")
    save(fitted, path)
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failed_save_changes_nothing(fitted, path, monkeypatch, failing):
    path.write_bytes(b"before")

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space left"):
        save(fitted, path)
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == [path.name]


def test_formats_of_other_versions(fitted, path, monkeypatch):
    """The error says what to do."""
    written = persistence._FORMAT
    save(fitted, path)
    monkeypatch.setattr(persistence, "_FORMAT", written - 1)
    with pytest.raises(ValueError, match=rf"has format {written}.*Use a newer version"):
        load(path)
    monkeypatch.setattr(persistence, "_FORMAT", written + 1)
    with pytest.raises(ValueError, match=r"earlier version.*Fit the detector again"):
        load(path)


def test_file_of_the_first_format(fitted, path):
    """Format 1 had no ``learned``."""
    save(fitted, path)
    signed(path, put(1, "format"))
    with pytest.raises(ValueError, match=r"has format 1, of an earlier version"):
        load(path)


def test_pickle_springs_the_trap_of_execution(fitted, path, tmp_path):
    """A pickle runs what it says; load refuses it, and a detector holds no pickle."""

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="cannot be loaded as a detector"):
        load(path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "executed").exists()
    save(fitted, path)
    # What is wrong first depends on the first bytes, which are the header's length.
    with pytest.raises(ValueError, match=r"."):
        pickletools.dis(path.read_bytes(), out=io.StringIO())


def test_other_safetensors(path):
    for metadata in (None, {"a": "b"}):
        safetensors.torch.save_file({"a": torch.ones(2)}, path, metadata)
        with pytest.raises(ValueError, match="not been written by save"):
            load(path)


def signed(path, change=None, change_arrays=None):
    """Rewrite a file with changes and a digest that fits."""
    content = path.read_bytes()
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    described = json.loads(header["__metadata__"]["sklearn_anogan"])
    if change:
        change(described)
    if change_arrays:
        change_arrays(tensors)
    tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(described)
    digest = persistence._digest(text, tensors)
    safetensors.torch.save_file(
        tensors, path, {"sklearn_anogan": text, "sha256": digest}
    )


def put(value, *keys):
    def change(described):
        for key in keys[:-1]:
            described = described[key]
        described[keys[-1]] = value

    return change


HUGE = 2**40
MODEL = "detector", "learned", "model"
SCALE = "learned.largest_residual.scale"
SPECIAL = "value_range.special"  # of column 1, where there is one channel


@pytest.mark.parametrize(
    "change",
    [
        put("os.system", "detector", "class"),
        put({"class": "os.system"}, "detector", "parameters", "generator"),
        put({"os.system": "true"}, "detector", "parameters", "lr"),
        put(-1, "detector", "parameters", "lr"),
        put(HUGE, *MODEL, "n_filters"),
        put(HUGE, *MODEL, "latent_dim"),
        put(9, *MODEL, "latent_dim"),
        put([HUGE, HUGE, HUGE], *MODEL, "layout", "chw"),
        put([1, 16, 4], *MODEL, "layout", "chw"),
        put([1, 8], *MODEL, "layout", "chw"),
        put([8, 8.0], *MODEL, "layout", "image_shape"),
        put([8, 9], *MODEL, "layout", "image_shape"),
        put([9, 8], *MODEL, "layout", "shape"),
        put([9, 8], *MODEL, "network_shape"),
        put([8, 7], *MODEL, "network_shape"),
        put([8], *MODEL, "network_shape"),
        put([8.0, 8], *MODEL, "network_shape"),
        put([0, 8], *MODEL, "network_shape"),
        put([HUGE, HUGE], *MODEL, "network_shape"),
        put(False, *MODEL, "has_ruler"),
        put(65, "detector", "n_features_in_"),
        put("torch.int8", *MODEL, "layout", "dtype"),
        put(float("nan"), "detector", "offset_"),
        put("1", "detector", "offset_"),
        put("Generator", *MODEL, "discriminator"),
        put("DenseGenerator", *MODEL, "generator"),
        put(True, *MODEL, "has_recognizer"),
        put(True, *MODEL, "has_encoder"),
        put(-1, *MODEL, "seed"),
        put({}, "detector", "parameters_of_fit"),
        put({}, "detector", "learned", "calibration"),
        put([], "detector", "learned", "calibration", "names"),
        put(["residual"], "detector", "learned", "calibration", "names"),
        put(["os.system"], "detector", "learned", "calibration", "names"),
        put([1, 2], *MODEL, "history"),
        put(3, *MODEL, "problems"),
        put(None, "detector"),
        put([], "format"),
        put(0, "format"),
        lambda described: described.clear(),
    ],
)
def test_hostile_descriptions(fitted, path, change):
    save(fitted, path)
    signed(path)
    load(path)
    signed(path, change)
    with pytest.raises(ValueError, match=r"cannot be loaded|pass the|not among"):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop(SCALE),
        lambda arrays: arrays.update(more=torch.ones(2)),
        lambda arrays: arrays.update({SCALE: torch.ones(1, 8, 9).double()}),
        lambda arrays: arrays.update({SCALE: torch.ones(1, 8, 8)}),
        lambda arrays: arrays["held_out.residual"].neg_(),
        lambda arrays: arrays.pop("held_out.residual"),
        lambda arrays: arrays.update({"held_out.residual": torch.ones(0).double()}),
        lambda arrays: arrays.update({"held_out.residual": torch.ones(3).double()}),
        lambda arrays: arrays["value_range.low"].fill_(float("nan")),
        lambda arrays: arrays.update({SPECIAL: torch.ones(2, 3)}),
        lambda arrays: arrays.update({SPECIAL: torch.ones(2, 3).double()}),
        lambda arrays: arrays.update({SPECIAL: torch.zeros(2, 4).double()}),
        lambda arrays: arrays["generator.layers.1.weight"].fill_(float("inf")),
        lambda arrays: arrays.update(
            {"generator.layers.1.weight": arrays["generator.layers.1.weight"].half()}
        ),
        lambda arrays: arrays.pop("ruler.centre"),
        lambda arrays: arrays.pop("ruler.filters_1"),
        lambda arrays: arrays.update({"ruler.filters_2": arrays["ruler.filters_1"]}),
        lambda arrays: arrays["ruler.roots"][3].fill_(float("nan")),
        lambda arrays: arrays["ruler.pixel_centre"].fill_(float("inf")),
        lambda arrays: arrays.update({"ruler.roots": arrays["ruler.roots"].double()}),
        lambda arrays: arrays.update({"ruler.roots": arrays["ruler.roots"][:, :-1]}),
        lambda arrays: arrays.update({"ruler.centre": arrays["ruler.centre"][:-1]}),
        lambda arrays: arrays.update({"ruler.whitening": torch.ones(3)}),
        lambda arrays: arrays.update({"ruler.components": torch.ones(2, 3, 4)}),
        lambda arrays: arrays.update({"ruler.pixel_components": torch.tensor(1.0)}),
        lambda arrays: arrays.pop("learned.largest_deviation.fine_std"),
        lambda arrays: arrays.update(
            {"learned.largest_deviation.coarse_mean": torch.ones(4, 5).double()}
        ),
        lambda arrays: arrays.update(
            {"generator.layers.1.weight": torch.ones(2, 2, 2, 2)}
        ),
    ],
)
def test_hostile_arrays(fitted, path, change):
    save(fitted, path)
    signed(path, change_arrays=change)
    with pytest.raises(ValueError, match="cannot be loaded as a detector"):
        load(path)


def mutate(content, rng):
    """Flip, change, cut, insert, repeat or exchange bytes."""
    content = bytearray(content)
    # Half of the time in the header, which is but a small part of the file.
    end = len(content) if rng.randint(2) else min(len(content), 6000)
    at, length = rng.randint(end), rng.randint(1, 50)
    kind = rng.randint(6)
    if kind == 0:
        content[at] ^= 1 << rng.randint(8)
    elif kind == 1:
        content[at] = rng.randint(256)
    elif kind == 2:
        del content[at:]
    elif kind == 3:
        content[at:at] = rng.bytes(length)
    elif kind == 4:
        content[at:at] = content[at : at + length]
    else:
        del content[at : at + length]
    return bytes(content)


@pytest.mark.parametrize("n", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files(quick, zeros, path, n):
    """An error or an equal detector, nothing else."""
    quick |= {"n_filters": 2, "latent_dim": 2, "n_candidates": 8, "search_steps": 1}
    detector = AnoGANDetector(**quick).fit(zeros[:50])
    scores = detector.score_samples(zeros[:3])
    save(detector, path)
    whole, rng = path.read_bytes(), np.random.RandomState(0)
    n_loaded = 0
    for _ in range(n):
        path.write_bytes(mutate(whole, rng))
        try:
            loaded = load(path)
        except ValueError:
            continue
        n_loaded += 1
        np.testing.assert_array_equal(loaded.score_samples(zeros[:3]), scores)
        assert loaded.offset_ == detector.offset_
    assert n_loaded < n / 10
