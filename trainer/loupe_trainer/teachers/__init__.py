"""Teachers: networks that describe patches, learnt once and then frozen."""
