"""From a group of operators to a compiled kernel."""
