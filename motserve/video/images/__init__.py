"""Folders of images as videos: listing, frame numbers, reading."""
