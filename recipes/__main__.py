"""Runs the command line, the same as cli.py: `recipes`, or `python -m recipes`."""

import sys
from pathlib import Path


def main() -> None:
    """Runs the command that the words after `recipes` name."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import cli

    cli.main()


if __name__ == "__main__":
    main()
