# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The scikit-learn face of AnoGAN."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from joblib import Memory, effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, check_array, check_scalar
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ._base import (
    ImageDetectorMixin,
    PartOfModel,
    own_random_state,
    unchanged_on_failure,
)
from ._calibration import Calibration, folds_of
from ._compat import CallbackSupportMixin, checked_fit, fit_context, with_callbacks
from ._copies import tell_of_copies, tell_of_known_images
from ._devices import resolve_devices, usual_torch
from ._findings import find_all, in_layout, make_finders, need_search
from ._holding_out import MOST_HELD_OUT, check_groups, hold_out
from ._images import (
    TrainingImages,
    check_image_shape,
    check_images,
    tell_of_channels_first,
    within,
)
from ._named_callbacks import NamedCallbacksMixin
from ._networks import BUILT_IN
from ._ruler import learn_ruler, tell_of_large
from ._samples import learn_samples
from ._score import JOINS, TERMS, defined_terms
from ._search import Pairs, Searchers, SearchSettings, Workers, search_in_blocks
from ._training import ADVERSARIAL_LOSSES, Reports, TrainingRun, TrainingSettings
from ._types import Auto, Device, FloatArray, ImagesLike, LikeTraining, Seed, Tensors
from ._units import tell_of_units
from ._value_range import ValueRange
from ._warnings import warn_user

__all__ = ["AnoGANDetector"]

#: Steps that ``search_steps="auto"`` takes at least.
_FEWEST_STEPS = 5


class AnoGANDetector(
    CallbackSupportMixin, NamedCallbacksMixin, ImageDetectorMixin, BaseEstimator
):
    """Detect images unlike the training images with a generative adversarial network.

    AnoGAN [1]_ trains a DCGAN [2]_ on normal images. For a new image x, the detector
    freezes both networks and searches the latent code z whose generated image G(z)
    comes closest. What no code can reproduce is anomalous. Three things rank images:
    the difference between x and G(z); how well the discriminator recognizes in x what
    it has learned of normal images; and how unusual edges, textures and pixels of x are
    in their places. The last takes linear algebra only. It finds small defects, and it
    shows pixel by pixel where an image is anomalous.

    Parameters
    ----------
    image_shape : tuple (height, width) or (height, width, channels), default=None
        Shape of the images that the rows of a two-dimensional X hold. With None, the
        rows are plain features, and fully-connected networks are trained. X of three or
        four dimensions needs no `image_shape`.

    latent_dim : int, default=64
        Size of the latent code z.

    latent_prior : {"uniform", "normal"}, default="uniform"
        Distribution of the codes: uniform on [-1, 1], as in the paper, or standard
        normal.

    n_filters : int or "auto", default="auto"
        Channels of the convolution next to the image, in both networks. The number
        doubles with every layer inwards, up to eight times `n_filters`. For plain rows,
        each hidden layer has ``4 * n_filters`` units. "auto" is 32 for images that the
        networks see with up to 32 pixels along a side, and for rows. For larger images
        it is 1024 divided by the longer side, at least 4, so that a training step costs
        about the same whatever `network_side` is.

    network_side : int or None, default=32
        Longest side in pixels of the images that the networks see. Larger images are
        shrunk to this side for the networks, in proportion, which keeps training short.
        The ruler of places, which finds small defects, sees up to 128 pixels in any
        case. None shows the networks the images as they are.

    generator, discriminator : nn.Module classes, default=None
        Networks to train instead of the built-in pair; see Notes.

    adversarial_loss : {"bce"}, default="bce"
        Loss of the adversarial training. "bce" is the paper's binary cross-entropy,
        non-saturating for the generator.

    max_epochs : int or "auto", default="auto"
        Passes over the training images. "auto" gives each network 24 steps for each
        pixel along the longer side of the images that the networks see, at least 320;
        for plain rows 24 steps for each column, at least 500; and at most 1000 in any
        case. So any number of images takes about as long. With so many images that one
        pass would have more steps, the only epoch draws as many images as it needs.

    batch_size : int, default=16
        Images in a training step.

    lr : float, default=1.6e-3
        Learning rate of the networks' Adam at the start.

    lr_schedule : {"linear", "constant"}, default="linear"
        "linear" lowers the learning rate by equal amounts from step to step, to 0 at
        the end of the training. "constant" leaves the learning rate as it is, so that a
        training with checkpoints can be continued with a larger `max_epochs`. A
        ``LRScheduler`` among `callbacks` replaces the schedule.

    ema_decay : float in [0, 1), default=0.998
        The generator that `fit` keeps has the moving average of the trained weights.
        This is the decay of the average from step to step. 0 keeps the last weights, as
        the paper does.

    self_supervision : float, default=1.0
        Weight of a second task of the discriminator [4]_: to tell how a training image
        was turned and moved, or how a row was rotated [6]_. The calibrated score
        measures how well the discriminator does this task on a new image. 0 leaves the
        task out, as the paper does. Rows of one number, or of more than 1448, have no
        second task.

    mixed_precision : bool, default=False
        Whether training computes in bfloat16, which is much faster on newer GPUs.

    callbacks : list of skorch callbacks, default=None
        Called while generator and discriminator are trained; see Notes. With (name,
        callback) instead of a callback, ``callbacks__name__parameter`` is a parameter
        of the detector, for a grid search.

    checkpoint_dir : str or path, default=None
        Directory to which `fit` writes checkpoints between epochs. If `fit` is
        interrupted or killed, the same call goes on from the last checkpoint. On the
        same machine, the final model is the one that an undisturbed `fit` would have
        reached. Each training needs a directory of its own.

    memory : str, path or joblib.Memory, default=None
        Directory in which trained networks are kept. A fit to the same images, with the
        same parameters of networks and training, takes the networks from there. So a
        grid search over other parameters trains once for each fold. The encoder is kept
        apart from the GAN. A fit that does not train shows no progress and calls no
        callbacks. A training that one of scikit-learn's callbacks has stopped is not
        kept. If `random_state` is None, any earlier training with None counts as the
        same.

    inversion : {"search", "encoder", "encoder+search"}, default="search"
        How latent codes are found. "search" is gradient descent, as in the paper.
        "encoder" takes one pass of an encoder trained for this, as in f-AnoGAN [3]_.
        "encoder+search" is gradient descent from the encoder's code. `fit` trains an
        encoder only for the last two.

    n_candidates : int, default=4096
        Generated images that the search learns from, once for each fit. A search starts
        from the nearest candidate, and steps in coordinates in which the generator
        changes about equally fast in all directions. For large images there are fewer
        candidates, as many as take 64 MB. 1 is the paper's search: from a random start,
        in plain coordinates.

    search_steps : int or "auto", default="auto"
        Largest number of gradient steps of the search from each start (the paper: 500).
        With more steps the generated images come closer, to anomalies too: residual
        maps get finer, but small images are ranked worse. "auto" takes a sixth of the
        pixels along a side that the networks see, but at least 5 steps. 0 compares the
        generated images of the starts.

    search_lr : float, default=0.2
        Learning rate of the search's Adam.

    n_restarts : int, default=0
        Number of additional starts: the next nearest candidates. The best code is kept.

    tol : float, default=0.0
        A search ends early once five steps have improved its loss by less than this
        share of the loss.

    anomaly_score : {"anogan", "calibrated"}, default="calibrated"
        What the score of an image is. "anogan" is minus the paper's loss. "calibrated"
        estimates for four terms the share of normal images with a larger value, and
        adds up the logarithms of the shares, with weights that depend on the size of
        the images; see the user guide. The first term is how far the image
        deviates from what is usual in each place, as a whole or in its most unusual
        place, whichever is rarer; rows and images of less than 4 pixels along a side do
        without this term. The second term is the difference from the nearest generated
        image. The third term is how badly the discriminator recognizes how the image is
        turned and moved [5]_, or without `self_supervision`, the paper's discrimination
        term. The fourth term is how far away the nearest normal images are, relative to
        the distances between normal images; it decides about rows and tiny images.

    discrimination_weight : float in [0, 1], default=0.1
        Weight w of the discrimination term in the paper's loss, the paper's lambda:
        (1 - w) * residual + w * discrimination. The search descends this loss whatever
        `anomaly_score` is.

    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of the images of `fit` that lie beyond the threshold of `predict`. With
        more than 1000 images, a sample of 1000 decides. "auto" takes all images as
        normal and allows for 5 % false alarms among unseen normal images, judged by
        the images held out of the training. For another share of false alarms, compare
        `p_values` with that share.

    warm_start : bool, default=False
        Whether `fit` goes on with the networks of the last call instead of new ones.
        The value range of the first fit is kept, and the optimizers start afresh.

    device : str, torch.device or list of them, default="auto"
        Where to train and search. "auto" takes a CUDA device if there is one. From a
        list, the first device trains, and all devices search.

    n_jobs : int, default=None
        Number of blocks of images that are searched at the same time: by processes on
        the CPU, by threads on GPUs, or by the backend that
        :func:`joblib.parallel_config` names.
        A single block keeps several cores busy, so that `n_jobs` pays with many cores
        or on a cluster. See scikit-learn's glossary for None and -1.

    verbose : int, default=0
        With 1, training and scoring show progress bars, training with its losses.

    random_state : int, RandomState instance or None, default=None
        Decides the networks' weights, the batches, the starts of the search, and the
        sample of images if `contamination` is a number. Which images are held out
        depends only on how many there are, and on the groups. An int makes `fit`
        reproducible. Global random states are neither used nor changed.

    Attributes
    ----------
    generator_, discriminator_ : nn.Module
        The trained networks on the CPU, frozen and in evaluation mode. They work on
        tensors (n, channels, height, width) scaled to [-1, 1].

    recognizer_ : nn.Module
        The discriminator's head for its second task: features to logits (n,
        n_transformations). Only if there is a second task.

    encoder_ : nn.Module
        The encoder: images to latent codes. Only if `inversion` asked for one.

    history_ : skorch.history.History
        What was recorded in each epoch:

        - ``discriminator_loss`` and ``generator_loss``;
        - ``recognition_loss``, of the discriminator's second task, 0 without one;
        - ``d_real`` and ``d_fake``, the means of D(x) and D(G(z)) as probabilities;
        - ``diversity``, the mean distance of a generated image from the nearest other
          one, relative to the same mean among training images: about 1 is healthy, near
          0 the generator has collapsed;
        - whatever the callbacks recorded.

    encoder_history_ : skorch.history.History
        ``encoder_loss`` in each epoch. Only if there is an encoder.

    offset_ : float
        Threshold on the raw scores: ``decision_function = score_samples - offset_``.

    shift_p_value_ : float
        How likely scores as different as those of the images given to `calibrate` are,
        if the images come from the source of `fit`. NaN if `fit` held no images out.
        Only after `calibrate`.

    model_ : object
        All that the training has learned, in one frozen record: the networks above, the
        ruler of places, the layout and the value range of the training images, the
        seed.

    calibration_ : object
        Measurements on held-out images, and the parameters of the search and the score
        that were used for them.

    image_shape_ : tuple
        (height, width), (height, width, channels) or, for rows, (n_features,).

    n_features_in_ : int
        Numbers in an image.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names, only if X was a data frame with string names.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Much faster to fit, but blind to which pixels
        are neighbours.
    sklearn.neighbors.LocalOutlierFactor : Density of the training samples, all of which
        are kept.

    Notes
    -----
    X is one of:

    - an array (n, height, width) or (n, height, width, channels);
    - a torch tensor (n, channels, height, width) or (n, height, width);
    - rows (n, n_features), which are flattened images if `image_shape` is given.

    Arrays and memory maps are read block by block. Flattened images have their channels
    last, in tensors of two dimensions too. The value range is learned from the training
    images for each channel, or for each feature of plain rows. ``uint8`` images have
    the range 0 to 255, unless they use less than 64 of these levels. A few values far
    from all others do not set the range. Values beyond the range are not clipped in
    scores.

    Some images of `fit` are held out of the training, to calibrate the scores. Their
    number is the largest of these: a tenth of the images, at most 999; a quarter, at
    most 99; 45 %, at most 39; half, at most 19. From 19 on, it is rounded down to one
    less than a multiple of 20, so that a p-value of .05 is possible. Fewer than 8
    images all train and calibrate.

    The score of an image does not depend on the images that are scored with it. All
    images have the same candidates to start from, and each is searched on its own.

    The paper sums absolute differences in both terms. Here the terms are means, so that
    ``discrimination_weight`` means the same for images of every size. The paper's score
    and search are ``AnoGANDetector(network_side=None, batch_size=64, lr=2e-4,
    lr_schedule="constant", ema_decay=0, self_supervision=0, n_candidates=1,
    search_steps=500, search_lr=0.05, anomaly_score="anogan")``, and its map is
    :meth:`residual_map`. The user guide has the sizes of the paper's networks as well.

    A ``generator`` class takes the keywords ``latent_dim``, ``n_channels``, ``height``,
    ``width`` and ``n_filters``, and maps codes (n, latent_dim) to images (n,
    n_channels, height, width) in [-1, 1]. A ``discriminator`` class takes all of these
    keywords but ``latent_dim``, and maps images to logits (n,). The discriminator has
    ``features``, a module or method that maps images to an intermediate layer (n, ...).
    Rows are images of height and width 1 with a channel for each feature. In evaluation
    mode, neither network may draw random numbers or mix the images of a batch.

    `callbacks` are skorch's, for instance ``LRScheduler`` or
    ``EarlyStopping(monitor="generator_loss")``: what is monitored has to be in
    `history_`. A callback is given a net in which ``module_`` is the generator that
    will be kept and ``discriminator_`` the discriminator. No validation data are set
    aside, so that an ``EpochScoring`` needs ``on_train=True, use_caching=False``.
    scikit-learn's own callbacks are set with ``set_callbacks``, from version 1.9 on.

    Parameters of the search and of the score can be set after `fit` and take effect at
    once. The threshold ``offset_`` stays that of the last `fit`. `predict` therefore
    raises an error once a parameter of the score itself has been set to another value:
    `anomaly_score`, or for the paper's score, `discrimination_weight`.

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

    _search_parameters = (
        "inversion",
        "n_candidates",
        "search_steps",
        "search_lr",
        "n_restarts",
        "tol",
        "discrimination_weight",
    )

    _parameter_constraints = {  # noqa: RUF012 (scikit-learn's own form)
        "image_shape": ["array-like", None],
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "latent_prior": [StrOptions({"uniform", "normal"})],
        "n_filters": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "network_side": [Interval(Integral, 1, None, closed="left"), None],
        "generator": [type, None],
        "discriminator": [type, None],
        "adversarial_loss": [StrOptions(ADVERSARIAL_LOSSES.keys())],
        "max_epochs": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"linear", "constant"})],
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
        "anomaly_score": [StrOptions(JOINS.keys())],
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

    generator_: PartOfModel[torch.nn.Module] = PartOfModel("generator")
    discriminator_: PartOfModel[torch.nn.Module] = PartOfModel("discriminator")
    recognizer_: PartOfModel[torch.nn.Module] = PartOfModel("recognizer")
    encoder_: PartOfModel[torch.nn.Module] = PartOfModel("encoder")
    history_: PartOfModel[Any] = PartOfModel("history")
    encoder_history_: PartOfModel[Any] = PartOfModel("encoder_history")
    image_shape_: PartOfModel[tuple[int, ...]] = PartOfModel("layout.image_shape")

    def __init__(
        self,
        image_shape: Sequence[int] | None = None,
        *,
        latent_dim: int = 64,
        latent_prior: Literal["uniform", "normal"] = "uniform",
        n_filters: int | Auto = "auto",
        network_side: int | None = 32,
        generator: type[torch.nn.Module] | None = None,
        discriminator: type[torch.nn.Module] | None = None,
        adversarial_loss: Literal["bce"] = "bce",
        max_epochs: int | Auto = "auto",
        batch_size: int = 16,
        lr: float = 1.6e-3,
        lr_schedule: Literal["linear", "constant"] = "linear",
        ema_decay: float = 0.998,
        self_supervision: float = 1.0,
        mixed_precision: bool = False,
        callbacks: list[Any] | None = None,
        checkpoint_dir: str | Path | None = None,
        memory: str | Path | Memory | None = None,
        inversion: Literal["search", "encoder", "encoder+search"] = "search",
        n_candidates: int = 4096,
        search_steps: int | Auto = "auto",
        search_lr: float = 0.2,
        n_restarts: int = 0,
        tol: float = 0.0,
        anomaly_score: Literal["anogan", "calibrated"] = "calibrated",
        discrimination_weight: float = 0.1,
        contamination: float | Auto = "auto",
        warm_start: bool = False,
        device: Device | Sequence[Device] = "auto",
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: Seed = None,
    ) -> None:
        self.image_shape = image_shape
        self.latent_dim = latent_dim
        self.latent_prior = latent_prior
        self.n_filters = n_filters
        self.network_side = network_side
        self.generator = generator
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.lr_schedule = lr_schedule
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
    @checked_fit(prefer_skip_nested_validation=True)
    def fit(
        self, X: ImagesLike, y: object = None, groups: ArrayLike | None = None
    ) -> Self:
        """Train the networks on normal images and set the threshold.

        A call that fails leaves the detector as it was; checkpoints stay.

        Parameters
        ----------
        X : array-like or tensor of n >= 2 images
            Normal images or rows, in one of the layouts of the Notes.

        y : Ignored
            Present for scikit-learn's conventions.

        groups : array-like of shape (n,), default=None
            A label for each image: the patient, part or video that the image shows.
            Images of one group are never on both sides of the split between training
            and held-out images, and a held-out group counts as one image. So thresholds
            and p-values hold for new patients, parts or videos. At least two groups;
            with 38 of them, p-values of .05 become possible.

        Returns
        -------
        self : AnoGANDetector

        Raises
        ------
        ValueError
            If X holds NaN or infinity, images of different shapes or of another shape
            than `image_shape`, fewer than two images, or only one constant; if `groups`
            has not a label for each image, or only one label; if a parameter, the
            device, a network class or a checkpoint cannot be used.
        FloatingPointError
            If training diverged, or a network answers with NaN or infinity.
        MemoryError
            If a batch does not fit into memory.
        OSError
            If `checkpoint_dir` cannot be written to at the start. Later, a failed
            checkpoint is only a warning.

        Warns
        -----
        ConvergenceWarning
            If the generator has collapsed, the losses have exploded, the discriminator
            has won, or the images are too few for networks of this width. The detector
            can be used, but look at `sample` and `history_` before you trust it.
        UserWarning
            If most held-out images have near-copies among the training images (of
            images only, not of rows), so that false alarms will be more than promised;
            if a single image unlike the rest has set the threshold; if few values, or a
            single one, lie far from all others, in images or in a column of rows; if
            ``uint8`` images use hardly any levels; if arrays look as if their channels
            came first; if images have more than 512 pixels along a side; if so many
            channels make the training long.

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
        metadata = None if groups is None else {"groups": groups}
        of_fit = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        context = fit_context(self, of_fit)
        with unchanged_on_failure(self):
            self._fit(X, groups, context and partial(Reports, context, of_fit))
            for problem in self.model_.problems:
                warn_user(problem, ConvergenceWarning)
        if context:
            context.call_on_fit_task_end(
                **of_fit, reconstruction_attributes=lambda: vars(self)
            )
        return self

    @usual_torch()
    def _fit(self, X, groups, make_report):
        effective_n_jobs(self.n_jobs)  # fails now rather than after the training
        device, *_ = resolve_devices(self.device)
        start = self.model_ if self.warm_start and hasattr(self, "model_") else None
        images = self._check_images(X, reset=True)
        groups = check_groups(groups, len(images), least=2, name="AnoGANDetector.fit")
        value_range = ValueRange.measure(images, vars(self).get("feature_names_in_"))
        usual = images.clipped(value_range)
        measured = images if images.layout.has_places else usual
        if start is not None:
            start.check_layout(images.layout)
            value_range = start.value_range
        training, held_out = hold_out(len(images), groups)
        shape = images.layout.chw[1:]
        if self.network_side is not None:
            shape = within(*shape, self.network_side)
        as_seen = partial(TrainingImages, usual, value_range, device, size=shape)
        settings = self._training_settings(images.layout, device)
        settings.tell_of_many_channels(len(training), (images.layout.chw[0], *shape))
        trained_on = as_seen(training).keep_if_small()
        if images.layout.has_places and len(held_out) < len(images):
            tell_of_copies(as_seen(held_out), trained_on, groups is not None)

        def report(name, as_model):
            def snapshot(net):
                return self._snapshot(as_model(net), measured, held_out, groups)

            return make_report(name, snapshot)

        model = TrainingRun(
            trained_on,
            settings,
            samples=learn_samples(as_seen, np.setdiff1d(training, held_out)),
            seed=int(own_random_state(self.random_state).randint(2**31 - 1)),
            ruler=learn_ruler(usual, value_range, training),
            has_random_seed=self.random_state is None,
            start=start,
            checkpoint_dir=self.checkpoint_dir,
            memory=self.memory,
            report=make_report and report,
            verbose=self.verbose,
        ).train(with_encoder=self.inversion != "search")
        if start is not None:
            model = model.continued_from(start)
        self._adopt(model)
        self._calibrate(measured, held_out, groups)
        vars(self).pop("shift_p_value_", None)

    def _training_settings(self, layout, device):
        generator, discriminator = BUILT_IN[layout.kind]
        return TrainingSettings(
            **{each.name: getattr(self, each.name) for each in fields(TrainingSettings)}
            | {
                "generator": self.generator or generator,
                "discriminator": self.discriminator or discriminator,
                "callbacks": tuple(self.callbacks or ()),
                "device": device,
            }
        )

    def _adopt(self, model):
        self.model_, self._searchers = model, Searchers(model)

    @usual_torch()
    def _calibrate(self, images, held_out, groups=None, replaced=None):
        """Search the held-out images once, fit the terms, and set the threshold.

        Parameters
        ----------
        images : Images
            In `fit`, rows without far values, which would stretch all scales.
        held_out : ndarray of shape (m,)
            Which of the images.
        groups : ndarray of shape (n,) or None
            Number of each image's group.
        replaced : Calibration or None
            Of `fit`, if these images have not been given to `fit`.
        """
        of_held_out = held_out if groups is None else groups[held_out]
        numbers = np.unique(of_held_out, return_inverse=True)[1]
        pairs = Pairs(*self._search(), images, held_out, numbers)
        fitted = {
            term.name: term.fit(pairs, self.model_)
            for term in defined_terms(self.model_)
        }
        self.calibration_ = Calibration(
            held_out={name: values for name, (_, values) in fitted.items()},
            groups=numbers,
            has_groups=groups is not None,
            is_held_out=replaced is not None or len(held_out) < len(images),
            parameters=self._calibrated_parameters(),
            learned={name: learned for name, (learned, _) in fitted.items()},
            replaced=replaced,
        )
        if self.contamination == "auto":
            self._set_threshold(self._held_out_scores(), held_out)
        else:
            of_all = self.model_.sample_of(len(images), MOST_HELD_OUT)
            as_given = images.clipped(None)
            self._set_threshold(self._scores_of(as_given, of_all), of_all)

    def _tell_of_known_images(self, groups):
        tell_of_known_images(self.model_, self.calibration_, groups)

    def _held_out_scores(self):
        return self._scores(self.calibration_.held_out)

    def _scores_of(self, images, index=None):
        return self._scores(self._measured(images, index))

    def _measured(self, images, index=None):
        return self._find(images, "terms", index=index)["terms"]

    def _scores(self, values, reference=None):
        """Scores of images from the values of their terms, name -> (n,).

        ``reference`` has the values of normal images, None of all that are held out.
        """
        join, terms = self._join_and_terms()
        reference = self.calibration_.held_out if reference is None else reference
        return -join.loss(
            values, reference, terms, self.model_, **self._join_parameters()
        )

    def _by_fold(self, values):
        held_out = self.calibration_.held_out
        folds = folds_of(self.calibration_.groups)
        for is_in_fold in folds:
            is_left = ~is_in_fold if len(folds) > 1 else is_in_fold
            reference = {name: each[is_left] for name, each in held_out.items()}
            own = {name: each[is_in_fold] for name, each in held_out.items()}
            scores = (self._scores(each, reference) for each in (own, values))
            yield is_in_fold, *scores

    def _map_quantiles(self):
        learned = self.calibration_.learned
        term = "largest_residual" if self.model_.ruler is None else "largest_deviation"
        return learned[term]["map_quantiles"]

    def _join_and_terms(self):
        """How the terms of the score are joined, and which terms these are."""
        join = JOINS[self.anomaly_score]
        return join, join.choose(self._terms(), self.model_)

    def _terms(self):
        """The terms that the last fit has calibrated."""
        return [TERMS[name] for name in self.calibration_.held_out]

    def _join_parameters(self):
        return {
            name: getattr(self, name) for name in JOINS[self.anomaly_score].parameters
        }

    @property
    def _map_parameters(self):
        """The ruler's maps need no search."""
        is_by_ruler = hasattr(self, "model_") and self.model_.ruler is not None
        return () if is_by_ruler else self._search_parameters

    @property
    def _threshold_parameters(self):
        return ("anomaly_score", *JOINS[self.anomaly_score].parameters)

    def _snapshot(self, model, images, held_out, groups):
        """The fitted attributes as they would be if training ended now."""
        other = copy.copy(self)
        if model.encoder is None:
            other.inversion = "search"
        other._adopt(model)
        other._calibrate(images, held_out, groups)
        return vars(other)

    def score_samples(self, X: ImagesLike) -> NDArray[np.float64]:
        """Score images: minus their loss, at the best latent code found.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        scores : ndarray of shape (n,), float64
            The lower, the more abnormal. At most 0, whatever the units of X. The
            calibrated score is a weighted sum of logarithms: for each term, of the
            share of normal images that would exceed it.

        Raises
        ------
        NotFittedError
            If `fit` has not been called. Every method raises these errors.
        ValueError, TypeError
            If X is not numeric and finite, holds images of another shape than in `fit`,
            or values so far outside the training range that float32 cannot hold them.
        FloatingPointError
            If a network answers with NaN or infinity.

        Warns
        -----
        UserWarning
            If the values of X look as if they had other units than those of `fit`. For
            this, every method that takes X looks at up to 8 images, or 100 rows.

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
        return self._scores_of(self._check_images(X, reset=False))

    def score_terms(self, X: ImagesLike) -> Bunch:
        """Compute the terms that the score is made of.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        terms : Bunch
            Term by name: ndarrays of shape (n,), float64, at least 0. The higher, the
            more abnormal. The names do not depend on `anomaly_score`. With x an image
            as the networks see it, and G(z) the nearest generated image, on the
            networks' scale, where training images span [-1, 1]:

            - ``residual``: mean absolute difference of the pixels; in the paper's
              score;
            - ``discrimination``: mean absolute difference of the discriminator's
              features; in the paper's score, and without `self_supervision` in the
              calibrated one;
            - ``squared_residual``: mean square of the difference, smoothed over 3x3
              pixels; in the calibrated score;
            - ``largest_residual``: largest value of the smoothed difference, relative
              to what normal images leave in each place;
            - ``recognition``: mean of -log p(t | t(x)) over the ways t to turn and move
              an image; in the calibrated score, and only with `self_supervision`;
            - ``deviation``: root mean square over all places of the Mahalanobis
              distance of what filters see there, of the image itself; in the calibrated
              score;
            - ``largest_deviation``: largest value of :meth:`anomaly_map`; in the
              calibrated score. Both deviations are missing for rows, and for images of
              less than 4 pixels along a side once they are shrunk to 128;
            - ``density``: mean distance from the five nearest normal images, relative
              to the distances between normal images; in the calibrated score. Images
              are shrunk to 8 pixels along the longer side.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> X = images[60:62].copy()
        >>> X[1, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> terms = detector.fit(images[:60]).score_terms(X)
        >>> bool(terms.residual[1] > terms.residual[0])
        True
        >>> for name in terms:
        ...     print(name)
        residual
        squared_residual
        largest_residual
        discrimination
        recognition
        deviation
        largest_deviation
        density
        """
        images = self._check_images(X, reset=False)
        return self._find(images, "terms", terms=self._terms())["terms"]

    def invert(self, X: ImagesLike) -> NDArray[np.float32]:
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
        return self._find(images, "codes")["codes"]

    @overload
    def reconstruct(self, X: Tensors) -> torch.Tensor: ...  # type: ignore[overload-overlap]
    @overload
    def reconstruct(self, X: ImagesLike) -> FloatArray: ...
    def reconstruct(self, X: ImagesLike) -> FloatArray | torch.Tensor:
        """Generate the nearest normal image for each image.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        images : ndarray or tensor, shaped like X
            In the units of X; floating point for integer images too.

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
        return self._find(images, "reconstructions")["reconstructions"]

    @overload
    def anomaly_map(self, X: Tensors) -> torch.Tensor: ...  # type: ignore[overload-overlap]
    @overload
    def anomaly_map(self, X: ImagesLike) -> FloatArray: ...
    def anomaly_map(self, X: ImagesLike) -> FloatArray | torch.Tensor:
        """Show where images deviate from normal images.

        Filters learned from the training images describe each place by its edges and
        textures, at several resolutions. What the whole image explains is taken away,
        and so is what the leading principal components of normal images explain of the
        pixels. The rest is compared with what is usual in the same place.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        maps : ndarray or tensor of shape (n, height, width)
            In each pixel, the standard deviations by which the image deviates more
            than unseen normal images do there. At least 0: a value s becomes
            log(1 + exp(s)), which keeps the order where an image deviates less.
            Images of more than 128 pixels along a side are shrunk to that, and their
            maps are enlarged. Rows and images of less than 4 pixels along a side have
            the map of :meth:`residual_map`.

        Notes
        -----
        The map needs no latent search. Its idea is that of PaDiM [1]_, with filters
        learned from the images in place of a network trained on other images.

        References
        ----------
        .. [1] T. Defard, A. Setkov, A. Loesch, R. Audigier, "PaDiM: a patch
           distribution modeling framework for anomaly detection and localization",
           2020. :doi:`10.48550/arXiv.2011.08785`

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> maps = detector.fit(images[:60]).anomaly_map(damaged)
        >>> bool(maps[0].max() == maps[0, 3:6, 3:6].max())  # in the damaged place
        True
        """
        images = self._check_images(X, reset=False)
        return self._find(images, "maps")["maps"]

    @overload
    def residual_map(self, X: Tensors) -> torch.Tensor: ...  # type: ignore[overload-overlap]
    @overload
    def residual_map(self, X: ImagesLike) -> FloatArray: ...
    def residual_map(self, X: ImagesLike) -> FloatArray | torch.Tensor:
        """Show where images differ from the nearest generated images.

        The paper's map, made comparable in all places. It sees what no code of the
        generator reproduces. For large images, :meth:`anomaly_map` finds more.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        maps : ndarray or tensor of shape (n, height, width)
            For every pixel, the difference between the image and the nearest generated
            one, relative to the difference that is usual in that place for unseen
            normal images. The difference is smoothed over 3x3 pixels; the map is its
            absolute value, averaged over the channels, in the units of X as if all
            places were average ones. For plain rows, maps have a value for every
            feature: (n, n_features). Where the networks see shrunk images, the map is
            enlarged.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> maps = detector.fit(images[:60]).residual_map(damaged)
        >>> divmod(int(maps[0].argmax()), 8)  # row and column of the largest value
        (4, 4)
        """
        images = self._check_images(X, reset=False)
        return self._find(images, "residual_maps")["residual_maps"]

    def explain(self, X: ImagesLike) -> Bunch:
        """Tell all that one search of each image finds: scores, maps and more.

        The methods `score_samples`, `p_values`, `residual_map`, `reconstruct`, `invert`
        and `score_terms` each search the images anew. This method searches them once.

        Parameters
        ----------
        X : array-like or tensor of n images
            Of the shape seen in `fit`, in any layout of the Notes.

        Returns
        -------
        explanation : Bunch
            ``scores``, ``p_values``, ``maps``, ``residual_maps``, ``reconstructions``,
            ``codes`` and ``terms``, as the methods `score_samples`, `p_values`,
            `anomaly_map`, `residual_map`, `reconstruct`, `invert` and `score_terms`
            answer. There are no p-values if a parameter of the search has been set
            since `fit`.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> found = detector.fit(images[:60]).explain(images[60:63])
        >>> found.scores.shape, found.maps.shape, found.reconstructions.shape
        ((3,), (3, 8, 8), (3, 8, 8))
        >>> bool((found.scores == detector.score_samples(images[60:63])).all())
        True
        """
        images = self._check_images(X, reset=False)
        names = "codes", "reconstructions", "maps", "residual_maps", "terms"
        found = self._find(images, *names, terms=self._terms())
        found["scores"] = self._scores(found["terms"])
        if not self._changed(self._search_parameters):
            found["p_values"] = self._p_values(found["terms"])
        return Bunch(**found)

    @usual_torch()
    def sample(self, n_samples: int = 1, random_state: Seed = None) -> LikeTraining:
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
        return self.model_.generate(self.model_.draw(n_samples, seed))

    @usual_torch()
    def generate(self, z: ArrayLike | torch.Tensor) -> LikeTraining:
        """Generate the images of latent codes.

        Parameters
        ----------
        z : array-like or tensor of shape (n, latent_dim)
            Latent codes, for instance of `invert`. Training codes are in [-1, 1] for
            the uniform `latent_prior`, and standard normal for the normal one.

        Returns
        -------
        images : ndarray or tensor of shape (n, ...)
            In the layout and units of the training images, floating point.

        Raises
        ------
        ValueError
            If `z` is not a finite array of this shape.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images[:60]
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> z = detector.fit(images).invert(images[:2])
        >>> between = (z[:1] + z[1:]) / 2
        >>> detector.generate(between).shape
        (1, 8, 8)
        """
        check_is_fitted(self)
        if isinstance(z, torch.Tensor):
            z = z.detach().cpu().numpy()
        codes = check_array(z, dtype=np.float32, order="C", copy=True, input_name="z")
        if codes.shape[1] != self.model_.latent_dim:
            raise ValueError(
                f"z has codes of {codes.shape[1]} numbers, but this "
                f"{type(self).__name__} was fitted with "
                f"latent_dim={self.model_.latent_dim}."
            )
        return self.model_.generate(torch.from_numpy(codes))

    def _check_images(self, X, *, reset):
        """Wrap X as images, checked; learn their shape or hold them to it."""
        if not reset:
            check_is_fitted(self)
        # Only the column names are checked here: for images, X.shape[1] is not the
        # number of features.
        validate_data(self, X, reset=reset, skip_check_array=True, ensure_2d=False)
        images = check_images(
            X,
            check_image_shape(self.image_shape) if reset else self.image_shape_,
            n_features=None if reset else self.n_features_in_,
            min_samples=2 if reset else 1,
            estimator_name=type(self).__name__,
        )
        if reset:
            self.n_features_in_ = int(np.prod(images.layout.image_shape))
            tell_of_channels_first(images.layout, self.image_shape is not None)
            tell_of_large(images.layout, self.network_side)
        else:
            tell_of_units(images, self.model_)
        return images

    @usual_torch()
    def _find(self, images, *names, index=None, terms=None):
        """Search images once, for all that is asked for.

        Parameters
        ----------
        images : Images
        *names : {"codes", "reconstructions", "maps", "residual_maps", "terms"}
            What to find.
        index : ndarray of shape (n,) or None
            Which of the images; None for all.
        terms : list of Term or None
            None for the terms of the score.

        Returns
        -------
        found : dict
            "terms" -> Bunch with an array for each term; other name -> array or tensor
            in the layout of the images.
        """
        searchers, settings, workers = self._search()
        index = np.arange(len(images)) if index is None else index
        terms = self._join_and_terms()[1] if terms is None else terms
        finders = make_finders(
            self.model_, self.calibration_.learned, images.layout, terms
        )
        found = search_in_blocks(
            searchers,
            settings if need_search(names, self.model_) else None,
            workers,
            images,
            index,
            partial(find_all, [finders[name] for name in names]),
        )
        return in_layout(found, images.layout, terms)

    def _search(self):
        """Searchers, settings and workers, by the present parameters."""
        self._validate_params()  # some may have been set since `fit`
        with_encoder = self.inversion != "search"
        if with_encoder and self.model_.encoder is None:
            raise ValueError(
                f"inversion={self.inversion!r} needs an encoder, which fit trains "
                "only if inversion asks for it then. Fit again, or use "
                "inversion='search'."
            )
        only_encoder = self.inversion == "encoder"
        settings = SearchSettings(
            n_starts=1 if only_encoder else self.n_restarts + 1,
            n_candidates=1 if only_encoder else self.n_candidates,
            n_steps=0 if only_encoder else self._n_steps(),
            lr=self.search_lr,
            tol=self.tol,
            discrimination_weight=self.discrimination_weight,
            with_encoder=with_encoder,
        )
        devices = tuple(resolve_devices(self.device))
        return self._searchers, settings, Workers(devices, self.n_jobs, self.verbose)

    def _n_steps(self):
        if self.search_steps != "auto":
            return self.search_steps
        height, width = self.model_.network_shape
        return max(_FEWEST_STEPS, int(np.sqrt(height * width) / 6))
