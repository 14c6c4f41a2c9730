"""People across videos: stored identities of finished videos, and the search for people of similar appearance.

Nothing here decides that two people are the same. A stored identity has a number in the index besides the one it has
in its video, and a search returns candidates with distances.
"""
