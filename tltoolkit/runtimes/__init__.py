"""Exported classifiers: their files checked, read and computed.

Nothing here trains or exports, and nothing but a SavedModel needs TensorFlow; none needs Keras.
"""
