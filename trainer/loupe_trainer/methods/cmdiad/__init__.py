"""CMDIAD: trained on colour and depth, running on either of them."""
