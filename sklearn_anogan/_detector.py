# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The scikit-learn face of AnoGAN."""

import copy
from functools import partial
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import Bunch, check_scalar
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ._blocks import Search, invert_in_blocks
from ._calibration import (
    Calibration,
    calibrated_loss,
    residual_scale,
    residual_scales_without,
)
from ._devices import resolve_devices
from ._images import TrainingImages, ValueRange, check_image_shape, check_images
from ._inference import inference_form
from ._inversion import explore, n_images_that_fit
from ._losses import ADVERSARIAL_LOSSES, anogan_loss, largest_loss, smooth
from ._monitoring import CallbackSupportMixin, Reports, with_callbacks
from ._nets import sample_prior
from ._networks import DenseDiscriminator, DenseGenerator, Discriminator, Generator
from ._shared import (
    MOST_HELD_OUT,
    ImageDetectorMixin,
    hold_out,
    own_random_state,
    threshold,
    unchanged_on_failure,
)
from ._training import train_networks

__all__ = ["AnoGANDetector"]

#: Parameters that go to `train_networks` as they are.
_TRAINING_PARAMETERS = (
    "latent_dim",
    "latent_prior",
    "n_filters",
    "adversarial_loss",
    "ema_decay",
    "self_supervision",
    "max_epochs",
    "batch_size",
    "lr",
    "mixed_precision",
    "callbacks",
    "checkpoint_dir",
    "memory",
    "verbose",
)

#: Steps that ``search_steps="auto"`` takes at least.
_FEWEST_STEPS = 10

#: All terms that a score may be made of.
_TERMS = ("residual", "discrimination", "squares", "recognition", "largest")


class AnoGANDetector(CallbackSupportMixin, ImageDetectorMixin, BaseEstimator):
    """Detect images unlike the training images with a generative adversarial network.

    AnoGAN [1]_ trains a DCGAN [2]_ on normal images. For a new image x it searches,
    with both networks frozen, the latent code z whose generated image G(z) comes
    closest. What no code can reproduce is anomalous: the difference ranks images, and
    pixel by pixel it shows where they are anomalous. Images are ranked by that, and by
    how well the discriminator recognizes what it has learned of normal images.

    Parameters
    ----------
    image_shape : tuple (height, width) or (height, width, channels), default=None
        Shape of the images that the rows of a two-dimensional X hold. With None, such
        rows are plain features and a pair of fully-connected networks is trained; X of
        three or four dimensions says its shape itself.

    latent_dim : int, default=64
        Size of the latent code z.

    latent_prior : {"uniform", "normal"}, default="uniform"
        Distribution of the codes: uniform on [-1, 1], as in the paper, or standard
        normal.

    n_filters : int, default=32
        Channels of the convolution next to the image, in both networks. They double
        with every layer inwards, up to eight times this number. For plain rows, the
        hidden layers have four times as many units.

    generator, discriminator : nn.Module classes, default=None
        Networks to train instead of the built-in pair; see Notes.

    adversarial_loss : {"bce"}, default="bce"
        Loss of the adversarial training. "bce" is the paper's binary cross-entropy,
        non-saturating for the generator.

    max_epochs : int or "auto", default="auto"
        Passes over the training images. "auto" takes as many as give each network
        about 1500 steps, so that few images train as long as many, and 10 at least.

    batch_size : int, default=64
        Images in a training step.

    lr : float, default=8e-4
        Learning rate of the networks' Adam.

    ema_decay : float in [0, 1), default=0.998
        The generator that is kept has a moving average of the weights of the one that
        is trained, with this decay from step to step. 0 keeps the last weights, as the
        paper does.

    self_supervision : float, default=1.0
        Weight of a second task of the discriminator [4]_: to tell how a training image
        was turned and moved, or a row rotated [6]_. What it has learned of normal
        images in this way is the ruler of the calibrated score. 0 leaves the task out,
        as the paper does; rows of one number, or of more than 1448, have none.

    mixed_precision : bool, default=False
        Whether training computes in bfloat16, which newer GPUs do much faster.

    callbacks : list of skorch callbacks, default=None
        Called while generator and discriminator are trained; see Notes.

    checkpoint_dir : str or path, default=None
        Directory to which `fit` writes checkpoints between epochs. If it is interrupted
        or killed, the same call goes on from there to the very model that it would have
        reached, on the same machine. Each training needs a directory of its own.

    memory : str, path or joblib.Memory, default=None
        Directory in which trained networks are kept. A fit to the same images, with the
        same parameters of the networks and the training, takes them from there: a grid
        search over the other parameters trains once for each fold, an encoder apart
        from the GAN. It shows no progress then, and calls no callbacks; what one of
        scikit-learn's callbacks has stopped is not kept. With `random_state` None, any
        earlier training with None is the same one.

    inversion : {"search", "encoder", "encoder+search"}, default="search"
        How latent codes are found: by gradient descent, as in the paper; by an encoder
        trained for it, in one pass, as in f-AnoGAN [3]_; or by gradient descent from
        the encoder's code. `fit` trains an encoder if it is asked for here.

    n_candidates : int, default=4096
        Generated images that the search learns from once for each fit: it starts from
        the nearest of them, and steps in coordinates in which the generator changes
        about equally fast in all directions. Of large images, as many as take 64 MB.
        1 is the paper's search, from a random start and in plain coordinates.

    search_steps : int or "auto", default="auto"
        Gradient steps of the search from each start, at most (the paper: 500). More of
        them draw closer images, of anomalies too: maps get finer, ranks of small images
        worse. "auto" takes a third of the pixels along a side, and 10 at least. With 0,
        the images of the starts themselves are compared.

    search_lr : float, default=0.2
        Learning rate of the search's Adam.

    n_restarts : int, default=0
        Searches from further starts, the next nearest; the best code is kept.

    tol : float, default=0.0
        A search ends early once five steps have improved its loss by less than this
        share of it.

    anomaly_score : {"anogan", "calibrated"}, default="calibrated"
        "anogan" is the paper's loss of an image. "calibrated" asks, for two terms, how
        many normal images would exceed them, and adds up the logarithms of the answers:
        the difference from the nearest generated image, as a whole or in its most
        unusual place, whichever is rarer; and, with `self_supervision`, how badly the
        discriminator recognizes how the image is turned and moved [5]_, without it the
        paper's discrimination term.

    discrimination_weight : float in [0, 1], default=0.1
        Weight w of the discrimination term in the paper's loss, its lambda:
        (1 - w) * residual + w * discrimination. The search goes down this loss whatever
        `anomaly_score` is.

    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of the images of `fit` that lie beyond the threshold of `predict`, in a
        sample of 1000 of them if there are more. "auto" takes these images as normal
        and allows for 5 % false alarms among those held out of the training. For
        another share of false alarms, compare `p_values` with it.

    warm_start : bool, default=False
        Whether `fit` goes on with the networks of the last call instead of new ones;
        the value range of the first fit is kept, the optimizers start afresh.

    device : str, torch.device or list of them, default="auto"
        Where to train and search. "auto" takes a CUDA device where there is one. Of a
        list, the first one trains, and all of them search.

    n_jobs : int, default=None
        Blocks of images searched at the same time: by processes on the CPU, by threads
        on GPUs, or by the backend of :func:`joblib.parallel_config`. One block already
        keeps several cores busy, so this pays with many of them or on a cluster. See
        scikit-learn's glossary for None and -1.

    verbose : int, default=0
        With 1, training and scoring show progress bars, training with its losses.

    random_state : int, RandomState instance or None, default=None
        Decides the networks' weights, the batches, the starts of the search, and the
        sample of images for a number as `contamination`; which images are held out
        depends on how many there are. An int makes `fit` reproducible. Global random
        states are neither used nor changed.

    Attributes
    ----------
    generator_, discriminator_ : nn.Module
        The trained networks on the CPU, frozen and in evaluation mode. They work on
        tensors (n, channels, height, width) scaled to [-1, 1].

    recognizer_ : nn.Module
        Likewise, the discriminator's head for its second task: features to logits
        (n, n_transformations). Without the task there is one transformation only.

    encoder_ : nn.Module
        Likewise, the encoder; only if `inversion` asked for one.

    history_ : skorch.history.History
        For each epoch ``discriminator_loss``, ``generator_loss``, ``recognition_loss``
        (of the discriminator's second task, 0 without one), ``d_real`` and
        ``d_fake`` (means of D(x) and D(G(z)), as probabilities), ``diversity`` (the
        mean distance of generated images from the nearest other one, relative to that
        of training images: about 1 is healthy, near 0 is collapsed), and what the
        callbacks recorded.

    encoder_history_ : skorch.history.History
        ``encoder_loss`` for each epoch; only if there is an encoder.

    offset_ : float
        Threshold on the raw scores: ``decision_function = score_samples - offset_``.

    image_shape_ : tuple
        (height, width), (height, width, channels) or, for rows, (n_features,).

    n_features_in_ : int
        Numbers in an image.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names, only if X was a data frame with string names.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Much faster to fit; knows no neighbourhood of
        pixels.
    sklearn.neighbors.LocalOutlierFactor : Density of the training samples; keeps all of
        them.

    Notes
    -----
    X is one of: an array (n, height, width) or (n, height, width, channels); a torch
    tensor (n, channels, height, width) or (n, height, width); rows (n, n_features),
    which are flattened images if `image_shape` is given. Arrays are read block by
    block, memory maps included. Flattened images have their channels last, tensors of
    two dimensions too. The value range is learned from the training images for each
    channel (``uint8`` images mean 0 to 255), or for each feature of plain rows; values
    beyond it are not clipped.

    A tenth of the images of `fit`, at least 10 and at most 1000, are not trained on:
    scores are calibrated with them. Fewer than 40 images all serve for both.

    An image's score does not depend on the images it is scored with: all start from
    the same latent codes, and the search treats each one on its own.

    The paper sums absolute differences in both terms; here they are means, so that
    ``discrimination_weight`` means the same at every image size. Its score and search
    are ``AnoGANDetector(lr=2e-4, ema_decay=0, self_supervision=0, n_candidates=1,
    search_steps=500, search_lr=0.05, anomaly_score="anogan")``; the user guide has the
    sizes of its networks as well.

    A ``generator`` class takes ``latent_dim``, ``n_channels``, ``height``, ``width``
    and ``n_filters`` as keywords and maps codes (n, latent_dim) to images (n,
    n_channels, height, width) in [-1, 1]. A ``discriminator`` class takes the last four
    and maps images to logits (n,); its ``features``, a module or method, maps images to
    an intermediate layer (n, ...). Rows are images of height and width 1 with a channel
    for each feature. In evaluation mode, neither network may draw random numbers or
    mix the images of a batch.

    `callbacks` are skorch's, for instance ``EarlyStopping`` or ``LRScheduler``. In the
    net that they are given, ``module_`` is the generator that will be kept,
    ``discriminator_`` the other network, and no validation data are set aside: an
    ``EpochScoring`` needs ``on_train=True, use_caching=False``. scikit-learn's own
    callbacks are set with ``set_callbacks``, from version 1.9 on.

    Parameters of the search and of the score take effect on a fitted detector as soon
    as they are set; ``offset_`` stays that of the last `fit`, and after another
    `anomaly_score` has been set, `predict` asks for a new one.

    References
    ----------
    .. [1] T. Schlegl, P. Seeböck, S. M. Waldstein, U. Schmidt-Erfurth, G. Langs,
       "Unsupervised anomaly detection with generative adversarial networks to guide
       marker discovery", IPMI 2017. :doi:`10.1007/978-3-319-59050-9_12`
    .. [2] A. Radford, L. Metz, S. Chintala, "Unsupervised representation learning with
       deep convolutional generative adversarial networks", 2016.
       :doi:`10.48550/arXiv.1511.06434`
    .. [3] T. Schlegl, P. Seeböck, S. M. Waldstein, G. Langs, U. Schmidt-Erfurth,
       "f-AnoGAN: fast unsupervised anomaly detection with generative adversarial
       networks", 2019. :doi:`10.1016/j.media.2019.01.010`
    .. [4] T. Chen, X. Zhai, M. Ritter, M. Lucic, N. Houlsby, "Self-supervised GANs via
       auxiliary rotation loss", 2019. :doi:`10.48550/arXiv.1811.11212`
    .. [5] I. Golan, R. El-Yaniv, "Deep anomaly detection using geometric
       transformations", 2018. :doi:`10.48550/arXiv.1805.10917`
    .. [6] L. Bergman, Y. Hoshen, "Classification-based anomaly detection for general
       data", 2020. :doi:`10.48550/arXiv.2005.02359`

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_anogan import AnoGANDetector
    >>> digits = load_digits()
    >>> ones = digits.images[digits.target == 1]  # (182, 8, 8)
    >>> detector = AnoGANDetector(max_epochs=300, random_state=0)
    >>> detector.fit(ones[:100]).score_samples(ones[100:]).shape
    (82,)
    >>> detector.anomaly_map(digits.images[:2]).shape
    (2, 8, 8)
    """

    #: Those that decide which generated image is found for an image.
    _search_parameters = (
        "inversion",
        "n_candidates",
        "search_steps",
        "search_lr",
        "n_restarts",
        "tol",
        "discrimination_weight",
    )

    _threshold_parameters = ("anomaly_score",)

    _parameter_constraints = {  # noqa: RUF012 (scikit-learn's own form)
        "image_shape": ["array-like", None],
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "latent_prior": [StrOptions({"uniform", "normal"})],
        "n_filters": [Interval(Integral, 1, None, closed="left")],
        "generator": [type, None],
        "discriminator": [type, None],
        "adversarial_loss": [StrOptions(set(ADVERSARIAL_LOSSES))],
        "max_epochs": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "self_supervision": [Interval(Real, 0, None, closed="left")],
        "mixed_precision": ["boolean"],
        "callbacks": [list, None],
        "checkpoint_dir": [str, Path, None],
        "memory": [str, Path, HasMethods("cache"), None],
        "inversion": [StrOptions({"search", "encoder", "encoder+search"})],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "search_steps": [
            StrOptions({"auto"}),
            Interval(Integral, 0, None, closed="left"),
        ],
        "search_lr": [Interval(Real, 0, None, closed="neither")],
        "n_restarts": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "anomaly_score": [StrOptions({"anogan", "calibrated"})],
        "discrimination_weight": [Interval(Real, 0, 1, closed="both")],
        "contamination": [
            StrOptions({"auto"}),
            Interval(Real, 0, 0.5, closed="right"),
        ],
        "warm_start": ["boolean"],
        "device": [str, torch.device, list, tuple],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        image_shape=None,
        *,
        latent_dim=64,
        latent_prior="uniform",
        n_filters=32,
        generator=None,
        discriminator=None,
        adversarial_loss="bce",
        max_epochs="auto",
        batch_size=64,
        lr=8e-4,
        ema_decay=0.998,
        self_supervision=1.0,
        mixed_precision=False,
        callbacks=None,
        checkpoint_dir=None,
        memory=None,
        inversion="search",
        n_candidates=4096,
        search_steps="auto",
        search_lr=0.2,
        n_restarts=0,
        tol=0.0,
        anomaly_score="calibrated",
        discrimination_weight=0.1,
        contamination="auto",
        warm_start=False,
        device="auto",
        n_jobs=None,
        verbose=0,
        random_state=None,
    ):
        self.image_shape = image_shape
        self.latent_dim = latent_dim
        self.latent_prior = latent_prior
        self.n_filters = n_filters
        self.generator = generator
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.ema_decay = ema_decay
        self.self_supervision = self_supervision
        self.mixed_precision = mixed_precision
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.memory = memory
        self.inversion = inversion
        self.n_candidates = n_candidates
        self.search_steps = search_steps
        self.search_lr = search_lr
        self.n_restarts = n_restarts
        self.tol = tol
        self.anomaly_score = anomaly_score
        self.discrimination_weight = discrimination_weight
        self.contamination = contamination
        self.warm_start = warm_start
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Train the networks on normal images and set the threshold.

        A call that fails leaves the detector as it was; checkpoints stay.

        Parameters
        ----------
        X : array-like or tensor of n >= 2 images
            Normal images or rows, in one of the layouts of the Notes.

        y : Ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : AnoGANDetector

        Raises
        ------
        ValueError
            If X holds NaN or infinity, images of different shapes or of another shape
            than `image_shape`, fewer than two images or nothing but one constant; if a
            parameter, the device, a network class or a checkpoint cannot be used.
        FloatingPointError
            If training diverged, or a network answers with NaN or infinity.
        MemoryError
            If a batch does not fit into memory.
        OSError
            If `checkpoint_dir` cannot be written to. Later, that is only a warning.

        Warns
        -----
        ConvergenceWarning
            If the generator has collapsed, the losses explode, the discriminator has
            won or images are few for the networks' width: the detector can be used, but
            do not trust it before you have looked at `sample` and `history_`.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images[:60]
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> detector = detector.fit(images)
        >>> detector.image_shape_, len(detector.history_)
        ((8, 8), 2)
        """
        report = None
        if hasattr(self, "set_callbacks"):
            context = self._init_callback_context(max_subtasks=None)
            of_fit = {"estimator": self, "X": X, "y": y}
            context.call_on_fit_task_begin(**of_fit)
            report = partial(Reports, context, of_fit)
        with unchanged_on_failure(self):
            self._fit(X, report)
        if report:
            context.call_on_fit_task_end(
                **of_fit, reconstruction_attributes=lambda: vars(self)
            )
        return self

    def _fit(self, X, report):
        effective_n_jobs(self.n_jobs)  # fails now rather than after the training
        device, *_ = resolve_devices(self.device)
        resume = self.warm_start and hasattr(self, "generator_")
        images = self._check_images(X, reset=True)
        if resume and images.layout.chw != self._sample_layout.chw:
            raise ValueError(
                "warm_start=True continues with images of (channels, height, width) = "
                f"{self._sample_layout.chw}, but X has {images.layout.chw}. Use "
                "warm_start=False."
            )
        value_range = ValueRange.measure(images)
        if not resume:
            self._value_range = value_range
        is_rows = len(self.image_shape_) == 1
        training, held_out = hold_out(len(images))
        trained = train_networks(
            TrainingImages(images, self._value_range, device, training),
            self.generator or (DenseGenerator if is_rows else Generator),
            self.discriminator or (DenseDiscriminator if is_rows else Discriminator),
            with_encoder=self.inversion != "search",
            seed=int(own_random_state(self.random_state).randint(2**31 - 1)),
            has_random_seed=self.random_state is None,
            resume_from=self if resume else None,
            report=report
            and partial(report, partial(self._snapshot, images, held_out)),
            device=device,
            **{name: getattr(self, name) for name in _TRAINING_PARAMETERS},
        )
        earlier = self.history_ if resume else []
        self._adopt(images, held_out, trained)
        self.history_[:0] = earlier
        for number, epoch in enumerate(self.history_, start=1):
            epoch["epoch"] = number

    def _adopt(self, images, held_out, trained):
        """Take over what was trained, calibrate scores and set the threshold."""
        self.generator_, self.discriminator_ = trained.generator, trained.discriminator
        self.recognizer_, self.history_ = trained.recognizer, trained.history
        for name in ("encoder_", "encoder_history_"):
            vars(self).pop(name, None)
        if trained.encoder is not None:
            self.encoder_ = trained.encoder
            self.encoder_history_ = trained.encoder_history
        self._sample_layout = images.layout.on_cpu()
        self._prior = (self.latent_prior, self.latent_dim)
        self._fitted_n_filters = self.n_filters  # it may be set later
        self._explored = {}
        rng = np.random.RandomState(trained.seed)
        self._start_seed = int(rng.randint(2**31 - 1))

        n_kept = n_images_that_fit(len(held_out), self.n_features_in_)
        left = self._invert(images, _difference, held_out[:n_kept])
        self._residual_scale = torch.from_numpy(residual_scale(left.numpy()))
        terms = self._all_terms(images, held_out, with_recognition=True)
        terms[:n_kept, _TERMS.index("largest")] = [
            largest_loss(one, torch.zeros(1), torch.from_numpy(scale)).item()
            for one, scale in zip(
                left.double().split(1),
                residual_scales_without(left.numpy()),
                strict=True,
            )
        ]
        columns = self._columns("calibrated").values()
        self._calibration = Calibration.of(terms[:, list(columns)])
        self._held_out_terms = terms
        self._has_held_out = len(held_out) < len(images)
        self._remember_parameters()
        if self.contamination == "auto":
            scores = self._held_out_scores()
        else:
            of_all = rng.permutation(len(images))[:MOST_HELD_OUT]
            scores = self._combine(self._all_terms(images, of_all))
        self.offset_ = threshold(scores, self.contamination)

    def _held_out_scores(self):
        """Scores of the held-out images, each as if it were new."""
        columns = list(self._columns("calibrated").values())
        of_the_others = Calibration.of_the_others(self._held_out_terms[:, columns])
        return self._combine(self._held_out_terms, of_the_others)

    def _snapshot(self, images, held_out, trained):
        """The fitted attributes as they would be if training ended now."""
        other = copy.copy(self)
        if trained.encoder is None:
            other.inversion = "search"
        other._adopt(images, held_out, trained)
        return vars(other)

    def score_samples(self, X):
        """Score images: minus their loss, at the best latent code found.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        scores : ndarray of shape (n,), float64
            The lower, the more abnormal. At most 0, whatever the units of X. The
            calibrated score is the sum of the logarithms of two shares, those of normal
            images that would exceed the one term and the other.

        Raises
        ------
        NotFittedError
            If `fit` has not been called. Like the other errors, in every method.
        ValueError, TypeError
            If X is not numeric and finite, holds images of another shape than in `fit`,
            or values so far outside the training range that float32 cannot hold them.
        FloatingPointError
            If a network answers with NaN or infinity.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> X = images[60:62].copy()
        >>> X[1, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> detector.fit(images[:60]).score_samples(X).argsort()  # most abnormal first
        array([1, 0])
        """
        return self._combine(self._all_terms(self._check_images(X, reset=False)))

    def score_terms(self, X):
        """Compute the terms that the score is made of.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        terms : Bunch
            ``residual``, the mean absolute difference of the pixels of x and G(z) on
            the networks' scale, where training images span [-1, 1], and
            ``discrimination``, that of the discriminator's features: ndarrays of shape
            (n,), float64, at least 0. The higher, the more abnormal. Of the calibrated
            score, ``residual`` is the mean square of the difference, smoothed over 3x3
            pixels; ``largest_residual``, not for plain rows, the largest value of the
            smoothed difference relative to what normal images leave in each place;
            ``discrimination`` the mean of -log p(t | t(x)) over the ways t to turn and
            move an image, or without `self_supervision`, the paper's.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> X = images[60:62].copy()
        >>> X[1, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> terms = detector.fit(images[:60]).score_terms(X)
        >>> sorted(terms)
        ['discrimination', 'largest_residual', 'residual']
        >>> bool(terms.residual[1] > terms.residual[0])
        True
        """
        terms = self._all_terms(self._check_images(X, reset=False))
        return Bunch(**{name: terms[:, i] for name, i in self._columns().items()})

    def invert(self, X):
        """Find the latent codes of the nearest generated images.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        z : ndarray of shape (n, latent_dim), float32

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images[:60]
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> z = detector.fit(images).invert(images[:5])
        >>> z.shape
        (5, 64)
        >>> detector.generator_(torch.from_numpy(z)).shape  # what the codes stand for
        torch.Size([5, 1, 8, 8])
        """
        images = self._check_images(X, reset=False)
        return self._invert(images, _code).numpy()

    def reconstruct(self, X):
        """Generate the nearest normal image for each image.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        images : ndarray or tensor, shaped like X
            In the units of X; floating point also for integer images.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> nearest = detector.fit(images[:60]).reconstruct(damaged)
        >>> nearest.shape, bool(nearest.max() < 20)  # without the damage
        ((1, 8, 8), True)
        """
        images = self._check_images(X, reset=False)
        layout = images.layout
        keep = partial(_image, value_range=self._value_range, dtype=layout.dtype)
        return layout.restore(self._invert(images, keep))

    def anomaly_map(self, X):
        """Show where images differ from the nearest generated ones.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        maps : ndarray or tensor of shape (n, height, width)
            The difference in every pixel relative to what unseen normal images leave in
            that place, smoothed over 3x3 pixels: its absolute value, the mean over the
            channels. It has the units of X, as if all places were average ones. For
            plain rows, the absolute difference of every feature: (n, n_features).

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> maps = detector.fit(images[:60]).anomaly_map(damaged)
        >>> divmod(int(maps[0].argmax()), 8)  # row and column of the largest value
        (4, 4)
        """
        images = self._check_images(X, reset=False)
        is_rows = len(self.image_shape_) == 1
        layout = images.layout if is_rows else images.layout.grey()
        scale = self._residual_scale
        average = scale.square().mean((1, 2), keepdim=True).sqrt()
        keep = partial(
            _map,
            scale=scale,
            average=average * self._value_range.half_width,
            over_channels=not is_rows,
            dtype=layout.dtype,
        )
        return layout.restore(self._invert(images, keep))

    def sample(self, n_samples=1, random_state=None):
        """Draw images from the generator.

        Parameters
        ----------
        n_samples : int, default=1
            Number of images.

        random_state : int, RandomState instance or None, default=None
            Decides the latent codes.

        Returns
        -------
        images : ndarray or tensor of shape (n_samples, ...)
            In the layout and units of the training images, floating point.

        Raises
        ------
        ValueError, TypeError
            If `n_samples` is not an integer of at least 1.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images[:60]
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> drawn = detector.fit(images).sample(9, random_state=0)
        >>> drawn.shape
        (9, 8, 8)
        >>> bool((drawn == detector.sample(9, random_state=0)).all())
        True
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        seed = own_random_state(random_state).randint(2**31 - 1)
        return self._generate(self._draw(n_samples, seed))

    def _generate(self, z):
        """Images of latent codes, in the layout and units of the training images."""
        with torch.no_grad():
            x = torch.cat([self.generator_(block) for block in z.split(64)])
        return self._sample_layout.restore(self._value_range.to_user(x))

    def _check_images(self, X, *, reset):
        """Wrap X as images, checked; learn their shape or hold them to it."""
        if not reset:
            check_is_fitted(self)
        # Only the column names: for images, X.shape[1] is not the number of features.
        validate_data(self, X, reset=reset, skip_check_array=True, ensure_2d=False)
        images = check_images(
            X,
            check_image_shape(self.image_shape) if reset else self.image_shape_,
            n_features=None if reset else self.n_features_in_,
            min_samples=2 if reset else 1,
            estimator_name=type(self).__name__,
        )
        if reset:
            self.image_shape_ = images.image_shape
            self.n_features_in_ = int(np.prod(images.image_shape))
        return images

    @torch.inference_mode(False)
    def _invert(self, images, keep, index=None, *, with_recognition=False):
        """Search the images at ``index``.

        Every image passes here, on its way to every answer: ``keep(x, found)`` picks
        from a block and its `Inversion` what to return.
        """
        self._validate_params()  # those of the search may have been set since `fit`
        searches = [self._search_on(device) for device in resolve_devices(self.device)]
        if not with_recognition:
            searches = [search.without_recognizer() for search in searches]
        return invert_in_blocks(
            searches,
            images,
            np.arange(len(images)) if index is None else index,
            self._value_range,
            keep,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            n_starts=1 if self.inversion == "encoder" else self.n_restarts + 1,
            n_steps=0 if self.inversion == "encoder" else self._n_steps(),
            lr=self.search_lr,
            tol=self.tol,
            discrimination_weight=self.discrimination_weight,
        )

    def _n_steps(self):
        if self.search_steps != "auto":
            return self.search_steps
        n_pixels = 1 if len(self.image_shape_) == 1 else np.prod(self.image_shape_[:2])
        return max(_FEWEST_STEPS, int(np.sqrt(n_pixels) / 3))

    def _search_on(self, device):
        """What the search needs on a device; candidates are explored once a fit."""
        G = inference_form(self.generator_, device)
        D = inference_form(self.discriminator_, device)
        encoder = None
        if self.inversion != "search":
            if not hasattr(self, "encoder_"):
                raise ValueError(
                    f"inversion={self.inversion!r} needs an encoder, which fit trains "
                    "only if inversion asks for it then. Fit again, or use "
                    "inversion='search'."
                )
            encoder = self.encoder_
        recognizer = None
        if len(self.recognizer_.transformations) > 1:
            recognizer = self.recognizer_
        n_starts = self.n_restarts + 1
        n_candidates = n_images_that_fit(self.n_candidates, self.n_features_in_)
        n_candidates = max(n_candidates, n_starts)
        if self.inversion == "encoder":
            n_starts = n_candidates = 1
        is_plain = n_candidates == n_starts
        # Networks compare by identity: others in their place are explored anew.
        networks = (self.generator_, self.discriminator_, encoder, recognizer)
        wanted = (*networks, n_candidates, is_plain)
        known, candidates = self._explored.get(device, (None, None))
        if known != wanted:
            # The same candidates for every image: with its own, a score would depend
            # on the image's place in X.
            z = self._draw(n_candidates, self._start_seed).to(device)
            E, R = (
                network and inference_form(network, device)
                for network in (encoder, recognizer)
            )
            candidates = explore(G, D, z, n_starts, E, R)
            self._explored[device] = (wanted, candidates)
        return Search(G, D, candidates)

    def __getstate__(self):
        # What can be explored again is not worth its megabytes in a pickle.
        state = super().__getstate__()
        return state | {"_explored": {}} if "_explored" in state else state

    def _all_terms(self, images, index=None, *, with_recognition=None):
        """The terms of either score, (n, 5) float64, in the order of _TERMS."""
        if with_recognition is None:
            with_recognition = self.anomaly_score == "calibrated"
        keep = partial(_terms, scale=self._residual_scale)
        return self._invert(
            images, keep, index, with_recognition=with_recognition
        ).numpy()

    def _columns(self, anomaly_score=None):
        """Name of a term -> its column, for the terms of a score in their order."""
        names = {"residual": "residual", "discrimination": "discrimination"}
        if (anomaly_score or self.anomaly_score) == "calibrated":
            names = {"residual": "squares"}
            if len(self.image_shape_) > 1:  # rows have no places
                names["largest_residual"] = "largest"
            has_task = len(self.recognizer_.transformations) > 1
            names["discrimination"] = "recognition" if has_task else "discrimination"
        return {name: _TERMS.index(term) for name, term in names.items()}

    def _combine(self, terms, calibration=None):
        terms = terms[:, list(self._columns().values())]
        if self.anomaly_score == "anogan":
            return -anogan_loss(*terms.T, self.discrimination_weight)
        return -calibrated_loss(terms, calibration or self._calibration)

    def _draw(self, n, seed):
        """Latent codes from the prior, on the CPU."""
        rng = torch.Generator().manual_seed(seed)
        return sample_prior(n, *self._prior, rng=rng)


def _code(x, found):
    return found.z


def _terms(x, found, scale):
    x, G_z, scale = x.double(), found.G_z.double(), scale.to(x.device)
    terms = found._asdict() | {"largest": largest_loss(x, G_z, scale)}
    return torch.stack([terms[name] for name in _TERMS], 1)


def _image(x, found, value_range, dtype):
    return value_range.to_user(found.G_z).to(dtype)


def _difference(x, found):
    return x - found.G_z


def _map(x, found, scale, average, over_channels, dtype):
    difference = (x - found.G_z).cpu().double()
    in_units = smooth(difference / scale).abs() * average
    in_units = in_units.mean(1, keepdim=True) if over_channels else in_units
    return in_units.to(dtype)
