"""Processes one video with detector, tracker and identity linker, for the command line and the service alike."""
