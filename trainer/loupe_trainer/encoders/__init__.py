"""Frozen networks that describe what a camera saw, colour or depth, at every place of a grid."""
