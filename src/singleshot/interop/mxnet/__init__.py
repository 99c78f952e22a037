"""Operators of other systems by their names, parameters and defaults, as adapters over ``singleshot.multibox``."""
