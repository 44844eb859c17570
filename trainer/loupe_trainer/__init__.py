"""The methods: learn from good parts, distil, export. The only floor that knows torch."""
