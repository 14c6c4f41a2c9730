"""Speed measurements on synthetic input, reproducible from a seed."""
