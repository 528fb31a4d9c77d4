# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The latent search: for images, the codes whose generated images come closest.

The search knows no score but the loss it descends.
"""

from ._blocks import Pairs, Workers, search_in_blocks
from ._searcher import Searchers, SearchSettings

__all__ = ["Pairs", "SearchSettings", "Searchers", "Workers", "search_in_blocks"]
