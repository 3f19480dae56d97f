"""Hyperparameter search whose trials are ordinary runs on leased cards. Never loads MindSpore."""
