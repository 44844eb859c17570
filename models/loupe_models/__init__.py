"""The contract between trainer and edge: frame, gate, preprocessing, bundle, scoring, threshold."""
