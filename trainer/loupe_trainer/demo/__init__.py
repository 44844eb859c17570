"""`make demo`: the whole line on simulated parts, through the public commands."""
