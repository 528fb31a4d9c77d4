# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Types that signatures of several public objects have in common."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray


class Collection(Protocol):
    """Images by number, such as a list, or files that are read when needed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class StoredArray(Protocol):
    """An array of h5py, zarr, dask or another library that reads slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class OutlierDetector(Protocol):
    """Any detector with scikit-learn's interface."""

    def fit(self, X: Any, /) -> Any: ...

    def score_samples(self, X: Any, /) -> Any: ...


#: What images can be handed over as.
ImagesLike: TypeAlias = ArrayLike | torch.Tensor | Collection | StoredArray

#: Images as tensors: answers in the layout of X are tensors too.
Tensors: TypeAlias = torch.Tensor | Sequence[torch.Tensor]

#: Images or maps to draw, one by one.
Pictures: TypeAlias = NDArray[Any] | Sequence[NDArray[Any]]

#: Scores, steps or losses to draw.
Numbers: TypeAlias = NDArray[Any] | Sequence[float]

#: Answers in the layout of X: float32 if that holds X exactly, or float64.
FloatArray: TypeAlias = NDArray[np.floating[Any]]

#: Array or tensor, whichever the training images were. The checker cannot know.
LikeTraining: TypeAlias = Any

#: What lets the library choose a number.
Auto: TypeAlias = Literal["auto"]

Device: TypeAlias = str | torch.device

#: What decides random numbers; None takes others each time.
Seed: TypeAlias = int | np.random.RandomState | None
