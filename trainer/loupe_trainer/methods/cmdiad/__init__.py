"""CMDIAD: taught by colour and depth, running on either of them, or on both.

See `method.md` beside this file for the method, the choices made, and what was measured.
"""

from loupe_trainer.methods.cmdiad.method import Cmdiad, open_cmdiad

__all__ = ["Cmdiad", "open_cmdiad"]
