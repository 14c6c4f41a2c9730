"""Folders of pictures: listed, numbered, read."""
