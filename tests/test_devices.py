import numpy as np
import pytest
import torch

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan._devices import (
    exact_convolutions,
    intraop_threads,
    resolve_device,
    usual_torch,
)
from sklearn_anogan.persistence import load, save


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


class Half:
    """Torch as a user may have set it up around a call."""

    def __init__(self, setting):
        self.setting = setting

    def __enter__(self):
        if self.setting == "dtype":
            torch.set_default_dtype(torch.float64)
        elif self.setting == "device":
            torch.set_default_device("meta")
        else:
            self.context = {
                "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
                "inference": torch.inference_mode,
                "no_grad": torch.no_grad,
            }[self.setting]()
            self.context.__enter__()

    def __exit__(self, *exception):
        if self.setting == "dtype":
            kept = torch.get_default_dtype() == torch.float64
            torch.set_default_dtype(torch.float32)
            assert kept
        elif self.setting == "device":
            kept = torch.get_default_device().type == "meta"
            torch.set_default_device("cpu")
            assert kept
        else:
            self.context.__exit__(*exception)


@pytest.mark.parametrize(
    "setting", ["dtype", "device", "autocast", "inference", "no_grad"]
)
def test_what_the_user_has_set_changes_no_bit(zeros, quick, setting, tmp_path):
    quick |= {"anomaly_score": "calibrated", "inversion": "encoder+search"}

    def everything():
        detector = AnoGANDetector(**quick).fit(zeros[:60])
        found = detector.explain(zeros[60:70])
        save(detector, tmp_path / "detector.safetensors")
        loaded = load(tmp_path / "detector.safetensors")
        patches = PatchDetector(AnoGANDetector(**quick), 6, n_patches=50)
        patches.set_params(random_state=0).fit(zeros[:60])
        return [
            found.scores,
            found.maps,
            found.reconstructions,
            detector.p_values(zeros[60:70]),
            detector.calibrate(zeros[60:100]).p_values(zeros[60:70]),
            detector.sample(3, random_state=0),
            detector.generate(found.codes),
            loaded.score_samples(zeros[60:70]),
            patches.score_samples(zeros[60:70]),
        ]

    expected = everything()
    with Half(setting):
        found = everything()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_do_not_lose_the_default_type():
    """The first to come saves it, and the last to go puts it back."""
    torch.set_default_dtype(torch.float64)
    try:
        first, second = usual_torch(), usual_torch()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float32
        second.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
