"""Fuzz targets of what is read in Python, with corpora; those of the core are in native/fuzz."""
