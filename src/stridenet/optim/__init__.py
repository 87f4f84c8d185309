"""Optimisers, and the schedules of their learning rate and momentum."""
