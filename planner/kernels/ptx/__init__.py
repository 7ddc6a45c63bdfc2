"""A compiled kernel followed through its PTX, and what a launch of it takes."""
