"""What a kernel costs: measured first, else interpolated, else modelled."""
