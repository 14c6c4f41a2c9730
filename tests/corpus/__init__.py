"""Some 200 small video files of every kind, each read by motserve and by the FFmpeg command line, and compared."""
