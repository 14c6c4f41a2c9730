"""Training of AFLink: `python -m training.linker`."""
