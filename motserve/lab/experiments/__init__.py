"""Runs that produce numbers: models over data, their outputs kept, scored, compared, searched and recorded."""
