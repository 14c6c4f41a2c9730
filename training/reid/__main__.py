"""`python -m training.reid`."""

from training.start import start

if __name__ == "__main__":
    raise SystemExit(start("training.reid"))
