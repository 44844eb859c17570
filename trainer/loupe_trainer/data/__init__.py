"""What there is to learn from: items with a part, a truth and lazily read pixels."""
