# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Fit a detector to a folder of images, and judge the images of another folder.

    python -m sklearn_anogan fit FOLDER --output model.safetensors
    python -m sklearn_anogan score model.safetensors FOLDER --report report.html
    python -m sklearn_anogan calibrate model.safetensors FOLDER --output new.safetensors

Exit codes: 0 if all went well, 1 for an error, 2 for arguments that do not fit, 3 if
all went well but for files that could not be read or judged, 130 after an interruption.
"""

import sys

from ._command_line import main

if __name__ == "__main__":
    sys.exit(main())
