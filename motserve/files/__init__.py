"""Files: atomic writes, names of any bytes, full disks, YAML."""
