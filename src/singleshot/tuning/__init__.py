"""``singleshot tune``: short trainings that look for better settings than the defaults."""
