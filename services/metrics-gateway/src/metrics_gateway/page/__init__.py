"""The page at `/`: the stats of all sources as HTML for an operator."""
