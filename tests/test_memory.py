import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._networks import Generator
from sklearn_anogan._training import _run
from sklearn_anogan._training._memory import _digest, remember
from sklearn_anogan.model_selection import InlierSplit, make_outlier_scorer


class OwnGenerator(Generator):
    pass


class Failing(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise ValueError("in the first epoch")


@pytest.fixture
def trainings(monkeypatch):
    """Names of the nets that were trained so far."""
    names = []

    def counting(train, name):
        def count(*args, **kwargs):
            names.append(name)
            return train(*args, **kwargs)

        return count

    for name in ("gan", "encoder"):
        train = getattr(_run, f"train_{name}")
        monkeypatch.setattr(_run, f"train_{name}", counting(train, name))
    return names


@pytest.fixture
def detector(quick, tmp_path):
    return AnoGANDetector(**quick, memory=tmp_path)


def entries(folder):
    return sorted(folder.rglob("output.pkl"))


def test_same_detector_without_training(detector, zeros, trainings):
    first = detector.fit(zeros)
    second = clone(detector).fit(zeros.copy())
    without = clone(detector).set_params(memory=None).fit(zeros)
    assert trainings == ["gan", "gan"]
    for other in (second, without):
        np.testing.assert_array_equal(
            first.score_samples(zeros), other.score_samples(zeros)
        )
        np.testing.assert_array_equal(first.sample(3, 0), other.sample(3, 0))
        assert first.offset_ == other.offset_
        assert len(first.history_) == len(other.history_)
        assert first.history_[:, "diversity"] == other.history_[:, "diversity"]
    assert second.generator_ is not first.generator_


@pytest.mark.parametrize("kind", [str, lambda path: path, joblib.Memory])
def test_forms_of_memory(quick, zeros, tmp_path, trainings, kind, capsys):
    for _ in range(2):
        memory = (
            kind(tmp_path) if kind is not joblib.Memory else kind(tmp_path, verbose=0)
        )
        AnoGANDetector(**quick, memory=memory).fit(zeros)
    assert trainings == ["gan"]
    assert not capsys.readouterr().out


def test_memory_without_a_place(quick, zeros, trainings):
    for _ in range(2):
        AnoGANDetector(**quick, memory=joblib.Memory(None)).fit(zeros)
    assert trainings == ["gan", "gan"]


UNRELATED = {
    "search_steps": 3,
    "search_lr": 0.1,
    "n_restarts": 1,
    "n_candidates": 20,
    "tol": 0.1,
    "anomaly_score": "calibrated",
    "discrimination_weight": 0.5,
    "contamination": 0.2,
    "n_jobs": 2,
    "verbose": 1,
}

RELATED = {
    "latent_dim": 5,
    "latent_prior": "normal",
    "n_filters": 4,
    "network_side": 4,
    "generator": OwnGenerator,
    "max_epochs": 4,
    "batch_size": 40,
    "lr": 1e-3,
    "lr_schedule": "constant",
    "ema_decay": 0.5,
    "self_supervision": 0.5,
    "mixed_precision": True,
    "callbacks": [LRScheduler("StepLR", step_size=1)],
    "random_state": 1,
}


@pytest.mark.parametrize("name", UNRELATED)
def test_parameters_that_do_not_train(detector, zeros, trainings, name):
    detector.fit(zeros)
    detector.set_params(**{name: UNRELATED[name]}).fit(zeros)
    assert trainings == ["gan"]


@pytest.mark.parametrize("name", RELATED)
def test_parameters_that_train(detector, zeros, trainings, name):
    detector.fit(zeros)
    detector.set_params(**{name: RELATED[name]}).fit(zeros)
    assert trainings == ["gan", "gan"]


def test_every_parameter_is_in_one_of_the_lists():
    others = {
        "image_shape",  # in the images' own shape
        "discriminator",  # as the generator
        "adversarial_loss",  # has one value
        "checkpoint_dir",
        "memory",
        "inversion",
        "warm_start",
        "device",
    }
    assert {*UNRELATED, *RELATED, *others} == {*AnoGANDetector().get_params()}


def test_parameters_of_callbacks_count(detector, zeros, trainings):
    for size in (1, 1, 2):
        detector.set_params(callbacks=[LRScheduler("StepLR", step_size=size)])
        detector.fit(zeros)
    assert len(trainings) == 2


def test_images_count(detector, zeros, trainings):
    detector.fit(zeros)
    changed = zeros.copy()
    changed[0, 4, 4] = 16 - changed[0, 4, 4]
    detector.fit(changed)
    detector.fit(zeros[:-1])
    assert len(trainings) == 3


def test_details_that_networks_do_not_see(detector, zeros, trainings):
    """They change the ruler, which is learned in each `fit`, and not the networks."""
    detector.set_params(network_side=4)
    first = detector.fit(zeros)
    swapped = zeros.reshape(-1, 8, 4, 2)[..., ::-1].reshape(zeros.shape)
    second = clone(detector).fit(swapped)
    assert trainings == ["gan"]
    np.testing.assert_array_equal(first.sample(3, 0), second.sample(3, 0))
    without = clone(detector).set_params(memory=None).fit(swapped)
    np.testing.assert_array_equal(second.anomaly_map(zeros), without.anomaly_map(zeros))
    assert not np.array_equal(second.anomaly_map(zeros), first.anomaly_map(zeros))


def test_encoder_is_kept_apart(detector, zeros, trainings):
    scores = {}
    for _ in range(2):
        for inversion in ("search", "encoder", "encoder+search"):
            detector.set_params(inversion=inversion).fit(zeros)
            found = detector.score_samples(zeros[:5])
            np.testing.assert_array_equal(scores.setdefault(inversion, found), found)
    assert trainings == ["gan", "encoder"]
    detector.set_params(memory=None).fit(zeros)
    np.testing.assert_array_equal(detector.score_samples(zeros[:5]), found)


def test_warm_start_is_another_training(detector, zeros, trainings):
    detector.fit(zeros)
    detector.set_params(warm_start=True).fit(zeros)
    went_on = detector.sample(2, 0)
    assert len(trainings) == 2
    again = clone(detector).set_params(warm_start=False).fit(zeros)
    again.set_params(warm_start=True).fit(zeros)
    assert len(trainings) == 2
    np.testing.assert_array_equal(again.sample(2, 0), went_on)


def test_early_stopping_is_kept(detector, zeros, trainings):
    stop = EarlyStopping("generator_loss", patience=1, threshold=1e9, sink=str)
    for _ in range(2):
        fitted = clone(detector).set_params(max_epochs=9, callbacks=[stop]).fit(zeros)
        assert len(fitted.history_) < 9
    assert trainings == ["gan"]


class StopAtOnce:
    """A callback of scikit-learn."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "epoch"


def test_what_a_callback_of_sklearn_has_stopped_is_not_kept(detector, zeros, trainings):
    pytest.importorskip("sklearn.callback")
    stopped = clone(detector).set_callbacks(StopAtOnce()).fit(zeros)
    whole = clone(detector).fit(zeros)
    assert (len(stopped.history_), len(whole.history_)) == (1, 3)
    assert trainings == ["gan", "gan"]


def test_an_encoder_of_a_stopped_training_is_not_kept(detector, zeros, trainings):
    """Else the next fit would get it, with the networks that it belongs to."""
    pytest.importorskip("sklearn.callback")
    detector.set_params(inversion="encoder")
    clone(detector).set_callbacks(StopAtOnce()).fit(zeros)
    assert len(clone(detector).fit(zeros).history_) == 3
    assert trainings == ["gan", "encoder"] * 2


def test_random_training_is_kept(detector, zeros, trainings):
    """As a step of a pipeline with memory is."""
    detector.set_params(random_state=None)
    first = detector.fit(zeros).score_samples(zeros)
    np.testing.assert_array_equal(detector.fit(zeros).score_samples(zeros), first)
    assert trainings == ["gan"]


def test_warnings_are_kept(detector, zeros):
    detector.set_params(lr=1000.0, max_epochs=5)
    for _ in range(2):
        with pytest.warns(ConvergenceWarning):
            detector.fit(zeros)


@pytest.mark.parametrize("flaw", ["truncated", "empty", "flipped", "other", "gone"])
def test_a_corrupt_entry_is_trained_anew(detector, zeros, tmp_path, trainings, flaw):
    scores = detector.fit(zeros).score_samples(zeros)
    (path,) = entries(tmp_path)
    content = bytearray(path.read_bytes())
    if flaw == "flipped":
        content[len(content) // 2] ^= 1
    elif flaw == "other":
        content = pickle.dumps(("no digest", "and no bytes"))
    else:
        content = content[: len(content) // 2 if flaw == "truncated" else 0]
    path.write_bytes(content)
    if flaw == "gone":
        path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's, that it could not load
        again = clone(detector).fit(zeros)
    np.testing.assert_array_equal(again.score_samples(zeros), scores)
    assert len(trainings) == 2
    clone(detector).fit(zeros)  # the entry is whole again
    assert len(trainings) == 2


def test_failed_training_is_not_kept(detector, zeros, trainings):
    detector.set_params(callbacks=[Failing()])
    for _ in range(2):
        with pytest.raises(ValueError, match="in the first epoch"):
            detector.fit(zeros)
    assert len(trainings) == 2


def test_what_cannot_be_told_apart(detector, zeros, trainings):
    detector.set_params(callbacks=[LRScheduler(policy=lambda optimizer: None)])
    with pytest.raises(ValueError, match="have to be picklable: define them in a mod"):
        detector.fit(zeros)
    assert not trainings


class Training:
    """Answers with the number of the call, and whether to keep that."""

    def __init__(self, *is_to_keep):
        self.is_to_keep, self.n_calls = is_to_keep, 0

    def __call__(self):
        self.n_calls += 1
        return {"call": self.n_calls}, self.is_to_keep[self.n_calls - 1]


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "empty": lambda path: path.write_bytes(b""),
    "changed": lambda path: path.write_bytes(
        path.read_bytes().replace(b"call", b"cell")
    ),
    "no digest": lambda path: joblib.dump(("digest", "no bytes"), path),
    "no pickle": lambda path: joblib.dump((_digest(b"text"), b"text"), path),
    "nothing": lambda path: joblib.dump(None, path),
    "gone": lambda path: path.unlink(),
    "all gone": lambda path: shutil.rmtree(path.parent),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_replaced(tmp_path, damage):
    """Once: what was trained anew is kept, and other entries stay."""
    other, train = Training(True), Training(True, True)
    remember(tmp_path, other, {"key": 0})
    of_others = entries(tmp_path)
    for _ in range(2):
        assert remember(tmp_path, train, {"key": 1})[0] == {"call": 1}
    (path,) = {*entries(tmp_path)} - {*of_others}
    damage(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's, that it could not load
        for _ in range(2):
            assert remember(tmp_path, train, {"key": 1})[0] == {"call": 2}
    assert path in entries(tmp_path)
    assert remember(tmp_path, other, {"key": 0})[0] == {"call": 1}


def test_a_result_that_is_not_to_be_kept(tmp_path):
    """It leaves nothing on disk, and the next call trains."""
    train = Training(False, False, True)
    for n in (1, 2):
        assert remember(tmp_path, train, {"key": 1})[0] == {"call": n}
        files = {path for path in tmp_path.rglob("*") if path.is_file()}
        (lock,) = tmp_path.rglob("*.lock")
        assert lock.stat().st_size == 0
        # Beside the lock, joblib writes what does not depend on the result.
        assert {path.name for path in files - {lock}} <= {".gitignore", "func_code.py"}
    for _ in range(2):
        assert remember(tmp_path, train, {"key": 1})[0] == {"call": 3}
    # What cannot be written is no obstacle if it is not to be written.
    assert remember(tmp_path, lambda: (entries, False), {"key": 2}) == (entries, False)


def test_no_memory_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = Training(True, True)
    for n in (1, 2):
        assert remember(None, train, None)[0] == {"call": n}
    assert not list(tmp_path.iterdir())


def test_an_entry_of_nothing_is_trained_anew(tmp_path):
    """joblib 1.4 may write one where it finds an entry and yet calls the function."""
    key = {"key": 1}
    remember(tmp_path, lambda: (None, True), key)
    assert entries(tmp_path)
    assert remember(tmp_path, lambda: ("result", True), key)[0] == "result"
    again = remember(tmp_path, lambda: ("another", True), key)
    assert again == ("result", True)


def test_threads_train_once(tmp_path):
    calls, answers = [], []

    def train():
        calls.append(1)
        time.sleep(0.3)
        return {"of": "training"}, True

    def ask():
        answers.append(remember(tmp_path, train, {"key": 1})[0])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert answers == [{"of": "training"}] * 4
    assert answers[0] is not answers[1]


SCRIPT = """
import sys, time
from pathlib import Path
from sklearn_anogan._training._memory import remember

def train():
    with open(Path(sys.argv[1], "calls.txt"), "a") as file:
        file.write("x")
    time.sleep(0.5)
    return 42, True

print(remember(sys.argv[1], train, {"key": 1})[0])
"""


def test_processes_train_once(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [worker.communicate()[0].strip() for worker in workers] == ["42"] * 3
    assert (tmp_path / "calls.txt").read_text() == "x"


@pytest.mark.parametrize("memory", [False, True])
def test_grid_search_springs_the_trap_of_training(
    quick, digits, tmp_path, trainings, memory
):
    """12 points, 3 folds: 36 trainings without, and with memory 3 and 3 encoders."""
    images, labels = digits
    X = np.r_[images[labels == 0][:60], images[labels == 1][:30]]
    y = np.repeat([1, -1], [60, 30])
    quick |= {"max_epochs": 1}
    search = GridSearchCV(
        AnoGANDetector(**quick, memory=tmp_path if memory else None),
        {
            "inversion": ["search", "encoder", "encoder+search"],
            "search_steps": [0, 2],
            "anomaly_score": ["anogan", "calibrated"],
        },
        cv=InlierSplit(3),
        scoring=make_outlier_scorer(),
        refit=False,
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert trainings.count("gan") == (3 if memory else 36)
    assert trainings.count("encoder") == (3 if memory else 24)


def test_memory_that_cannot_be(detector, zeros, tmp_path, trainings):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="memory cannot be used: Not a directory"):
        detector.set_params(memory=str(tmp_path / "file")).fit(zeros)
    assert not trainings
