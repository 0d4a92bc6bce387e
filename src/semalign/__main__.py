"""Runs the command line: ``python -m semalign``."""

from semalign.cli import main

if __name__ == "__main__":
    main()
