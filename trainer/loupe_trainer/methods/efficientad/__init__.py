"""EfficientAD: a student imitates a teacher on good parts only, and fails on defects.

See `method.md` beside this file for the method, the choices made, and what was measured.
"""

from loupe_trainer.methods.efficientad.method import EfficientAd, open_efficientad

__all__ = ["EfficientAd", "open_efficientad"]
