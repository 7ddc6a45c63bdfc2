"""Large pipelines: a dual bound, cuts, labels and swaps in place of one whole model."""
