"""Maps between functions: linear operators and equations."""
