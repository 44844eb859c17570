"""The report: one page that a person can read, print and file, with nothing loaded from outside."""
