"""What the arguments of explanations and embeddings may be; loads nothing."""

from tltoolkit._checks import FLAG, SEED, Integer, OneOf, Table

CAM, GRAD_CAM, OCCLUSION = METHODS = ("cam", "grad_cam", "occlusion")
EXPLAIN: Table = {"method": OneOf(*METHODS), "by_block": FLAG, "batch_size": Integer(1)}

TSNE, PCA, UMAP = PLANES = ("tsne", "pca", "umap")
EMBED: Table = {"batch_size": Integer(1)}
# That there are so many rows is looked at where they are.
NEIGHBOURS: Table = {"k": Integer(1), "batch_size": Integer(1)}
MAP: Table = {"method": OneOf(*PLANES), "seed": SEED}
