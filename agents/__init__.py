"""Agents keep local state and offer capabilities. This folder knows contracts, and neither Ray nor the runtime.

See `agent` for the base class.
"""
