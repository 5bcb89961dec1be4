"""Parts of the table encoder: columns, scaling, layout."""
