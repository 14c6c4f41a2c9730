"""`python -m training.reid`."""

from training.reid.command import main

if __name__ == "__main__":
    raise SystemExit(main())
