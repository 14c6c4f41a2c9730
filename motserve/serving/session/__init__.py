"""The session of a video.

`launcher.py` starts an actor for each video (`actor.py`), which runs `video_session.py`: open, restore, run, finish.
"""
