"""`python -m training.rendered`."""

from training.rendered.command import main

if __name__ == "__main__":
    raise SystemExit(main())
