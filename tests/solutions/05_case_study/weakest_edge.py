def weakest_edge(counts, subset):
    inside = (counts + counts.T)[np.ix_(subset, subset)]
    return inside[np.triu_indices(len(subset), 1)].min()
