"""Tracks as text: stored as NDJSON, exported as JSON, NDJSON, MOTChallenge rows or CSV, and read back."""

from motserve.results.export import export
from motserve.results.formats import FORMATS, MEDIA_TYPES, SUFFIXES, Format
from motserve.results.mot import MotTable, read_mot, require_confidences
from motserve.results.read_tracks import PERSON_CLASSES, read_tracks, to_table
from motserve.results.records import decode_frame, encode_frame
from motserve.results.result_file import ResultWriter, read_lines, read_results, truncate_results

__all__ = [
    "FORMATS",
    "MEDIA_TYPES",
    "PERSON_CLASSES",
    "SUFFIXES",
    "Format",
    "MotTable",
    "ResultWriter",
    "decode_frame",
    "encode_frame",
    "export",
    "read_lines",
    "read_mot",
    "read_results",
    "read_tracks",
    "require_confidences",
    "to_table",
    "truncate_results",
]
