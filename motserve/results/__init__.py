"""Tracks as text: stored as NDJSON, given out as JSON, NDJSON, MOTChallenge rows or CSV, read back."""

from motserve.results.export import export
from motserve.results.formats import FORMATS, MEDIA_TYPES, SUFFIXES, Format
from motserve.results.mot import MotTable, read_mot
from motserve.results.records import decode_frame, encode_frame
from motserve.results.store import ResultWriter, keep_beginning, read_lines, read_results
from motserve.results.tracks import PEOPLE, read_tracks, to_table

__all__ = [
    "FORMATS",
    "MEDIA_TYPES",
    "PEOPLE",
    "SUFFIXES",
    "Format",
    "MotTable",
    "ResultWriter",
    "decode_frame",
    "encode_frame",
    "export",
    "keep_beginning",
    "read_lines",
    "read_mot",
    "read_results",
    "read_tracks",
    "to_table",
]
