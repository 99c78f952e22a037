"""``python -m singleshot`` is the ``singleshot`` command."""

from singleshot.cli import main

if __name__ == "__main__":
    main()
