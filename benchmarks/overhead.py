"""What skorch costs: the package's training loop against the same in plain torch.

Both train the same networks on the same number of batches, in turn, several times; the
table has the median of the ratios. The plain loop has all images ready on the device as
float32 in [-1, 1], and does nothing but the steps.

    python benchmarks/overhead.py
"""

import time
from itertools import chain

import numpy as np
import torch
from quality import describe_versions
from torch.nn.functional import softplus

from sklearn_anogan._images import TrainingImages, check_images
from sklearn_anogan._networks import Discriminator, Generator
from sklearn_anogan._training import TrainingSettings, train_gan
from sklearn_anogan._value_range import ValueRange

BATCH_SIZE, LATENT_DIM, LR, EMA_DECAY = 16, 64, 1.6e-3, 0.998

#: (side of the images, n_filters, images, epochs)
SETTINGS = [(8, 32, 1600, 3), (28, 16, 800, 2), (28, 32, 800, 2), (64, 32, 160, 2)]


def main():
    print(describe_versions())
    print(f"{torch.get_num_threads()} threads\n")
    print("| images | n_filters | plain [ms a step] | package [ms a step] | ratio |")
    print("|---|---|---|---|---|")
    for side, n_filters, n_images, n_epochs in SETTINGS:
        rng = np.random.RandomState(0)
        X = rng.randint(256, size=(n_images, side, side)).astype(np.uint8)
        n_steps = n_epochs * (n_images // BATCH_SIZE)
        times = []
        for _ in range(9):
            plain = seconds(train_plainly, X, n_filters, n_epochs)
            package = seconds(train_with_package, X, n_filters, n_epochs)
            times.append((plain, package, package / plain))
        plain, package, ratio = np.median(times[1:], axis=0)
        print(
            f"| {side}x{side} | {n_filters} | {1000 * plain / n_steps:.2f} | "
            f"{1000 * package / n_steps:.2f} | {ratio:.3f} |",
            flush=True,
        )


def seconds(function, *args):
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def train_with_package(X, n_filters, n_epochs):
    images = check_images(
        X, None, n_features=None, min_samples=2, estimator_name="overhead"
    )
    settings = TrainingSettings(
        generator=Generator,
        discriminator=Discriminator,
        latent_dim=LATENT_DIM,
        latent_prior="uniform",
        n_filters=n_filters,
        adversarial_loss="bce",
        ema_decay=EMA_DECAY,
        self_supervision=0.0,
        max_epochs=n_epochs,
        batch_size=BATCH_SIZE,
        lr=LR,
        lr_schedule="constant",
        mixed_precision=False,
        callbacks=(),
        device=torch.device("cpu"),
    )
    images = TrainingImages(images, ValueRange.measure(images), settings.device)
    images.keep_if_small()
    train_gan(images, settings, seed=0)


def train_plainly(X, n_filters, n_epochs):
    torch.manual_seed(0)
    X = torch.from_numpy(X).float()[:, None] / 127.5 - 1
    G = Generator(LATENT_DIM, *X.shape[1:], n_filters)
    D = Discriminator(*X.shape[1:], n_filters)
    average = Generator(LATENT_DIM, *X.shape[1:], n_filters).requires_grad_(False)
    G_weights, D_weights = list(G.parameters()), list(D.parameters())
    adam = torch.optim.Adam(
        [*G_weights, *D_weights], lr=LR, betas=(0.5, 0.999), fused=True
    )
    with_mean = [
        (mean, value)
        for mean, value in zip(
            chain(average.parameters(), average.buffers()),
            chain(G.parameters(), G.buffers()),
            strict=True,
        )
        if value.is_floating_point()
    ]
    means, values = map(list, zip(*with_mean, strict=True))
    for _ in range(n_epochs):
        for rows in torch.randperm(len(X)).split(BATCH_SIZE):
            x = X[rows]
            d_real, d_fake = D(x), D(G(2 * torch.rand(len(x), LATENT_DIM) - 1))
            loss_D = softplus(-d_real).mean() + softplus(d_fake).mean()
            adam.zero_grad()
            loss_D.backward(inputs=D_weights, retain_graph=True)
            softplus(-d_fake).mean().backward(inputs=G_weights)
            adam.step()
            with torch.no_grad():
                torch._foreach_lerp_(means, values, 1 - EMA_DECAY)


if __name__ == "__main__":
    main()
