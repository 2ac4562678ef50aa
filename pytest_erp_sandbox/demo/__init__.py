"""An embedded prod and sandbox, for a first try and for the tests. A demo, nothing else.

``use_demo`` is for everybody; the rest is its own, and the tests'.
"""
