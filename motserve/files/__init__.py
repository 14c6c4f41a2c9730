"""Files: written whole or not at all, named in any bytes, on disks that may be full."""
