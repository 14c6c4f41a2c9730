"""Speed of the service beside the same networks without it: a bare loop, another package, the pipeline in one process.

All get the same frames, by turns in the same run. With simulated networks the service alone is measured.
"""
