"""What single Keras layers and graphs are: walked, cut, asked for their traits.

Also the one place for private parts of Keras. Nothing here knows backbones, blocks or stages.
"""
