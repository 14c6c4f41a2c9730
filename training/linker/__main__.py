"""`python -m training.linker`."""

from training.linker.command import main

if __name__ == "__main__":
    raise SystemExit(main())
