import copy
import re
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakKeyDictionary

import joblib
import numpy as np
import pytest
import torch
from torch import nn

from sklearn_anogan import AnoGANDetector, _inference
from sklearn_anogan._networks import Discriminator, Generator
from sklearn_anogan._search import _blocks
from sklearn_anogan._search._searcher import Searcher


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).normal(size=(150, 8, 8))


@pytest.fixture
def detector(images):
    settings = {"latent_dim": 4, "n_filters": 4, "max_epochs": 1, "search_steps": 3}
    return AnoGANDetector(**settings, random_state=0).fit(images)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of no more images than are searched side by side."""
    monkeypatch.setattr("sklearn_anogan._images._BLOCK_VALUES", 1)


class OutOfMemory:
    """Searches fail with more than so many images side by side."""

    def __init__(self, monkeypatch, n_fitting, error):
        self.n_fitting, self.error, self.calls = n_fitting, error, []
        self.limits = WeakKeyDictionary()
        self.limited_to, self.search = Searcher.limited_to, Searcher.search
        monkeypatch.setattr(
            Searcher, "limited_to", lambda *args: self.limit_and_remember(*args)
        )
        monkeypatch.setattr(
            Searcher, "search", lambda *args: self.search_or_fail(*args)
        )

    def limit_and_remember(self, searcher, largest):
        limited = self.limited_to(searcher, largest)
        self.limits[limited] = largest
        return limited

    def search_or_fail(self, searcher, x):
        largest = self.limits[searcher]
        assert searcher.networks.sizes[-1] <= largest
        self.calls.append((len(x), largest))
        if largest > self.n_fitting:
            raise self.error
        return self.search(searcher, x)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
    RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_short_memory_means_smaller_batches(detector, images, monkeypatch, error):
    """The search goes on in halves, to the same bits as long as they are exact."""
    scores = detector.score_samples(images)
    memory = OutOfMemory(monkeypatch, 16, error)
    np.testing.assert_array_equal(detector.score_samples(images), scores)
    assert memory.calls[:3] == [(150, 64), (32, 32), (16, 16)]
    assert memory.calls[3:] == [(16, 16)] * 8 + [(6, 16)]
    # The calibrated score would magnify the other rounding of a batch of one.
    scores = detector.set_params(anomaly_score="anogan").score_samples(images[:5])
    memory.n_fitting = 1
    np.testing.assert_allclose(detector.score_samples(images[:5]), scores)


def test_an_image_that_does_not_fit(detector, images, monkeypatch):
    memory = OutOfMemory(monkeypatch, 0, OUT_OF_MEMORY[0])
    message = "single image of 8 x 8 pixels and 1 channel.* device 'cpu'.*GiB are free"
    with pytest.raises(MemoryError, match=message):
        detector.score_samples(images)
    assert [batch for _, batch in memory.calls] == [64, 32, 16, 8, 4, 2, 1]
    memory.n_fitting = 64
    assert np.isfinite(detector.score_samples(images)).all()


def test_a_device_that_is_lost(detector, images, monkeypatch):
    memory = OutOfMemory(monkeypatch, 0, torch.AcceleratorError("unspecified failure"))
    with pytest.raises(RuntimeError, match=r"'cpu' failed .*: unspecified failure The"):
        detector.score_samples(images)
    memory.n_fitting = 64
    assert np.isfinite(detector.score_samples(images)).all()


def test_other_errors_speak_for_themselves(detector, images, monkeypatch):
    memory = OutOfMemory(monkeypatch, 0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match=r"^something else$"):
        detector.score_samples(images)
    assert len(memory.calls) == 1


def networks_of(detector):
    """The detector's networks on the CPU, as its search uses them."""
    searchers, settings, _ = detector._search()
    return searchers.make(torch.device("cpu"), settings).networks


def test_batches_fit_the_memory_at_hand(detector, images, monkeypatch):
    scores = detector.score_samples(images)
    memory = OutOfMemory(monkeypatch, 64, None)
    detector.score_samples(images)
    assert {batch for _, batch in memory.calls} == {64}

    memory.calls.clear()
    networks = networks_of(detector)
    n_bytes = _inference.bytes_of_a_search(networks)
    monkeypatch.setattr(_inference, "free_memory", lambda device: 2 * 20 * n_bytes)
    np.testing.assert_array_equal(detector.score_samples(images), scores)
    assert {batch for _, batch in memory.calls} == {16}
    with joblib.parallel_config(backend="threading", n_jobs=2):
        detector.score_samples(images)
    assert memory.calls[-1][1] == 8
    # Nor does the first look at the networks take more.
    assert _inference.fitting_batch(networks) == 16
    assert networks.measured().sizes[-1] <= 16


def test_bytes_of_a_search():
    """What autograd keeps: at least the images and features, and it grows with them."""
    n_bytes = {}
    for size in (16, 32):
        images = np.random.RandomState(0).normal(size=(70, size, size))
        settings = {"latent_dim": 4, "n_filters": 8, "n_candidates": 1}
        detector = AnoGANDetector(**settings, max_epochs=1, search_steps=0).fit(images)
        n_bytes[size] = _inference.bytes_of_a_search(networks_of(detector))
        assert n_bytes[size] >= 4 * (size**2 + 8 * (size / 2) ** 2)
    assert 3 < n_bytes[32] / n_bytes[16] < 6


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_images_are_read_as_they_are_needed(detector, images, monkeypatch, n_jobs):
    """However many images: only a few blocks are ahead of the search."""
    X = np.resize(images, (30 * 64, 8, 8))
    n_read, most_ahead = [0], [0]
    read = type(detector._check_images(X, reset=False)).read
    search = Searcher.search
    n_done = [0]

    def counting_read(self, index):
        n_read[0] += len(index)
        return read(self, index)

    def counting_search(self, x):
        most_ahead[0] = max(most_ahead[0], n_read[0] - n_done[0])
        found = search(self, x)
        n_done[0] += len(x)
        return found

    monkeypatch.setattr("sklearn_anogan._images.Images.read", counting_read)
    monkeypatch.setattr(Searcher, "search", counting_search)
    with joblib.parallel_config(backend="threading", n_jobs=n_jobs):
        detector.score_samples(X)
    assert n_done[0] == len(X)
    # The check of units has read a few before.
    assert most_ahead[0] <= 8 + 64 * (1 if n_jobs == 1 else 8)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_jobs", [2, 3, -1])
def test_threads_change_no_bit(detector, images, n_jobs):
    n_threads = torch.get_num_threads()
    scores = detector.score_samples(images)
    with joblib.parallel_config(backend="threading", n_jobs=n_jobs):
        np.testing.assert_array_equal(detector.score_samples(images), scores)
    assert torch.get_num_threads() == n_threads


def test_threads_share_the_cores(detector, images, monkeypatch):
    """Workers in threads never use more cores than one would."""
    # On some machine, only a single thread might round alike.
    monkeypatch.setattr(
        _inference,
        "find_exact_batches",
        lambda networks, largest: (torch.get_num_threads(), _inference.CPU_BATCHES),
    )
    detector = copy.deepcopy(detector)  # of which nothing is measured yet
    seen = []
    search = Searcher.search

    def look(self, x):
        seen.append(torch.get_num_threads())
        return search(self, x)

    monkeypatch.setattr(Searcher, "search", look)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        with joblib.parallel_config(backend="threading", n_jobs=2):
            detector.score_samples(images)
        assert seen == [2, 2]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def fail(*args):
    raise AssertionError("The search runs in this process.")


def test_other_processes_change_no_bit(detector, images, monkeypatch):
    scores = detector.score_samples(images)
    maps = detector.anomaly_map(images)
    monkeypatch.setattr(Searcher, "search", fail)
    detector.set_params(n_jobs=2)
    np.testing.assert_array_equal(detector.score_samples(images), scores)
    np.testing.assert_array_equal(detector.anomaly_map(images), maps)


@pytest.mark.parametrize("n_jobs", [2, -1])
def test_no_more_workers_than_blocks(detector, images, searched, n_jobs):
    """A single block is searched here, with all threads: no process starts."""
    seen = []
    detector = copy.deepcopy(detector).set_params(n_jobs=n_jobs)
    measured = type(detector._searchers)._measured_on

    def look(self, device):
        seen.append(torch.get_num_threads())
        return measured(self, device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(detector._searchers), "_measured_on", look)
        scores = detector.score_samples(images[:64])
    assert sum(searched) == 64
    assert {*seen} == {torch.get_num_threads()}
    detector.set_params(n_jobs=None)
    np.testing.assert_array_equal(scores, detector.score_samples(images[:64]))


def test_eight_threads_share_a_detector(detector, images):
    """Nothing of a detector changes while it scores: all get the bits of one thread."""
    scores, maps = detector.score_samples(images), detector.anomaly_map(images)
    n_threads = torch.get_num_threads()
    fresh = copy.deepcopy(detector)
    assert not fresh._searchers._explored  # all of them explore at the same time
    with ThreadPoolExecutor(8) as pool:
        of_threads = list(pool.map(fresh.score_samples, [images] * 16))
        maps_of_threads = list(
            pool.map(fresh.anomaly_map, [images[i:] for i in range(8)])
        )
    for found in of_threads:
        np.testing.assert_array_equal(found, scores)
    for i, found in enumerate(maps_of_threads):
        np.testing.assert_array_equal(found, maps[i:])
    assert torch.get_num_threads() == n_threads


class Scale(nn.Module):
    """Holds a tensor that torch does not know as a parameter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.full((1,), 0.9, requires_grad=True)

    def forward(self, x):
        return self.scale * x


class ScaledGenerator(Generator):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.layers.append(Scale())


class ScaledDiscriminator(Discriminator):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.features.append(Scale())


@pytest.mark.parametrize(
    "network", [{"generator": ScaledGenerator}, {"discriminator": ScaledDiscriminator}]
)
def test_answers_need_no_gradient(images, network):
    """Not even where a network holds what `requires_grad_` does not reach."""
    settings = {"latent_dim": 4, "n_filters": 4, "max_epochs": 1, "search_steps": 3}
    detector = AnoGANDetector(**settings, **network, random_state=0).fit(images)
    assert np.isfinite(detector.score_samples(images[:3])).all()
    assert np.isfinite(detector.anomaly_map(images[:3])).all()


def test_backend_that_cannot_return_one_by_one(detector, images):
    scores = detector.score_samples(images)
    with joblib.parallel_config(backend="multiprocessing"):
        np.testing.assert_array_equal(detector.score_samples(images), scores)


def test_dask_cluster(detector, images, dask_cluster, monkeypatch):
    """Two processes of a real cluster: the bits of one process."""
    scores = detector.score_samples(images)
    reconstructions = detector.reconstruct(images)
    monkeypatch.setattr(Searcher, "search", fail)
    with joblib.parallel_config(backend="dask"):
        np.testing.assert_array_equal(detector.score_samples(images), scores)
        np.testing.assert_array_equal(detector.reconstruct(images), reconstructions)


def test_list_of_devices(detector, images, monkeypatch):
    """Blocks are dealt out to the devices in turn."""
    scores = detector.score_samples(images)
    detector.set_params(device=["cpu", torch.device("cpu")])
    monkeypatch.setattr("sklearn_anogan._images._BLOCK_VALUES", 1)
    seen = []
    answer_block = _blocks._answer_block

    def look(x, codes, searcher, *args):
        seen.append(searcher)
        return answer_block(x, codes, searcher, *args)

    monkeypatch.setattr(_blocks, "_answer_block", look)
    np.testing.assert_array_equal(detector.score_samples(images), scores)
    assert len(seen) == 3
    assert len(set(seen)) == 2
    assert detector.fit(images).score_samples(images).shape == (150,)
    with pytest.raises(ValueError, match=r"device=\[\] names no device"):
        detector.set_params(device=[]).score_samples(images)
    with pytest.raises(ValueError, match="'cuda:77' cannot be used"):
        detector.set_params(device=["cpu", "cuda:77"]).score_samples(images)


def test_progress(detector, images, capsys, monkeypatch):
    updates = []

    class Recording(_blocks.tqdm):
        def update(self, n=1):
            updates.append(n)
            return super().update(n)

    monkeypatch.setattr(_blocks, "tqdm", Recording)
    detector.score_samples(images)
    assert capsys.readouterr() == ("", "")
    detector.set_params(verbose=1).score_samples(np.resize(images, (1200, 8, 8)))
    bar = capsys.readouterr().err
    assert updates[-3:] == [512, 512, 176]
    assert "1200/1200" in bar
    assert re.search(r"[\d.]+ images/s", bar)


@pytest.mark.gpu
def test_several_gpus(detector, images):
    """Also one GPU with two threads."""
    images = np.resize(images, (9000, 8, 8))
    detector.set_params(device="cuda", search_steps=20)
    scores = detector.score_samples(images)
    alone = [detector.score_samples(images[[i]])[0] for i in (0, 70, 8999)]
    np.testing.assert_array_equal(alone, scores[[0, 70, 8999]])
    detector.set_params(n_jobs=2)
    np.testing.assert_array_equal(detector.score_samples(images), scores)
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    detector.set_params(device=names + names, n_jobs=None)
    np.testing.assert_array_equal(detector.score_samples(images), scores)
    detector.set_params(device="cpu", search_steps=2)
    on_cpu = detector.score_samples(images)
    np.testing.assert_allclose(
        detector.set_params(device="cuda").score_samples(images), on_cpu, rtol=1e-3
    )
