"""`motserve doctor`: what works on this machine, and how to mend the rest."""

from motserve.cli.doctor.command import doctor

__all__ = ["doctor"]
