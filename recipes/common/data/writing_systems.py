"""Knows the scripts that write no spaces between words: Chinese, Japanese, Thai.

Each of their characters counts as a word.
"""

import re

# Kana, Han characters (three ranges and the planes beyond), Thai: the inside of a [...].
UNSPACED_RANGES = (
    r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f\U00020000-\U0002ffff"
)
UNSPACED = re.compile(f"[{UNSPACED_RANGES}]")
