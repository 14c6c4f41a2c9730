"""People across videos: what is remembered of those of a finished video, and the search for who looks alike.

Nothing here says that two people are the same. A remembered identity keeps a number of its own beside the one it has
in its video, and a search returns candidates with distances.
"""
