"""The charts of a page, of one run or overlaid for a few."""
