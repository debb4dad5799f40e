"""What an engine does with a graph, as both parties and a cost model know it before anything is sent."""
