# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Images of files, with the values that the files hold."""

from ._images import ImageFiles
from ._loading import load
from ._pillow import OWN
from ._readers import SUFFIXES, has_image_name

__all__ = ["OWN", "SUFFIXES", "ImageFiles", "has_image_name", "load"]
