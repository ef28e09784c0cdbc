"""GlobalPaint: which frames are made when, by which networks, and the programs that make them."""
