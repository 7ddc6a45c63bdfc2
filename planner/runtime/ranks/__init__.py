"""Engines of several ranks: one process a device, talking through MPI, gloo or NCCL.

    driver (this process)                 rank 0 .. n-1 (a process each)
    Session.run(feeds) ── feeds ──────>   run own parts, talk in collectives, pass tensors on
                       <── outputs ──     whoever makes an output hands it back

Tensors pass through the driver at both ends only, never between layers. What a rank does follows
from the manifest alone (`program`), so that no rank needs to be told.
"""
