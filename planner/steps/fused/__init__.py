"""Plans and engines of generated kernels: for one GPU, static shapes, whether it is here or not."""
