"""Maps of anomalies without a trained network: what a detector of defects must beat.

All of them see the same filters: the leading principal components of 8x8 patches of
normal images, at full, half and quarter resolution. The filters' responses and the
absolute values of these are averaged on a grid of places and whitened.
"""

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import (
    adaptive_avg_pool2d,
    avg_pool2d,
    conv2d,
    interpolate,
    pad,
)

#: Places along a side of a map, and factors by which images are shrunk.
GRID, SHRINKING = 32, (1, 2, 4)

#: Side of a filter, filters at each resolution, and whitened numbers of a place.
SIDE, N_FILTERS, N_WHITENED = 8, 20, 80

#: Images in a block.
BLOCK = 32


class MapDetector:
    """Ranks images by the largest value of their maps.

    A subclass has ``learn(x)`` and ``measure(x)``, which makes maps (n, GRID, GRID) of
    a tensor (n, channels, height, width). A fifth of the images of `fit` standardise
    the maps, place by place.
    """

    def fit(self, X):
        x = to_tensor(X)
        rows = torch.from_numpy(np.random.RandomState(0).permutation(len(x)))
        held_out, training = rows[: len(x) // 5], rows[len(x) // 5 :]
        self.learn(x[training])
        usual = self.in_blocks(x[held_out])
        self.mean = smooth(usual.mean(0, keepdim=True))
        self.std = smooth(usual.std(0, keepdim=True))
        self.std += 0.01 * self.std.mean()  # some places never change
        return self

    def in_blocks(self, x):
        return torch.cat([self.measure(block) for block in x.split(BLOCK)])

    def anomaly_map(self, X):
        maps = (self.in_blocks(to_tensor(X)) - self.mean) / self.std
        size = tuple(X.shape[1:3])
        return interpolate(maps[:, None], size=size, mode="bilinear")[:, 0].numpy()

    def score_samples(self, X):
        return -self.anomaly_map(X).max(axis=(1, 2))


class FilterGaussian(MapDetector):
    """The Mahalanobis distance of responses under a Gaussian for each place."""

    def learn(self, x):
        self.bank = FilterBank().fit(x)
        r = torch.cat([self.bank.whitened(block) for block in x.split(BLOCK)])
        self.centre = r.mean(0)
        r = (r - self.centre).flatten(2)
        n, k, n_places = r.shape
        covariance = torch.einsum("nip,njp->ijp", r, r) / n
        covariance = smooth(covariance.reshape(k * k, GRID, GRID))
        covariance = covariance.reshape(k, k, n_places).permute(2, 0, 1)
        self.root = torch.linalg.cholesky(covariance + 0.1 * torch.eye(k))

    def measure(self, x):
        r = (self.bank.whitened(x) - self.centre).flatten(2).permute(2, 1, 0)
        r = torch.linalg.solve_triangular(self.root, r, upper=False)
        return r.square().sum(1).sqrt().T.reshape(-1, GRID, GRID)


class FilterNeighbors(MapDetector):
    """The distance of a place's responses from the nearest ones of any place."""

    def learn(self, x):
        self.bank = FilterBank().fit(x)
        places = torch.cat([self.places(block) for block in x.split(BLOCK)])
        rows = np.random.RandomState(0).permutation(len(places))[:10_000]
        self.neighbors = NearestNeighbors(n_neighbors=1, algorithm="brute")
        self.neighbors.fit(places[rows].numpy())

    def places(self, x):
        return self.bank.whitened(x).movedim(1, -1).flatten(0, 2)

    def measure(self, x):
        distances, _ = self.neighbors.kneighbors(self.places(x).numpy())
        return torch.from_numpy(distances).reshape(-1, GRID, GRID)


class PCAResidual(MapDetector):
    """What 32 principal components leave of an image, smoothed."""

    def learn(self, x):
        self.pca = PCA(32, svd_solver="randomized", random_state=0)
        self.pca.fit(x.flatten(1).numpy())

    def measure(self, x):
        flat = x.flatten(1).numpy()
        left = flat - self.pca.inverse_transform(self.pca.transform(flat))
        left = torch.from_numpy(left).float().reshape(x.shape).abs().mean(1)
        return smooth(adaptive_avg_pool2d(left, GRID))


class FilterBank:
    """Filters learned from patches, and their whitened responses."""

    def fit(self, x):
        self.filters = [leading_filters(shrunk(x, factor)) for factor in SHRINKING]
        r = torch.cat([self.responses(block) for block in x.split(BLOCK)])
        r = r.movedim(1, -1).flatten(0, 2)
        rows = torch.from_numpy(np.random.RandomState(0).permutation(len(r))[:200_000])
        self.mean, values, vectors = r.mean(0), *torch.linalg.eigh(torch.cov(r[rows].T))
        values, vectors = values[-N_WHITENED:], vectors[:, -N_WHITENED:]
        self.whitening = vectors / values.clamp(min=1e-10).sqrt()
        return self

    def responses(self, x):
        """Responses and their absolute values, averaged over 3x3 places of the grid."""
        found = []
        for factor, filters in zip(SHRINKING, self.filters, strict=True):
            around = (SIDE // 2, SIDE // 2 - 1) * 2
            r = conv2d(pad(shrunk(x, factor), around, mode="reflect"), filters)
            r = torch.cat([r, r.abs()], 1)
            if r.shape[-1] < GRID:
                found.append(interpolate(r, size=(GRID, GRID), mode="bilinear"))
            else:
                found.append(adaptive_avg_pool2d(r, GRID))
        return smooth(torch.cat(found, 1))

    def whitened(self, x):
        r = self.responses(x).movedim(1, -1)
        return ((r - self.mean) @ self.whitening).movedim(-1, 1)


def leading_filters(x, n_patches=20_000):
    """Leading principal components of patches, (N_FILTERS, channels, SIDE, SIDE)."""
    rng = np.random.RandomState(0)
    n, channels, height, width = x.shape
    places = rng.randint((n, height - SIDE + 1, width - SIDE + 1), size=(n_patches, 3))
    patches = [x[i, :, top : top + SIDE, left : left + SIDE] for i, top, left in places]
    patches = torch.stack(patches).flatten(1)
    _, vectors = torch.linalg.eigh(torch.cov(patches.T).double())
    filters = vectors[:, -N_FILTERS:].T.float()
    return filters.reshape(-1, channels, SIDE, SIDE)


def shrunk(x, factor):
    return avg_pool2d(x, factor)


def smooth(maps):
    """Means of 3x3 places of (n, GRID, GRID) or (n, k, GRID, GRID)."""
    return avg_pool2d(pad(maps, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def to_tensor(X):
    """uint8 images in scikit-image's layout as tensors (n, c, h, w) in [-1, 1]."""
    x = torch.as_tensor(X, dtype=torch.float32) / 127.5 - 1
    return x[:, None] if x.ndim == 3 else x.movedim(-1, 1).contiguous()
