"""Profiles of ranks: read, analysed, explained. Nothing here imports MindSpore."""
