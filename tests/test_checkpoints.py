import errno
import hashlib
import io
import os
import random
import resource
import signal
import time
import warnings
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from torch import nn

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._holding_out import hold_out
from sklearn_anogan._networks import DenseGenerator, Generator
from sklearn_anogan._training import _checkpoints
from sklearn_anogan._training._checkpoints import (
    Checkpoint,
    digest_of_images,
    digest_of_weights,
)


@pytest.fixture
def always(monkeypatch):
    """Write a checkpoint after every epoch, however long that takes."""
    monkeypatch.setattr(_checkpoints, "_PAUSE", 0)


class Interrupt(Callback):
    """Interrupts the n-th epoch, in the middle of it."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


class Nothing(Callback):
    """Takes the place of `Interrupt` without doing anything."""


def assert_same_net(net, other, records=("diversity",)):
    assert (net.recognizer_ is None) == (other.recognizer_ is None)
    for name in ("module_", "learner_", "discriminator_", "recognizer_"):
        network, of_other = getattr(net, name), getattr(other, name)
        if network is None:  # the recognizer, without a second task
            continue
        for a, b in zip(
            network.state_dict().values(), of_other.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b)
    for name in (*net.record_names, *records):
        assert net.history[:, name] == other.history[:, name]


def run_in_parts(train, dataset, path, epochs, callbacks=lambda: [], **settings):
    """Train with an interruption in each of these epochs."""
    for epoch in epochs:
        with pytest.raises(KeyboardInterrupt):
            train(
                dataset,
                checkpoint=Checkpoint(path, {}),
                callbacks=[*callbacks(), Interrupt(epoch)],
                **settings,
            )
    return train(
        dataset,
        checkpoint=Checkpoint(path, {}),
        callbacks=[*callbacks(), Nothing()],
        **settings,
    )


@pytest.mark.parametrize("lr_schedule", ["linear", "constant"])
@pytest.mark.parametrize("epochs", [[1], [2], [3, 4, 6]])
def test_goes_on_to_the_same_bits(
    always, dataset, train, tmp_path, epochs, lr_schedule
):
    settings = {
        "max_epochs": 6,
        "ema_decay": 0.9,
        "self_supervision": 1.0,
        "lr_schedule": lr_schedule,
    }
    resumed = run_in_parts(train, dataset, tmp_path / "a", epochs, **settings)
    assert_same_net(resumed, train(dataset, **settings))
    assert resumed.history[:, "epoch"] == [1, 2, 3, 4, 5, 6]


def test_writing_is_a_small_share(dataset, train, tmp_path, monkeypatch):
    """Checkpoints are left out, and the bits are still the same."""
    now, writes = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def write(self, net, has_stopped=False):
        begun = time.monotonic()
        now[0] += 1
        writes.append(len(net.history))
        self._last, self._pause = now[0], _checkpoints._PAUSE * (now[0] - begun)

    class Epoch(Callback):
        def on_epoch_end(self, net, **kwargs):
            now[0] += 7

    monkeypatch.setattr(Checkpoint, "_write", write)
    checkpoint = Checkpoint(tmp_path / "a", {})
    train(dataset, checkpoint=checkpoint, callbacks=[Epoch()], max_epochs=8)
    assert writes == [0, 3, 6, 8]


def callbacks_with_state():
    return [
        EpochScoring(
            lambda net, X, y: np.float64(-net.history[-1, "generator_loss"]),
            name="score",
            lower_is_better=False,
            on_train=True,
            use_caching=False,
        ),
        EarlyStopping("diversity", patience=4, lower_is_better=False, sink=str),
        LRScheduler("ReduceLROnPlateau", monitor="d_real", patience=0),
        ("warm", LRScheduler("WarmRestartLR", base_period=3)),
    ]


def test_callbacks_go_on_too(always, dataset, train, tmp_path):
    settings = {"max_epochs": 30, "lr": 1e-2}
    whole = train(dataset, callbacks=callbacks_with_state(), **settings)
    parts = run_in_parts(
        train, dataset, tmp_path / "a", [2, 4, 5], callbacks_with_state, **settings
    )
    assert 4 < len(whole.history) < 30
    assert_same_net(parts, whole)
    for name in ("score", "score_best", "event_lr"):
        assert parts.history[:, name] == whole.history[:, name]


def test_an_early_end_is_the_end(always, dataset, train, tmp_path):
    def callbacks():
        return [EarlyStopping("generator_loss", patience=2, threshold=1e9, sink=str)]

    for _ in range(2):
        checkpoint = Checkpoint(tmp_path / "a", {})
        net = train(
            dataset, checkpoint=checkpoint, callbacks=callbacks(), max_epochs=20
        )
        assert len(net.history) == 3
        assert net.stop is not None


def test_a_finished_training_is_not_repeated(dataset, train, tmp_path):
    class Forbidden(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise AssertionError

    net = train(dataset, checkpoint=Checkpoint(tmp_path / "a", {}))
    again = train(
        dataset, checkpoint=Checkpoint(tmp_path / "a", {}), callbacks=[Forbidden()]
    )
    assert_same_net(net, again)
    assert again.stop is None


def test_more_epochs(dataset, train, tmp_path):
    """Five epochs and then two more are seven; fewer cannot be had."""
    for n_epochs in (5, 7):
        net = train(
            dataset, checkpoint=Checkpoint(tmp_path / "a", {}), max_epochs=n_epochs
        )
    # The diversity was measured once more, at the end of the five.
    assert_same_net(net, train(dataset, max_epochs=7), records=())
    with pytest.raises(ValueError, match="has 7 epochs, more than max_epochs=3"):
        train(dataset, checkpoint=Checkpoint(tmp_path / "a", {}), max_epochs=3)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"\0" * len(content),
        lambda content: content[:999] + bytes([content[999] ^ 1]) + content[1000:],
    ],
)
def test_corrupted(dataset, train, tmp_path, change):
    path = tmp_path / "a"
    train(dataset, checkpoint=Checkpoint(path, {}))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=r"/a is corrupted\. Delete it"):
        Checkpoint(path, {})


def test_nothing_is_executed(tmp_path):
    """A file made to look whole, with code in it."""

    class Code:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    buffer = io.BytesIO()
    torch.save({"format": _checkpoints._FORMAT, "run": Code()}, buffer)
    content = buffer.getvalue()
    (tmp_path / "a").write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(Exception, match=r"Weights only"):
        Checkpoint(tmp_path / "a", {})
    assert not (tmp_path / "executed").exists()


def test_other_format(dataset, train, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoints, "_FORMAT", 99)
    train(dataset, checkpoint=Checkpoint(tmp_path / "a", {}))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"format 99, this version .* reads 2"):
        Checkpoint(tmp_path / "a", {})


def test_other_run(dataset, train, tmp_path):
    run = {"lr": np.float64(0.1), "X": "a", "seed": 3}
    train(dataset, checkpoint=Checkpoint(tmp_path / "a", run))
    Checkpoint(tmp_path / "a", {"lr": 0.1, "X": "a", "seed": 3})
    other = {"lr": 0.2, "X": "b", "seed": 3, "more": 1}
    with pytest.raises(ValueError, match="is of another training") as error:
        Checkpoint(tmp_path / "a", other)
    for part in ("lr was 0.1 and is 0.2", "X was a and is b", "more was None and is 1"):
        assert part in str(error.value)
    assert "seed" not in str(error.value)
    replacing = Checkpoint(tmp_path / "a", other, may_replace=lambda state: True)
    assert replacing.state is None
    anew = Checkpoint(
        tmp_path / "a",
        other | {"seed": 7},
        adopted=["seed"],
        may_replace=lambda state: True,
    )
    assert anew.run["seed"] == 7  # not that of the other run
    adopted = Checkpoint(tmp_path / "a", run | {"seed": 7}, adopted=["seed"])
    assert adopted.run["seed"] == 3
    assert adopted.state is not None


def test_directory_that_cannot_be_used(dataset, train, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"checkpoint_dir cannot be used.*file"):
        train(dataset, checkpoint=Checkpoint(tmp_path / "file" / "a", {}))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"checkpoint_dir cannot be used.*folder"):
        train(dataset, checkpoint=Checkpoint(tmp_path / "folder", {}))


@contextmanager
def full_disk():
    """No file grows beyond a few bytes in here.

    Not a fixture: pytest's own output would meet the limit before the fixture ends.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_at_the_beginning(dataset, train, tmp_path):
    with (
        pytest.raises(OSError, match="checkpoint_dir cannot be used") as error,
        full_disk(),
    ):
        train(dataset, checkpoint=Checkpoint(tmp_path / "a", {}))
    assert error.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_full_disk_later(always, dataset, train, tmp_path):
    """Training goes on, with a warning, and the last checkpoint stays."""

    class FillDisk(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                disk.enter_context(full_disk())

    checkpoint = Checkpoint(tmp_path / "a", {})
    with (
        pytest.warns(UserWarning, match="could not be written after epoch 3"),
        ExitStack() as disk,
    ):
        net = train(
            dataset, checkpoint=checkpoint, callbacks=[FillDisk()], max_epochs=4
        )
    assert_same_net(net, train(dataset, max_epochs=4))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert len(Checkpoint(tmp_path / "a", {}).state["net"]["history_"]) == 2


def test_digests(dataset, zeros):
    first = digest_of_images(dataset)
    assert first == digest_of_images(dataset, block=7)
    dataset.images.data = zeros.copy()
    assert first == digest_of_images(dataset)
    dataset.images.data[100, 3, 3] += 1
    assert first != digest_of_images(dataset)
    a, b = nn.Linear(2, 3).state_dict(), nn.Linear(2, 3).state_dict()
    assert digest_of_weights(a) == digest_of_weights(a)
    assert len({digest_of_weights(*each) for each in [(a,), (b,), (a, b), (b, a)]}) == 4


@pytest.fixture
def detector(tmp_path):
    return AnoGANDetector(
        latent_dim=8,
        n_filters=8,
        max_epochs=4,
        search_steps=5,
        checkpoint_dir=tmp_path / "new" / "folder",
        random_state=0,
    )


@pytest.mark.parametrize("inversion", ["search", "encoder"])
def test_fit_goes_on(always, detector, zeros, inversion):
    detector.set_params(inversion=inversion)
    whole = AnoGANDetector(**detector.get_params() | {"checkpoint_dir": None}).fit(
        zeros
    )
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            detector.set_params(callbacks=[Interrupt(3)]).fit(zeros)
    detector.set_params(callbacks=[Interrupt(9)]).fit(zeros)
    np.testing.assert_array_equal(
        detector.score_samples(zeros), whole.score_samples(zeros)
    )
    assert detector.offset_ == whole.offset_


def test_fit_without_a_seed_goes_on(always, detector, zeros):
    """The seed is the checkpoint's; with an own one, the difference is named."""
    detector.set_params(random_state=None, callbacks=[Interrupt(3)])
    with pytest.raises(KeyboardInterrupt):
        detector.fit(zeros)
    detector.set_params(callbacks=[Interrupt(9)])
    scores = [detector.fit(zeros).score_samples(zeros) for _ in range(2)]
    np.testing.assert_array_equal(*scores)
    with pytest.raises(ValueError, match="random_state was"):
        detector.set_params(random_state=1).fit(zeros)


def test_fit_goes_on_with_more_epochs(detector, zeros):
    detector.set_params(lr_schedule="constant").fit(zeros)
    detector.set_params(max_epochs=6).fit(zeros)
    assert len(detector.history_) == 6


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"lr": 0.1}, r"lr was 0\.\d+ and is 0\.1"),
        ({"n_filters": 4}, "n_filters was 8 and is 4"),
        ({"self_supervision": 0.5}, r"self_supervision was 1\.0 and is 0\.5"),
        ({"callbacks": [Nothing()]}, "callbacks was .* and is .*Nothing"),
        ({"random_state": 1}, "random_state was"),
        ({"max_epochs": 5}, "max_epochs was 4 and is 5"),  # another learning rate
        ({"generator": type("Mine", (Generator,), {})}, "generator was .* is .*Mine"),
    ],
)
def test_fit_with_other_parameters(detector, zeros, changes, message):
    detector.fit(zeros)
    with pytest.raises(ValueError, match=message):
        detector.set_params(**changes).fit(zeros)


def test_fit_with_other_images(detector, zeros):
    detector.fit(zeros)
    with pytest.raises(
        ValueError, match=r"X was 139 training images .* and is 138 training"
    ):
        detector.fit(zeros[1:])
    other = zeros.copy()
    other[hold_out(len(zeros))[0][5], 5, 5] += 1  # one that is trained on
    with pytest.raises(ValueError, match="X was 139 training images with digest"):
        detector.fit(other)


@pytest.mark.parametrize("inversion", ["search", "encoder+search"])
def test_warm_start_takes_over_its_own_checkpoint(always, detector, zeros, inversion):
    """Its checkpoint is of the very weights that it goes on from."""
    detector.set_params(warm_start=True, inversion=inversion)
    plain = AnoGANDetector(**detector.get_params() | {"checkpoint_dir": None})
    for lr in (2e-4, 1e-4):
        detector.set_params(lr=lr).fit(zeros)
        plain.set_params(lr=lr).fit(zeros)
    np.testing.assert_array_equal(
        detector.score_samples(zeros), plain.score_samples(zeros)
    )
    assert len(detector.history_) == 8
    # Another detector does not go on from these weights.
    other = AnoGANDetector(**detector.get_params())
    with pytest.raises(ValueError, match="warm_start was"):
        other.fit(zeros)


def fit_and_score(parameters, images, pause, at_sync, results):
    """In a child process: fit, with a kill at the n-th sync of a file if so wished."""
    _checkpoints._PAUSE = pause
    torch.set_num_threads(1)
    if at_sync is not None:
        n_syncs = 0
        sync = os.fsync

        def fsync(descriptor):
            nonlocal n_syncs
            n_syncs += 1
            if n_syncs == at_sync:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)

        os.fsync = fsync
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = AnoGANDetector(**parameters).fit(images)
    results.put(
        (
            digest_of_weights(detector.generator_.state_dict()),
            digest_of_weights(detector.discriminator_.state_dict()),
            digest_of_weights(detector.encoder_.state_dict()),
            detector.score_samples(images).tobytes(),
            detector.history_[:, "generator_loss"],
        )
    )


@pytest.fixture(scope="module")
def child(zeros):
    """Run `fit_and_score` in a new process; its answer, or None if it was killed."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["sklearn_anogan", "skorch", __name__])
    parameters = {
        "latent_dim": 8,
        "n_filters": 8,
        "max_epochs": 10,
        "search_steps": 5,
        "inversion": "encoder",
        "random_state": 0,
    }

    def run(checkpoint_dir, kill_after=None, pause=0, at_sync=None):
        results = context.SimpleQueue()
        settings = parameters | {"checkpoint_dir": checkpoint_dir}
        process = context.Process(
            target=fit_and_score, args=(settings, zeros, pause, at_sync, results)
        )
        process.start()
        begun = time.monotonic()
        while process.is_alive() and results.empty():
            if kill_after is not None and time.monotonic() - begun > kill_after:
                process.kill()
            time.sleep(0.001)
        answer = None if results.empty() else results.get()
        process.join()
        return answer

    return run


@pytest.fixture(scope="module")
def undisturbed(child):
    answer = child(None)
    assert answer is not None
    return answer


@pytest.mark.parametrize("at_sync", [1, 2, 3, 4, 13, 24, 26, 47])
def test_killed_while_writing(child, undisturbed, tmp_path, at_sync):
    """Before a file is synced (1, 3, ...), or before its directory is (2, 4, ...)."""
    assert child(str(tmp_path), at_sync=at_sync) is None
    assert list(tmp_path.iterdir())  # something had begun
    assert child(str(tmp_path)) == undisturbed


@pytest.mark.slow
def test_killed_at_any_moment(child, undisturbed, tmp_path):
    begun = time.monotonic()
    assert child(str(tmp_path / "whole")) == undisturbed
    duration = time.monotonic() - begun
    rng = random.Random(0)
    n_killed = n_finished = 0
    while n_killed < 25:
        folder, answer = tmp_path / str(n_finished), None
        while answer is None:
            kill_after = rng.uniform(0, duration)
            answer = child(str(folder), kill_after, pause=rng.choice([0, 20]))
            n_killed += answer is None
        assert answer == undisturbed
        n_finished += 1


def test_rows_go_on(always, dataset, train, tmp_path, rng):
    settings = {"max_epochs": 4, "generator": DenseGenerator}
    resumed = run_in_parts(train, dataset, tmp_path / "a", [2], **settings)
    assert_same_net(resumed, train(dataset, **settings))
