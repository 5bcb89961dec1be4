"""Reading what a cell, a column or a file means, without guessing where there is doubt."""
