"""Encoders: networks that describe patches of colour or depth."""
