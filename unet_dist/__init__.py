"""Distributed U-Net training for medical image segmentation on MindSpore and Ascend cards."""

__version__ = "0.1.0"
