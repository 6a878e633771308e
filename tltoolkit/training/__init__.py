"""How one stage runs: `stage` first, then `gradient` or `solving`, on what `job` lays out."""
