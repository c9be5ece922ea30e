"""Numbers that say how far two samples of showers are apart, each with its uncertainty and its floor."""
