"""Trained networks for use elsewhere: exported, in 8 bits, measured."""
