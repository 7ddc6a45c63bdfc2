"""Options that place work on devices: sharding, pipelining, swapping."""
