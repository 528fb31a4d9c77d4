import pytest
import torch

from sklearn_anogan._devices import (
    exact_convolutions,
    intraop_threads,
    resolve_device,
)


def test_resolve_device():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == resolve_device(torch.device("cpu"))
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda:99", "no such device", "meta"])
def test_device_that_cannot_be_used(device):
    with pytest.raises(ValueError, match=f"device='{device}' cannot be used.*'cpu'"):
        resolve_device(device)


def test_exact_convolutions(monkeypatch):
    """The switches are put back by the last one out, and only GPUs need them."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)

    def switches():
        return cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32

    before = switches()
    with exact_convolutions(torch.device("cpu")):
        assert switches() == before
    first, second = (exact_convolutions(torch.device("cuda")) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert switches() == (True, False, False)
    second.__exit__(None, None, None)
    assert switches() == before


def test_threads_are_put_back():
    before = torch.get_num_threads()

    def fail():
        with intraop_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before
