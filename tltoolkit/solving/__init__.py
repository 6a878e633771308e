"""Linear heads in closed form, on arrays: ridge, LDA, their choice by held-out rows, averages;
sums to solve them again, and distances of strangers.

NumPy and SciPy alone. What a feature is, and where it comes from, stands in `training`.
"""
