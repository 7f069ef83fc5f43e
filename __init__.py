"""Hanse is a federation of domain agents on Ray."""
