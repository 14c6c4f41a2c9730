"""`python -m training.detector`."""

from training.detector.command import main

if __name__ == "__main__":
    raise SystemExit(main())
