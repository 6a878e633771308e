"""Classifiers taken to where TensorFlow is not: exported, and compared with what they were.

And answering over HTTP. Reading and computing what was exported is the business of `runtimes`.
"""
