"""Recipes for the training of the GAN, side by side.

What was tried for the default recipe: losses, normalisations of the discriminator,
penalties of its gradient, differentiable augmentation, learning rates, and the moving
average of the generator. The package trains its DCGAN by every recipe, for about 1500
steps on normal images; generated images are compared with normal images held out of
them (from the training images: no test image takes part in the choice), as in
`training.py`. An average of 0 is the generator as the last step left it.

    python benchmarks/recipes.py --data DIR --sets mnist-8 digits-3 --recipes base lr4x
"""

import argparse
import copy
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from torch import nn
from torch.nn.functional import pad, relu, softplus
from training import FIGURES, compare

from sklearn_anogan._images import TrainingImages, check_images
from sklearn_anogan._networks import Discriminator, Generator
from sklearn_anogan._training import ADVERSARIAL_LOSSES, TrainingSettings, train_gan
from sklearn_anogan._value_range import ValueRange

#: (file, class, most training images)
SETS = {
    "mnist-8": ("mnist", 8, 5000),
    "fashion_mnist-6": ("fashion_mnist", 6, 5000),
    "mnist-2, 200": ("mnist", 2, 200),
    "fashion_mnist-0, 200": ("fashion_mnist", 0, 200),
    "digits-3": ("digits", 3, 200),
    "tiles": ("magnetic_tile_64", None, 761),
}


class Hinge:
    """Does not reward logits beyond 1 and -1."""

    def __call__(self, D, x, G_z):
        d_real, d_fake = D(x), D(G_z)
        loss_D = relu(1 - d_real).mean() + relu(1 + d_fake).mean()
        return loss_D, -d_fake.mean(), d_real, d_fake


class Relativistic:
    """Compares each real image with a generated one."""

    def __call__(self, D, x, G_z):
        d_real, d_fake = D(x), D(G_z)
        loss_D, loss_G = softplus(d_fake - d_real), softplus(d_real - d_fake)
        return loss_D.mean(), loss_G.mean(), d_real, d_fake


class Penalized:
    """Another loss, with R1 and R2 of weight gamma in every n-th step, n times."""

    def __init__(self, loss, gamma, every):
        self.loss, self.gamma, self.every = loss, gamma, every
        self.n_steps = 0

    def __call__(self, D, *images):
        loss_D, *others = self.loss(D, *images)
        if self.n_steps % self.every == 0:
            images = [each.detach().requires_grad_() for each in images]
            logits = sum(D(each).sum() for each in images)
            slopes = torch.autograd.grad(logits, images, create_graph=True)
            penalty = sum(slope.square().flatten(1).sum(1).mean() for slope in slopes)
            loss_D = loss_D + self.every * self.gamma / 2 * penalty
        self.n_steps += 1
        return loss_D, *others


def normalised(norm):
    """Discriminators with another normalisation: "layer", "spectral" or None."""

    class Normalised(Discriminator):
        def __init__(self, **shape):
            super().__init__(**shape)
            for block in list(self.modules()):
                for name, layer in list(block.named_children()):
                    if isinstance(layer, nn.BatchNorm2d):
                        other = nn.GroupNorm(1, layer.num_features)
                        other = other if norm == "layer" else nn.Identity()
                        setattr(block, name, other)
                    elif isinstance(layer, nn.Conv2d | nn.Linear):
                        nn.init.kaiming_normal_(layer.weight, 0.2)
                        if layer.bias is not None:
                            nn.init.zeros_(layer.bias)
                        if norm == "spectral":
                            nn.utils.parametrizations.spectral_norm(layer)

    return Normalised


def augmented(kinds):
    """Discriminators that see augmented images while they are trained."""

    class Augmented(Discriminator):
        def forward(self, x):
            return super().forward(augment(x, kinds) if self.training else x)

    return Augmented


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


class Adam(Callback):
    """Trains with other betas, or with a learning rate of the discriminator's own."""

    def __init__(self, *, betas=(0.5, 0.999), lr_D=None):
        self.betas, self.lr_D = betas, lr_D

    def on_train_begin(self, net, **kwargs):
        of_G = {"params": net.learner_.parameters(), "lr": net.lr}
        of_D = {"params": net.discriminator_.parameters(), "lr": self.lr_D or net.lr}
        net.optimizer_ = torch.optim.Adam([of_G, of_D], betas=self.betas)


#: The DCGAN paper's recipe, but for the average.
BASE = TrainingSettings(
    generator=Generator,
    discriminator=Discriminator,
    latent_dim=64,
    latent_prior="uniform",
    n_filters=32,
    adversarial_loss="bce",
    ema_decay=0.998,
    self_supervision=0.0,
    max_epochs="auto",
    batch_size=64,
    lr=2e-4,
    lr_schedule="constant",
    mixed_precision=False,
    callbacks=(),
    device=torch.device("cpu"),
)

#: R3GAN (Huang et al. 2024): relativistic loss, R1 and R2, no normalisation.
R3GAN = {
    "adversarial_loss": Penalized(Relativistic(), gamma=0.05, every=4),
    "discriminator": normalised(None),
    "callbacks": (Adam(betas=(0.0, 0.99)),),
}

#: Name -> what differs from `BASE`. A loss stands for itself here.
RECIPES = {
    "base": {},
    "lr2x": {"lr": 4e-4},
    "lr4x": {"lr": 8e-4},
    "lr of D halved": {"callbacks": (Adam(lr_D=1e-4),)},
    "translation and cutout": {"discriminator": augmented("tc")},  # Zhao et al. 2020
    "translation": {"discriminator": augmented("t")},
    "spectral norm": {"discriminator": normalised("spectral")},
    "spectral norm, hinge": {
        "adversarial_loss": Hinge(),
        "discriminator": normalised("spectral"),
    },
    "relativistic": {"adversarial_loss": Relativistic()},
    "relativistic, layer norm": {
        "adversarial_loss": Penalized(Relativistic(), gamma=0.5, every=4),
        "discriminator": normalised("layer"),
    },
    "R3GAN": R3GAN,
    "R3GAN, lr2x": R3GAN | {"lr": 4e-4},
}


def main():
    args = parse_arguments()
    torch.set_num_threads(1)
    print(f"| set | recipe | seed | average | {' | '.join(FIGURES)} |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.sets:
        images, unseen = load(*SETS[name], args.data)
        for recipe in args.recipes:
            for seed in args.seeds:
                net = train(images, recipe, seed, args.steps)
                for decay, G in ((0, net.learner_), (net.ema_decay, net.module_)):
                    drawn = draw(net, G, len(unseen))
                    figures = compare(drawn, scaled(unseen), scaled(images))
                    row = " | ".join(f"{f:.2f}" for f in figures[: len(FIGURES)])
                    print(
                        f"| {name} | {recipe} | {seed} | {decay} | {row} |", flush=True
                    )


def load(file, label, n_most, folder):
    """Training images of a class, and held-out ones."""
    if file == "digits":
        digits = load_digits()
        X = digits.images[digits.target == label]
    else:
        with np.load(Path(folder) / f"{file}.npz") as data:
            X = data["X_train"]
            X = X if label is None else X[data["y_train"] == label]
    order = np.random.RandomState(0).permutation(len(X))
    n_unseen = min(900, len(X) // (3 if file == "digits" else 5))
    X = check_images(X, None, n_features=None, min_samples=2, estimator_name="recipes")
    value_range = ValueRange.measure(X)
    return [
        TrainingImages(X, value_range, BASE.device, index)
        for index in (order[:-n_unseen][:n_most], order[-n_unseen:])
    ]


def scaled(images):
    """All images as the networks see them, an array (n, height, width)."""
    return images.__getitems__(range(len(images)))[:, 0].numpy()


def train(images, recipe, seed, n_steps):
    """The package's net, trained by the recipe of this name."""
    settings = {"adversarial_loss": ADVERSARIAL_LOSSES["bce"]} | RECIPES[recipe]
    # A copy, which counts the steps of this training only.
    ADVERSARIAL_LOSSES[recipe] = copy.copy(settings["adversarial_loss"])
    settings["adversarial_loss"] = recipe
    steps_an_epoch = len(images) // min(BASE.batch_size, len(images))
    settings["max_epochs"] = ceil(n_steps / steps_an_epoch)
    return train_gan(images, replace(BASE, **settings), seed=seed)


@torch.no_grad()
def draw(net, G, n):
    """Images of G for the same codes in every call."""
    codes = net.sample_prior(n, rng=torch.Generator().manual_seed(0))
    return torch.cat([G.eval()(z) for z in codes.split(100)])[:, 0].numpy()


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
