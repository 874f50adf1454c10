"""Steps that move pixels: each tells where an output pixel comes from, so that a run of them is one warp."""
