"""Recipes for the training of the GAN, side by side in plain torch.

What was tried for the default recipe: losses, normalisations of the discriminator,
penalties of its gradient, differentiable augmentation, learning rates, and the moving
average of the generator. Every recipe trains the package's DCGAN for 1500 steps on
normal images; generated images are compared with normal images held out of them (from
the training images: no test image takes part in the choice), as in `training.py`.

    python benchmarks/recipes.py --data DIR --sets mnist-8 digits-3 --recipes base lr4x
"""

import argparse
import contextlib
import copy
import io
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from prdc import compute_prdc
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, pad, relu, softplus

from sklearn_anogan._networks import Discriminator, Generator

LATENT_DIM, N_FILTERS, BATCH_SIZE = 64, 32, 64

#: (file, class, most training images)
SETS = {
    "mnist-8": ("mnist", 8, 5000),
    "fashion_mnist-6": ("fashion_mnist", 6, 5000),
    "mnist-2, 200": ("mnist", 2, 200),
    "fashion_mnist-0, 200": ("fashion_mnist", 0, 200),
    "digits-3": ("digits", 3, 200),
    "tiles": ("magnetic_tile_64", None, 761),
}

#: R3GAN (Huang et al. 2024): relativistic loss, R1 and R2, no normalisation. The
#: penalty is taken every fourth step, four times as strong.
R3GAN = {
    "loss": "relativistic",
    "norm": None,
    "gamma": 0.05,
    "every": 4,
    "betas": (0, 0.99),
}

RECIPES = {
    "base": {},  # the DCGAN paper's: binary cross-entropy, batch norm, lr 2e-4
    "lr2x": {"lr": 4e-4},
    "lr4x": {"lr": 8e-4},
    "lr of D halved": {"lr_D": 1e-4},
    "translation and cutout": {"augmentation": "tc"},  # Zhao et al. 2020
    "translation": {"augmentation": "t"},
    "spectral norm": {"norm": "spectral"},
    "spectral norm, hinge": {"norm": "spectral", "loss": "hinge"},
    "relativistic": {"loss": "relativistic"},
    "relativistic, layer norm": R3GAN
    | {"norm": "layer", "gamma": 0.5, "betas": (0.5, 0.999)},
    "R3GAN": R3GAN,
    "R3GAN, lr2x": R3GAN | {"lr": 4e-4},
}


def main():
    args = parse_arguments()
    torch.set_num_threads(1)
    print("| set | recipe | seed | average | precision | recall | density | coverage |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.sets:
        X, unseen = load(*SETS[name], args.data)
        for recipe in args.recipes:
            for seed in args.seeds:
                generators = train(X, seed, args.steps, **RECIPES[recipe])
                for decay, G in generators.items():
                    row = " | ".join(
                        f"{f:.2f}" for f in compare(draw(G, unseen), unseen)
                    )
                    print(
                        f"| {name} | {recipe} | {seed} | {decay} | {row} |", flush=True
                    )


def load(file, label, n_most, folder):
    """Training images and held-out ones of a class, in [-1, 1]."""
    if file == "digits":
        digits = load_digits()
        X = digits.images[digits.target == label] * 255 / 16
    else:
        with np.load(Path(folder) / f"{file}.npz") as data:
            X = data["X_train"]
            X = X if label is None else X[data["y_train"] == label]
    X = X[np.random.RandomState(0).permutation(len(X))]
    X = torch.tensor(X / 127.5 - 1, dtype=torch.float32)[:, None]
    n_unseen = min(900, len(X) // (3 if file == "digits" else 5))
    return X[:-n_unseen][:n_most], X[-n_unseen:]


def train(
    X,
    seed,
    n_steps,
    *,
    loss="bce",
    norm="batch",
    gamma=0,
    every=1,
    augmentation="",
    lr=2e-4,
    lr_D=None,
    betas=(0.5, 0.999),
):
    """The generators: as it is in the end, and its averages by their decay."""
    torch.manual_seed(seed)
    G = Generator(LATENT_DIM, *X.shape[1:], N_FILTERS)
    D = discriminator(norm, X.shape[1:])
    adam_G = torch.optim.Adam(G.parameters(), lr=lr, betas=betas)
    adam_D = torch.optim.Adam(D.parameters(), lr=lr_D or lr, betas=betas)
    averages = {decay: copy.deepcopy(G) for decay in (0.99, 0.998)}
    n = min(BATCH_SIZE, len(X))
    rows = torch.empty(0, dtype=torch.long)

    def answer(x):
        return D(augment(x, augmentation))

    for step in range(n_steps):
        rows = torch.randperm(len(X)) if len(rows) < n else rows
        real, rows = X[rows[:n]], rows[n:]
        fake = G(2 * torch.rand(n, LATENT_DIM) - 1)

        x, y = real.clone().requires_grad_(), fake.detach().clone().requires_grad_()
        d_x, d_y = answer(x), answer(y)
        if loss == "bce":
            loss_D = softplus(-d_x).mean() + softplus(d_y).mean()
        elif loss == "relativistic":
            loss_D = softplus(d_y - d_x).mean()
        else:
            loss_D = relu(1 - d_x).mean() + relu(1 + d_y).mean()
        if gamma and step % every == 0:
            slopes = torch.autograd.grad((d_x + d_y).sum(), (x, y), create_graph=True)
            penalty = sum(slope.square().flatten(1).sum(1).mean() for slope in slopes)
            loss_D = loss_D + every * gamma / 2 * penalty
        adam_D.zero_grad()
        loss_D.backward()
        adam_D.step()

        d_y = answer(fake)
        if loss == "bce":
            loss_G = softplus(-d_y).mean()
        elif loss == "relativistic":
            loss_G = softplus(answer(real).detach() - d_y).mean()
        else:
            loss_G = -d_y.mean()
        adam_G.zero_grad()
        loss_G.backward(inputs=list(G.parameters()))
        adam_G.step()
        for decay, average in averages.items():
            update(average, G, min(decay, (1 + step) / (10 + step)))
    return {0: G} | averages


@torch.no_grad()
def update(average, G, decay):
    for mean, value in zip(
        chain(average.parameters(), average.buffers()),
        chain(G.parameters(), G.buffers()),
        strict=True,
    ):
        if value.is_floating_point():
            mean.lerp_(value, 1 - decay)


def discriminator(norm, shape):
    D = Discriminator(*shape, N_FILTERS)
    if norm == "batch":
        return D
    for block in D.modules():
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                other = nn.GroupNorm(1, layer.num_features)
                setattr(block, name, other if norm == "layer" else nn.Identity())
    for layer in list(D.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, 0.2)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if norm == "spectral":
                nn.utils.parametrizations.spectral_norm(layer)
    return D


def augment(x, kinds):
    """Move images by up to an eighth, and cut out a square of half their side."""
    n, _, h, w = x.shape
    rows, columns = torch.arange(h), torch.arange(w)
    if "t" in kinds:
        far = max(1, round(h / 8)), max(1, round(w / 8))
        down, right = (torch.randint(2 * by + 1, (n, 1)) for by in far)
        x = pad(x, (far[1], far[1], far[0], far[0]), mode="replicate")
        image = torch.arange(n)[:, None, None]
        x = x[image, :, (rows + down)[:, :, None], (columns + right)[:, None]]
        x = x.permute(0, 3, 1, 2)
    if "c" in kinds:
        at = torch.randint(h + 1, (n, 1)), torch.randint(w + 1, (n, 1))
        inside = [
            (0 <= index - start + side // 2) & (index - start + side // 2 < side)
            for index, start, side in zip(
                (rows, columns), at, (h // 2, w // 2), strict=True
            )
        ]
        x = x * ~(inside[0][:, :, None] & inside[1][:, None])[:, None]
    return x


@torch.no_grad()
def draw(G, unseen):
    codes = 2 * torch.rand(len(unseen), LATENT_DIM) - 1
    return torch.cat([G.eval()(z) for z in codes.split(100)])


def compare(images, unseen):
    """Precision, recall, density and coverage."""
    k = 5 if len(unseen) > 100 else 3
    with contextlib.redirect_stdout(io.StringIO()):
        found = compute_prdc(features(unseen), features(images), nearest_k=k)
    return [found[name] for name in ("precision", "recall", "density", "coverage")]


def features(x):
    """Three layers with fixed random weights, averaged over a grid of 4x4 if larger."""
    rng = torch.Generator().manual_seed(0)
    for n_out in (64, 128, 256):
        n_in = x.shape[1]
        weight = torch.randn(n_out, n_in, 4, 4, generator=rng) / (8 * n_in) ** 0.5
        x = relu(conv2d(x, weight, stride=2, padding=1))
    return (adaptive_avg_pool2d(x, 4) if x.shape[-1] > 4 else x).flatten(1).numpy()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder with the .npz files")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1500)
    return parser.parse_args()


if __name__ == "__main__":
    main()
