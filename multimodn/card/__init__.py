"""The model card and the reporting checklists of a trained model, written from its study and its data."""

from multimodn.card.card import CARD, CHECKLIST, write_card

__all__ = ["CARD", "CHECKLIST", "write_card"]
