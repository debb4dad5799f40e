"""The compiler: a trained model becomes the graph that engines run, by exact rewrites checked in float64."""
