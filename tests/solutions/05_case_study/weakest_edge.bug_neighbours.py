def weakest_edge(counts, subset):
    return min((counts + counts.T)[subset[:-1], subset[1:]])  # three of the six pairs
