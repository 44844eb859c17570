"""Preprocessing on an NVIDIA GPU, for a station whose CPU it would bind. See README.md here."""
