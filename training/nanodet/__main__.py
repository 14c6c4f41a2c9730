"""`python -m training.nanodet`."""

from training.start import start

if __name__ == "__main__":
    raise SystemExit(start("training.nanodet"))
