"""The second stage of the layered family as machine code: what generates showers fastest on a CPU."""
