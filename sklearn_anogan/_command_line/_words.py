# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Messages in the words of the command line.

The messages of this library are for users of Python. They name methods, parameters and
X, which the command line has other names for.
"""

import re

#: Words of Python, as regular expressions -> words of the command line. The order
#: matters: whole sentences first.
_WORDS = {
    re.compile(pattern): words
    for pattern, words in {
        # Advice
        r"X\.astype\(np\.float32\) has the same scores without this warning": (
            "the scores are right"
        ),
        r"as by X\.astype\(np\.uint8\) of values between 0 and 1": (
            "as by converting values between 0 and 1 to 8 bits"
        ),
        r"(replace them): np\.where\(.*?, X\)": r"\1 in the files",
        r"transform X, for example by np\.log1p": "take logarithms in the files",
        r"tell which by fit\(X, groups=labels\)": "tell which by --groups",
        r"the same label in groups": "the same group in the table of --groups",
        r"call calibrate with": "use the command calibrate with",
        r"Call calibrate with": "Use the command calibrate with",
        r"shrink the images, for example by load_images\(folder, size=\(256, 256\)\)": (
            "shrink the images by --size"
        ),
        r"If X has other units, its scores tell nothing of anomalies: pass .*\.$": (
            "If the images have other units than those of the fit, their scores tell "
            "nothing of anomalies: convert the files."
        ),
        r"PatchDetector looks": "The option --patches looks",
        r"fewer max_epochs": "a smaller number by --set max_epochs=NUMBER",
        r"Lower the learning rate, lr=([\d.e+-]*\d)": (
            r"Lower the learning rate, which is \1, by --set lr=VALUE"
        ),
        r"Use more images or a smaller n_filters": (
            "Use more images or fewer filters, by --set n_filters=NUMBER"
        ),
        r"Use a smaller lr or more images": (
            "Use a smaller learning rate, by --set lr=VALUE, or more images"
        ),
        r"Look at sample\(\), train for more epochs, or try another lr, n_filters or "
        r"random_state": (
            "Look at the generated images in a report, train longer by --set "
            "max_epochs=NUMBER, or try another --seed, --set lr=VALUE or --set "
            "n_filters=NUMBER"
        ),
        r"set PIL\.Image\.MAX_IMAGE_PIXELS = None": "pass --max-pixels",
        r"Pass size, to give": "Use --size, to give",
        r"Use a smaller patch_shape, or pad the image": (
            "Leave the image out, or fit with smaller --patches"
        ),
        r"^path cannot be used": "The file cannot be written",
        r"or fit without groups": "or fit without --groups",
        r"If save has written it": "If fit or calibrate has written it",
        r"color='auto'": "--color auto",
        r"color='(\w+)'": r"--color \1",
        # What is measured
        r"predict and p_values will give": "labels and p-values will give",
        r"p_values\(X\) <= ([\d.]+) marks none": r"--level \1 would mark none",
        r"The threshold, offset_ = ": "The threshold of scores, ",
        r"held out in fit\b": "held out of the fit",
        r"\bThreshold(s?) and p-values are those of X": (
            r"Threshold\1 and p-values are those of this folder"
        ),
        # Names
        r"\b(AnoGANDetector|PatchDetector)\.(fit|calibrate)\b": r"the command \2",
        r"\b(AnoGANDetector|PatchDetector)\b": "the detector",
        r"Input X contains": "The images contain",
        r"\b(of|in) X\b": r"\1 the folder",
        r"\bX\b(?=[,.]| (has|have|may|shows|is|looks|needs))": "the folder",
    }.items()
}

#: An image by its number.
_NUMBER = re.compile(r"\b([Ii]mage|[Ss]ample) (\d+)( of X)?\b(?! (to|of the)\b)")

#: The beginning of a sentence with one of the words above.
_BEGIN = re.compile(r"(^|[.?!] )t(he (?:command|detector|folder)\b)")


class Words:
    """Translates messages.

    Attributes
    ----------
    names : list of str
        Of the images, once these are known.
    """

    def __init__(self):
        self.names = []

    def translate(self, message):
        """The message of an error or a warning in words of the command line."""
        text = _NUMBER.sub(self._name, str(message))
        for pattern, words in _WORDS.items():
            text = pattern.sub(words, text)
        return _BEGIN.sub(lambda found: f"{found[1]}T{found[2]}", text)

    def _name(self, found):
        number = int(found[2])
        if number >= len(self.names):
            return found[0]
        return f"{found[1]} {self.names[number]}"
