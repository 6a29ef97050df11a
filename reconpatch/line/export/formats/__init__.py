"""The formats that a detector's graph is exported in, one file each."""
