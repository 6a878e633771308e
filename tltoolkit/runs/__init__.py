"""Whole runs: `fine_tune`, the record and the directory it leaves, refit, folds, the estimate.

How one stage trains stands in `training`.
"""
