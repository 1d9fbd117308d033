def weakest_edge(counts, subset):
    return min(counts[i, j] for i in subset for j in subset if i != j)
