"""CMDIAD: taught by colour and depth, running on one of them.

See `method.md` beside this file for the method, the choices made, and what was measured.
"""
