"""What holds for every test: hypothesis draws the same examples each time and knows no clock."""

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")
